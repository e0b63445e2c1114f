"""The batteries pass parts that keep their promises, and name the promise that is broken."""

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.encoders import MeanEncoder
from slatewise.envs import ShopVectorEnv
from slatewise.envs.defaults import default_shop
from slatewise.simulators.known_truth import KnownTruthShopper
from slatewise.simulators.shopper import Response, ShopperState
from slatewise.testing import BaitShopper, OneFavouriteShopper, check_encoder, check_policy, check_shopper


def test_shoppers_that_keep_their_promises_pass() -> None:
    check_shopper(OneFavouriteShopper(favourites=(3, 7)))
    check_shopper(BaitShopper(), k=3)
    check_shopper(KnownTruthShopper(default_shop()))


def test_an_encoder_that_keeps_its_promises_passes() -> None:
    check_encoder(MeanEncoder.from_catalogue(default_shop().catalogue))


class ClicksAnything(OneFavouriteShopper):
    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        response, state = super().respond(state, slate)
        return replace(response, clicked=torch.zeros_like(response.clicked)), state


class PaysForLooking(OneFavouriteShopper):
    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        response, state = super().respond(state, slate)
        return replace(response, revenue=torch.ones_like(response.revenue)), state


class RollsGlobalDice(OneFavouriteShopper):
    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        response, state = super().respond(state, slate)
        return replace(response, dwell=1.0 + torch.rand(len(slate))), state


class LooksAtItsNeighbours(OneFavouriteShopper):
    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        response, state = super().respond(state, slate)
        return replace(response, dwell=response.dwell + len(slate)), state


class ForgetsToCount(OneFavouriteShopper):
    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        response, state = super().respond(state, slate)
        state.step = state.step - 1
        return response, state


class BringsStrangeItems(OneFavouriteShopper):
    def reset(self, seeds: Tensor) -> ShopperState:
        state = super().reset(seeds)
        state.arrival.items = state.arrival.items + self.n_items
        return state


@pytest.mark.parametrize(
    ("shopper", "promise"),
    [
        (ClicksAnything, "an empty slot is never clicked"),
        (PaysForLooking, "no revenue without a purchase"),
        (RollsGlobalDice, "the same seeds and slates give the same responses"),
        (LooksAtItsNeighbours, "a shopper in a batch is the shopper alone"),
        (ForgetsToCount, "step counts the slates shown"),
        (BringsStrangeItems, "arrival tokens name existing items"),
    ],
)
def test_a_shopper_s_broken_promise_is_named(shopper: type[OneFavouriteShopper], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_shopper(shopper())


class ReadsPadding(MeanEncoder):
    def step(self, memory: Any, items: Tensor, events: Tensor, gaps: Tensor) -> Any:
        return super().step(memory, items.clamp(min=1), events.clamp(min=1), gaps)


class PutsNothing(MeanEncoder):
    def start(self, rows: int) -> Any:
        memory = super().start(rows)

        class Stubborn(type(memory)):
            def put(self, rows: Tensor, other: Any) -> None:
                return None

        return Stubborn(memory.state, memory.total)


class GrowsWithoutEnd(MeanEncoder):
    def encode(self, items: Tensor, events: Tensor, gaps: Tensor, lengths: Tensor) -> Tensor:
        return 3 * super().encode(items, events, gaps, lengths)


@pytest.mark.parametrize(
    ("encoder", "promise"),
    [
        (ReadsPadding, "stepping through a history"),
        (PutsNothing, "put overwrites"),
        (GrowsWithoutEnd, "states have length 1"),
    ],
)
def test_an_encoder_s_broken_promise_is_named(encoder: type[MeanEncoder], promise: str) -> None:
    with pytest.raises(AssertionError, match=promise):
        check_encoder(encoder(torch.randn((9, 4), generator=torch.Generator().manual_seed(0))))


class TopOf:
    """Ranks items by their vectors' product with the state."""

    def __init__(self, vectors: np.ndarray, k: int) -> None:
        self.k, self._vectors = k, vectors

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, None]:
        states = observation["state"] if isinstance(observation, dict) else observation
        scores = states @ self._vectors[1:].T
        return np.argsort(-scores, axis=1, kind="stable")[:, : self.k] + 1, None


