"""Doubt between members of an ensemble: as wide as they differ, however many shoppers come, shared by policies."""

import numpy as np
import pandas as pd
import pytest

from slatewise.evaluation.intervals import resample, summarise
from slatewise.evaluation.outcomes import FIXED, Outcomes


def outcomes(members: int, shoppers: int, apart: float, *, shared: bool = True, seed: int = 0) -> pd.DataFrame:
    """Two policies of 4 and 5 clicks in 20 slates, more or less by member."""
    rng = np.random.default_rng(seed)
    member = rng.integers(members, size=shoppers)
    parts = []
    offset = rng.standard_normal(members)
    for policy, rate in (("a", 0.2), ("b", 0.25)):
        own = offset if shared else rng.standard_normal(members)
        clicks = rng.binomial(20, np.clip(rate + apart * own[member], 0, 1))
        parts.append(
            pd.DataFrame(
                {
                    "simulator": "s",
                    "policy": policy,
                    "training_seed": FIXED,
                    "shopper": np.arange(shoppers),
                    "member": member,
                    "slates": 20,
                    "clicks": clicks,
                }
            )
        )
    return pd.concat(parts, ignore_index=True)


def spread(frame: pd.DataFrame, difference: bool = False) -> float:
    found, _ = resample(frame, ["ctr"], resamples=4_000)
    draws = found["a"].draws[:, 0]
    return float((draws - found["b"].draws[:, 0] if difference else draws).std())


def test_members_that_agree_add_less_than_the_noise_of_one_of_them() -> None:
    more = []
    for seed in range(8):
        alike = outcomes(10, 4_000, 0.0, seed=seed)
        more.append((spread(alike) / spread(alike.drop(columns="member"))) ** 2 - 1)
    assert 0 <= np.mean(more) < 6  # one of ten members has ten times the variance of them all


@pytest.mark.parametrize("shoppers", [4_000, 40_000])
def test_members_that_differ_widen_the_interval_however_many_shoppers_come(shoppers: int) -> None:
    # Student's t with 29 degrees of freedom is a little wider than the normal.
    widths = [spread(outcomes(30, shoppers, 0.02, seed=seed)) for seed in range(8)]
    assert np.mean(widths) == pytest.approx(0.02, rel=0.15)


def test_what_members_say_of_all_policies_alike_is_not_in_their_difference() -> None:
    together, apart = (outcomes(20, 20_000, 0.03, shared=shared) for shared in (True, False))
    assert spread(together, difference=True) < 0.25 * spread(together)
    assert spread(apart, difference=True) > 0.9 * spread(apart)


def test_intervals_hold_a_further_member_as_often_as_they_say() -> None:
    held = 0
    for seed in range(200):
        rng = np.random.default_rng(1_000 + seed)
        table = Outcomes(outcomes(10, 1_000, 0.03, seed=seed))
        row = summarise(table, ["ctr"], level=0.9, resamples=400, seed=seed).iloc[0]
        held += row["low"] <= 0.2 + 0.03 * rng.standard_normal() <= row["high"]
    assert 0.84 <= held / 200 <= 0.96


def test_without_members_intervals_are_what_they_were() -> None:
    frame = outcomes(1, 500, 0.0)
    first, second = (resample(one, ["ctr"])[0]["a"].draws for one in (frame, frame.drop(columns="member")))
    assert np.array_equal(first, second)
