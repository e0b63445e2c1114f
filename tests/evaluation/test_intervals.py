"""Intervals and comparisons, on numbers worked out by hand and on draws whose truth is known."""

import numpy as np
import pandas as pd
import pytest

from slatewise.errors import EvidenceError
from slatewise.evaluation import Outcomes, compare, compare_all, holm, summarise
from slatewise.evaluation.intervals import resample
from slatewise.evaluation.outcomes import FIXED


def sessions(
    policy: str, rewards: np.ndarray, simulator: str = "toy", fixed: bool = False, **columns: np.ndarray
) -> pd.DataFrame:
    """Outcomes of one policy, (seeds, shoppers) a column."""
    seeds, shoppers = rewards.shape
    return pd.DataFrame(
        {
            "simulator": simulator,
            "policy": policy,
            "training_seed": np.repeat([FIXED] if fixed else np.arange(seeds), shoppers),
            "shopper": np.tile(np.arange(shoppers), seeds),
            "reward": rewards.ravel(),
            **{name: values.ravel() for name, values in columns.items()},
        }
    )


def test_a_ratio_is_taken_over_sums_within_a_seed_and_averaged_over_seeds() -> None:
    clicks = np.array([[1, 3], [0, 1]])
    slates = np.array([[2, 8], [5, 5]])
    outcomes = Outcomes(sessions("p", clicks * 1.0, clicks=clicks, slates=slates))
    table = summarise(outcomes, ["ctr", "clicks"], resamples=100).set_index("metric")
    assert table.loc["ctr", "mean"] == pytest.approx(
        (4 / 10 + 1 / 10) / 2
    )  # not 5 / 20, nor the mean of shoppers' rates
    assert table.loc["clicks", "mean"] == pytest.approx((2.0 + 0.5) / 2)
    assert table.loc["ctr", "seeds"] == 2
    assert table.loc["ctr", "shoppers"] == 2


def test_the_interval_of_a_mean_has_the_width_of_the_textbook() -> None:
    rewards = np.random.default_rng(0).normal(5, 2, (1, 4_000))
    row = summarise(Outcomes(sessions("p", rewards, fixed=True)), ["reward"]).iloc[0]
    half = 1.96 * rewards.std(ddof=1) / np.sqrt(rewards.size)
    assert row["low"] == pytest.approx(rewards.mean() - half, abs=0.1 * half)
    assert row["high"] == pytest.approx(rewards.mean() + half, abs=0.1 * half)


def test_seeds_widen_the_interval_by_students_t() -> None:
    # Three trainings worth exactly 1, 2 and 3 to every shopper: mean 2, t(0.975, 2) / sqrt(3) = 2.484 either way.
    rewards = np.repeat([[1.0], [2.0], [3.0]], 50, axis=1)
    row = summarise(Outcomes(sessions("p", rewards)), ["reward"]).iloc[0]
    assert row["mean"] == pytest.approx(2)
    assert row["high"] - row["mean"] == pytest.approx(4.3027 / np.sqrt(3), rel=0.02)
    assert row["mean"] - row["low"] == pytest.approx(4.3027 / np.sqrt(3), rel=0.02)


@pytest.mark.parametrize(
    ("seeds", "of_seed", "of_shopper", "of_both"),
    [(3, 0.0, 1.0, 1.0), (3, 0.05, 1.0, 1.0), (3, 0.5, 1.0, 1.0), (5, 0.1, 0.5, 2.0)],
    ids=["seeds equal", "seeds differ a little", "seeds differ much", "noise"],
)
def test_intervals_cover_the_truth(seeds: int, of_seed: float, of_shopper: float, of_both: float) -> None:
    rng, runs, shoppers, hit = np.random.default_rng(7), 200, 100, 0
    for _ in range(runs):
        people = rng.normal(0, of_shopper, (1, shoppers))
        rewards = 3 + rng.normal(0, of_seed, (seeds, 1)) + people + rng.normal(0, of_both, (seeds, shoppers))
        row = summarise(Outcomes(sessions("p", rewards)), ["reward"], resamples=300).iloc[0]
        hit += row["low"] <= 3 <= row["high"]
    assert 0.90 <= hit / runs <= 0.99


def test_intervals_of_a_ratio_cover_the_truth() -> None:
    rng, runs, shoppers, hit = np.random.default_rng(3), 200, 100, 0
    for _ in range(runs):
        slates = rng.geometric(0.2, (3, shoppers))
        chance = np.clip(0.3 + rng.normal(0, 0.03, (3, 1)), 0, 1)
        clicks = rng.binomial(slates, chance)
        row = summarise(
            Outcomes(sessions("p", clicks * 1.0, clicks=clicks, slates=slates)), ["ctr"], resamples=300
        ).iloc[0]
        hit += row["low"] <= 0.3 <= row["high"]
    assert 0.90 <= hit / runs <= 0.99


