"""Values by the same shoppers each time: those that `judge` would find of them, who are others than it draws."""

from typing import Any

import numpy as np
import pytest

from slatewise.agents import RandomPolicy
from slatewise.encoders.mean import MeanEncoder
from slatewise.envs.defaults import default_shop
from slatewise.evaluation import Valuer, judge
from slatewise.simulators.known_truth import KnownTruthShopper

K = 4


class Same:
    """Shows everyone the same slate, whatever is observed."""

    k = K

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[np.ndarray, None]:
        rows = len(observation["state"] if isinstance(observation, dict) else observation)
        return np.tile([3, 1, 4, 5], (rows, 1)), None


@pytest.fixture(scope="module")
def parts() -> tuple[KnownTruthShopper, MeanEncoder]:
    shop = default_shop()
    return KnownTruthShopper(shop), MeanEncoder.from_catalogue(shop.catalogue)


def test_a_policy_has_one_value_whoever_was_valued_before(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    valuer = Valuer(*parts, K, shoppers=40, seed=2, batch=16)
    first = valuer(Same())
    valuer(RandomPolicy(np.ones(default_shop().n_items + 1), K))
    np.testing.assert_array_equal(valuer(Same()), first)
    np.testing.assert_allclose(Valuer(*parts, K, shoppers=40, seed=2, batch=40)(Same()), first)
    assert first.std() > 0


def test_values_are_rewards_of_sessions_and_shoppers_are_not_those_that_judge(
    parts: tuple[KnownTruthShopper, MeanEncoder],
) -> None:
    values = Valuer(*parts, K, shoppers=60, seed=7)(Same())
    outcomes = judge({"same": Same()}, *parts, shoppers=60, seed=7, k=K)
    judged = outcomes.frame["reward"].to_numpy()
    assert not np.array_equal(values, judged)
    spread = np.sqrt((values.var() + judged.var()) / 60)
    assert abs(values.mean() - judged.mean()) < 4 * spread
    met = Valuer(*parts, K, shoppers=60, seed=7)._met
    drawn = {int(one) for seed in range(50) for one in np.random.default_rng(seed).integers(2**63, size=60)}
    assert not drawn & set(met.tolist())


def test_another_length_of_slates_is_refused(parts: tuple[KnownTruthShopper, MeanEncoder]) -> None:
    with pytest.raises(ValueError, match="4 slots, and is valued by slates of 3"):
        Valuer(*parts, 3, shoppers=4)(Same())
    with pytest.raises(ValueError, match="shoppers=1"):
        Valuer(*parts, K, shoppers=1)
