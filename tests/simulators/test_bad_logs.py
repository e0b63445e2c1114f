"""Logs that lack what a fit needs: a shopper that says what it assumes, or a refusal that says what is missing."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.cli.console import Reporter
from slatewise.cli.showing import show_evidence
from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import EvidenceError
from slatewise.simulators import (
    BoostedShopper,
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    Shopper,
    collect_log,
    fit_boosted,
    fit_shopper,
    without_repeats,
)
from slatewise.simulators.features import log_prices
from slatewise.simulators.priors import ASSUMED, LEARNED

IMPRESSION, CLICK, CART, PURCHASE, VIEW = (
    one.label for one in (Event.IMPRESSION, Event.CLICK, Event.CART, Event.PURCHASE, Event.VIEW)
)
CLICK_RATE, LEAVING, DEPTH = "click rate of a logged slate", "mean slates a session", "chance to look at the next place"
POPULAR, CARTS, PURCHASES = (
    "click rate of a popular slate",
    "chance of a cart given a click",
    "chance of a purchase given a cart",
)
DWELL = "median seconds on a slate"


@pytest.fixture(scope="module")
def log() -> ShopLog:
    shop = KnownShop.make(KnownShopConfig.small())
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=250, k=5, seed=1)


def of_events(log: ShopLog, events: pd.DataFrame) -> ShopLog:
    """The log with other events, in the order in which a log is kept."""
    return ShopLog(events.reset_index(drop=True), log.catalogue, log.facts)


def of_items(log: ShopLog, **columns: Any) -> ShopLog:
    """The log with other facts of its items."""
    return ShopLog(log.events, Catalogue(log.catalogue.frame.assign(**columns)), log.facts)


def without(log: ShopLog, *kinds: str) -> ShopLog:
    return of_events(log, log.events[~log.events["event"].isin(kinds)])


def of_one(log: ShopLog) -> ShopLog:
    """All sessions are one shopper's."""
    return of_events(log, log.events.assign(shopper_id="one"))


def of_few_items(log: ShopLog, n: int) -> ShopLog:
    """Item i of the log is item i modulo `n`: slates hold repeats."""
    item = (log.catalogue.index_of(log.events["item_id"]) - 1) % n
    catalogue = Catalogue(log.catalogue.frame.head(n))
    return ShopLog(log.events.assign(item_id=catalogue.item_ids[1 + item]), catalogue, log.facts)


def chosen_alone(log: ShopLog) -> ShopLog:
    """Slates of one place, which holds what was clicked, or was in the first place."""
    events = log.events
    clicks = events[events["event"] == CLICK]
    chosen = events["slate_id"].map(dict(zip(clicks["slate_id"], clicks["position"], strict=True)))
    stays = (events["event"] != IMPRESSION) | (events["position"] == chosen.fillna(0))
    return of_events(log, events[stays].assign(position=0))


def clicked_first(log: ShopLog) -> ShopLog:
    """What was clicked stands in place 1."""
    events = log.events.copy()
    clicks = events[events["event"] == CLICK]
    chosen = events["slate_id"].map(dict(zip(clicks["slate_id"], clicks["position"], strict=True)))
    shown = events["event"] == IMPRESSION
    events.loc[shown & (events["position"] == chosen), "position"] = -1
    events["position"] = events["position"].where(~shown, events[shown].groupby("slate_id")["position"].rank() - 1)
    return of_events(log, events)


def clicked_only(log: ShopLog) -> ShopLog:
    """Slates without a click were not kept."""
    events = log.events
    hit = events["slate_id"].isin(events.loc[events["event"] == CLICK, "slate_id"])
    return of_events(log, events[hit | events["slate_id"].isna()])


def half(rows: pd.Series, seed: int = 0) -> np.ndarray:
    """Half the rows, drawn."""
    return rows.to_numpy() & (np.random.default_rng(seed).random(len(rows)) < 0.5)


def without_positions(log: ShopLog, share: float) -> ShopLog:
    events = log.events.copy()
    lost = np.random.default_rng(0).random(len(events)) < share
    events["position"] = events["position"].mask(lost)
    return of_events(log, events)


def elsewhere(log: ShopLog, clicks: np.ndarray) -> ShopLog:
    """These clicks are on an item that no slate shows."""
    frame = log.catalogue.frame
    extra = frame.iloc[[0]].assign(item_id="elsewhere")
    events = log.events.copy()
    events.loc[clicks, "item_id"] = "elsewhere"
    return ShopLog(events, Catalogue(pd.concat([frame, extra], ignore_index=True)), log.facts)


