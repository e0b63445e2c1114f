"""The log of simulated shoppers says exactly what the simulation did."""

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from slatewise.datasets.artefact import building
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.simulators.collect import collect_log
from slatewise.simulators.known_truth import KnownTruthShopper, KnownTruthState, visit_seed
from slatewise.simulators.logging_policies import PlackettLucePolicy, StickyPolicy
from slatewise.simulators.shopper import Response

MAX_SLATES = 12


class Diary(KnownTruthShopper):
    """The known-truth shopper, who writes down what it did, a list of sessions in order of their arrival."""

    def __init__(self, shop: KnownShop) -> None:
        super().__init__(shop)
        self.sessions: dict[int, dict[str, list[Any]]] = {}

    def reset(self, seeds: Tensor, day: Tensor | float | None = None, owned: Tensor | None = None) -> KnownTruthState:
        state = super().reset(seeds, day, owned)
        brought = state.arrival
        for row, seed in enumerate(seeds.tolist()):
            held = slice(0, int(brought.lengths[row]))
            tokens = zip(brought.items[row, held], brought.events[row, held], brought.gaps[row, held], strict=True)
            whole = [(int(item), int(event), float(gap)) for item, event, gap in tokens]
            self.sessions[seed] = {"tokens": whole, "slates": [], "left": []}
        return state

    def respond(self, state: KnownTruthState, slate: Tensor) -> tuple[Response, KnownTruthState]:
        seeds, gaps = state.seed.tolist(), state.gap.tolist()
        response, after = super().respond(state, slate)
        items, events = response.tokens(slate)
        for row, seed in enumerate(seeds):
            told = self.sessions[seed]
            if any(told["left"]) or len(told["left"]) == MAX_SLATES:
                continue  # its place was empty, and nobody came to take it
            shown = {
                "before": len(told["tokens"]),
                "items": slate[row].tolist(),
                "clicked": int(response.clicked[row]),
                "carted": bool(response.carted[row]),
                "purchased": bool(response.purchased[row]),
                "dwell": float(response.dwell[row]),
            }
            told["slates"].append(shown)
            told["tokens"].append((int(items[row]), int(events[row]), gaps[row]))
            told["left"].append(bool(response.left[row]))
        return response, after


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def told(shop: KnownShop) -> tuple[list[dict[str, list[Any]]], ShopLog]:
    """What 300 shoppers did, and the log kept of it; they buy more than usual, so that every case comes up."""
    config = KnownShopConfig(
        n_items=60, n_categories=6, n_brands=12, outside_option=60.0, cart_rate=0.3, leave_bought=0.1
    )
    lively = KnownShop.make(config)
    diary = Diary(lively)
    log = collect_log(diary, lively.catalogue, sessions=300, k=5, seed=4, max_slates=MAX_SLATES, batch=64)
    return list(diary.sessions.values()), log


def test_tokens_of_the_log_are_the_tokens_of_the_simulation(told: tuple[list[dict[str, list[Any]]], ShopLog]) -> None:
    sessions, log = told
    tokens = log.tokens
    assert tokens.lengths.tolist() == [len(session["tokens"]) for session in sessions]
    items, events, gaps = zip(*(token for session in sessions for token in session["tokens"]), strict=True)
    assert tokens.items.tolist() == list(items)
    assert tokens.events.tolist() == list(events)
    np.testing.assert_allclose(tokens.gaps, gaps, atol=2e-6, rtol=1e-6)
    assert len(set(events)) == 5  # impression, view, click, cart and purchase all came up


def test_slates_of_the_log_are_the_slates_of_the_simulation(told: tuple[list[dict[str, list[Any]]], ShopLog]) -> None:
    sessions, log = told
    slates = log.slates
    shown = [(number, one) for number, session in enumerate(sessions) for one in session["slates"]]
    assert slates.session.tolist() == [number for number, _ in shown]
    for name in ("before", "clicked", "carted", "purchased"):
        assert getattr(slates, name).tolist() == [one[name] for _, one in shown], name
    assert slates.items.tolist() == [one["items"] for _, one in shown]
    last = [one is session["slates"][-1] for session in sessions for one in session["slates"]]
    assert slates.last.tolist() == last
    expected = [np.nan if end else one["dwell"] for end, (_, one) in zip(last, shown, strict=True)]
    np.testing.assert_allclose(slates.dwell, expected, atol=2e-6, rtol=1e-6)