def test_paired_differences_cover_the_truth_and_shrink_with_common_shoppers() -> None:
    rng, runs, shoppers, hit = np.random.default_rng(5), 200, 100, 0
    widths = []
    for _ in range(runs):
        people = rng.normal(0, 3, (1, shoppers))
        learnt = 1.5 + people + rng.normal(0, 0.1, (3, 1)) + rng.normal(0, 0.5, (3, shoppers))
        rule = 1.0 + people + rng.normal(0, 0.5, (1, shoppers))
        frame = pd.concat([sessions("learnt", learnt), sessions("rule", rule, fixed=True)])
        found = compare(Outcomes(frame), "learnt", "rule", resamples=300)
        hit += found.low <= 0.5 <= found.high
        widths.append(found.high - found.low)
    assert 0.90 <= hit / runs <= 0.99
    assert np.median(widths) < 0.5 * 2 * 1.96 * 3 / np.sqrt(shoppers)  # of the shoppers' own spread nothing is left


def test_identical_policies_differ_by_exactly_nothing() -> None:
    rewards = np.random.default_rng(1).normal(5, 1, (1, 100))
    frame = pd.concat([sessions("a", rewards, fixed=True), sessions("b", rewards, fixed=True)])
    found = compare(Outcomes(frame), "a", "b")
    assert (found.difference, found.low, found.high, found.share, found.p) == (0, 0, 0, 0, 1)


def test_a_share_is_taken_of_the_references_value() -> None:
    frame = pd.concat(
        [sessions("a", np.full((1, 10), 6.0), fixed=True), sessions("b", np.full((1, 10), 4.0), fixed=True)]
    )
    found = compare(Outcomes(frame), "a", "b")
    assert found.difference == pytest.approx(2)
    assert (found.share, found.share_low, found.share_high) == pytest.approx((0.5, 0.5, 0.5))
    assert np.isnan(compare(Outcomes(frame.assign(reward=-frame["reward"])), "a", "b").share)


def test_one_training_seed_is_told_from_a_fixed_policy() -> None:
    rewards = np.random.default_rng(1).normal(5, 1, (1, 100))
    frame = pd.concat([sessions("learnt", rewards), sessions("rule", rewards, fixed=True)])
    table = summarise(Outcomes(frame), ["reward"]).set_index("policy")
    assert table.loc["learnt", "seeds"] == 1
    assert table.loc["rule", "seeds"] == 0
    assert not compare(Outcomes(frame), "learnt", "rule").includes_training


def test_draws_of_a_policy_do_not_depend_on_the_company() -> None:
    rng = np.random.default_rng(2)
    learnt, other = sessions("learnt", rng.normal(5, 1, (3, 50))), sessions("other", rng.normal(4, 1, (2, 50)))
    alone, _ = resample(learnt, ["reward"], resamples=200, seed=9)
    beside, _ = resample(pd.concat([other, learnt]), ["reward"], resamples=200, seed=9)
    np.testing.assert_allclose(alone["learnt"].draws, beside["learnt"].draws, rtol=1e-12)


def test_policies_that_met_other_shoppers_are_not_compared() -> None:
    frame = pd.concat([sessions("a", np.ones((1, 10))), sessions("b", np.ones((1, 9)))])
    with pytest.raises(EvidenceError, match="met other shoppers"):
        summarise(Outcomes(frame), ["reward"])


def test_unknown_names_are_refused_with_those_that_exist() -> None:
    outcomes = Outcomes(sessions("a", np.ones((1, 10))))
    with pytest.raises(EvidenceError, match=r"there are \['a'\]"):
        compare(outcomes, "a", "z")
    with pytest.raises(EvidenceError, match="no metric 'gmv'"):
        summarise(outcomes, ["gmv"])
    with pytest.raises(EvidenceError, match="judged in"):
        outcomes.within("elsewhere")


def test_holm_steps_down_as_in_the_book() -> None:
    # Sorted .01 .02 .03 .04 times 4 3 2 1: .04 .06 .06 .04, and never less than the one before.
    np.testing.assert_allclose(holm(np.array([0.03, 0.01, 0.04, 0.02])), [0.06, 0.04, 0.06, 0.06])
    np.testing.assert_allclose(holm(np.array([0.9, 0.8])), [1, 1])


def test_a_family_is_adjusted_and_compares_each_pair_once() -> None:
    rng = np.random.default_rng(4)
    frame = pd.concat(
        [sessions(name, rng.normal(mean, 1, (1, 200)), fixed=True) for name, mean in [("a", 1), ("b", 1), ("c", 2)]]
    )
    table = compare_all(Outcomes(frame), ["a", "b"])
    assert list(zip(table["policy"], table["reference"], strict=True)) == [("b", "a"), ("c", "a"), ("c", "b")]
    assert (table["p_adjusted"] >= table["p"]).all()
    assert (table.loc[table["policy"] == "c", "p_adjusted"] < 0.05).all()
    assert table["p_adjusted"].iloc[0] > 0.05
