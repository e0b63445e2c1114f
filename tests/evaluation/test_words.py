"""Figures and comparisons as people read them."""

import math

import pandas as pd
import pytest

from slatewise.evaluation.metrics import ALL_METRICS
from slatewise.evaluation.words import as_rows, decimals, how_much, interval, number, sentence

BASE = {
    "policy": "PPO",
    "reference": "popular",
    "metric": "reward",
    "difference": 0.24,
    "low": 0.16,
    "high": 0.32,
    "share": 0.12,
    "share_low": 0.08,
    "share_high": 0.16,
    "p": 0.001,
    "p_adjusted": 0.004,
}


@pytest.mark.parametrize(
    ("half", "places"),
    [(0.13, 2), (0.09, 2), (0.04, 2), (0.012, 3), (0.6, 1), (2.5, 1), (3.2, 0), (40.0, 0), (1e-9, 4)],
)
def test_decimals_are_what_the_interval_supports(half: float, places: int) -> None:
    assert decimals(-half, half, 5.0) == places


def test_numbers_have_a_true_minus_and_no_negative_nothing() -> None:
    assert number(-1234.5, 1) == "−1,234.5"
    assert number(-0.001, 2) == "0.00"
    assert number(math.nan, 2) == "–"


def test_shares_are_told_in_percent_and_figures_without_an_interval_without_brackets() -> None:
    assert interval(0.197, 0.184, 0.211, ALL_METRICS["ctr"]) == "19.7 % [18.4, 21.1]"
    assert interval(3.1, 2.9, 3.3, ALL_METRICS["reward"]) == "3.10 [2.90, 3.30]"
    assert interval(0.025, math.nan, math.nan, ALL_METRICS["coverage"]) == "2.5 %"


def test_a_gain_and_a_loss_are_told_in_words() -> None:
    assert sentence(BASE) == "PPO earned 12 % [8, 16] more reward a session than popular."
    loss = {name: -value if isinstance(value, float) else value for name, value in BASE.items()}
    loss |= {"low": -0.32, "high": -0.16, "share_low": -0.16, "share_high": -0.08, "p_adjusted": 0.004}
    assert sentence(loss) == "PPO earned 12 % [8, 16] less reward a session than popular."
    assert how_much(loss, signed=True) == "−12 % [−16, −8]"


def test_a_rate_is_higher_not_earned() -> None:
    assert sentence({**BASE, "metric": "ctr"}) == "PPO had a click rate 12 % [8, 16] higher than popular."


def test_what_is_not_settled_is_not_claimed() -> None:
    open_ = {**BASE, "low": -0.01, "share_low": -0.005}
    assert sentence(open_).startswith("PPO is not distinguishable from popular: reward a session differs by +12 %")
    many = {**BASE, "p_adjusted": 0.2}
    assert sentence(many, family=9).endswith("which may still be chance among 9 comparisons (adjusted p = 0.20).")


def test_a_difference_is_told_as_such_where_a_share_makes_no_sense() -> None:
    nowhere = dict.fromkeys(("share", "share_low", "share_high"), math.nan)
    assert sentence({**BASE, **nowhere}) == "PPO earned 0.24 [0.16, 0.32] more reward a session than popular."


def test_doing_the_same_is_told_as_the_same() -> None:
    same = {**BASE, "difference": 0.0, "low": 0.0, "high": 0.0, "share": 0.0, "share_low": 0.0, "share_high": 0.0}
    assert sentence(same) == "PPO and popular did exactly the same for every shopper."


def test_a_summary_becomes_rows_of_text_with_like_decimals() -> None:
    rows = [
        ("a", "ctr", 0.2, 0.19, 0.21),
        ("a", "revenue", 3, 2, 4),
        ("b", "ctr", 0.1, 0.08, 0.12),
        ("b", "revenue", 9, 5, 13),
    ]
    summary = pd.DataFrame(rows, columns=["policy", "metric", "mean", "low", "high"]).assign(simulator="s")
    columns, cells = as_rows(summary, ["revenue", "ctr", "reward"], currency="EUR")
    assert columns == ["policy", "Revenue a session (EUR)", "Click rate"]
    assert cells == [["a", "3.0 [2.0, 4.0]", "20.0 % [19.0, 21.0]"], ["b", "9.0 [5.0, 13.0]", "10.0 % [8.0, 12.0]"]]
    several, cells = as_rows(pd.concat([summary, summary.assign(simulator="t")]), ["ctr"])
    assert several == ["policy", "simulator", "Click rate"]
    assert [row[:2] for row in cells] == [["a", "s"], ["b", "s"], ["a", "t"], ["b", "t"]]