def all_elsewhere(log: ShopLog) -> ShopLog:
    """All clicks are on an item that no slate shows; nothing goes into the cart."""
    kept = without(log, CART, PURCHASE)
    return elsewhere(kept, (kept.events["event"] == CLICK).to_numpy())


def bought_by_one(log: ShopLog) -> ShopLog:
    """Only the shopper with the most clicks puts anything into the cart, and buys it: all that it clicks."""
    kept = without(log, CART, PURCHASE).events
    clicks = kept[kept["event"] == CLICK]
    one = clicks[clicks["shopper_id"] == clicks["shopper_id"].value_counts().index[0]]
    more = [one.assign(event=event, position=np.nan) for event in (CART, PURCHASE)]
    return of_events(log, in_order(pd.concat([kept, *more])))


def in_order(events: pd.DataFrame) -> pd.DataFrame:
    """Events as a log keeps them; those of one time in the order given."""
    begun = events.groupby("session_id")["time"].transform("min")
    return events.assign(begun=begun).sort_values(["begun", "session_id", "time"], kind="stable").drop(columns="begun")


def one_slate_a_session(log: ShopLog, but: int = 0) -> ShopLog:
    """Each slate is a session and a shopper of its own, but for the sessions of the `but` shoppers who saw most."""
    events = log.events[log.events["slate_id"].notna()]
    most = events["shopper_id"].value_counts().index[:but]
    whole = events["shopper_id"].isin(most)
    alone = events["slate_id"]
    return of_events(
        log,
        in_order(
            events.assign(
                session_id=events["session_id"].where(whole, alone), shopper_id=events["shopper_id"].where(whole, alone)
            )
        ),
    )


def bought_at_once(log: ShopLog) -> ShopLog:
    """Every click is a purchase instead, with no click or cart before."""
    return of_events(log, without(log, CART, PURCHASE).events.replace({"event": {CLICK: PURCHASE}}))


def only_views(log: ShopLog) -> ShopLog:
    """No slates: clicks are views."""
    events = without(log, IMPRESSION).events.replace({"event": {CLICK: VIEW}})
    return of_events(log, events.assign(slate_id=None, position=np.nan, propensity=np.nan))


def only_purchases(log: ShopLog) -> ShopLog:
    """All that is left is purchases, of all that was clicked or viewed."""
    events = without(log, IMPRESSION, CART, PURCHASE).events
    return of_events(log, events.assign(event=PURCHASE, slate_id=None, position=np.nan, propensity=np.nan))


def viewed_off_slates(log: ShopLog) -> ShopLog:
    """Slates stay, but what was clicked on them is told as views that name no slate."""
    events = log.events.replace({"event": {CLICK: VIEW}})
    return of_events(log, events.assign(slate_id=events["slate_id"].where(events["event"] == IMPRESSION)))


def slates_of_one(log: ShopLog) -> ShopLog:
    """Only the shopper with the most clicks was shown slates; the others' clicks are views."""
    events = log.events.copy()
    clicks = events[events["event"] == CLICK]
    other = events["shopper_id"] != clicks["shopper_id"].value_counts().index[0]
    events.loc[other & (events["event"] == CLICK), "event"] = VIEW
    events.loc[other, ["slate_id", "position"]] = None
    return of_events(log, events[~other | (events["event"] != IMPRESSION)])


def clicked_by_one(log: ShopLog) -> ShopLog:
    """Of all who were shown slates, only the shopper with the most clicks clicked."""
    clicks = log.events[log.events["event"] == CLICK]
    one = log.events["shopper_id"] == clicks["shopper_id"].value_counts().index[0]
    return of_events(log, log.events[one | (log.events["event"] == IMPRESSION)])


def paused_by_one(log: ShopLog) -> ShopLog:
    """All that a session holds comes at once, but for the shopper with the most clicks."""
    events = log.events
    one = events.loc[events["event"] == CLICK, "shopper_id"].value_counts().index[0]
    begun = events.groupby("session_id")["time"].transform("min")
    return of_events(log, events.assign(time=events["time"].where(events["shopper_id"] == one, begun)))


def late_without_slates(log: ShopLog) -> ShopLog:
    """The latest fifth of the sessions holds views alone."""
    late = log.session_of_event >= 0.8 * len(log) - 1
    events = log.events[~late | (log.events["event"] == VIEW).to_numpy()]
    return of_events(log, events)


DAY = pd.Timestamp("2026-01-05", tz="UTC")
USUAL = FitConfig(members=2)
FEW_VIEWS = FitConfig(members=2, min_views=50)
RARE = FitConfig(members=6, min_clicks=3, min_events=2)
"""Lets a shopper's few deeds be learnt, and draws so many members that some lack them."""