def test_events_are_in_order_and_impressions_come_before_the_click(shop: KnownShop) -> None:
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=200, k=4, seed=1)
    events = log.events
    assert log.sessions["start"].is_monotonic_increasing
    assert (events.groupby("session_id", sort=False)["time"].diff().dropna() >= pd.Timedelta(0)).all()
    assert (np.diff(log.session_of_event) >= 0).all()
    for _, slate in events[events["slate_id"].notna()].groupby("slate_id"):
        assert slate["event"].tolist()[:4] == ["impression"] * 4
        assert slate["position"].tolist()[:4] == [0, 1, 2, 3]
        assert slate["event"].tolist()[4:] == ["click", "cart", "purchase"][: len(slate) - 4]
        assert slate["time"].iloc[:4].nunique() == 1


def test_returning_shoppers_keep_their_sessions_apart_and_the_evening_is_busy(shop: KnownShop) -> None:
    log = collect_log(
        KnownTruthShopper(shop), shop.catalogue, sessions=2_000, k=2, seed=2, visits=4.0, days=3, max_slates=2
    )
    by_shopper = log.sessions.sort_values("start").groupby("shopper_id")
    assert 3.5 < len(log) / by_shopper.ngroups < 4.5
    assert by_shopper["start"].diff().min() >= pd.Timedelta(hours=2)
    hours = log.sessions["start"].dt.hour
    assert (hours.isin([19, 20, 21])).mean() > 5 * (hours.isin([3, 4, 5])).mean()
    assert log.sessions["start"].min() >= pd.Timestamp("2026-01-05", tz="UTC")


def test_a_returning_shopper_keeps_its_lasting_taste(shop: KnownShop) -> None:
    shopper = KnownTruthShopper(shop)
    one = torch.tensor([77, 78])
    first, second = shopper.reset(visit_seed(one, 0)), shopper.reset(visit_seed(one, torch.tensor([3, 1])))
    assert torch.equal(first.weights, second.weights)
    assert not torch.equal(first.arrival.items, second.arrival.items)
    assert not torch.equal(first.weights[0], first.weights[1])


def test_the_log_does_not_depend_on_the_batch(shop: KnownShop) -> None:
    shopper = KnownTruthShopper(shop)
    kept = [
        collect_log(shopper, shop.catalogue, sessions=40, k=3, seed=9, batch=batch).events for batch in (1, 7, 1024)
    ]
    pd.testing.assert_frame_equal(kept[0], kept[1])
    pd.testing.assert_frame_equal(kept[0], kept[2])
    other = collect_log(shopper, shop.catalogue, sessions=40, k=3, seed=10)
    assert not other.events.equals(kept[0])


def test_the_log_survives_saving_and_loading(shop: KnownShop, tmp_path: Path) -> None:
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=50, k=3, seed=3)
    with building(tmp_path / "log", "log", {"seed": 3}) as draft:
        log.save(draft.folder)
        draft.facts.update(log.facts)
    back = ShopLog.load(tmp_path / "log")
    pd.testing.assert_frame_equal(back.events, log.events)
    pd.testing.assert_frame_equal(back.catalogue.frame, log.catalogue.frame, check_dtype=False)
    assert dict(back.facts) == dict(log.facts)
    np.testing.assert_array_equal(back.tokens.gaps, log.tokens.gaps)


def test_organic_sessions_log_what_was_done_and_not_what_was_shown(shop: KnownShop) -> None:
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=400, k=4, seed=5, share_organic=0.5)
    whole = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=400, k=4, seed=5)
    shown = log.events.groupby("session_id")["slate_id"].count() > 0
    assert 0.4 < shown.mean() < 0.6
    organic = log.events[log.events["session_id"].isin(shown[~shown].index)]
    assert set(organic["event"]) <= {"view", "cart", "purchase"}
    assert organic["propensity"].isna().all()
    acts = ["click", "view", "cart", "purchase"]
    assert log.events["event"].isin(acts).sum() == whole.events["event"].isin(acts).sum()