class SameTwice(TopOf):
    def predict(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, None]:
        slates, _ = super().predict(*args, **kwargs)
        return np.repeat(slates[:, :1], self.k, axis=1), None


class Whim(TopOf):
    def predict(self, *args: Any, **kwargs: Any) -> tuple[np.ndarray, None]:
        slates, _ = super().predict(*args, **kwargs)
        self._vectors = self._vectors[::-1]
        return slates, None


@pytest.mark.parametrize("observation", ["state", "history"])
def test_a_policy_that_keeps_its_promises_passes(observation: Any) -> None:
    env = ShopVectorEnv(6, observation=observation)
    seen, _ = env.reset(seed=0)
    check_policy(TopOf(env.batch.encoder.item_vectors.numpy(), 4), seen, env.batch.shopper.n_items)


def test_a_policy_s_broken_promise_is_named() -> None:
    rng = np.random.default_rng(0)
    seen, vectors = rng.normal(size=(5, 4)), rng.normal(size=(11, 4))
    with pytest.raises(AssertionError, match="on a slate twice"):
        check_policy(SameTwice(vectors, 3), seen, 10)
    with pytest.raises(AssertionError, match="same observation"):
        check_policy(Whim(vectors, 3), seen, 10)
    check_policy(Whim(vectors, 3), seen, 10, repeatable=False)
    with pytest.raises(AssertionError, match=r"\[0, 2\]"):
        check_policy(TopOf(vectors, 3), seen, 2)


def _mean_return(shopper: Any, slate: list[int], reward: str = "clicks") -> float:
    encoder = MeanEncoder(torch.eye(shopper.n_items + 1))
    env = ShopVectorEnv(2_000, shopper, encoder, k=len(slate), reward=reward, autoreset_mode="Disabled")
    env.reset(seed=0)
    total, alive = np.zeros(2_000), np.ones(2_000, bool)
    while alive.any():
        turn = env.batch.show(np.tile(slate, (2_000, 1)))
        total += turn.rewards * alive
        alive &= ~turn.terminated
    return float(total.mean())


def test_the_favourite_in_first_place_is_the_best_slate() -> None:
    shopper = OneFavouriteShopper(20, (7,), slates=5, glance=0.8, buys=0.5)
    assert _mean_return(shopper, [7, 1]) == 5.0
    assert _mean_return(shopper, [1, 7]) == pytest.approx(5 * 0.8, abs=0.1)
    assert _mean_return(shopper, [1, 2]) == 0.0
    assert _mean_return(shopper, [7, 1], "purchases") == pytest.approx(2.5, abs=0.1)


def test_shoppers_with_several_favourites_show_theirs_on_arrival() -> None:
    shopper = OneFavouriteShopper(20, (3, 9), glance=1.0)
    state = shopper.reset(torch.arange(100))
    assert set(state.arrival.items[:, 0].tolist()) == {3, 9}
    slate = torch.tensor([[3, 9]]).expand(100, -1)
    response, _ = shopper.respond(state, slate)
    assert torch.equal(slate.gather(1, response.clicked[:, None]), state.arrival.items)


def test_the_bait_is_best_for_a_slate_and_the_staple_for_a_visit() -> None:
    shopper = BaitShopper(bait=3, staple=7, liking=0.6, slates=10)
    assert _mean_return(shopper, [3, 7]) == 1.0
    assert _mean_return(shopper, [7, 1]) == pytest.approx(6.0, abs=0.15)
    assert _mean_return(shopper, [7, 3]) == pytest.approx(6.0, abs=0.15)


def test_toys_refuse_items_they_do_not_have() -> None:
    with pytest.raises(ValueError, match=r"\[1, 20\].*21"):
        OneFavouriteShopper(20, (21,))
    with pytest.raises(ValueError, match="two items"):
        BaitShopper(bait=3, staple=3)
