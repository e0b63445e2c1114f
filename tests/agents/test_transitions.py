"""The replay of slates: returns over several slates worked out by hand, and states kept once."""

from typing import Any

import numpy as np
import pytest
from gymnasium import spaces

from slatewise.agents.transitions import CHANCES, SlateReplayBuffer
from slatewise.envs.spaces import SlateSpace

STATES = spaces.Box(-1, 1, (2,), np.float32)
SLATES = spaces.MultiDiscrete([9, 9, 9])


def filled(
    steps: int, *, size: int = 100, ends: dict[int, bool] | None = None, envs: int = 1, **settings: Any
) -> SlateReplayBuffer:
    """Step t of env e: state (t + 100 e, 0), reward 1 + t, slot t % 3; `ends`: step -> whether it is a true end.

    The state after an end is (-t, 1), of which the next step knows nothing.
    """
    buffer = SlateReplayBuffer(size, STATES, SLATES, "cpu", envs, gamma=0.5, **settings)
    for t in range(steps):
        over, after = t in (ends or {}), np.array([[t + 1 + 100 * e, 0.0] for e in range(envs)])
        final = np.array([[-t, 1.0]] * envs)
        infos: list[dict[str, Any]] = [{"clicked": t % 3, CHANCES: np.array([0.25, 0.5, 0.125, 0.125])}] * envs
        if over:
            infos = [{**infos[0], "TimeLimit.truncated": not (ends or {})[t]}] * envs
        state = np.array([[t + 100 * e, 0.0] for e in range(envs)])
        slates = np.tile(np.arange(t % 6, t % 6 + 3), (envs, 1))
        buffer.add(state, final if over else after, slates, np.full(envs, 1.0 + t), np.full(envs, over), infos)
    return buffer


def test_one_slate_is_its_reward_and_the_next_state() -> None:
    batch = filled(6)._get_samples(np.array([2, 5]))
    assert batch.rewards.tolist() == [3, 6]
    assert batch.discounts.tolist() == [0.5, 0.5]
    assert batch.next_states.tolist() == [[3, 0], [6, 0]]  # the newest one's is kept apart
    assert batch.slates.tolist() == [[2, 3, 4], [5, 6, 7]]
    assert batch.clicked.tolist() == [2, 2]


def test_several_slates_worked_out_by_hand() -> None:
    batch = filled(8, n_steps=3)._get_samples(np.array([0, 4, 6, 7]))
    # Rewards 1 + t, discount 0.5: 1 + 2/2 + 3/4; 5 + 6/2 + 7/4; then the newest slates are fewer: 7 + 8/2; 8.
    assert batch.rewards.tolist() == [2.75, 9.75, 11, 8]
    assert batch.discounts.tolist() == [0.125, 0.125, 0.25, 0.5]
    assert batch.next_states[:, 0].tolist() == [3, 7, 8, 8]


def test_true_ends_stop_a_return_and_time_limits_are_bootstrapped_over() -> None:
    batch = filled(8, n_steps=3, ends={2: True, 5: False})._get_samples(np.array([1, 2, 3, 5]))
    assert batch.rewards.tolist() == [2 + 1.5, 3, 4 + 2.5 + 1.5, 6]
    assert batch.discounts.tolist() == [0, 0, 0.125, 0.5]
    assert batch.next_states[2:].tolist() == [[-5, 1], [-5, 1]]  # the state in which the limit cut, not the next one's


def test_a_full_ring_neither_walks_across_its_seam_nor_keeps_old_ends() -> None:
    buffer = filled(57, size=10, n_steps=4, envs=2, ends={t: t % 2 == 0 for t in range(3, 57, 7)})
    assert (len(buffer), buffer.buffer_size) == (10, 5)
    assert len(buffer._last_states) == int(buffer.over.sum())
    batch = buffer._get_samples(np.arange(10))
    for place, (state, reward, after) in enumerate(zip(batch.states, batch.rewards, batch.next_states, strict=True)):
        t = int(state[0]) % 100
        assert 52 <= t < 57  # the five newest steps
        walked = [t]
        while len(walked) < 4 and walked[-1] < 56 and walked[-1] != 52:  # step 52 is an end
            walked.append(walked[-1] + 1)
        assert reward.item() == sum((1 + one) * 0.5**n for n, one in enumerate(walked))
        last = walked[-1]
        assert after[0].item() == (-last if last == 52 else last + 1 + 100 * (place % 2))


