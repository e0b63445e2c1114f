"""Policies that know more, or less, than agents: the oracle, the shop's slates, and what resembles the last item."""

from typing import Any

import numpy as np
import pytest
import torch

from slatewise.agents import LastItemPolicy, LoggedPolicy, MyopicPolicy, OraclePolicy, PopularPolicy, RandomPolicy
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.schema import Event
from slatewise.encoders import MeanEncoder
from slatewise.errors import EvidenceError
from slatewise.evaluation import judge
from slatewise.simulators import KnownTruthShopper, collect_log
from slatewise.simulators.oracle import slate_values
from slatewise.testing.batteries import check_policy


@pytest.fixture(scope="module")
def shopper() -> KnownTruthShopper:
    return KnownTruthShopper(KnownShop.make(KnownShopConfig.small()))


def test_the_oracle_earns_more_of_a_slate_than_others(shopper: KnownTruthShopper) -> None:
    state = shopper.reset(torch.arange(30))
    available = np.arange(shopper.n_items + 1) % 5 > 0
    values = {}
    for exact in (True, False):
        oracle = OraclePolicy(shopper, 4, "purchase", available, exact=exact)
        oracle.attend(lambda: state)
        slates = torch.from_numpy(oracle.predict()[0])
        assert available[slates[slates > 0]].all()
        values[exact] = slate_values(shopper, state, slates, "purchase")
    popular = PopularPolicy(shopper.shop.popularity, 4, available).predict(np.zeros((30, 1)))[0]
    assert (values[True] >= values[False] - 1e-9).all()
    assert values[False].sum() > 2 * slate_values(shopper, state, torch.from_numpy(popular), "purchase").sum()


def test_the_oracle_is_judged_beside_the_others(shopper: KnownTruthShopper) -> None:
    encoder = MeanEncoder.from_catalogue(shopper.shop.catalogue)
    policies = {
        "oracle": OraclePolicy(shopper, 4, "click", exact=False),
        "random": RandomPolicy(np.ones(shopper.n_items + 1), 4),
    }
    frame = judge(policies, shopper, encoder, shoppers=60, k=4, reward="clicks").frame
    clicks = frame.groupby("policy")[["clicks", "slates"]].sum()
    rate = clicks["clicks"] / clicks["slates"]
    assert rate["oracle"] > 2 * rate["random"]


def test_an_oracle_that_sees_nobody_says_so(shopper: KnownTruthShopper) -> None:
    oracle = OraclePolicy(shopper, 4)
    with pytest.raises(ValueError, match="attend"):
        oracle.predict(np.zeros((2, 4)))
    oracle.attend(lambda: "a fitted shopper's state")
    with pytest.raises(ValueError, match="got str"):
        oracle.predict(np.zeros((2, 4)))


def test_logged_slates_come_as_often_as_they_were_shown(shopper: KnownTruthShopper) -> None:
    log = collect_log(shopper, shopper.shop.catalogue, sessions=150, k=5, seed=1)
    policy = LoggedPolicy.from_slates(log.slates, 3)
    slates = policy.predict(np.zeros((20_000, 2)))[0]
    shown = log.slates.items[:, :3]
    assert {tuple(one) for one in slates.tolist()} <= {tuple(one) for one in shown.tolist()}
    for place in range(3):
        often, wanted = (np.bincount(one[:, place], minlength=shopper.n_items + 1) for one in (slates, shown))
        np.testing.assert_allclose(often / 20_000, wanted / len(shown), atol=0.02)
    check_policy(policy, np.zeros((5, 2)), shopper.n_items, repeatable=False)


def test_logged_slates_of_items_that_are_gone_are_left_out() -> None:
    items = [[1, 2, 3], [4, 5, 6], [1, 6, 0]]
    gone = np.arange(7) != 5
    assert (LoggedPolicy(items, 3, gone).predict(np.zeros((9, 1)))[0] == [1, 2, 3]).all()
    with pytest.raises(EvidenceError, match="none of 3 logged slates"):
        LoggedPolicy(items, 3, np.arange(7) > 4)
    with pytest.raises(EvidenceError, match="none with 4 slots"):
        LoggedPolicy(items, 4)


def seen(*rows: list[int], event: int = Event.VIEW) -> dict[str, Any]:
    width = max(len(row) for row in rows) + 1
    items = np.array([row + [0] * (width - len(row)) for row in rows])
    lengths = np.array([[len(row)] for row in rows])
    return {
        "items": items,
        "events": np.where(items > 0, event, 0),
        "gaps": np.zeros(items.shape, np.float32),
        "lengths": lengths,
        "state": np.zeros((len(rows), 2), np.float32),
    }


def test_what_resembles_the_last_item_comes_first_and_not_the_item_itself() -> None:
    angles = np.radians([0, 0, 10, 30, 180, 200])  # items 1 to 5; lengths do not matter
    vectors = np.stack([np.cos(angles), np.sin(angles)], 1) * np.array([0, 1, 5, 2, 1, 1])[:, None]
    policy = LastItemPolicy(vectors, 3, counts=[0, 1, 2, 3, 4, 5])
    assert policy.predict(seen([4, 1], [1, 4], []))[0].tolist() == [[2, 3, 5], [5, 3, 2], [5, 4, 3]]
    assert policy.predict(seen([4], event=Event.IMPRESSION))[0].tolist() == [[5, 4, 3]]  # shown and left
    check_policy(policy, seen([1], [2, 4], []), 5)


def test_a_myopic_policy_knows_what_a_purchase_brings(shopper: KnownTruthShopper) -> None:
    with pytest.raises(ValueError, match="value"):
        MyopicPolicy(shopper, 3, "dwell")  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="value"):
        OraclePolicy(shopper, 3, "dwell")  # type: ignore[arg-type]
