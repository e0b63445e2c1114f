"""The ensemble of a boosted shopper: its members are other fits, and drawn shoppers do what theirs does."""

from dataclasses import fields

import numpy as np
import pytest
import torch

from slatewise.datasets import ShopLog
from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders.mean import MeanEncoder
from slatewise.envs import ShopVectorEnv
from slatewise.envs.doubt import Doubt
from slatewise.envs.rewards import RewardMix
from slatewise.errors import EvidenceError
from slatewise.evaluation.judge import members_of
from slatewise.simulators import (
    BoostedShopper,
    FitConfig,
    KnownTruthShopper,
    Response,
    TreeConfig,
    collect_log,
    fit_boosted,
)
from slatewise.simulators.boosted_choice import Stopping
from slatewise.testing import check_shopper, random_slates

MEMBERS = 4


@pytest.fixture(scope="module")
def log() -> ShopLog:
    shop = KnownShop.make(KnownShopConfig(n_items=40, seed=5))
    return collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=700, k=6, seed=1)


@pytest.fixture(scope="module")
def small(log: ShopLog) -> BoostedShopper:
    return fit_boosted(log.part(np.arange(300)), config=FitConfig(held_out=0, members=MEMBERS))


def test_members_are_other_fits_which_the_seed_repeats(log: ShopLog) -> None:
    few = log.part(np.arange(250))
    one, same, other = (
        fit_boosted(few, config=FitConfig(held_out=0, members=2, seed=seed)).model.members for seed in (0, 0, 1)
    )
    assert len(one) == 2
    assert one[0].choice.trees != one[1].choice.trees
    assert (one[0].choice.trees, one[1].choice.trees) == (same[0].choice.trees, same[1].choice.trees)
    assert one[0].choice.trees != other[0].choice.trees
    assert not torch.equal(one[0].tables.liked, one[1].tables.liked)
    assert not np.array_equal(one[0].leaving.weights, one[1].leaving.weights)
    assert not torch.equal(one[0].arrivals, one[1].arrivals)


def test_later_sessions_say_how_many_trees_to_grow_as_often_as_they_count() -> None:
    losses = [np.array(row, np.float32) for row in ([1.0, 1.0, 1.0], [0.5, 0.9, 2.0], [0.9, 0.6, 0.3])]
    stopping = Stopping(losses, np.array([0, 0, 2]))
    assert stopping.rounds(np.array([1.0, 1.0, 1.0])) == 2
    assert stopping.rounds(np.array([2.0, 9.0, 0.0])) == 1
    assert stopping.rounds(np.array([0.0, 9.0, 0.0])) is None
    assert Stopping([], np.array([0, 0, 2])).rounds(np.ones(3)) is None


def test_members_have_numbers_of_trees_of_their_own_and_share_pairs_of_items(small: BoostedShopper) -> None:
    own, many = small.model.own, [len(member.choice.trees or ()) for member in small.model.members]
    assert own.choice.trees is not None
    assert len(set(many)) > 1
    assert max(many) <= len(own.choice.trees) + TreeConfig().patience
    for member in small.model.members:
        for name in ("price", "price_in_category", "category", "brand", "pairs", "alike"):
            assert torch.equal(getattr(member.tables, name), getattr(own.tables, name)), name


def test_an_ensemble_leaves_the_fit_on_all_shoppers_as_it_is(log: ShopLog, small: BoostedShopper) -> None:
    alone = fit_boosted(log.part(np.arange(300)), config=FitConfig(held_out=0, members=0))
    assert alone.report == small.report
    assert alone.model.own.choice.trees == small.model.own.choice.trees
    assert alone.members == 0
    with pytest.raises(EvidenceError, match="fitted without an ensemble"):
        alone.ensemble()