def test_an_env_reset_between_two_trainings_breaks_the_return_off() -> None:
    buffer = filled(3, n_steps=3)
    info = [{"clicked": 0}]
    buffer.add(np.array([[70.0, 0]]), np.array([[71.0, 0]]), np.ones((1, 3)), np.array([9.0]), np.array([False]), info)
    batch = buffer._get_samples(np.array([1, 2]))
    assert batch.rewards.tolist() == [2 + 1.5, 3]
    assert batch.next_states.tolist() == [[3, 0], [3, 0]]


def test_full_corrections_make_a_prioritised_mean_that_of_the_replay() -> None:
    buffer = filled(8, priority=1.0, seed=0)
    buffer.surprised(np.arange(8), np.array([1, 1, 1, 1, 1, 1, 1, 30.0]))
    batch = buffer.sample(40_000)
    assert (batch.rows == 7).mean() == pytest.approx(30 / 37, abs=0.01)
    assert (batch.even * batch.rewards).mean().item() == pytest.approx(4.5, rel=0.02)
    assert batch.weights.max().item() == 1
    assert (buffer.sample(500, correction=0.0).weights == 1).all()


def test_all_rows_are_drawn_alike_without_priorities() -> None:
    batch = filled(8, seed=0).sample(40_000)
    np.testing.assert_allclose(np.bincount(batch.rows) / 40_000, 1 / 8, atol=0.01)
    assert (batch.weights == 1).all()
    assert batch.chances is None


def test_chances_are_kept_where_asked_for() -> None:
    batch = filled(4, keep_chances=True)._get_samples(np.array([3]))
    assert batch.chances is not None
    assert batch.chances.tolist() == [[0.25, 0.5, 0.125, 0.125]]


def test_a_row_costs_its_state_once_and_a_small_slate() -> None:
    buffer = SlateReplayBuffer(10_000, spaces.Box(-1, 1, (64,), np.float32), spaces.MultiDiscrete([50_001] * 10), "cpu")
    held = sum(part.nbytes for part in vars(buffer).values() if isinstance(part, np.ndarray))
    assert held / 10_000 < 64 * 4 + 10 * 4 + 20


def test_slates_of_places_are_kept_as_the_items_they_name() -> None:
    seen = spaces.Dict({"state": STATES, "candidates": spaces.Box(0, 50, (5,), np.int64)})  # pyright: ignore[reportArgumentType]
    buffer = SlateReplayBuffer(10, seen, SlateSpace(4, 2, places=True), "cpu", 1, gamma=0.5)
    candidates = np.array([[0, 11, 12, 13, 14], [0, 21, 22, 23, 24], [0, 31, 32, 33, 34]])
    views = [{"state": np.zeros((1, 2)), "candidates": row[None]} for row in candidates]
    for step, slate in enumerate(([3, 1], [2, 0])):
        over = np.array([False])
        buffer.add(views[step], views[step + 1], np.array([slate]), np.ones(1), over, [{"clicked": 0}])
    batch = buffer._get_samples(np.array([0, 1]))
    assert batch.states.shape == (2, 2)
    assert batch.slates.tolist() == [[13, 11], [22, 0]]
    assert batch.next_items is not None
    assert batch.next_items.tolist() == candidates[1:].tolist()
    assert batch.next_slates is not None
    assert batch.next_slates.tolist() == [[22, 0], [0, 0]]  # what comes after the newest is not known


def test_the_slates_that_follow_are_not_taken_from_another_shopper() -> None:
    batch = filled(6, ends={2: True, 4: False})._get_samples(np.arange(6))
    assert batch.next_slates is not None
    assert batch.next_slates[:, 0].tolist() == [1, 2, 0, 4, 0, 0]
