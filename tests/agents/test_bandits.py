"""Contextual bandits: sums worked out by hand, uncertainties against plain algebra, and learning on a toy."""

from typing import Any

import numpy as np
import pytest

from slatewise.agents import LinUCBPolicy, ThompsonPolicy
from slatewise.agents.bandits import LinearBandit
from slatewise.testing.batteries import check_policy

RNG = np.random.default_rng(0)
VECTORS = np.concatenate([np.zeros((1, 3)), RNG.normal(size=(7, 3))])


def features(states: np.ndarray, items: np.ndarray) -> np.ndarray:
    vectors = VECTORS[items]
    return np.concatenate([states * vectors, vectors, np.ones((len(items), 1))], axis=1)


def taught(policy: Any, rows: int = 200) -> Any:
    states = RNG.normal(size=(rows, 3))
    slates = np.stack([RNG.permutation(np.arange(1, 8))[:4] for _ in range(rows)])
    policy.update(states, slates, RNG.integers(-1, 4, rows))
    return policy


def test_items_below_the_click_were_not_looked_at_and_all_were_where_none_came() -> None:
    bandit = LinUCBPolicy(VECTORS, 2, ridge=2.0)
    states = np.array([[1.0, 2.0, 3.0], [0.5, 0.0, -1.0]])
    bandit.update(states, [[4, 2, 6], [3, 0, 5]], [1, -1])  # 4 and 2 were looked at; 3 and 5, the slot between is empty
    x = features(states[[0, 0, 1, 1]], np.array([4, 2, 3, 5]))
    np.testing.assert_allclose(bandit.precision, 2 * np.eye(7) + x.T @ x)
    np.testing.assert_allclose(bandit.clicks, x[1])
    np.testing.assert_allclose(bandit.weights, np.linalg.solve(2 * np.eye(7) + x.T @ x, x[1]))


def test_bounds_lie_as_many_deviations_above_the_estimates_as_asked() -> None:
    bandit = taught(LinUCBPolicy(VECTORS, 2, alpha=1.5))
    states = RNG.normal(size=(5, 3))
    for item in range(1, 8):
        x = features(states, np.full(5, item))
        spread = np.sqrt(np.einsum("bp,pq,bq->b", x, np.linalg.inv(bandit.precision), x))
        np.testing.assert_allclose(bandit.scores(states)[:, item], x @ bandit.weights + 1.5 * spread, rtol=1e-5)


def test_draws_scatter_about_the_estimates_as_widely_as_is_believed() -> None:
    bandit = taught(ThompsonPolicy(VECTORS, 2, spread=0.5, seed=1))
    state = RNG.normal(size=(1, 3))
    drawn = bandit.scores(np.repeat(state, 40_000, axis=0))
    plain = LinearBandit(VECTORS, 2)
    plain.precision, plain.clicks = bandit.precision, bandit.clicks
    np.testing.assert_allclose(drawn.mean(0), plain._means(state, plain.weights)[0], atol=0.01)
    np.testing.assert_allclose(drawn.std(0), 0.5 * plain._spreads(state)[0], rtol=0.03)
    again = taught(ThompsonPolicy(VECTORS, 2))
    again.reseed(9)
    first = again.predict(state)[0]
    again.reseed(9)
    np.testing.assert_array_equal(again.predict(state)[0], first)


@pytest.mark.parametrize("kind", [LinUCBPolicy, ThompsonPolicy])
def test_bandits_learn_each_taste_its_favourite(taste_shop: Any, kind: Any) -> None:
    env = taste_shop(n_items=12)
    bandit = kind(env.item_vectors, 3)
    assert not (bandit.predict(env.states)[0] == env.favourites[:, None]).any(1).all()
    assert bandit.learn(env, 6_000) is bandit
    for _ in range(20):
        assert (bandit.predict(env.states)[0] == env.favourites[:, None]).any(1).all()


def test_bandits_keep_the_promises_of_a_policy(taste_shop: Any) -> None:
    env = taste_shop()
    check_policy(LinUCBPolicy(env.item_vectors, 3), env.states, 30)
    check_policy(ThompsonPolicy(env.item_vectors, 3), env.states, 30, repeatable=False)


def test_what_bandits_cannot_use_is_refused(taste_shop: Any) -> None:
    with pytest.raises(ValueError, match="ridge"):
        LinUCBPolicy(VECTORS, 2, ridge=0.0)
    with pytest.raises(ValueError, match="alpha"):
        LinUCBPolicy(VECTORS, 2, alpha=-1.0)
    with pytest.raises(ValueError, match="spread"):
        ThompsonPolicy(VECTORS, 2, spread=-1.0)
    env = taste_shop()
    step = env.step_wait
    env.step_wait = lambda: (lambda o, r, d, i: (o, r, d, [{} for _ in i]))(*step())
    with pytest.raises(ValueError, match="clicked"):
        LinUCBPolicy(env.item_vectors, 3).learn(env, 32)