def test_a_drawn_shopper_does_what_its_member_does(small: BoostedShopper) -> None:
    drawn, seeds = small.ensemble(), torch.arange(400)
    state = drawn.reset(seeds)
    assert state.member is not None
    who = state.member.clone()
    assert who.bincount().tolist() == pytest.approx([100] * MEMBERS, abs=35)
    assert np.array_equal(members_of(drawn, seeds.numpy()), who.numpy())
    slates = [random_slates(400, 6, small.n_items, seed=seed) for seed in range(3)]
    responses = []
    for slate in slates:
        response, state = drawn.respond(state, slate)
        responses.append(response)
    for number in range(MEMBERS):
        member, mine = small.member(number), who == number
        alone = member.reset(seeds[mine])
        for slate, response in zip(slates, responses, strict=True):
            same, alone = member.respond(alone, slate[mine])
            for one in fields(Response):
                assert torch.equal(getattr(response, one.name)[mine], getattr(same, one.name)), one.name
        assert torch.equal(state.trail.taken[mine], alone.trail.taken)


def test_drawn_shoppers_keep_the_promises_of_simulators(small: BoostedShopper) -> None:
    check_shopper(small.ensemble(), k=6)


def test_a_missing_member_is_named(small: BoostedShopper) -> None:
    with pytest.raises(IndexError, match=f"no member {MEMBERS} in an ensemble of {MEMBERS}"):
        small.member(MEMBERS)


@torch.no_grad()
def test_members_expect_what_their_shoppers_do(small: BoostedShopper) -> None:
    state, slate = small.reset(torch.full((1,), 5)), small.model.own.tables.popularity[1:].topk(6).indices[None] + 1
    expected = small.expect(state, slate)
    assert expected.click.shape == (MEMBERS, 1)
    assert float(expected.click.std(0)) > 0.003
    assert (expected.cart <= expected.click).all()
    assert (expected.purchase <= expected.cart).all()
    for number in range(MEMBERS):
        member = small.member(number)
        many = member.reset(torch.full((20_000,), 5))  # the same arrival many times over, with the luck of other seeds
        many.seed, many.trail = torch.arange(20_000), state.trail.rows(torch.zeros(20_000, dtype=torch.int64))
        response, _ = member.respond(many, slate.expand(20_000, -1))
        for name, happened in (
            ("click", response.clicked >= 0),
            ("cart", response.carted),
            ("purchase", response.purchased),
            ("revenue", response.revenue),
        ):
            seen = happened.double()
            error = float(seen.std()) / 20_000**0.5
            told = float(getattr(expected, name)[number, 0])
            assert abs(float(seen.mean()) - told) < 4 * error, (name, number)
    alone = small.member(2).expect(state, slate)
    assert torch.equal(alone.revenue[0], expected.revenue[2])


def test_asking_what_members_expect_changes_nothing_and_passes_over_empty_slots(small: BoostedShopper) -> None:
    seeds, slate = torch.arange(8), random_slates(8, 6, small.n_items)
    slate[:, 4:] = 0
    state = small.reset(seeds)
    expected = small.expect(state, slate)
    response, _ = small.respond(state, slate)
    again, _ = small.respond(small.reset(seeds), slate)
    for one in fields(Response):
        assert torch.equal(getattr(response, one.name), getattr(again, one.name)), one.name
    shorter = small.expect(small.reset(seeds), slate[:, :4])
    torch.testing.assert_close(shorter.click, expected.click)
    torch.testing.assert_close(shorter.revenue, expected.revenue)
    nothing = small.expect(small.reset(seeds), torch.zeros_like(slate))
    assert not nothing.click.any()


def test_what_members_disagree_by_has_a_price(small: BoostedShopper, log: ShopLog) -> None:
    encoder = MeanEncoder.from_catalogue(log.catalogue)
    slate = random_slates(16, 6, small.n_items).numpy()
    rewards = []
    for doubt in (0.0, 2.0):
        env = ShopVectorEnv(16, small.ensemble(), encoder, 6, doubt=doubt)
        env.reset(seed=3)
        _, reward, *_, figures = env.step(slate)
        rewards.append(reward)
        assert (figures["doubt"] > 0).all()
    np.testing.assert_allclose(rewards[1], rewards[0] - 2.0 * figures["doubt"])


def test_doubt_without_an_ensemble_is_refused(small: BoostedShopper) -> None:
    with pytest.raises(ValueError, match="doubt needs a fitted shopper with an ensemble"):
        Doubt.of(small.member(0), RewardMix.of("clicks_and_purchases"), 1.0)
