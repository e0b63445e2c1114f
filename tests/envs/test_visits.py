"""Shoppers who come again: visits make up an episode, returns pay, and limits truncate."""

import warnings
from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common import env_checker
from torch import Tensor

from slatewise.datasets.known_shop import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.encoders.session import ShopSessionConfig, ShopSessionModel
from slatewise.envs import ShopEnv, ShopVectorEnv
from slatewise.envs.context import CONTEXT
from slatewise.envs.picture import slate_picture
from slatewise.simulators import KnownTruthShopper, Response, ShopperState, collect_log, fit_shopper
from slatewise.simulators.known_truth_state import VISIT_BITS
from slatewise.simulators.randomness import uniform
from slatewise.testing import OneFavouriteShopper

from .conftest import assert_same, assert_same_infos

VISITS: dict[str, Any] = {"visits": True, "max_slates": 40}
LASTING = (1 << VISIT_BITS) - 1
DAY = 24 * 3600.0


class Regular(OneFavouriteShopper):
    """Comes `visits` times, two slates each, and is away for a day after the first visit, two after the second, ..."""

    comes_again = True
    visits = 3

    def return_chances(self, state: ShopperState) -> Tensor:
        return (1 + (state.seed >> VISIT_BITS) < self.visits).float()

    def returns(self, state: ShopperState) -> tuple[Tensor, Tensor]:
        return self.return_chances(state) > 0, 1.0 + (state.seed >> VISIT_BITS).float()


@pytest.fixture
def regular() -> dict[str, Any]:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(21, 6)))
    shopper = Regular(20, (7,), slates=2, glance=1.0)
    return {"shopper": shopper, "encoder": MeanEncoder(vectors), "k": 2, "visits": True}


def shop(**changes: float) -> KnownShop:
    return KnownShop.make(replace(KnownShopConfig.small(), **{"come_back": 0.45, **changes}))


def test_an_episode_is_a_shopper_s_visits_until_it_comes_no_more(regular: dict[str, Any]) -> None:
    env = ShopEnv(**regular, observation=("history", "context"))
    _, info = env.reset(seed=3)
    assert (info["visit"], info["day"]) == (0, 0.0)
    told = []
    for number in range(6):
        _, _, terminated, truncated, info = env.step(np.array([1, 2]))
        told.append((info["visit"], info["day"], info["returned"], info["days_away"], info["slates"]))
        assert (terminated, truncated) == (number == 5, False)
    assert told == [
        (0, 0.0, False, 0.0, 1),
        (1, 1.0, True, 1.0, 2),  # the second visit has begun, a day after the first
        (1, 1.0, False, 0.0, 3),
        (2, 3.0, True, 2.0, 4),
        (2, 3.0, False, 0.0, 5),
        (2, 3.0, False, 0.0, 6),
    ]


def test_the_first_view_of_a_visit_begins_anew_and_tells_how_long_the_shopper_was_away(regular: dict[str, Any]) -> None:
    env = ShopEnv(**regular, observation=("history", "context"), history_len=4, max_visits=5, max_days=10)
    env.reset(seed=3)
    env.step(np.array([1, 2]))
    seen = env.step(np.array([3, 4]))[0]
    assert seen["items"].tolist() == [7, 0, 0, 0]
    context = dict(zip(CONTEXT, seen["context"].tolist(), strict=True))
    assert context["visits"] == pytest.approx(1 / 5)
    assert context["days"] == pytest.approx(1 / 10)
    assert context["days_away"] == pytest.approx(np.log(2) / np.log(366.25))
    assert context["idle"] == context["bought"] == 0
    np.testing.assert_allclose(seen["state"], env.batch.encoder.item_vectors[7].numpy(), atol=1e-6)


