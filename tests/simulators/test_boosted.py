"""The second family of fitted shoppers: boosted trees over columns counted by hand."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from slatewise.agents import MyopicPolicy
from slatewise.datasets.artefact import read_config
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import Event
from slatewise.encoders.mean import MeanEncoder
from slatewise.envs import ShopVectorEnv
from slatewise.errors import ArtefactError, EvidenceError
from slatewise.simulators import (
    BoostedConfig,
    BoostedShopper,
    FitConfig,
    KnownTruthShopper,
    PlackettLucePolicy,
    Priors,
    TokenBatch,
    TreeConfig,
    calibration_table,
    collect_log,
    fit,
    fit_boosted,
    fit_shopper,
    load_shopper,
    slate_likelihood,
)
from slatewise.simulators.boosted_choice import Offers, log_chances, slopes
from slatewise.simulators.boosted_hazards import fit_hazard
from slatewise.simulators.boosted_looks import Looks
from slatewise.simulators.choice import NEVER
from slatewise.simulators.examination import depth_log_chances
from slatewise.simulators.hand_features import CHOICE_COLUMNS, ITEM_COLUMNS, RECENT, item_columns, learn_tables
from slatewise.simulators.latest import latest
from slatewise.simulators.occasions import Occasions
from slatewise.simulators.priors import ASSUMED, LEARNED
from slatewise.simulators.trail import Trail
from slatewise.simulators.trees import Later, grow
from slatewise.testing import check_shopper, only_views, random_slates

K = 6
RESPONSE = ("examined", "clicked", "carted", "purchased", "left", "dwell", "revenue")


@pytest.fixture(scope="module")
def shop() -> KnownShop:
    return KnownShop.make(KnownShopConfig.small())


@pytest.fixture(scope="module")
def log(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=1_200, k=K, seed=1)


@pytest.fixture(scope="module")
def few(log: ShopLog) -> ShopLog:
    return log.part(np.arange(250))


@pytest.fixture(scope="module")
def later(shop: KnownShop) -> ShopLog:
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=800, k=K, seed=2)


@pytest.fixture(scope="module")
def boosted(log: ShopLog, later: ShopLog) -> BoostedShopper:
    return fit_boosted(log, later=later, config=FitConfig(members=0))


@pytest.fixture(scope="module")
def small(few: ShopLog) -> BoostedShopper:
    return fit_boosted(few, config=FitConfig(held_out=0, members=0))


def held_out(shopper: BoostedShopper, column: str) -> dict[str, float]:
    return {row["model"]: row[column] for row in shopper.report["held_out"]}


def sources(shopper: BoostedShopper) -> dict[str, str]:
    """First words of a quantity -> where its value comes from."""
    return {row["quantity"].split(" (")[0]: row["source"] for row in shopper.report["evidence"]}


def test_a_boosted_shopper_keeps_the_promises_of_simulators(boosted: BoostedShopper) -> None:
    check_shopper(boosted, k=K)


def test_a_fit_foretells_other_shoppers_better_than_simpler_models(
    boosted: BoostedShopper, log: ShopLog, later: ShopLog, shop: KnownShop
) -> None:
    """Simpler ones of its own kind, of the other family's, and a click rate that is the same for every slot."""
    low, likely, auc = (held_out(boosted, column) for column in ("low", "log_likelihood", "auc"))
    assert low["position and popularity"] > 0.01
    assert low["all but the session"] > 0.01
    assert likely["position and popularity"] > likely["position"]
    assert auc["fitted"] > auc["position and popularity"] + 0.02
    other = fit_shopper(
        log, MeanEncoder.from_catalogue(shop.catalogue), later=later, config=FitConfig(members=0)
    ).report["held_out"]
    theirs = {row["model"]: row["log_likelihood"] for row in other}
    assert likely["fitted"] > theirs["position and popularity"] + 0.02
    assert likely["fitted"] > theirs["fitted"] - 0.01
    rate = float((log.slates.clicked >= 0).mean())
    hit = float((later.slates.clicked >= 0).mean())
    assert likely["position"] > hit * np.log(rate / K) + (1 - hit) * np.log(1 - rate)


