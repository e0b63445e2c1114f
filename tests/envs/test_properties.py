"""What holds of spaces, seeds and resets whatever the settings, the slates and the pattern of endings."""

import hashlib
import json
import subprocess
import sys
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from slatewise.encoders import MeanEncoder
from slatewise.envs import ShopEnv, ShopVectorEnv, SlateSpace
from slatewise.envs.seeds import shopper_seeds
from slatewise.simulators import Response, ShopperState
from slatewise.simulators.randomness import uniform
from slatewise.testing import OneFavouriteShopper

N_ITEMS, K = 9, 3
FAST = settings(max_examples=25, deadline=None)


class FickleShopper(OneFavouriteShopper):
    """Leaves after any slate with a chance of its own, so that episodes end in every pattern."""

    def __init__(self, leaves: float) -> None:
        super().__init__(N_ITEMS, (2, 5, 7), slates=10**6)
        self.leaves = leaves

    def respond(self, state: ShopperState, slate: Tensor) -> tuple[Response, ShopperState]:
        left = uniform(state.seed, state.step, 77, 1)[:, 0] < self.leaves
        response, state = super().respond(state, slate)
        columns = {name: getattr(response, name) for name in Response.__slots__}
        return Response(**{**columns, "left": left}), state


def parts(leaves: float) -> dict[str, Any]:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(N_ITEMS + 1, 4)))
    return {"shopper": FickleShopper(leaves), "encoder": MeanEncoder(vectors), "k": K}


SHOPS = st.fixed_dictionaries(
    {
        "leaves": st.sampled_from([0.0, 0.2, 0.5, 0.9, 1.0]),
        "max_slates": st.integers(1, 4),
        "observation": st.sampled_from(["state", "history"]),
        "history_len": st.integers(1, 5),
    }
)
ROWS = st.integers(1, 5)
SEEDS = st.integers(0, 2**62)


def made(shop: dict[str, Any], rows: int, **more: Any) -> ShopVectorEnv:
    rest = {name: value for name, value in shop.items() if name != "leaves"}
    return ShopVectorEnv(rows, **parts(shop["leaves"]), **rest, **more)


def slates_of(seed: int, rows: int) -> Any:
    """Slates of all kinds: with repeats, with empty slots, altogether empty."""
    return np.random.default_rng(seed % 2**32).integers(0, N_ITEMS + 1, (12, rows, K))


def same(one: Any, two: Any) -> None:
    if isinstance(one, dict):
        assert one.keys() == two.keys()
        for name in one:
            same(one[name], two[name])
    elif isinstance(one, np.ndarray) and one.dtype == object:
        for left, right in zip(one, two, strict=True):
            assert (left is None) == (right is None)
            if left is not None:
                same(left, right)
    else:
        np.testing.assert_allclose(one, two, rtol=1e-5, atol=1e-6)


@FAST
@given(shop=SHOPS, rows=ROWS, seed=SEEDS, mode=st.sampled_from([AutoresetMode.NEXT_STEP, AutoresetMode.SAME_STEP]))
def test_a_batch_is_its_rows_run_one_by_one(shop: dict[str, Any], rows: int, seed: int, mode: AutoresetMode) -> None:
    rest = {name: value for name, value in shop.items() if name != "leaves"}
    native = made(shop, rows, autoreset_mode=mode)
    single = SyncVectorEnv([lambda: ShopEnv(**parts(shop["leaves"]), **rest)] * rows, autoreset_mode=mode)
    same(native.reset(seed=seed)[0], single.reset(seed=seed)[0])
    for slates in slates_of(seed, rows):
        one, two = native.step(slates), single.step(slates)
        for number in range(4):
            same(one[number], two[number])
        assert ("final_obs" in one[4]) == ("final_obs" in two[4])
        if "final_obs" in one[4]:
            same(one[4]["final_obs"], two[4]["final_obs"])


@FAST
@given(shop=SHOPS, rows=ROWS, seed=SEEDS)
def test_next_step_autoreset_spends_one_step_on_each_new_shopper(shop: dict[str, Any], rows: int, seed: int) -> None:
    env = made(shop, rows, autoreset_mode=AutoresetMode.NEXT_STEP)
    env.reset(seed=seed)
    seeds, episode, length = np.arange(rows) + seed, np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    waiting = np.zeros(rows, np.bool_)
    for slates in slates_of(seed, rows):
        seen, rewards, terminated, truncated, infos = env.step(slates)
        episode += waiting
        length = np.where(waiting, 0, length + 1)
        assert not rewards[waiting].any()
        assert not (terminated | truncated)[waiting].any()
        assert not (terminated & truncated).any()
        np.testing.assert_array_equal(infos["_clicked"], ~waiting)
        np.testing.assert_array_equal(infos["slates"], length)
        np.testing.assert_array_equal(infos["shopper_seed"], shopper_seeds(seeds, episode))
        np.testing.assert_array_equal(truncated | terminated, (terminated | (length >= shop["max_slates"])) & ~waiting)
        assert env.observation_space.contains(seen)
        assert "final_obs" not in infos
        waiting = terminated | truncated