def test_a_history_that_is_remembered_goes_on_after_a_gap_of_days(regular: dict[str, Any]) -> None:
    env = ShopEnv(**regular, remembers=True, observation="history", history_len=9)
    env.reset(seed=3)
    for slate in ([1, 2], [3, 4], [5, 6]):
        seen = env.step(np.array(slate))[0]
    assert seen["items"].tolist() == [7, 1, 3, 7, 5, 0, 0, 0, 0]
    assert seen["gaps"].tolist() == [0, 10, 10, DAY, 10, 0, 0, 0, 0]
    items, events, gaps = (torch.from_numpy(seen[name][None]) for name in ("items", "events", "gaps"))
    whole = env.batch.encoder.encode(items, events, gaps, torch.tensor([5]))
    np.testing.assert_allclose(seen["state"], whole[0], atol=1e-6)


def test_the_days_away_are_told_by_the_first_token_there_is(regular: dict[str, Any]) -> None:
    class Newcomer(Regular):
        def reset(self, seeds: Tensor) -> ShopperState:
            state = super().reset(seeds)
            state.arrival.items.zero_()
            state.arrival.lengths.zero_()
            state.gap.zero_()
            return state

    shopper = Newcomer(20, (7,), slates=2, glance=1.0)
    env = ShopEnv(**{**regular, "shopper": shopper}, remembers=True, observation="history", history_len=5)
    env.reset(seed=3)
    for slate in ([1, 2], [3, 4], [0, 0], [5, 6]):  # nothing is shown on the first slate of the second visit
        seen = env.step(np.array(slate))[0]
    assert seen["items"].tolist() == [1, 3, 5, 0, 0]
    assert seen["gaps"].tolist() == [0, 10, DAY + 10, 0, 0]


def test_the_end_of_a_visit_is_told_and_drawn(regular: dict[str, Any]) -> None:
    env = ShopEnv(**regular, render_mode="ansi")
    env.reset(seed=3)
    ends, drawn = [], []
    for _ in range(6):
        env.step(np.array([1, 2]))
        ends.append(env.render().splitlines()[0].split(", ", 3)[3])
        drawn.append(slate_picture(env.batch, 0)[:40, -200:])
    assert ends == ["stays", "left, again after 1.0 days", "stays", "left, again after 2.0 days", "stays", "left"]
    assert (drawn[0] == drawn[2]).all()
    assert all((drawn[0] != other).any() for other in (drawn[1], drawn[3], drawn[5]))


@pytest.mark.parametrize(
    ("limits", "last"), [({"max_visits": 2}, 4), ({"max_days": 2.5}, 4), ({"max_slates": 3}, 3), ({"max_visits": 1}, 2)]
)
def test_limits_truncate_and_are_never_an_end(regular: dict[str, Any], limits: dict[str, Any], last: int) -> None:
    env = ShopEnv(**regular, **limits)
    env.reset(seed=0)
    for number in range(last):
        _, _, terminated, truncated, _ = env.step(np.array([1, 2]))
        assert (terminated, truncated) == (False, number == last - 1)


def test_a_shopper_keeps_its_number_and_has_new_luck_on_every_visit() -> None:
    env = ShopVectorEnv(64, **VISITS)
    env.reset(seed=0)
    env.action_space.seed(0)
    first = env.batch.here.state.seed.clone()
    assert (first >> VISIT_BITS == 0).all()
    while not (env.batch.visits and env.batch.visits.visit.max() == 2):
        env.step(env.action_space.sample())
    number = env.batch.visits.visit == 2
    again = env.batch.here.state.seed[torch.from_numpy(number)]
    assert (again >> VISIT_BITS == 2).all()