def test_each_part_is_calibrated_on_other_shoppers(boosted: BoostedShopper, later: ShopLog) -> None:
    table = calibration_table(boosted, later, bins=5)
    assert set(table["part"]) == {"examination", "choice", "cart", "purchase", "leaving"}
    for part, rows in table.groupby("part"):
        inside = rows["predicted"].between(rows["low"] - 0.015, rows["high"] + 0.015)
        assert np.average(inside, weights=rows["count"]) > 0.55, part
    assert slate_likelihood(boosted, later, resamples=10).slates == len(later.slates)


def test_simulated_sessions_are_like_the_logs(boosted: BoostedShopper, shop: KnownShop) -> None:
    policy = PlackettLucePolicy(torch.as_tensor(shop.popularity), K)
    told = {}
    for name, shopper in (("fitted", boosted), ("truth", KnownTruthShopper(shop))):
        slates = collect_log(shopper, shop.catalogue, sessions=1_500, k=K, seed=9, policy=policy).slates
        hit = slates.clicked >= 0
        told[name] = {
            "clicks a slate": hit.mean(),
            "slates a session": len(slates) / 1_500,
            "carts a click": slates.carted[hit].mean(),
            "place of clicks": slates.clicked[hit].mean(),
            "seconds": np.nanmedian(slates.dwell),
        }
    for name, value in told["truth"].items():
        assert told["fitted"][name] == pytest.approx(value, rel=0.3 if name == "carts a click" else 0.12), name


def test_equal_seeds_and_logs_give_equal_shoppers(few: ShopLog, small: BoostedShopper) -> None:
    again = fit_boosted(few, config=FitConfig(held_out=0, members=0))
    assert small.model.own.choice.trees is not None
    assert again.model.own.choice == replace(small.model.own.choice, proceed=again.model.own.choice.proceed)
    assert torch.equal(again.model.own.choice.proceed, small.model.own.choice.proceed)
    assert again.report == small.report


def test_clicks_by_chance_alone_teach_nothing(few: ShopLog, later: ShopLog) -> None:
    """Columns count clicks of items; were a shopper's own among them, chance would look like taste."""
    events = few.events.copy()
    clicked = np.flatnonzero(events["event"] == Event.CLICK.label)
    rng = np.random.default_rng(0)
    shown = events[events["event"] == Event.IMPRESSION.label].groupby("slate_id")
    drawn = shown.sample(n=1, random_state=rng).set_index("slate_id")
    slate = events["slate_id"].iloc[clicked]
    for column in ("item_id", "position"):
        events.loc[events.index[clicked], column] = drawn.loc[slate, column].to_numpy()
    kept = events["event"].isin([Event.CLICK.label, Event.IMPRESSION.label])
    chance = ShopLog(events[kept].reset_index(drop=True), few.catalogue, few.facts)
    shopper = fit_boosted(chance, config=FitConfig(held_out=0.3, members=0))
    gain = held_out(shopper, "gain")["position"]
    assert abs(gain) < 0.02


def test_what_a_shopper_sees_is_counted_on_other_shoppers(few: ShopLog) -> None:
    """The first shopper clicks on something else: its own columns of liking stay, those of others change."""
    occasions = Occasions.of_slates(few.slates)
    ids = few.sessions["shopper_id"].to_numpy()
    hit = np.flatnonzero(occasions.clicked >= 0)
    mine = ids[occasions.session] == ids[occasions.session[hit[0]]]
    clicked = np.where(mine & (occasions.clicked >= 0), (occasions.clicked + 1) % K, occasions.clicked)
    weight, every = np.ones(len(few)), np.ones(len(few), np.bool_)
    one, two = (
        Looks.across_folds(few, replace(occasions, clicked=part), weight, every, seed=0)
        for part in (occasions.clicked, clicked)
    )
    liked = ITEM_COLUMNS.index("liked")
    assert torch.equal(one.items[mine][..., liked], two.items[mine][..., liked])
    assert not torch.equal(one.items[~mine][..., liked], two.items[~mine][..., liked])