@dataclass(frozen=True)
class Odd:
    """A log that is fitted.

    Attributes:
        damage: what was done to the log.
        says: first words of quantities -> where they come from.
        k: slots of the slates tried.
        config: settings, where not the usual.
    """

    damage: Callable[[ShopLog], ShopLog]
    says: Mapping[str, str] = field(default_factory=dict)
    k: int = 5
    config: FitConfig = USUAL


FITTED = {
    "one shopper": Odd(of_one, {CLICK_RATE: LEARNED, "sessions as unlike as those of different shoppers": ASSUMED}),
    "one item": Odd(lambda log: of_few_items(chosen_alone(log), 1), {CLICK_RATE: LEARNED, DEPTH: ASSUMED}, k=1),
    "two items": Odd(lambda log: of_few_items(chosen_alone(log), 2), {CLICK_RATE: LEARNED}, k=2),
    "slates longer than the catalogue": Odd(lambda log: of_few_items(log, 3), k=5),
    "every click bought": Odd(bought_at_once, {CLICK_RATE: LEARNED, CARTS: LEARNED}),
    "purchases alone": Odd(
        only_purchases,
        {"choice among items": LEARNED, POPULAR: ASSUMED, CARTS: ASSUMED, PURCHASES: ASSUMED},
        config=FEW_VIEWS,
    ),
    "one price": Odd(lambda log: of_items(log, price=10.0)),
    "no price": Odd(lambda log: of_items(log, price=np.nan), {"price of an item without one": ASSUMED}),
    "half the prices": Odd(
        lambda log: of_items(log, price=log.catalogue.frame["price"].where(log.catalogue.frame.index % 2 == 0)),
        {"price of an item without one": ASSUMED},
    ),
    "huge prices": Odd(lambda log: of_items(log, price=log.catalogue.frame["price"] * 1e8)),
    "tiny prices": Odd(lambda log: of_items(log, price=log.catalogue.frame["price"] * 1e-5)),
    "half the positions": Odd(lambda log: without_positions(log, 0.5), {"place on the slate": ASSUMED}),
    "no positions": Odd(lambda log: without_positions(log, 1.0), {"place on the slate": ASSUMED}),
    "half the clicks on what no slate shows": Odd(
        lambda log: elsewhere(log, half(log.events["event"] == CLICK)),
        {CLICK_RATE: LEARNED, "no click on a slate that did not show its item": ASSUMED},
    ),
    "all clicks on what no slate shows": Odd(
        all_elsewhere,
        {POPULAR: ASSUMED, "no click on a slate that did not show its item": ASSUMED},
        config=FEW_VIEWS,
    ),
    "all clicks in place 1": Odd(clicked_first, {CLICK_RATE: LEARNED}),
    "every slate clicked": Odd(clicked_only, {POPULAR: ASSUMED, LEAVING: ASSUMED}),
    "one category": Odd(lambda log: of_items(log, category="all", brand="all")),
    "sessions of one slate": Odd(one_slate_a_session, {LEAVING: ASSUMED}),
    "one shopper who clicks": Odd(clicked_by_one, {CLICK_RATE: LEARNED}, config=RARE),
    "one shopper who stays": Odd(lambda log: one_slate_a_session(log, but=1), {LEAVING: LEARNED}, config=RARE),
    "one shopper who buys": Odd(bought_by_one, {CARTS: LEARNED, PURCHASES: LEARNED}, config=RARE),
    "one shopper who pauses": Odd(paused_by_one, {DWELL: LEARNED}, config=RARE),
    "slates of one shopper": Odd(slates_of_one, {CLICK_RATE: LEARNED}, config=RARE),
    "no slate held out": Odd(late_without_slates, {CLICK_RATE: LEARNED}),
    "no time passes": Odd(lambda log: of_events(log, log.events.assign(time=DAY)), {DWELL: ASSUMED}),
    "slates of which no click is told": Odd(viewed_off_slates, {POPULAR: ASSUMED, LEAVING: ASSUMED}, config=FEW_VIEWS),
    "views of one shopper": Odd(
        lambda log: only_views(of_one(log)),
        {"choice among items": LEARNED, POPULAR: ASSUMED},
        config=FEW_VIEWS,
    ),
    "views of two items": Odd(lambda log: only_views(of_few_items(log, 2)), {POPULAR: ASSUMED}, k=2, config=FEW_VIEWS),
}
FAMILIES = ("transformer", "boosted")


