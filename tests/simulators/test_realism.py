"""How real a simulated shopper is: the truth is near itself, and what is broken is told apart by what is broken."""

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy.spatial.distance import jensenshannon
from scipy.stats import ks_2samp, wasserstein_distance
from torch import Tensor

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import EvidenceError
from slatewise.simulators import (
    BoostedConfig,
    FitConfig,
    Foretold,
    KnownTruthShopper,
    Realism,
    Response,
    Shopper,
    TreeConfig,
    calibration_errors,
    collect_log,
    fit_boosted,
    fit_shopper,
    realism,
)
from slatewise.simulators.distances import Measure, Pooled, Sample, halvings
from slatewise.simulators.foretold import FITTED
from slatewise.simulators.randomness import uniform
from slatewise.simulators.two_sample import auc
from slatewise.simulators.visits import logged_visits, simulated_visits
from slatewise.testing import only_views

RESAMPLES = 100


class Altered:
    """Known shoppers whose responses are changed afterwards, with luck of their own."""

    def __init__(self, truth: KnownTruthShopper, change: Callable[[Response, Tensor, Tensor], Response]) -> None:
        self.truth, self.change = truth, change
        self.n_items, self.device, self.prices = truth.n_items, truth.device, truth.prices

    def reset(self, seeds: Tensor) -> Any:
        return self.truth.reset(seeds)

    def respond(self, state: Any, slate: Tensor) -> tuple[Response, Any]:
        luck = uniform(state.seed, state.step, 9_000, 1).squeeze(1)
        response, state = self.truth.respond(state, slate)
        return self.change(response, slate, luck), state


def hasty(response: Response, _: Tensor, luck: Tensor) -> Response:
    """Leaves about twice as often."""
    return replace(response, left=response.left | (luck < 0.15))


def blind(response: Response, slate: Tensor, luck: Tensor) -> Response:
    """Clicks as often, anywhere on the slate."""
    anywhere = (luck * slate.shape[1]).long()
    return replace(response, clicked=torch.where(response.clicked >= 0, anywhere, -1))


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def truth(shop: KnownShop) -> KnownTruthShopper:
    return KnownTruthShopper(shop)


@pytest.fixture(scope="module")
def log(truth: KnownTruthShopper, shop: KnownShop) -> ShopLog:
    return collect_log(truth, shop.catalogue, sessions=500, k=6, seed=2)


@pytest.fixture(scope="module")
def itself(truth: KnownTruthShopper, log: ShopLog) -> Realism:
    return realism(truth, log, resamples=RESAMPLES)


@pytest.fixture(scope="module")
def fitted(shop: KnownShop, truth: KnownTruthShopper) -> Shopper:
    learnt = collect_log(truth, shop.catalogue, sessions=400, k=6, seed=1)
    config = FitConfig(held_out=0, members=0)
    return fit_shopper(learnt, MeanEncoder.from_catalogue(shop.catalogue), config=config)


def told_apart(found: Realism) -> set[str]:
    return set(found.distances["measure"][found.distances["apart"]])


def test_the_truth_is_as_near_to_itself_as_its_shoppers_are_to_each_other(itself: Realism) -> None:
    assert told_apart(itself) == set()
    distances = itself.distances
    assert distances["p"].mean() > 0.25
    assert distances["beyond_low"].le(0).all()
    assert distances["beyond_high"].ge(0).mean() > 0.9
    for row in itself.classifier.to_dict("records"):
        assert row["low"] < 0.5 < row["high"]
        assert 0.4 < row["auc"] < 0.6
    places = itself.places
    assert (places["real_low"] <= places["simulated_high"]).mean() > 0.5
    assert (places["simulated_low"] <= places["real_high"]).mean() > 0.5
    assert itself.likelihood.empty
    assert itself.errors.empty


def test_shoppers_who_leave_early_are_told_by_how_long_they_stay(truth: KnownTruthShopper, log: ShopLog) -> None:
    found = realism(Altered(truth, hasty), log, resamples=RESAMPLES)
    assert "slates of a session" in told_apart(found)
    assert not told_apart(found) & {"time on a slate", "places of clicks", "price of the item chosen"}
    lengths = found.distances[found.distances["measure"] == "slates of a session"]
    assert (lengths["simulated"] < lengths["real"] - 1).all()
    assert found.classifier["low"][0] > 0.5
    assert found.telling["feature"][0] == "slates"


def test_shoppers_who_click_anywhere_are_told_by_what_they_click(truth: KnownTruthShopper, log: ShopLog) -> None:
    found = realism(Altered(truth, blind), log, resamples=RESAMPLES)
    assert "popularity of the item clicked" in told_apart(found)
    assert not told_apart(found) & {"slates of a session", "clicks of a session", "clicks a slate", "time on a slate"}
    assert found.classifier["low"][0] > 0.5
    assert found.classifier["auc"][0] > found.classifier["auc"][1]