def test_propensities_are_worked_out_by_hand() -> None:
    policy = PlackettLucePolicy(torch.tensor([9.0, 0.0, np.log(2.0), np.log(3.0), -np.inf]), k=2)
    given = policy.propensities(torch.tensor([[3, 1], [2, 3]]))
    np.testing.assert_allclose(given, [[3 / 6, 1 / 3], [2 / 6, 3 / 4]], rtol=1e-12)
    slate, chance = policy.sample(torch.arange(60_000), torch.zeros(60_000, dtype=torch.int64))
    assert set(slate.unique().tolist()) == {1, 2, 3}
    for first, second in ((3, 1), (1, 2), (2, 3)):
        here = (slate == torch.tensor([first, second])).all(1)
        expected = float(chance[here][0].prod())
        assert abs(float(here.double().mean()) - expected) < 4 * np.sqrt(expected / 60_000)


def test_a_sticky_shelf_is_shown_again_as_often_as_said_with_exact_propensities() -> None:
    fresh = PlackettLucePolicy(torch.log(torch.tensor([0.0, 0.5, 0.3, 0.2])), 2)
    policy, seeds = StickyPolicy(fresh, 0.4), torch.arange(40_000)
    slates = [policy.sample(seeds, torch.full_like(seeds, step))[0] for step in range(3)]
    chances = [policy.sample(seeds, torch.full_like(seeds, step))[1] for step in range(3)]
    torch.testing.assert_close(chances[0], fresh.propensities(slates[0]))
    for before, slate, chance in zip(slates[:-1], slates[1:], chances[1:], strict=True):
        first = fresh.propensities(slate)
        same = (slate == before).all(1)
        # By hand: the slate before comes again with 0.4, and by luck as any fresh one does.
        whole = 0.4 * same + 0.6 * first.prod(1)
        torch.testing.assert_close(chance.prod(1), whole)
        torch.testing.assert_close(chance[:, 0], 0.4 * (slate[:, 0] == before[:, 0]) + 0.6 * first[:, 0])
    # Weighing each slate by 1 / propensity counts every ordered pair of the three items alike.
    pairs = slates[2][:, 0] * 4 + slates[2][:, 1]
    weights = torch.stack([(1 / chances[2].prod(1))[pairs == pair].sum() for pair in pairs.unique()]) / len(seeds)
    assert len(weights) == 6
    torch.testing.assert_close(weights, torch.ones(6, dtype=torch.float64), atol=0.08, rtol=0)


def test_logged_propensities_weigh_the_log_back_to_uniform(shop: KnownShop) -> None:
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=3_000, k=1, seed=6, max_slates=3)
    chance, items = log.slates.propensity[:, 0], log.slates.items[:, 0]
    assert ((chance > 0) & (chance < 1)).all()
    # The mean over slates of f(item) / propensity estimates the sum of f over the catalogue, whatever f.
    for name in ("log_price", "quality"):
        value = getattr(shop, name).astype(np.float64) ** 2
        terms = value[items] / chance
        assert abs(terms.mean() - value.sum()) < 4 * terms.std() / np.sqrt(len(terms))


def test_items_that_are_not_available_are_not_shown(shop: KnownShop) -> None:
    frame = shop.catalogue.frame.assign(available=np.arange(shop.n_items) % 2 == 0)
    log = collect_log(KnownTruthShopper(shop), type(shop.catalogue)(frame), sessions=100, k=4, seed=7)
    assert (log.slates.items % 2 == 1).all()  # row i has index i + 1


def test_progress_ends_at_the_number_of_sessions(shop: KnownShop) -> None:
    told: list[tuple[int, int, str]] = []
    collect_log(
        KnownTruthShopper(shop),
        shop.catalogue,
        sessions=30,
        k=2,
        seed=1,
        batch=8,
        progress=lambda *step: told.append(step),
    )
    assert told[-1][:2] == (30, 30)
    assert [done for done, _, _ in told] == sorted(done for done, _, _ in told)


@pytest.mark.parametrize(
    ("settings", "named"),
    [
        ({"sessions": 0}, "sessions=0"),
        ({"visits": 0.5}, "visits=0.5"),
        ({"k": 0}, "got 0"),
        ({"share_organic": 2}, "=2"),
    ],
)
def test_settings_out_of_range_are_named(shop: KnownShop, settings: dict[str, Any], named: str) -> None:
    with pytest.raises(ValueError, match=named):
        collect_log(KnownTruthShopper(shop), shop.catalogue, **{"sessions": 5, **settings})


def test_a_policy_of_another_width_is_refused(shop: KnownShop) -> None:
    policy = PlackettLucePolicy(torch.zeros(shop.n_items + 1), k=3)
    with pytest.raises(ValueError, match="3 slots, k is 8"):
        collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=5, policy=policy)