def fitted(family: str, log: ShopLog, config: FitConfig) -> FittedShopper | BoostedShopper:
    if family == "boosted":
        return fit_boosted(log, config=config)
    return fit_shopper(log, MeanEncoder.from_catalogue(log.catalogue, dim=8), config=config)


def numbers(part: Any) -> list[torch.Tensor]:
    """All tensors and arrays in a model."""
    if isinstance(part, torch.Tensor | np.ndarray):
        return [torch.as_tensor(part)]
    if isinstance(part, Mapping):
        return [one for value in part.values() for one in numbers(value)]
    if isinstance(part, tuple):
        return [one for value in part for one in numbers(value)]
    names = getattr(part, "__dataclass_fields__", {})
    return [one for name in names for one in numbers(getattr(part, name))]


def check_responses(shopper: Shopper, k: int) -> None:
    """Two slates: what comes back is finite and legal."""
    state: Any = shopper.reset(torch.arange(32))
    rng = torch.Generator().manual_seed(0)
    for _ in range(2):
        slate = without_repeats(torch.randint(0, shopper.n_items + 1, (32, k), generator=rng))
        response, state = shopper.respond(state, slate)
        hit = response.clicked >= 0
        assert (slate.gather(1, response.clicked.clamp(min=0)[:, None])[:, 0] > 0)[hit].all()
        assert not response.purchased[~response.carted].any()
        assert not response.carted[~hit].any()
        for name in ("dwell", "revenue"):
            assert torch.isfinite(getattr(response, name)).all(), name
        assert (response.dwell > 0).all()


def said(shopper: FittedShopper | BoostedShopper) -> dict[str, str]:
    """First words of a quantity -> where its value comes from."""
    return {row["quantity"].split(" (")[0]: row["source"] for row in shopper.report["evidence"]}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", FITTED)
def test_an_odd_log_gives_a_shopper_that_says_what_it_rests_on(case: str, family: str, log: ShopLog) -> None:
    odd = FITTED[case]
    shopper = fitted(family, odd.damage(log), odd.config)
    for one in numbers(shopper.model):
        assert torch.isfinite(one).all()
    found = said(shopper)
    assert {name: found.get(name) for name in odd.says} == odd.says
    check_responses(shopper, odd.k)
    check_responses(shopper.ensemble(), odd.k)


def test_members_of_one_shopper_differ_by_the_sessions_drawn(log: ShopLog) -> None:
    shopper = fit_shopper(of_one(log), MeanEncoder.from_catalogue(log.catalogue, dim=8), config=FitConfig(members=2))
    assert shopper.report["counts"]["shoppers"] == 1
    assert not torch.equal(shopper.member(0).model.own.choice.item, shopper.member(1).model.own.choice.item)
    gain = next(row for row in shopper.report["held_out"] if row["model"] == "position")
    assert gain["low"] < gain["gain"] < gain["high"]


def test_shoppers_drawn_without_a_rare_event_still_know_that_it_is_rare(log: ShopLog) -> None:
    shopper = fit_shopper(bought_by_one(log), MeanEncoder.from_catalogue(log.catalogue, dim=8), config=RARE)
    chances = [float(torch.sigmoid(shopper.member(number).model.own.cart.weights[0])) for number in range(6)]
    assert min(chances) < 0.01  # of clicks, where the prior has 0.1


def rows(shopper: FittedShopper | BoostedShopper) -> dict[str, dict[str, Any]]:
    """Rows of the evidence, by the first words of their quantity."""
    return {row["quantity"].split(" (")[0]: row for row in shopper.report["evidence"]}


def looked_on(shopper: FittedShopper | BoostedShopper) -> float:
    """Chance to look at the second place."""
    return float(shopper.looked(2)[1])


@pytest.mark.parametrize("family", FAMILIES)
def test_places_without_clicks_say_how_far_shoppers_look(family: str, log: ShopLog) -> None:
    shopper = fitted(family, clicked_first(log), FitConfig(members=0))
    row = rows(shopper)["chance to look on from place 1 and below"]
    assert row["evidence"] == "0 clicks below"
    assert row["value"] == pytest.approx(looked_on(shopper))
    assert row["low"] < row["value"] < row["high"] < 0.85  # which is the prior