@FAST
@given(shop=SHOPS, rows=ROWS, seed=SEEDS)
def test_same_step_autoreset_has_the_next_shopper_at_once_and_the_last_view_beside(
    shop: dict[str, Any], rows: int, seed: int
) -> None:
    env = made(shop, rows, autoreset_mode=AutoresetMode.SAME_STEP)
    env.reset(seed=seed)
    seeds, episode, length = np.arange(rows) + seed, np.zeros(rows, np.int64), np.zeros(rows, np.int64)
    for slates in slates_of(seed, rows):
        seen, _, terminated, truncated, infos = env.step(slates)
        done = terminated | truncated
        length += 1
        if done.any():
            np.testing.assert_array_equal(infos["_final_obs"], done)
            assert [one is not None for one in infos["final_obs"]] == done.tolist()
            assert all(env.single_observation_space.contains(one) for one in infos["final_obs"][done])
            np.testing.assert_array_equal(infos["final_info"]["slates"][done], length[done])
            np.testing.assert_array_equal(
                infos["final_info"]["shopper_seed"][done], shopper_seeds(seeds, episode)[done]
            )
        else:
            assert "final_obs" not in infos
        episode += done
        length[done] = 0
        np.testing.assert_array_equal(infos["slates"], length)
        np.testing.assert_array_equal(infos["shopper_seed"], shopper_seeds(seeds, episode))
        np.testing.assert_array_equal(infos["_clicked"], ~done)
        assert env.observation_space.contains(seen)


@FAST
@given(shop=SHOPS, rows=ROWS, seed=SEEDS, data=st.data())
def test_without_autoreset_rows_wait_until_they_are_reset_and_others_go_on(
    shop: dict[str, Any], rows: int, seed: int, data: st.DataObject
) -> None:
    env = made(shop, rows, autoreset_mode=AutoresetMode.DISABLED)
    env.reset(seed=seed)
    length = np.zeros(rows, np.int64)
    for slates in slates_of(seed, rows)[:6]:
        _, _, terminated, truncated, infos = env.step(slates)
        length += 1
        np.testing.assert_array_equal(infos["slates"], length)
        ended = terminated | truncated
        more = np.array(data.draw(st.lists(st.booleans(), min_size=rows, max_size=rows)))
        for row in np.flatnonzero(ended):  # one after the other: with any left, no step is taken
            with pytest.raises(gym.error.ResetNeeded, match=str(row)):
                env.step(slates)
            mask = np.zeros(rows, np.bool_)
            mask[row] = True
            env.reset(options={"reset_mask": mask | (more & ~ended)})
            length[mask | (more & ~ended)] = 0
            ended[row] = False


@FAST
@given(shop=SHOPS, rows=ROWS, seed=SEEDS, other=SEEDS)
def test_a_seed_says_all_and_a_list_of_seeds_the_same(shop: dict[str, Any], rows: int, seed: int, other: int) -> None:
    one, two = made(shop, rows), made(shop, rows, copy=False)
    two.reset(seed=other)  # what went before does not matter
    two.step(slates_of(other, rows)[0])
    same(one.reset(seed=seed)[0], two.reset(seed=[seed + row for row in range(rows)])[0])
    for slates in slates_of(seed, rows):
        for left, right in zip(one.step(slates)[:4], two.step(slates)[:4], strict=True):
            same(left, right)


@FAST
@given(
    n_items=st.integers(1, 30),
    k=st.integers(1, 8),
    rows=st.integers(1, 6),
    seed=st.integers(0, 2**31),
    hidden=st.lists(st.integers(1, 30), max_size=30),
)
def test_every_sample_is_a_legal_slate_of_available_items_without_repeats(
    n_items: int, k: int, rows: int, seed: int, hidden: list[int]
) -> None:
    k = min(k, n_items)
    available = np.ones(n_items + 1, bool)
    available[[0, *(item for item in hidden if item <= n_items)]] = False
    single = SlateSpace(n_items, k, available, seed=seed)
    batch = gym.vector.utils.batch_space(single, rows)
    batch.seed(seed)
    drawn = [single.sample() for _ in range(3)]
    again = SlateSpace(n_items, k, available, seed=seed)
    np.testing.assert_array_equal(drawn, [again.sample() for _ in range(3)])
    whole: Any = batch.sample()
    assert batch.contains(whole)
    for slate in [*drawn, *whole]:
        assert single.contains(slate)
        shown = slate[slate > 0]
        assert len(set(shown.tolist())) == len(shown) == min(k, int(available.sum()))
        assert available[shown].all()
        assert not slate[len(shown) :].any()


def trajectory(seed: int) -> str:
    """A hash of what happens in the default shop, to six digits."""
    env = ShopVectorEnv(8, observation="history", autoreset_mode=AutoresetMode.SAME_STEP)
    env.action_space.seed(seed)
    seen, _ = env.reset(seed=seed)
    told = hashlib.sha256()
    for _ in range(40):
        seen, rewards, terminated, truncated, infos = env.step(env.action_space.sample())
        for values in (*seen.values(), rewards, terminated, truncated, infos["shopper_seed"], infos["dwell"]):
            told.update(np.round(values.astype(np.float64), 6).tobytes())
    return told.hexdigest()


def test_a_seed_says_the_same_in_another_process() -> None:
    code = (
        "import importlib.util, json, sys\n"
        "spec = importlib.util.spec_from_file_location('properties', sys.argv[1])\n"
        "module = importlib.util.module_from_spec(spec)\n"
        "spec.loader.exec_module(module)\n"
        "print(json.dumps(module.trajectory(5)))\n"
    )
    answer = subprocess.run([sys.executable, "-c", code, __file__], capture_output=True, text=True, check=True)
    assert json.loads(answer.stdout.splitlines()[-1]) == trajectory(5) == trajectory(5)
    assert trajectory(6) != trajectory(5)