def test_what_satisfies_today_pays_tomorrow() -> None:
    """A purchase on the first visit makes a return likelier by just what the shop's config says, and so pays later."""
    n, made = 4_000, shop(delight=1.5, outside_option=60.0, cart_rate=0.4, leave_bought=0.5)
    shopper = KnownTruthShopper(made)
    env = ShopVectorEnv(n, shopper, k=5, reward="clicks", autoreset_mode="Disabled", **VISITS)
    env.reset(seed=1)
    visits = env.batch.visits
    assert visits is not None
    best = np.full(n, -1)  # the best that happened on the first visit: nothing, a click, a purchase
    first_episode, came, later = np.ones(n, bool), np.zeros(n, bool), np.zeros(n)
    while first_episode.any():
        first = first_episode & (visits.visit == 0)
        slates = shopper.oracle_slates(env.batch.here.state, 5).numpy()
        random = first & (np.arange(n) % 2 > 0)  # every other shopper is served badly on its first visit
        slates[random] = env.action_space.sample()[random]
        _, rewards, terminated, truncated, infos = env.step(slates)
        happened = np.where(infos["purchased"], 1, np.where(infos["clicked"] >= 0, 0, -1))
        best = np.where(first, np.maximum(best, happened), best)
        came |= first & infos["returned"]
        later += np.where(first_episode & ~first, rewards, 0)
        done = terminated | truncated
        first_episode &= ~done
        if done.any():
            env.reset(options={"reset_mask": done})
    paid = []
    for level in (-1, 0, 1):
        who, chance = best == level, 1 / (1 + np.exp(-(np.log(0.45 / 0.55) + 1.5 * level)))
        assert who.sum() > 200
        assert abs(came[who].mean() - chance) < 4 * np.sqrt(chance * (1 - chance) / who.sum())
        paid.append(later[who].mean())
    assert paid[2] > 1.3 * paid[1] > 2 * paid[0]


def test_a_return_is_paid_to_the_slate_that_ended_the_visit(regular: dict[str, Any]) -> None:
    env = ShopEnv(**regular, reward={"returned": 3.0})
    env.reset(seed=0)
    assert [env.step(np.array([1, 2]))[1] for _ in range(6)] == [0.0, 3.0, 0.0, 3.0, 0.0, 0.0]
    own = ShopEnv(**regular, reward=lambda what: what.days_away)
    own.reset(seed=0)
    assert [own.step(np.array([1, 2]))[1] for _ in range(6)] == [0.0, 1.0, 0.0, 2.0, 0.0, 0.0]


def test_rewards_of_later_days_are_worth_less_by_the_day(regular: dict[str, Any]) -> None:
    env = ShopEnv(**regular, reward="clicks", day_discount=0.5)
    env.reset(seed=0)
    paid = [env.step(np.array([7, 2])) for _ in range(6)]
    assert [step[1] for step in paid] == [1.0, 1.0, 0.5, 0.5, 0.125, 0.125]  # on days 0, 1 and 3
    assert [step[4]["discount"] for step in paid] == [1.0, 1.0, 0.5, 0.5, 0.125, 0.125]


@pytest.mark.parametrize("mode", [AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP])
@pytest.mark.parametrize("remembers", [False, True])
def test_rows_with_visits_are_single_environments(mode: AutoresetMode, remembers: bool) -> None:
    settings: dict[str, Any] = {
        **VISITS,
        "k": 4,
        "max_visits": 3,
        "history_len": 6,
        "observation": ("history", "context"),
    }
    settings |= {"shopper": KnownTruthShopper(shop(come_back=0.8, owned=3.0, seasonality=0.7)), "remembers": remembers}
    settings |= {"reward": "long_term", "day_discount": 0.99}
    native = ShopVectorEnv(6, autoreset_mode=mode, **settings)
    rows = SyncVectorEnv([lambda: ShopEnv(**settings) for _ in range(6)], autoreset_mode=mode)
    assert native.observation_space == rows.observation_space
    native.action_space.seed(3)
    (seen, infos), (expected, row_infos) = native.reset(seed=11), rows.reset(seed=11)
    assert_same(seen, expected)
    assert_same_infos(infos, row_infos)
    ended, returned = np.zeros(2, int), 0
    for _ in range(60):
        slates = native.action_space.sample()
        native_step, row_step = native.step(slates), rows.step(slates)
        for one, two in zip(native_step[:4], row_step[:4], strict=True):
            assert_same(one, two)
        assert_same_infos(native_step[4], row_step[4])
        ended += [native_step[2].sum(), native_step[3].sum()]
        returned += int(native_step[4]["returned"].sum())
    assert ended.min() > 3
    assert returned > 20