def test_intervals_widen_with_fewer_shoppers_and_floors_rise(
    truth: KnownTruthShopper, log: ShopLog, itself: Realism
) -> None:
    few = realism(truth, log.part(np.arange(80)), resamples=RESAMPLES).distances.set_index(["measure", "statistic"])
    many = itself.distances.set_index(["measure", "statistic"]).loc[few.index]
    assert ((few["high"] - few["low"]) > (many["high"] - many["low"])).mean() > 0.85
    assert (few["floor"] > many["floor"]).mean() > 0.85


def test_the_order_of_sessions_and_the_batch_change_nothing(truth: KnownTruthShopper, log: ShopLog) -> None:
    part = log.part(np.arange(60))
    turned = np.random.default_rng(0).permutation(len(part))[part.session_of_event]
    shuffled = ShopLog(part.events.iloc[np.argsort(turned, kind="stable")].reset_index(drop=True), part.catalogue)
    one, other = (realism(truth, each, resamples=RESAMPLES).to_rows() for each in (part, shuffled))
    assert {**one, "facts": None} == {**other, "facts": None}
    slow, fast = (simulated_visits(truth, part, seed=3, batch=batch) for batch in (7, 1_000))
    for name in ("session", "items", "clicked", "carted", "purchased", "dwell", "borrowed"):
        np.testing.assert_array_equal(getattr(slow, name), getattr(fast, name))


def test_simulated_shoppers_are_shown_the_slates_of_the_log(truth: KnownTruthShopper, log: ShopLog) -> None:
    real, number = logged_visits(log)
    found = simulated_visits(truth, log)
    for session in (0, 17):
        ours = real.items[real.session == session]
        np.testing.assert_array_equal(ours, log.slates.items[log.slates.session == number[session]])
        theirs = found.items[found.session == session]
        both = min(len(ours), len(theirs))
        np.testing.assert_array_equal(ours[:both], theirs[:both])
        assert not found.borrowed[found.session == session][:both].any()
    stretch = np.flatnonzero(found.borrowed[1:] & (found.session[1:] == found.session[:-1]))
    shown = {tuple(slate) for slate in real.items}
    assert len(stretch) > 50
    assert all(tuple(slate) in shown for slate in found.items[found.borrowed])


def test_sessions_sampled_by_length_are_not_compared_by_length(truth: KnownTruthShopper, log: ShopLog) -> None:
    sampled = ShopLog(log.events, log.catalogue, {**log.facts, "length_biased": True})
    found = realism(truth, sampled.part(np.arange(150)), resamples=RESAMPLES)
    measured = set(found.distances["measure"])
    assert not measured & {"slates of a session", "clicks of a session", "sessions with a purchase"}
    assert measured >= {"clicks a slate", "places of clicks", "price of the item chosen"}
    assert not set(found.telling["feature"]) & {"slates", "clicks", "carts", "purchases"}
    assert found.facts["simulated_slates"] == found.facts["slates"]
    assert found.facts["borrowed"] == 0
    assert any("sampled by length" in note for note in found.notes)


def test_a_log_of_clicked_slates_alone_is_compared_by_what_was_clicked(truth: KnownTruthShopper, log: ShopLog) -> None:
    clicked = log.events["slate_id"].isin(log.events["slate_id"][log.events["event"] == Event.CLICK.label])
    kept = ShopLog(log.events[clicked].reset_index(drop=True), log.catalogue, log.facts)
    found = realism(truth, kept, resamples=RESAMPLES)
    assert not set(found.distances["measure"]) & {"slates of a session", "clicks a slate", "sessions with a purchase"}
    assert "places of clicks" in set(found.distances["measure"])
    assert any("only slates that were clicked" in note for note in found.notes)


def test_fitted_shoppers_come_as_the_sessions_did_and_foretell(fitted: Any, log: ShopLog) -> None:
    part = log.part(np.arange(200))
    came: list[Tensor] = []
    arrive = fitted.arrive
    fitted.arrive = lambda seeds, arrivals: (came.append(arrivals.tokens.items), arrive(seeds, arrivals))[1]
    found = realism(fitted, part, resamples=RESAMPLES)
    del fitted.arrive
    _, number = logged_visits(part)
    tokens = part.tokens
    first = [tokens.items[tokens.offsets[session]] for session in number]
    assert [int(item) for item in torch.cat(came)[:, 0]] == first
    assert found.likelihood["model"][0] == FITTED
    assert (found.likelihood["auc_low"] <= found.likelihood["auc"]).all()
    assert (found.likelihood["auc"] <= found.likelihood["auc_high"]).all()
    assert set(found.errors["part"]) == set(found.calibration["part"])
    assert found.errors["ece"].between(0, 0.3).all()
    assert (found.errors["low"] <= found.errors["ece"]).all()
    assert (found.errors["ece"] <= found.errors["high"]).all()
    kept = Realism.from_rows(json.loads(json.dumps(found.to_rows())))
    assert kept.to_rows() == found.to_rows()
    pd.testing.assert_frame_equal(kept.distances, found.distances, check_dtype=False)