def test_slopes_are_those_of_the_likelihood() -> None:
    rng = np.random.default_rng(0)
    items = np.array([[1, 2, 3], [4, 5, 0], [2, 1, 6]])
    proceed = torch.tensor([1.0, -0.5], dtype=torch.float64)
    depth = depth_log_chances(proceed, 3)
    for correction in (None, rng.normal(size=(3, 3))):
        clicked = np.array([1, -1, 0]) if correction is None else np.zeros(3, np.int64)
        offers = Offers(np.zeros((0, 1), np.float32), items, clicked, np.array([1.0, 2.0, 1.0]), correction)
        scores = rng.normal(size=8 + (3 if correction is None else 0))
        utility, nothing = (torch.from_numpy(part).requires_grad_() for part in offers.laid_out(scores))
        weight = torch.from_numpy(offers.weight)
        (-(log_chances(utility, nothing, proceed, offers) * weight).sum()).backward()
        assert utility.grad is not None
        no_grad = torch.zeros(3, dtype=torch.float64)
        exact = offers.in_rows(utility.grad.numpy(), (no_grad if nothing.grad is None else nothing.grad).numpy())
        slope, bound = slopes(utility.detach().numpy(), nothing.detach().numpy(), depth.exp().numpy(), offers)
        np.testing.assert_allclose(slope, exact, atol=1e-10)
        assert (bound > 0).all()
        assert (bound <= 0.25 * 2 + 1e-9).all()


def test_slopes_given_a_click_are_those_of_the_likelihood() -> None:
    rng = np.random.default_rng(1)
    items, clicked = np.array([[1, 2, 3], [4, 5, 0], [2, 1, 6], [3, 1, 2]]), np.array([1, -1, 0, 2])
    proceed = torch.tensor([1.0, -0.5], dtype=torch.float64)
    depth = depth_log_chances(proceed, 3)
    weight = np.array([1.0, 2.0, 1.0, 3.0])
    offers = Offers(np.zeros((0, 1), np.float32), items, clicked, weight, given_click=True)
    for level in (-3.0, 0.0, 5.0):

        def loss(scores: torch.Tensor, level: float = level) -> torch.Tensor:
            utility = torch.full((4, 3), -1e4, dtype=torch.float64).masked_scatter(torch.from_numpy(items > 0), scores)
            nothing = torch.full((4,), level, dtype=torch.float64)
            return -(log_chances(utility, nothing, proceed, offers) * torch.from_numpy(weight)).sum()

        scores = torch.from_numpy(rng.normal(size=11)).requires_grad_()
        (exact,) = torch.autograd.grad(loss(scores), scores)
        utility, _ = offers.laid_out(np.append(scores.detach().numpy(), np.zeros(4)))
        slope, bound = slopes(utility, np.full(4, level), depth.exp().numpy(), offers)
        np.testing.assert_allclose(slope, [*exact.numpy(), 0, 0, 0, 0], atol=1e-10)
        curvature = torch.autograd.functional.hessian(loss, scores.detach())
        assert isinstance(curvature, torch.Tensor)
        assert (bound[:11] >= curvature.diagonal().numpy() - 1e-9).all()


def test_columns_are_counted_by_hand(log: ShopLog) -> None:
    tables = learn_tables(log, Occasions.of_slates(log.slates), np.ones(len(log)), np.ones(len(log), np.bool_))
    alike = int(tables.pairs[0]) // (log.catalogue.n_items + 1), int(tables.pairs[0]) % (log.catalogue.n_items + 1)
    one, other = alike
    third = next(item for item in range(1, 9) if item not in alike)
    trail = Trail.start(2, torch.device("cpu"))  # the second shopper has done nothing
    slate = torch.tensor([[one, other, third], [0, 0, 0]])
    trail.after_slate(slate, here=torch.tensor([True, False]))
    for item, event in ((third, Event.VIEW), (one, Event.PURCHASE)):
        trail.after_token(torch.tensor([item, 0]), torch.tensor([int(event), 0]), tables.price_in_category)
    found = item_columns(trail, torch.tensor([[one, other, third]] * 2), tables)
    column = {name: found[..., number] for number, name in enumerate(ITEM_COLUMNS)}
    assert column["similar_to_last"][0, 1] == pytest.approx(float(tables.alike[0]), abs=2e-4)
    np.testing.assert_allclose(column["taken_before"][0], [1, 0, RECENT], atol=2e-4)
    np.testing.assert_allclose(column["bought_before"][0], [1, 0, 0])
    np.testing.assert_allclose(column["shown_before"][0], np.log([2, 2, 2]), atol=2e-4)
    price, category = tables.price_in_category, tables.category
    usual = (price[one] + RECENT * price[third]) / (1 + RECENT)
    away = column["dearer"][0] - column["cheaper"][0]
    np.testing.assert_allclose(away, price[[one, other, third]] - usual, atol=3e-4)
    share = (category[one] == category[other]).float() + RECENT * (category[third] == category[other])
    assert column["category_share"][0, 1] == pytest.approx(float(share / (1 + RECENT)), abs=2e-4)
    assert column["dearer"][1].isnan().all()
    for name in ("similar", "category_share", "category_shown", "shown_before", "taken_before", "clicked_before"):
        assert not column[name][1].any(), name