def test_a_session_encoder_remembers_as_if_it_had_read_all_visits_at_once() -> None:
    shopper, width = KnownTruthShopper(shop(come_back=0.9)), 12
    n = shopper.n_items
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ShopSessionConfig(width=16, heads=2, feed_forward=16, window=40, parts=["text", "id", "event", "gap"])
        text = np.random.default_rng(0).normal(size=(n, width)).astype(np.float32)
        encoder = ShopSessionModel.for_items(config, text, np.ones(n + 1, np.float32), np.ones(n + 1, bool)).eval()
    env = ShopVectorEnv(
        16,
        shopper,
        encoder,
        3,
        observation="history",
        history_len=80,
        remembers=True,
        autoreset_mode="Disabled",
        **VISITS,
    )
    env.reset(seed=0)
    env.action_space.seed(0)
    visits = env.batch.visits
    assert visits is not None
    for _ in range(15):
        seen, _, terminated, truncated, _ = env.step(env.action_space.sample())
        parts = [torch.from_numpy(seen[name]) for name in ("items", "events", "gaps")]
        whole = encoder.encode(parts[0], parts[1], parts[2], torch.from_numpy(seen["lengths"][:, 0]))
        np.testing.assert_allclose(seen["state"], whole, atol=1e-5)
        if (done := terminated | truncated).any():
            env.reset(options={"reset_mask": done})
    assert visits.visit.max() >= 2


def test_fitted_shoppers_come_again_as_their_log_says(monkeypatch: pytest.MonkeyPatch) -> None:
    made = shop()
    encoder = MeanEncoder.from_catalogue(made.catalogue)
    log = collect_log(KnownTruthShopper(made), made.catalogue, sessions=400, k=5, seed=1)
    fitted = fit_shopper(log, encoder)
    told: list[Tensor] = []
    env = ShopVectorEnv(256, fitted, encoder, 5, **VISITS)
    env.reset(seed=0)
    env.action_space.seed(0)
    returns, came = fitted.returns, 0

    def noted(state: Any) -> tuple[Tensor, Tensor]:
        told.append(fitted.return_chances(state))
        return returns(state)

    monkeypatch.setattr(fitted, "returns", noted)
    expected = variance = 0.0
    waiting = np.zeros(256, bool)
    for _ in range(12):
        _, _, terminated, truncated, infos = env.step(env.action_space.sample())
        left = torch.from_numpy((infos["returned"] | terminated) & ~waiting)
        chances = told[-1][left]
        expected, variance = expected + float(chances.sum()), variance + float((chances * (1 - chances)).sum())
        came += int(infos["returned"].sum())
        waiting = terminated | truncated
    assert came > 100
    assert abs(came - expected) < 4 * variance**0.5


def test_shoppers_who_do_not_come_again_are_refused(regular: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"OneFavouriteShopper do not; take a known-truth shop with come_back"):
        ShopEnv(**{**regular, "shopper": OneFavouriteShopper(20)})
    with pytest.raises(ValueError, match="KnownTruthShopper do not"):
        gym.make("slatewise/Visits-v0", shopper=KnownTruthShopper(KnownShop.make(KnownShopConfig.small())))
    with pytest.raises(ValueError, match="return visits alone"):
        ShopEnv(reward={"returned": 1.0})


@pytest.mark.parametrize(
    "settings", [{"max_visits": 0}, {"max_days": 0.0}, {"day_discount": 0.0}, {"day_discount": 1.1}]
)
def test_wrong_settings_are_refused_with_their_value(settings: dict[str, Any]) -> None:
    (name, value), *_ = settings.items()
    with pytest.raises(ValueError, match=f"{name} must be .* got {value}"):
        ShopEnv(**VISITS, **settings)


