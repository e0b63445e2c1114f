import math
from typing import Any

import numpy as np
import pandas as pd
import pytest

from slatewise.evaluation import Outcomes
from slatewise.evaluation.outcomes import FIXED

EARNED = {  # policy -> training -> what its two shoppers bring, in the simulator that trained and in another one
    ("shop", FIXED): ([1.0, 3.0], [1.0, 1.0]),
    ("clone", 0): ([2.0, 2.0], [1.0, 1.0]),
    ("clone", 1): ([2.0, 2.0], [1.0, 1.0]),
    ("agent", 0): ([5.0, 7.0], [2.0, 2.0]),
    ("agent", 1): ([5.0, 7.0], [3.0, 3.0]),
    ("worse", FIXED): ([0.0, 2.0], [2.0, 2.0]),
}


@pytest.fixture
def survival(benchmark_module: Any) -> Any:
    module = benchmark_module("survival")
    return module, module.Survival.of(outcomes(), "home", "shop", "clone")


def outcomes() -> Outcomes:
    rows = [
        {"simulator": simulator, "policy": policy, "training_seed": number, "shopper": shopper, "reward": reward}
        for (policy, number), each in EARNED.items()
        for simulator, rewards in zip(("home", "away"), each, strict=True)
        for shopper, reward in enumerate(rewards)
    ]
    return Outcomes(pd.DataFrame(rows))


def test_gains_and_what_survives_of_them_are_those_worked_out_by_hand(survival: Any) -> None:
    _, found = survival
    assert found.value("home", "agent")[0] == pytest.approx(6.0)
    assert found.gain("home", "agent")[0] == pytest.approx(4.0)  # the shop's slates earn 2
    assert found.gain("away", "agent")[0] == pytest.approx(1.5)
    assert found.share("away", "agent")[0] == pytest.approx(1.5 / 4.0)


def test_drops_are_measured_by_that_of_the_cloned_policy(survival: Any) -> None:
    _, found = survival
    assert found.kept("away", "agent")[0] == pytest.approx((2.5 / 6.0) / (1.0 / 2.0))
    assert found.kept("away", "clone") == pytest.approx((1.0, 1.0, 1.0))


def test_no_share_is_told_where_there_was_no_certain_gain(survival: Any) -> None:
    module, found = survival
    assert found.gain("home", "worse")[0] < 0
    assert all(math.isnan(end) for end in found.share("away", "worse") + found.share("away", "shop"))
    assert module.told(found.share("away", "worse")) == "-"


def test_intervals_hold_their_figures_and_rows_name_every_policy(survival: Any) -> None:
    _, found = survival
    rows = found.rows(("home", "away"))
    assert [row["policy"] for row in rows] == ["shop", "clone", "agent", "worse"]
    assert [row["trainings"] for row in rows] == [0, 2, 2, 0]
    value, low, high = rows[2]["home"]
    assert low < value < high


def test_single_trainings_are_told_apart(survival: Any) -> None:
    module, _ = survival
    assert module.by_training(outcomes(), "away")["agent", 1] == pytest.approx(3.0)


def test_json_gets_null_for_what_is_not_known(benchmark_module: Any) -> None:
    plain = benchmark_module("survival").plain
    assert plain({"a": (np.nan, 1.0), "b": [float("inf"), "x"]}) == {"a": [None, 1.0], "b": [None, "x"]}