@pytest.mark.parametrize("family", FAMILIES)
def test_where_every_click_is_bought_so_it_is_in_the_simulation(family: str, log: ShopLog) -> None:
    shopper = fitted(family, bought_at_once(log), FitConfig(members=0))
    state: Any = shopper.reset(torch.arange(2_000))
    response, _ = shopper.respond(state, torch.arange(1, 6).expand(2_000, -1))
    hit = response.clicked >= 0
    assert hit.sum() > 100
    assert float(response.purchased[hit].float().mean()) > 0.95
    for quantity in (CARTS, PURCHASES):
        row = rows(shopper)[quantity]
        assert row["low"] <= row["value"] <= row["high"]


def test_half_the_positions_are_found_by_the_order_logged(log: ShopLog) -> None:
    lost = without_positions(log, 0.5)
    np.testing.assert_array_equal(lost.slates.items, log.slates.items)
    np.testing.assert_array_equal(lost.slates.clicked, log.slates.clicked)
    shopper = fit_boosted(lost, config=FitConfig(held_out=0, members=2))
    shown = lost.events[lost.events["event"] == IMPRESSION]
    count = f"{shown['position'].isna().sum()} of {len(shown)} impressions without a position"
    assert rows(shopper)["place on the slate"]["evidence"] == count


@pytest.mark.parametrize("family", FAMILIES)
def test_slates_without_clicks_are_not_taken_for_no_slates(family: str, log: ShopLog) -> None:
    lost = viewed_off_slates(log)
    found = rows(fitted(family, lost, FitConfig(members=0, min_views=50, held_out=0)))
    for quantity in (POPULAR, DEPTH, LEAVING):
        assert found[quantity]["evidence"] == f"0 clicks on {len(log.slates)} slates"
    assert "views brought along at most" not in found


@pytest.mark.parametrize("family", FAMILIES)
def test_sessions_kept_aside_that_say_nothing_are_said_to(family: str, log: ShopLog) -> None:
    report = fitted(family, late_without_slates(log), FitConfig(members=0)).report
    assert report["held_out_counts"] == {"sessions": 0, "slates": 0, "clicks": 0}
    assert report["held_out"] == report["calibration"] == []


def test_what_is_unknown_is_shown_as_such(log: ShopLog, capsys: pytest.CaptureFixture[str]) -> None:
    shopper = fit_boosted(of_items(only_views(log), price=np.nan), config=FEW_VIEWS)
    show_evidence(Reporter(), shopper.report)
    assert "What is known of the shoppers" in capsys.readouterr().out


REFUSED = {
    "no events": (lambda log: of_events(log, log.events.head(0)), "0 sessions hold 0 clicks on 0 slates"),
    "no clicks": (
        lambda log: of_events(log, log.events[log.events["event"] == IMPRESSION]),
        "hold 0 clicks on .* 50 such clicks or 200 such views are needed; log clicks with the slate_id of what was "
        "shown, or ingest a longer log; 50 more sessions are kept aside by held_out=0.2",
    ),
    "clicks on what no slate shows": (
        lambda log: all_elsewhere(log.part(np.arange(80))),
        "hold 0 clicks on .* more clicks are on what their slates did not show: check slate_id and item_id",
    ),
    "views of one item": (lambda log: only_views(of_few_items(log, 1)), "and 0 views that follow another"),
    "clicks on one item alone": (
        lambda log: clicked_only(of_few_items(chosen_alone(log.part(np.arange(40))), 1)),
        "and 0 views that follow another, but 50 such clicks or",
    ),
}


@pytest.mark.parametrize("family", FAMILIES)
@pytest.mark.parametrize("case", REFUSED)
def test_a_log_that_holds_too_little_is_refused_with_what_to_do(case: str, family: str, log: ShopLog) -> None:
    damage, says = REFUSED[case]
    with pytest.raises(EvidenceError, match=says):
        fitted(family, damage(log), USUAL)


def test_prices_are_told_apart_in_any_currency(log: ShopLog) -> None:
    usual = log.catalogue.prices[1:]
    spread = log_prices(usual) - log_prices(usual).mean()
    for rate in (1e-5, 1e8):
        other = log_prices((usual * rate).astype(np.float32))
        np.testing.assert_allclose(other - other.mean(), spread, atol=1e-5)
    assert log_prices(np.zeros(3, np.float32)).tolist() == [np.log(0.01)] * 3
    np.testing.assert_allclose(log_prices(np.array([0, 2, 0.5], np.float32)), np.log([0.01, 2, 0.5]))


def test_the_page_tells_what_becomes_of_each_log() -> None:
    lines = (Path(__file__).parents[2] / "docs" / "bad_input.md").read_text(encoding="utf-8").splitlines()
    told = {name for line in lines if line.startswith("| ") for name in line.split(" | ")[0][2:].split(", ")}
    assert {*FITTED, *REFUSED} <= told