def test_the_second_family_is_judged_alike(shop: KnownShop, truth: KnownTruthShopper, log: ShopLog) -> None:
    learnt = collect_log(truth, shop.catalogue, sessions=250, k=6, seed=1)
    trees = TreeConfig(rounds=20)
    boosted = fit_boosted(learnt, config=BoostedConfig(held_out=0, members=0, trees=trees))
    found = realism(boosted, log.part(np.arange(120)), resamples=RESAMPLES)
    assert len(found.likelihood) >= 3
    assert set(found.errors["part"]) >= {"examination", "choice", "leaving"}
    assert "slates of a session" in set(found.distances["measure"])


def test_without_slates_only_next_choices_are_compared(shop: KnownShop, truth: KnownTruthShopper) -> None:
    views = only_views(collect_log(truth, shop.catalogue, sessions=900, k=6, seed=5))
    shopper = fit_shopper(
        views.part(np.arange(600)), MeanEncoder.from_catalogue(shop.catalogue), config=FitConfig(held_out=0, members=0)
    )
    later = views.part(np.arange(600, 900))
    found = realism(shopper, later, resamples=RESAMPLES)
    assert set(found.distances["measure"]) == {
        "categories chosen",
        "runs in a category",
        "same category as before",
        "price of the item chosen",
    }
    assert found.facts["slates"] == found.facts["simulated_slates"]
    assert found.places.empty
    assert found.errors.empty
    assert len(found.likelihood)
    assert "no slates" in found.notes[0]
    with pytest.raises(EvidenceError, match="foretells none"):
        realism(truth, later)


def test_distances_are_those_of_scipy() -> None:
    rng = np.random.default_rng(0)
    x, y = rng.integers(0, 9, 70).astype(float), rng.integers(0, 12, 50).astype(float)
    left, right = Sample(x, np.arange(70)), Sample(y, np.arange(50))
    counts = rng.integers(0, 3, 140).astype(float)
    many, few = np.repeat(x, counts[:70].astype(int)), np.repeat(y, counts[70:120].astype(int))
    ours, theirs = np.where(np.arange(140) < 70, counts, 0), np.where(np.arange(140) < 70, 0, counts)

    def distances(kind: Any) -> list[float]:
        return Pooled.of(Measure("made up", kind, "", left, right), 70).distances(ours, theirs).tolist()

    assert distances("numbers") == pytest.approx([wasserstein_distance(many, few), ks_2samp(many, few)[0]])
    p, q = (np.bincount(side.astype(int), minlength=12) / len(side) for side in (many, few))
    assert distances("kinds") == pytest.approx([np.abs(p - q).sum() / 2, jensenshannon(p, q, base=2)])
    assert distances("rate") == pytest.approx([abs(many.mean() - few.mean())])
    ours[:] = 0
    assert np.isnan(distances("rate")).all()


def test_halves_are_halves() -> None:
    halves = halvings(11, 40, seed=0)
    assert (halves.sum(1) == 5).all()
    assert len({tuple(half) for half in halves}) > 30


def test_the_auc_counts_pairs_of_a_stratum() -> None:
    score = np.array([3.0, 1.0, 2.0, 2.0, 9.0, 0.0])
    happened = np.array([True, False, False, True, False, True])
    assert auc(score, happened, np.zeros(6, np.int64)) == pytest.approx((2 + 1.5 + 0) / 9)
    # Within strata: the first has pairs (3 > 1), (3 > 2), (2 > 1), (2 = 2); the second (0 < 9).
    assert auc(score, happened, np.array([0, 0, 0, 0, 1, 1])) == pytest.approx(3.5 / 5)
    assert auc(score[:1], happened[:1], np.zeros(1, np.int64)) == 0.5


def test_a_calibration_error_is_the_distance_of_what_was_foretold(fitted: Any, log: ShopLog) -> None:
    slates = log.slates
    filled = slates.items > 0
    share = (slates.clicked >= 0).sum() / filled.sum()

    def error(chance: float) -> dict[Any, float]:
        log_chance = torch.full(slates.items.shape, float(np.log(chance)), dtype=torch.float64)
        choices = {FITTED: (log_chance[:, 0], log_chance)}
        items, clicked = torch.from_numpy(slates.items), torch.from_numpy(slates.clicked)
        seen = Foretold(slates.session, slates.session % 200, items, clicked, choices, slates)
        table = calibration_errors(fitted, seen, resamples=100)
        return table[table["part"] == "choice"].to_dict("records")[0]

    right, wrong = error(share), error(share + 0.05)
    assert right["ece"] == pytest.approx(0, abs=1e-9)
    assert right["floor"] == pytest.approx(0.8 * np.sqrt(share * (1 - share) / filled.sum()), rel=0.3)
    assert wrong["ece"] == pytest.approx(0.05)
    assert 0.03 < wrong["low"] < 0.05 < wrong["high"] < 0.07


def test_what_cannot_be_compared_is_refused(truth: KnownTruthShopper, log: ShopLog) -> None:
    other = KnownTruthShopper(KnownShop.make(KnownShopConfig.tiny()))
    with pytest.raises(EvidenceError, match="items"):
        realism(other, log)
    with pytest.raises(EvidenceError, match="10 are needed"):
        realism(truth, log.part(np.arange(5)))
    with pytest.raises(ValueError, match="resamples"):
        realism(truth, log, resamples=99)