class Fickle(OneFavouriteShopper):
    """Leaves and comes again by chance, so that visits and episodes end in every pattern."""

    comes_again = True

    def __init__(self, leaves: float, again: float) -> None:
        super().__init__(20, (2, 5, 7), slates=10**6)
        self.leaves, self.again = leaves, again

    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        left = uniform(state.seed, state.step, 77, 1)[:, 0] < self.leaves
        response, state = super().respond(state, slate)
        return Response(**{**{name: getattr(response, name) for name in Response.__slots__}, "left": left}), state

    def return_chances(self, state: ShopperState) -> Tensor:
        return torch.full(state.seed.shape, self.again)

    def returns(self, state: ShopperState) -> tuple[Tensor, Tensor]:
        luck = uniform(state.seed, 0, 78, 2)
        return luck[:, 0] < self.again, 5 * luck[:, 1]


@settings(max_examples=20, deadline=None)
@given(
    leaves=st.sampled_from([0.2, 0.5, 1.0]),
    again=st.sampled_from([0.0, 0.5, 0.9, 1.0]),
    limits=st.tuples(st.integers(1, 9), st.integers(1, 4), st.sampled_from([1.0, 6.0, 99.0])),
    remembers=st.booleans(),
    mode=st.sampled_from([AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]),
    seed=st.integers(0, 2**40),
)
def test_whatever_the_endings_a_batch_is_its_rows(
    leaves: float, again: float, limits: tuple[int, int, float], remembers: bool, mode: AutoresetMode, seed: int
) -> None:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(21, 4)))
    made: dict[str, Any] = {"shopper": Fickle(leaves, again), "encoder": MeanEncoder(vectors), "k": 3, "visits": True}
    made |= {"observation": ("history", "context"), "history_len": 4, "remembers": remembers, "reward": "long_term"}
    made |= dict(zip(("max_slates", "max_visits", "max_days"), limits, strict=True))
    native = ShopVectorEnv(4, autoreset_mode=mode, **made)
    rows = SyncVectorEnv([lambda: ShopEnv(**made)] * 4, autoreset_mode=mode)
    assert_same(native.reset(seed=seed)[0], rows.reset(seed=seed)[0])
    for slates in np.random.default_rng(seed % 2**32).integers(0, 21, (12, 4, 3)):
        one, two = native.step(slates), rows.step(slates)
        for number in range(4):
            assert_same(one[number], two[number])
        assert_same_infos(one[4], two[4])
        assert native.observation_space.contains(one[0])
        assert not (one[2] & one[3]).any()
        last = one[4]["final_info"] if "final_info" in one[4] else one[4]
        for row in np.flatnonzero(one[3]):  # each truncated row has reached a limit
            reached = np.array([last["slates"][row], last["visit"][row], last["day"][row]]) >= limits
            assert reached.any()
        for row in np.flatnonzero(one[2]):  # and one that is gone for good has not come again
            figures = last if mode is AutoresetMode.SAME_STEP else one[4]
            assert not figures["returned"][row]


PARTS = ["state", "context", ("history", "context"), ("candidates", "candidate_features", "context", "action_mask")]


@pytest.mark.parametrize("observation", PARTS)
@pytest.mark.parametrize("remembers", [False, True])
def test_both_checkers_are_content(observation: Any, remembers: bool) -> None:
    settings: dict[str, Any] = {"observation": observation, "remembers": remembers}
    if "candidates" in observation:
        settings["candidates"] = 20
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        env = gym.make("slatewise/Visits-v0", **settings).unwrapped
        check_env(env)
        env_checker.check_env(gym.make("slatewise/Visits-v0", **settings, render_mode="ansi").unwrapped)


def test_the_registered_environment_is_made_as_a_batch_too() -> None:
    env = gym.make_vec("slatewise/Visits-v0", num_envs=3, max_episode_steps=2)
    assert isinstance(env.unwrapped, ShopVectorEnv)
    seen, infos = env.reset(seed=0)
    assert set(seen) == {"state", "context"}
    np.testing.assert_array_equal(infos["visit"], [0, 0, 0])
    env.step(env.action_space.sample())
    _, _, terminated, truncated, _ = env.step(env.action_space.sample())
    assert (terminated | truncated).all()
