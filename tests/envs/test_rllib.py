"""RLlib learns on the shop, one shopper or a native batch at a time."""

import sys
from collections.abc import Iterator
from typing import Any

import gymnasium as gym
import pytest

from slatewise.envs import ShopEnv, ShopVectorEnv
from slatewise.envs.rllib import make, register


def test_the_settings_say_whether_it_is_one_shopper_or_a_batch() -> None:
    assert isinstance(make({"k": 3}), ShopEnv)
    batch = make({"k": 3, "num_envs": 4})
    assert isinstance(batch, ShopVectorEnv)
    assert batch.metadata["autoreset_mode"] is gym.vector.AutoresetMode.NEXT_STEP  # what RLlib's runners go by


def test_without_ray_the_bridge_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("ray", "ray.tune", "ray.tune.registry"):
        monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ModuleNotFoundError, match=r'pip install "slatewise\[rllib\]"'):
        register()


@pytest.fixture(scope="module")
def cluster() -> Iterator[None]:
    ray = pytest.importorskip("ray")
    pytest.importorskip("ray.rllib")
    ray.init(num_cpus=2, include_dashboard=False, logging_level="ERROR")
    yield
    ray.shutdown()


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore")  # Ray's own, of which there are many
@pytest.mark.parametrize("mode", ["sync", "vector_entry_point"])
@pytest.mark.usefixtures("cluster")
def test_ppo_of_rllib_trains_on_the_shop(mode: str) -> None:
    from ray.rllib.algorithms.ppo import PPOConfig  # pyright: ignore[reportMissingImports]

    config = (
        PPOConfig()
        .environment(register(), env_config={"k": 3, "max_slates": 5})
        .env_runners(num_env_runners=0, num_envs_per_env_runner=8, gym_env_vectorize_mode=mode)
        .training(train_batch_size_per_learner=256, minibatch_size=128, num_epochs=1)
    )
    algorithm = config.build_algo()
    try:
        found: dict[str, Any] = algorithm.train()["env_runners"]
    finally:
        algorithm.stop()
    assert found["num_env_steps_sampled"] >= 256
    assert found["num_episodes"] > 40
    assert found["episode_return_mean"] >= 0
    assert 1 <= found["episode_len_mean"] <= 5
