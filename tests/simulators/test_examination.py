"""The forms of examination: chances worked out by hand, draws that follow them, and fits that find them again."""

import itertools
import json
import math
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.agents import MyopicPolicy
from slatewise.datasets.artefact import read_config
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.errors import ArtefactError
from slatewise.simulators import (
    FitConfig,
    FittedShopper,
    KnownTruthShopper,
    calibration_table,
    collect_log,
    fit,
    fit_boosted,
    fit_shopper,
    load_shopper,
)
from slatewise.simulators.choice import NEVER, ChoiceWeights
from slatewise.simulators.choice_fit import ChoiceData, ChoicePrior, choice_chances, fit_choice, log_likelihood
from slatewise.simulators.examination import (
    FORMS,
    Examination,
    click_log_chances,
    look_and_choose,
    looked_chances,
    outcome_log_chance,
)
from slatewise.simulators.features import ITEM_FEATURES, OUTSIDE_FEATURES
from slatewise.simulators.form_choice import chosen_form
from slatewise.simulators.logistic import logit
from slatewise.simulators.priors import ASSUMED, LEARNED
from slatewise.simulators.randomness import uniform
from slatewise.testing import check_shopper, only_views, random_slates

LOOKS = (0.9, 0.5, 0.7, 0.3)
"""Chances behind the logits of looking, by place; the last holds for all further places."""


def logits(*chances: float) -> Tensor:
    return torch.tensor([logit(chance) for chance in chances], dtype=torch.float64)