def test_how_many_items_a_slate_holds_tells_how_often_it_is_left_alone(log: ShopLog) -> None:
    """Every other slate holds two items, and of the clicks on those of six most are lost."""
    events = log.events[log.events["event"].isin([Event.CLICK.label, Event.IMPRESSION.label])]
    events = events[events["slate_id"].notna()]
    number = np.unique(events["slate_id"].astype(str), return_inverse=True)[1]
    short, click = number % 2 == 0, (events["event"] == Event.CLICK.label).to_numpy()
    lost = np.random.default_rng(0).random(number.max() + 1)[number] < 0.85
    kept = np.where(short, events["position"].to_numpy() < 2, ~(click & lost))
    odd = ShopLog(events[kept].reset_index(drop=True), log.catalogue, log.facts)
    shopper = fit_boosted(odd, config=FitConfig(held_out=0.3, members=0))
    held = odd.part(np.flatnonzero(latest(odd, 0.3)))
    seen = shopper.foretell(held)
    size = (seen.items > 0).sum(1)
    told, happened = (seen.choices["fitted"][1].exp() * (seen.items > 0)).sum(1), (seen.clicked >= 0).double()
    observed = {many: float(happened[size == many].mean()) for many in (2, 6)}
    assert observed[2] > observed[6] + 0.03
    for many, rate in observed.items():
        assert float(told[size == many].mean()) == pytest.approx(rate, abs=0.02), many
    histories = shopper.reset(torch.arange(4)).arrival
    outside = {
        many: shopper.choice_scores(
            histories, torch.zeros(4, histories.items.shape[1], many, dtype=torch.int64)
        ).outside
        for many in (2, 6, 60)
    }
    assert (outside[6] > outside[2] + 0.5).all()
    torch.testing.assert_close(outside[60], outside[6])  # longer ones than the log had are like its longest


