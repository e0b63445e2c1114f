"""stable-baselines3's PPO, as it is, learns which of a few candidates to show to shoppers of a known shop."""

from collections.abc import Callable
from itertools import combinations
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from stable_baselines3 import PPO
from torch import Tensor

from slatewise.envs.defaults import default_shop
from slatewise.envs.sb3 import SB3Bridge
from slatewise.simulators import KnownTruthShopper

K, LIKED, CANDIDATES, SLATES, JUDGES = 3, 4, 12, 8, 400


@pytest.fixture(scope="module")
def candidates() -> Tensor:
    """(12,) items that are always the candidates: the four that shoppers like best, among the eight they like least."""
    shopper = KnownTruthShopper(default_shop())
    worth = shopper.utilities(shopper.reset(torch.arange(2_000)))[:, 1:].exp().mean(0)
    order = 1 + worth.argsort(descending=True)
    return torch.cat([order[-(CANDIDATES - LIKED) :], order[:LIKED]])


def bridge(rows: int, candidates: Tensor) -> SB3Bridge:
    scores = torch.full((default_shop().n_items + 1,), -torch.inf)
    scores[candidates] = -torch.arange(float(CANDIDATES))

    def retrieve(states: Tensor) -> Tensor:
        return scores.repeat(len(states), 1)

    settings: dict[str, Any] = {"k": K, "candidates": CANDIDATES, "retrieve": retrieve, "max_slates": SLATES}
    return SB3Bridge.make(rows, parts=["state"], reward="clicks", **settings)


def clicks(candidates: Tensor, choose: Callable[[Any], NDArray[np.int64]]) -> NDArray[np.float64]:
    """(400,) clicks of an episode each, by shoppers whom no training meets."""
    env = bridge(JUDGES, candidates)
    env.seed(10**6)
    seen, total, over = env.reset(), np.zeros(JUDGES), np.zeros(JUDGES, bool)
    for _ in range(SLATES):
        seen, rewards, done, _ = env.step(choose(seen))
        total += rewards * ~over
        over |= done
    return total


def test_ppo_of_stable_baselines3_learns_which_candidates_to_show(candidates: Tensor) -> None:
    rng = np.random.default_rng(0)
    drawn = clicks(
        candidates, lambda _: rng.permuted(np.tile(np.arange(1, CANDIDATES + 1), (JUDGES, 1)), axis=1)[:, :K]
    )
    liked = range(CANDIDATES - LIKED + 1, CANDIDATES + 1)  # places
    fixed = [clicks(candidates, lambda _, one=one: np.tile(one, (JUDGES, 1))).mean() for one in combinations(liked, K)]
    bar = drawn.mean() + 0.4 * (max(fixed) - drawn.mean())  # part of the way to the best slate that is always the same
    model = PPO("MultiInputPolicy", bridge(32, candidates), n_steps=32, batch_size=256, seed=0, device="cpu")
    untrained = clicks(candidates, lambda seen: model.predict(seen, deterministic=True)[0])
    model.learn(15_000)
    learnt = clicks(candidates, lambda seen: model.predict(seen, deterministic=True)[0])
    assert untrained.mean() < bar < learnt.mean()
    more = learnt - drawn
    assert more.mean() > 5 * more.std() / JUDGES**0.5