def some_slates(n: int, k: int, spread: float, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Utilities (n, k), with an empty slot in the first slate, and (n,) of clicking nothing."""
    rng = torch.Generator().manual_seed(seed)
    utility = spread * torch.randn(n, k, generator=rng, dtype=torch.float64)
    utility[0, 1] = NEVER
    return utility, 1 + spread * torch.randn(n, generator=rng, dtype=torch.float64)


def test_a_position_based_choice_of_two_is_as_worked_out_by_hand() -> None:
    # Looks at the first place with 0.9, at the second with 0.5. Utilities: log 1, log 2; nothing: log 3.
    utility, nothing = torch.tensor([[0.0, math.log(2)]], dtype=torch.float64), logits(0.75)
    assert float(nothing) == pytest.approx(math.log(3))
    chances = click_log_chances("position", utility, nothing, logits(0.9, 0.5)).exp()
    first = 0.9 * 0.5 * 1 / (3 + 1) + 0.9 * 0.5 * 1 / (3 + 1 + 2)
    second = 0.1 * 0.5 * 2 / (3 + 2) + 0.9 * 0.5 * 2 / (3 + 1 + 2)
    np.testing.assert_allclose(chances, [[first, second, 1 - first - second]], rtol=1e-8)


@pytest.mark.parametrize(("spread", "exact"), [(1.0, 1e-7), (3.0, 1e-6), (8.0, 1e-5)])
def test_the_integral_is_the_sum_over_all_sets_of_places(spread: float, exact: float) -> None:
    utility, nothing = some_slates(40, 7, spread)
    looks = np.array([*LOOKS, 0.3, 0.3, 0.3])
    total = np.zeros((40, 8))
    for seen in itertools.product((False, True), repeat=7):
        chance = np.prod(np.where(seen, looks, 1 - looks))
        weight = np.column_stack([np.exp(utility.numpy()) * np.array(seen), np.exp(nothing.numpy())])
        total += chance * weight / weight.sum(1, keepdims=True)
    chances = click_log_chances("position", utility, nothing, logits(*LOOKS)).exp()
    np.testing.assert_allclose(chances, total, rtol=exact, atol=1e-300)
    for place in (0, 4, 7):
        one = outcome_log_chance("position", utility, nothing, logits(*LOOKS), torch.full((40,), place))
        np.testing.assert_allclose(one.exp(), total[:, place], rtol=exact)


def test_a_cascade_of_two_is_as_worked_out_by_hand() -> None:
    # Each is clicked, once looked at, with sigmoid(u - nothing): 1/4 and 2/5. Goes on from the first with 0.9.
    utility, nothing = torch.tensor([[0.0, math.log(2)]], dtype=torch.float64), logits(0.75)
    whole = click_log_chances("cascade", utility, nothing, logits(0.9)).exp()
    np.testing.assert_allclose(whole, [[1 / 4, 3 / 4 * 2 / 5, 3 / 4 * 3 / 5]], rtol=1e-12)
    stops = click_log_chances("dbn", utility, nothing, logits(0.9)).exp()
    np.testing.assert_allclose(stops, [[1 / 4, 3 / 4 * 0.9 * 2 / 5, 3 / 4 * (0.1 + 0.9 * 3 / 5)]], rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_chances_sum_to_one_and_an_empty_slot_is_never_clicked(form: Examination) -> None:
    for spread in (1.0, 4.0, 30.0):
        utility, nothing = some_slates(300, 12, spread)
        chances = click_log_chances(form, utility, nothing, logits(*LOOKS)).exp()
        np.testing.assert_allclose(chances.sum(1), 1, rtol=1e-9)
        assert float(chances[0, 1]) == 0
        each = click_log_chances(form, utility, nothing, logits(*LOOKS).expand(300, -1)).exp()
        np.testing.assert_allclose(each, chances, rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_huge_utilities_leave_chances_and_gradients_finite(form: Examination) -> None:
    utility = torch.tensor([[900.0, NEVER, -900.0], [-900.0, -900.0, NEVER]], dtype=torch.float64, requires_grad=True)
    nothing, proceed = torch.zeros(2, dtype=torch.float64), logits(0.9, 0.5).requires_grad_()
    chances = click_log_chances(form, utility, nothing, proceed)
    (chances[0, 0] + chances[1, 3]).backward()
    assert chances[1, 3].exp().item() == pytest.approx(1)
    assert utility.grad is not None
    assert torch.isfinite(utility.grad).all()
    assert proceed.grad is None or torch.isfinite(proceed.grad).all()


@pytest.mark.parametrize("form", FORMS)
def test_draws_follow_the_chances(form: Examination) -> None:
    utility, nothing = torch.tensor([0.8, -0.3, NEVER, 1.2, 0.1]), torch.tensor(0.9)
    proceed, n = logits(*LOOKS).float(), 200_000
    expected = click_log_chances(form, utility[None].double(), nothing[None].double(), proceed.double()).exp()[0]
    seeds = torch.arange(n)
    luck, drawn = uniform(seeds, 0, 1, 1).squeeze(1), partial(uniform, seeds, 0)
    shown = utility.expand(n, -1), nothing.expand(n)
    examined, clicked = look_and_choose(form, *shown, proceed, luck, drawn)
    counts = torch.bincount(torch.where(clicked < 0, 5, clicked), minlength=6)
    spread = (expected * (1 - expected) / n).sqrt()
    assert ((counts / n - expected).abs() <= 4.5 * spread).all(), (counts / n, expected)
    hit = clicked >= 0
    assert examined[hit].gather(1, clicked[hit, None]).all()
    looked = looked_chances(form, proceed, 5)
    if form in ("depth", "position"):
        np.testing.assert_allclose(examined.float().mean(0), looked, atol=0.006)
    else:  # nothing below a click is looked at, and above it everything
        below = torch.arange(5) > clicked[:, None]
        assert not (examined & below & hit[:, None]).any()
        np.testing.assert_allclose(examined[:, 1].float().mean() / (clicked != 0).float().mean(), looked[1], atol=0.006)
    assert (examined[:, 0] == (form != "position")).any()


def clicks_of(form: Examination, n: int, seed: int, sessions: int = 1) -> tuple[ChoiceData, ChoiceWeights]:
    """Slates of six among 40 items in random order, clicked by shoppers who look over them in a form."""
    rng = torch.Generator().manual_seed(seed)
    item = torch.zeros(len(ITEM_FEATURES), dtype=torch.float64)
    item[ITEM_FEATURES.index("price")], item[ITEM_FEATURES.index("match")] = -0.6, 0.9
    outside = torch.zeros(len(OUTSIDE_FEATURES), dtype=torch.float64)
    outside[0] = 1.0
    weights = ChoiceWeights(item, outside, logits(0.6, 0.9, 0.75), torch.zeros(41, dtype=torch.float64), form)
    items = torch.rand(n, 40, generator=rng).topk(6).indices + 1
    features = torch.randn(n, 6, len(ITEM_FEATURES), generator=rng, dtype=torch.float64)
    sides = torch.zeros(n, len(OUTSIDE_FEATURES), dtype=torch.float64)
    sides[:, 0] = 1
    seeds = torch.arange(n) + 10**6 * seed
    luck, drawn = uniform(seeds, 0, 1, 1).squeeze(1), partial(uniform, seeds, 0)
    clicked = look_and_choose(form, features @ item, sides[:, 0], weights.proceed, luck, drawn)[1]
    ones = torch.ones(n, dtype=torch.float64)
    return ChoiceData(features, items, sides, clicked, torch.arange(n) // sessions, ones), weights


BARE = ChoicePrior(item_features=("price", "match"), outside_features=("nothing",), step_sd=2.0, proceed_sd=2.0)


@pytest.mark.parametrize("form", FORMS)
def test_a_fit_finds_the_parameters_that_made_the_clicks(form: Examination) -> None:
    """As far from the truth as the standard errors say, over two logs: 1 of them by root mean square."""
    distances = []
    for seed in range(2):
        data, truth = clicks_of(form, 3_000, seed)
        found = fit_choice(data, replace(BARE, form=form), n_items=40)
        assert found.weights.form == form
        pairs = [(found.weights.item[i] - truth.item[i], found.errors["item"][i]) for i in (0, 2)]
        pairs.append((found.weights.outside[0] - truth.outside[0], found.errors["outside"][0]))
        if form != "cascade":
            true = truth.proceed[torch.arange(len(found.weights.proceed)).clamp(max=2)]
            known = len(true) if form == "position" else 5  # nothing is below the sixth place
            pairs += [(found.weights.proceed[j] - true[j], found.errors["proceed"][j]) for j in range(known)]
        distances += [float(gap) / error for gap, error in pairs]
        assert found.errors["item"][2] < 0.1
        assert form == "cascade" or found.errors["proceed"][:2].mean() < 0.8
    assert np.abs(distances).max() < 4
    assert 0.5 < np.sqrt(np.mean(np.square(distances))) < 1.5


@pytest.mark.parametrize("form", FORMS)
def test_the_gradient_of_the_likelihood_is_the_numeric_one(form: Examination) -> None:
    data, weights = clicks_of(form, 40, seed=9)
    sizes = [len(ITEM_FEATURES), len(OUTSIDE_FEATURES), 3]
    whole = torch.cat([weights.item, weights.outside, weights.proceed])

    def total(at: Tensor) -> Tensor:
        item, outside, proceed = at.split(sizes)
        return log_likelihood(ChoiceWeights(item, outside, proceed, weights.effects, form), data).sum()

    at = whole.clone().requires_grad_()
    (slope,) = torch.autograd.grad(total(at), at)
    for number in range(len(whole)):
        step = torch.zeros_like(whole)
        step[number] = 1e-5
        numeric = float(total(whole + step) - total(whole - step)) / 2e-5
        assert float(slope[number]) == pytest.approx(numeric, rel=1e-5, abs=1e-5)
    assert bool(slope[-3:].any()) == (form != "cascade")


def test_a_likelihood_in_pieces_is_that_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    data, weights = clicks_of("position", 700, seed=3)
    prior = replace(BARE, form="position")
    whole, fit_of_whole = choice_chances(weights, data), fit_choice(data, prior, n_items=40)
    monkeypatch.setattr("slatewise.simulators.choice_fit._CELLS", 64 * 6 * 100)
    pieces, fit_of_pieces = choice_chances(weights, data), fit_choice(data, prior, n_items=40)
    for one, other in zip(whole, pieces, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-8)
    np.testing.assert_allclose(fit_of_whole.found, fit_of_pieces.found, atol=1e-4)
    np.testing.assert_allclose(fit_of_whole.errors["proceed"], fit_of_pieces.errors["proceed"], rtol=1e-3)


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=1_000, k=6, seed=1)


@pytest.fixture(scope="module")
def few(log: ShopLog) -> ShopLog:
    return log.part(np.arange(300))


@pytest.fixture(scope="module")
def encoder(shop: KnownShop) -> MeanEncoder:
    return MeanEncoder.from_catalogue(shop.catalogue)


@pytest.fixture(scope="module", params=FORMS)
def fitted(request: pytest.FixtureRequest, few: ShopLog, encoder: MeanEncoder) -> FittedShopper:
    return fit_shopper(few, encoder, config=FitConfig(members=2, examination=request.param))


@pytest.mark.parametrize("form", ["cascade", "depth"])
def test_the_form_that_made_the_clicks_is_chosen(form: Examination, log: ShopLog) -> None:
    data, _ = clicks_of(form, 6_000, seed=1, sessions=6)
    found = chosen_form("auto", log, data, BARE, 40)
    assert found.form == form == found.table[0]["form"]
    assert (found.evidence.source, found.evidence.count) == (LEARNED, "best of 4 on 600 later slates")
    rows = {row["form"]: row for row in found.table}
    assert set(rows) == set(FORMS)
    wrong = rows["depth" if form == "cascade" else "cascade"]
    assert 0 < wrong["low"] < wrong["gain"] < wrong["high"]
    assert wrong["gain"] == pytest.approx(rows[form]["log_likelihood"] - wrong["log_likelihood"])


def test_the_latest_sessions_choose_however_they_are_ordered(log: ShopLog) -> None:
    """Of slates that tell nothing, the earlier nine tenths are taken from a cascade's and the latest from a depth's."""
    cascade, _ = clicks_of("cascade", 6_000, seed=1, sessions=6)
    depth, _ = clicks_of("depth", 6_000, seed=1, sessions=6)
    order = torch.from_numpy(np.argsort(log.sessions["start"].to_numpy(), kind="stable"))
    late = torch.isin(depth.session, order[900:])
    mixed = replace(cascade, clicked=torch.where(late, depth.clicked, cascade.clicked))
    whole = {row["form"]: row["log_likelihood"] for row in chosen_form("auto", log, mixed, BARE, 40).table}
    early = cascade.rows(~late)
    fit_of_early = fit_choice(early, replace(BARE, form="cascade"), 40, errors=False)
    expected = choice_chances(fit_of_early.weights, depth.rows(late))[0].mean()
    assert whole["cascade"] == pytest.approx(float(expected), abs=1e-3)


def test_too_little_to_choose_by_is_said(few: ShopLog, encoder: MeanEncoder) -> None:
    cases = (few.part(np.arange(60)), "too few to choose a form by"), (only_views(few), "no slates to choose a form by")
    for part, why in cases:
        shopper = fit_shopper(
            part, encoder, config=FitConfig(members=0, examination="auto", min_views=50, min_clicks=20)
        )
        first = shopper.report["evidence"][0]
        assert (first["quantity"], first["source"]) == ("form of examination: depth", ASSUMED)
        assert why in first["evidence"]
        assert shopper.report["forms"] == []


def test_forms_are_compared_in_a_fit_and_reported(few: ShopLog, encoder: MeanEncoder) -> None:
    shopper = fit_shopper(few, encoder, config=FitConfig(members=0, examination="auto", held_out=0.1))
    table = shopper.report["forms"]
    assert {row["form"] for row in table} == set(FORMS)
    assert shopper.model.own.choice.form == table[0]["form"]
    assert all(weights.form == table[0]["form"] for weights in shopper.model.rivals.values())
    assert [row["gain"] for row in table] == sorted(row["gain"] for row in table)


def test_a_shopper_of_each_form_keeps_the_promises_of_simulators(fitted: FittedShopper) -> None:
    check_shopper(fitted, k=6)
    check_shopper(fitted.ensemble(), k=6)
    assert {one.model.own.choice.form for one in (fitted, fitted.member(1))} == {fitted.model.own.choice.form}


def test_what_a_shopper_expects_is_what_it_does(fitted: FittedShopper) -> None:
    n, slate, first = 40_000, random_slates(1, 6, fitted.n_items), torch.tensor([0])
    state = fitted.reset(torch.full((n,), 5))
    choice, trail = fitted.model.own.choice, state.trail.rows(first)
    utility = choice.utility(fitted.scaled(state.memory.state[:1], trail, slate), slate)
    nothing = choice.nothing(fitted.outside(trail, torch.tensor([6])))
    chances = choice.log_chances(utility, nothing).exp()[0]
    for number in range(2):
        one = fitted.member(number)
        expected = fitted.expect(fitted.reset(torch.tensor([5])), slate)
        parts = replace(one.model.own, arrivals=fitted.model.own.arrivals)
        own = FittedShopper(replace(one.model, own=parts), one.encoder)
        alone = own.expect(own.reset(torch.tensor([5])), slate)
        np.testing.assert_allclose(expected.click[number], alone.click[0], rtol=1e-4)
    state.seed = torch.arange(n)
    response, _ = fitted.respond(state, slate.expand(n, -1))
    counts = torch.bincount(response.clicked % 7, minlength=7)  # -1 becomes 6
    spread = (chances * (1 - chances) / n).sqrt()
    assert ((counts / n - chances).abs() <= 4.5 * spread + 1e-6).all()


@pytest.mark.parametrize("form", FORMS)
def test_a_shopper_is_read_back_with_its_form(
    form: Examination, few: ShopLog, encoder: MeanEncoder, tmp_path: Path
) -> None:
    config = FitConfig(members=1, examination=form, min_clicks=10)
    part = few.part(np.arange(80))
    written = fit(part, encoder, tmp_path / "shopper", config=config)
    again = load_shopper(tmp_path / "shopper")
    assert isinstance(again, FittedShopper)
    for one, other in ((again, written), (again.member(0), written.member(0))):
        assert one.model.own.choice.form == other.model.own.choice.form == form
        assert torch.equal(one.model.own.choice.proceed, other.model.own.choice.proceed)
    assert {weights.form for weights in again.model.rivals.values()} == {form}
    with pytest.raises(ArtefactError, match="examination"):
        fit(part, encoder, tmp_path / "shopper", config=replace(config, examination="auto"))


def test_a_folder_from_before_there_were_forms_is_refused(few: ShopLog, encoder: MeanEncoder, tmp_path: Path) -> None:
    folder = tmp_path / "shopper"
    fit(few.part(np.arange(80)), encoder, folder, config=FitConfig(members=0, min_clicks=10))
    config = read_config(folder, "shopper")
    del config["slatewise_artefact"]["facts"]["examination"]
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ArtefactError, match=r"examination.*fit it anew"):
        load_shopper(folder)


def test_evidence_and_parameters_name_the_chances_to_look(fitted: FittedShopper) -> None:
    form, report = fitted.model.own.choice.form, fitted.report
    first = report["evidence"][0]
    assert (first["quantity"], first["source"]) == (f"form of examination: {form}", ASSUMED)
    assert first["evidence"] == "asked for"
    words = "look at place 1" if form == "position" else "look on from place 1"
    rows = [row for row in report["evidence"] if words in row["quantity"]]
    named = [row for row in report["parameters"] if row["part"] == "examination"]
    if form == "cascade":
        assert not rows
        assert not named
    else:
        chance = torch.sigmoid(fitted.model.own.choice.proceed[0])
        assert rows[0]["value"] == pytest.approx(float(chance), rel=1e-4)
        assert rows[0]["low"] < rows[0]["value"] < rows[0]["high"]
        assert named[0]["name"].startswith("look_at_1" if form == "position" else "look_on_from_1")
        assert len(named) == len(fitted.model.own.choice.proceed)


def test_click_rates_by_place_are_foretold(fitted: FittedShopper, log: ShopLog) -> None:
    table = calibration_table(fitted, log.part(np.arange(300, 1_000)), bins=5)
    places = table[table["part"] == "examination"]
    assert list(places["group"]) == [1, 2, 3, 4, 5, 6]
    inside = places["predicted"].between(places["low"] - 0.015, places["high"] + 0.015)
    assert inside.mean() > 0.6, places
    total = np.average(places["predicted"], weights=places["count"])
    assert total == pytest.approx(np.average(places["observed"], weights=places["count"]), rel=0.2)


def test_without_slates_each_form_clicks_as_often_as_assumed(few: ShopLog, encoder: MeanEncoder) -> None:
    for form in FORMS:
        config = FitConfig(members=0, examination=form, min_views=50)
        shopper = fit_shopper(only_views(few), encoder, config=config)
        popular = shopper.model.facts.popularity[1:].topk(10).indices + 1
        response, _ = shopper.respond(shopper.reset(torch.arange(4_000)), popular.expand(4_000, -1))
        assert float((response.clicked >= 0).float().mean()) == pytest.approx(0.10, abs=0.02)
        looked = {"cascade": 1.0, "position": 0.85**4}.get(form, 0.85**3)
        assert float(shopper.looked(10)[3]) == pytest.approx(looked, rel=1e-5)


def test_boosted_shoppers_have_one_form(few: ShopLog) -> None:
    with pytest.raises(ValueError, match="boosted shoppers look to a depth"):
        fit_boosted(few, config=FitConfig(examination="cascade"))
    with pytest.raises(ValueError, match="examination must be one of depth, position, cascade, dbn or auto, got 'pbm'"):
        FitConfig(examination="pbm")  # pyright: ignore[reportArgumentType]


def test_the_best_item_goes_where_most_shoppers_look(fitted: FittedShopper) -> None:
    choice = replace(fitted.model.own.choice, form="position", proceed=logits(0.3, 0.9, 0.5).float())
    own = replace(fitted.model.own, choice=choice)
    shopper = FittedShopper(replace(fitted.model, own=own, members=None), fitted.encoder)
    arrival = shopper.reset(torch.arange(4)).arrival
    seen = {name: getattr(arrival, name).numpy() for name in ("items", "events", "gaps", "lengths")}
    best = shopper.choice_scores(arrival).utility.topk(3).indices
    slates, _ = MyopicPolicy(shopper, 3).predict(seen)
    np.testing.assert_array_equal(slates[:, [1, 2, 0]], best)