def test_an_item_dearer_than_usual_is_never_liked_more(boosted: BoostedShopper, later: ShopLog) -> None:
    looks = Looks.at(later, Occasions.of_slates(later.slates), boosted.model.own.tables)
    x = looks.offers(np.ones(len(looks.occasions))).x[:300]
    rows = np.repeat(x[~np.isnan(x[:, CHOICE_COLUMNS.index("dearer")])], 5, axis=0)
    rows[:, CHOICE_COLUMNS.index("dearer")] = np.tile([0, 0.3, 0.8, 1.5, 3], len(rows) // 5)
    utility = boosted.model.own.choice.scores(rows).reshape(-1, 5)
    assert (np.diff(utility, axis=1) <= 1e-6).all()


def test_saving_and_loading_change_nothing(few: ShopLog, tmp_path: Path) -> None:
    config = BoostedConfig(held_out=0.2, members=2, trees=TreeConfig(rounds=30))
    made = fit(few, None, tmp_path / "shopper", family="boosted", config=config, inputs={"log": "abc"})
    read = load_shopper(tmp_path / "shopper")
    assert isinstance(read, BoostedShopper)
    for here, there in ((made, read), (made.ensemble(), read.ensemble())):
        one, two = here.reset(torch.arange(64)), there.reset(torch.arange(64))
        for number in range(3):
            slate = random_slates(64, K, made.n_items, seed=number)
            first, one = here.respond(one, slate)
            second, two = there.respond(two, slate)
            for name in RESPONSE:
                assert torch.equal(getattr(first, name), getattr(second, name)), name
    assert list(read.model.rivals) == list(made.model.rivals)
    record = read_config(tmp_path / "shopper", "shopper")["slatewise_artefact"]
    assert record["facts"]["family"] == "boosted"
    assert record["settings"]["trees"]["rounds"] == 30
    assert record["facts"]["held_out"] == made.report["held_out"]
    assert isinstance(
        fit(few, None, tmp_path / "shopper", family="boosted", config=config, inputs={"log": "abc"}), BoostedShopper
    )
    assert read.model.usual_size == made.model.usual_size == pytest.approx(K)
    (tmp_path / "shopper" / "trees" / "member-1-choice.txt").write_text("half", encoding="utf-8")
    with pytest.raises(ArtefactError, match="not a readable shopper"):
        load_shopper(tmp_path / "shopper")


def test_a_family_and_an_encoder_that_do_not_belong_together_are_refused(few: ShopLog, tmp_path: Path) -> None:
    encoder = MeanEncoder.from_catalogue(few.catalogue)
    with pytest.raises(ValueError, match="family 'boosted' takes no encoder"):
        fit(few, encoder, tmp_path / "a", family="boosted")  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(ValueError, match="family 'transformer' takes an encoder"):
        fit(few, None, tmp_path / "a")  # pyright: ignore[reportCallIssue, reportArgumentType]
    with pytest.raises(ValueError, match="family must be one of transformer, boosted"):
        fit(few, None, tmp_path / "a", family="forest")  # pyright: ignore[reportCallIssue, reportArgumentType]
    assert not list(tmp_path.iterdir())


def test_a_log_without_clicks_is_refused_with_its_counts(few: ShopLog) -> None:
    shown = few.events[few.events["event"] == Event.IMPRESSION.label]
    silent = ShopLog(shown.reset_index(drop=True), few.catalogue, few.facts)
    with pytest.raises(EvidenceError, match=r"hold 0 clicks on .* ingest a longer log"):
        fit_boosted(silent)


def test_odd_logs_still_give_a_shopper(few: ShopLog) -> None:
    """One shopper, one price, nothing ever put into the cart, and sessions that were sampled by length."""
    events = few.events[~few.events["event"].isin([Event.CART.label, Event.PURCHASE.label])].copy()
    events["shopper_id"] = "one"
    frame = few.catalogue.frame.assign(price=10.0)
    odd = ShopLog(events.reset_index(drop=True), type(few.catalogue)(frame), {**few.facts, "length_biased": True})
    shopper = fit_boosted(odd, config=FitConfig(members=2))
    said = sources(shopper)
    assert said["click rate of a logged slate"] == LEARNED
    for quantity in ("mean slates a session", "chance of a cart given a click"):
        assert said[quantity] == ASSUMED
    assert "leaving" not in {row["part"] for row in shopper.report["calibration"]}
    check_shopper(shopper, k=K)


def test_without_slates_the_click_rate_depth_and_leaving_are_assumed_and_said_to_be(log: ShopLog) -> None:
    priors = Priors(click_rate=0.2, slates_per_session=4, slate_size=8)
    shopper = fit_boosted(only_views(log), config=FitConfig(members=0, priors=priors))
    assert shopper.report["counts"]["learned_from"] == "next views"
    said = sources(shopper)
    assert said["choice among items"] == LEARNED
    for quantity in ("click rate of a popular slate", "chance to look at the next place", "mean slates a session"):
        assert said[quantity] == ASSUMED
    assert held_out(shopper, "low")["position and popularity"] > 0
    popular = (shopper.model.own.tables.popularity[1:].topk(8).indices + 1).expand(4_000, -1)
    response, _ = shopper.respond(shopper.reset(torch.arange(4_000) + 10**6), popular)
    assert float((response.clicked >= 0).float().mean()) == pytest.approx(0.2, abs=0.025)
    assert float(response.left.float().mean()) == pytest.approx(0.25, abs=0.03)
    np.testing.assert_allclose(shopper.looked(3), [1, 0.85, 0.85**2], rtol=1e-5)
    check_shopper(shopper, k=K)


def test_scores_on_a_history_observation_are_those_of_the_simulation(small: BoostedShopper, few: ShopLog) -> None:
    encoder = MeanEncoder.from_catalogue(few.catalogue)
    env = ShopVectorEnv(8, small, encoder, K, max_slates=6, observation="history", history_len=16)
    env.reset(seed=3)
    for number in range(6):
        env.batch.show(random_slates(8, K, small.n_items, seed=number % 3).numpy())  # some slates come again
    seen, state = env.batch.observe(), env.batch.here.state
    tokens = TokenBatch(*(torch.from_numpy(seen[name]) for name in ("items", "events", "gaps", "lengths")))
    tokens.lengths = tokens.lengths.squeeze(1)
    scores = small.choice_scores(tokens, torch.from_numpy(seen["slates"]).view(8, 16, K))
    again, _ = small.respond(state, random_slates(8, K, small.n_items, seed=7))
    assert scores.utility.shape == (8, small.n_items + 1)
    assert scores.utility[0, 0] == -torch.inf
    assert (scores.purchase_chance <= scores.cart_chance).all()
    assert again.clicked.shape == (8,)
    best = MyopicPolicy(small, K).predict(seen)[0]
    np.testing.assert_array_equal(np.sort(best), np.sort(scores.utility.topk(K).indices))


def test_scores_of_items_foretell_the_clicks_on_a_slate(boosted: BoostedShopper) -> None:
    scores = boosted.choice_scores(boosted.reset(torch.tensor([5])).arrival)
    slate = scores.utility.topk(K).indices
    state = boosted.reset(torch.full((10_000,), 5))  # the same arrival many times over, with the luck of other seeds
    state.seed = torch.arange(10_000)
    response, _ = boosted.respond(state, slate.expand(10_000, -1))
    utility = scores.utility.gather(1, slate).double()
    offers = Offers(np.zeros((0, 1), np.float32), np.ones((1, K), np.int64), np.array([-1]), np.ones(1))
    none = log_chances(utility, scores.outside.double(), boosted.model.own.choice.proceed, offers).exp()
    assert float((response.clicked < 0).float().mean()) == pytest.approx(float(none), abs=0.015)
    np.testing.assert_allclose(response.examined.float().mean(0), boosted.looked(K), atol=0.02)
    assert float(utility.min()) > NEVER


def test_trees_find_what_a_regression_cannot_and_stop_in_time() -> None:
    rng = np.random.default_rng(0)
    x = rng.normal(size=(4_000, 3)).astype(np.float32)
    chance = np.where((x[:, 0] > 0) == (x[:, 1] > 0), 0.7, 0.2)
    happened, late = rng.random(4_000) < chance, np.arange(4_000) >= 3_200
    item, weight = np.zeros(4_000, np.int64), np.ones(4_000)
    hazard = fit_hazard(x, happened, weight, item, late, 1, TreeConfig())
    assert hazard.trees is not None
    assert np.abs(hazard.chance(x, item) - chance).mean() < 0.08
    little = fit_hazard(x[:300], happened[:300], weight[:300], item[:300], late[:300], 1, TreeConfig())
    assert little.trees is None
    noise = rng.random(4_000) < 0.4
    idle = fit_hazard(x, noise, weight, item, late, 1, TreeConfig())
    assert idle.trees is None or len(idle.trees) < 30
    later = Later(x, np.zeros_like, np.ones(len(x)))
    assert grow(x, lambda z: (z, np.ones_like(z)), TreeConfig(), rounds=5, later=later) is None
    assert len(later.told) == 1  # with nothing to split no tree grows
    step = np.where(x[:, 0] > 0, 0.7, -0.2)
    later = Later(x, lambda z: (z - step) ** 2, np.ones(len(x)))
    found = grow(x, lambda z: (z - step, np.ones_like(z)), TreeConfig(), rounds=8, later=later)
    assert found is not None
    assert len(found) == 8 == int(np.argmin([losses.mean() for losses in later.told]))


def test_settings_out_of_range_are_refused() -> None:
    for name, value in (("rounds", 0), ("leaves", 1), ("learning_rate", 0), ("leaf_events", 0), ("patience", 0)):
        with pytest.raises(ValueError, match=name):
            TreeConfig(**{name: value})
