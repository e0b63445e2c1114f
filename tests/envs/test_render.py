"""Slates as pictures: the shape that was promised, and what a person looks for is to be seen in them."""

from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from slatewise.encoders import MeanEncoder
from slatewise.envs import ShopEnv, ShopVectorEnv
from slatewise.envs import picture as drawing
from slatewise.envs.picture import HEAD, ROW, picture_shape
from slatewise.testing import OneFavouriteShopper

BLUE, GREEN, GREY = (11, 99, 196), (11, 127, 80), (93, 102, 114)


@pytest.fixture
def toy() -> dict[str, Any]:
    vectors = torch.from_numpy(np.random.default_rng(0).normal(size=(21, 6)))
    shopper = OneFavouriteShopper(20, (7,), slates=4, glance=1.0, buys=1.0)
    return {"shopper": shopper, "encoder": MeanEncoder(vectors), "k": 3, "render_mode": "rgb_array"}


def dots(frame: NDArray[np.uint8], slot: int) -> list[bool]:
    """Which of the four dots of a slot are full: looked at, clicked, in the cart, bought."""
    middle = HEAD + slot * ROW + ROW // 2
    paper = frame[middle, 20]  # left of everything, so only the row's own tint
    return [bool((frame[middle, at] != paper).any()) for at in drawing._STAGE_AT]


@pytest.mark.parametrize("k", [1, 5, 12])
def test_a_picture_has_the_shape_it_promised_before_and_after_every_slate(k: int) -> None:
    env = ShopEnv(k=k, render_mode="rgb_array", max_slates=4)
    env.action_space.seed(0)
    for episode in range(5):
        env.reset(seed=episode)
        ended = False
        while True:
            frame = env.render()
            assert frame.shape == picture_shape(k)
            assert frame.dtype == np.uint8
            assert frame.std() > 5  # not a blank page
            if ended:
                break
            _, _, terminated, truncated, _ = env.step(env.action_space.sample())
            ended = terminated or truncated


def test_a_picture_tells_how_far_the_shopper_went_with_each_item(toy: dict[str, Any]) -> None:
    env = ShopEnv(**toy)
    env.reset(seed=0)
    env.step(np.array([2, 7, 0]))
    frame = env.render()
    assert dots(frame, 0) == [True, False, False, False]
    assert dots(frame, 1) == [True, True, True, True]
    assert dots(frame, 2) == [False, False, False, False]
    middle = HEAD + ROW + ROW // 2
    colours = [tuple(frame[middle, at].tolist()) for at in drawing._STAGE_AT]
    assert (colours[0], colours[1], colours[3]) == (GREY, BLUE, GREEN)


def test_equal_slates_have_equal_pictures_and_others_do_not(toy: dict[str, Any]) -> None:
    frames = []
    for slate in ([2, 7, 3], [2, 7, 3], [2, 7, 4]):
        env = ShopEnv(**toy)
        env.reset(seed=0)
        env.step(np.array(slate))
        frames.append(env.render())
    np.testing.assert_array_equal(frames[0], frames[1])
    assert (frames[0] != frames[2]).any()


def test_a_batch_gives_a_picture_a_row_equal_to_that_of_the_single_environment(toy: dict[str, Any]) -> None:
    batch = ShopVectorEnv(3, **toy)
    batch.reset(seed=5)
    slates = np.array([[1, 2, 3], [7, 8, 9], [4, 4, 7]])
    batch.step(slates)
    frames = batch.render()
    assert isinstance(frames, tuple)
    assert len(frames) == 3
    for row, frame in enumerate(frames):
        single = ShopEnv(**toy)
        single.reset(seed=5 + row)
        single.step(slates[row])
        np.testing.assert_array_equal(frame, single.render())


def test_a_title_too_long_is_cut_and_one_in_chinese_draws() -> None:
    font = drawing._font(14)
    text = "x" * 500
    cut = drawing._cut(text, font, 100)
    assert cut.endswith("…")
    assert font.getlength(cut) <= 100 < font.getlength(cut[:-1] + "xx…")
    assert drawing._cut("short", font, 100) == "short"
    assert drawing._font_for("登山鞋", 14).getlength("登山鞋") > 0  # in a font that has them, if one is installed


def test_an_unknown_render_mode_is_refused() -> None:
    for make in (ShopEnv, ShopVectorEnv):
        with pytest.raises(ValueError, match=r"ansi, rgb_array, got 'humane'"):
            make(render_mode="humane")


def test_a_picture_before_the_first_reset_is_refused() -> None:
    with pytest.raises(gym.error.ResetNeeded, match="render"):
        ShopEnv(render_mode="rgb_array").render()


def test_a_list_of_pictures_is_collected_by_gymnasium_s_own_mode() -> None:
    env = gym.make("slatewise/Shop-v0", render_mode="rgb_array_list", k=3)
    env.reset(seed=0)
    env.step(np.array([1, 2, 3]))
    frames: Any = env.render()
    assert [frame.shape for frame in frames] == [picture_shape(3)] * 2


def test_a_picture_may_be_the_observation() -> None:
    env = gym.wrappers.AddRenderObservation(gym.make("slatewise/Shop-v0", render_mode="rgb_array", k=3))
    seen, _ = env.reset(seed=0)
    assert env.observation_space.contains(seen)
    assert seen.shape == picture_shape(3)


def test_videos_are_recorded_by_gymnasium_s_own_wrappers(tmp_path: Path) -> None:
    pytest.importorskip("moviepy")
    single = gym.wrappers.RecordVideo(
        gym.make("slatewise/Shop-v0", render_mode="rgb_array", max_slates=3), str(tmp_path / "one"), disable_logger=True
    )
    single.reset(seed=0)
    ended = False
    while not ended:
        _, _, terminated, truncated, _ = single.step(single.action_space.sample())
        ended = terminated or truncated
    single.close()
    assert [one.stat().st_size > 1_000 for one in (tmp_path / "one").glob("*.mp4")] == [True]
    many = gym.wrappers.vector.RecordVideo(
        gym.make_vec("slatewise/Shop-v0", 4, render_mode="rgb_array"), str(tmp_path / "four"), video_length=5
    )
    many.reset(seed=0)
    for _ in range(6):
        many.step(many.action_space.sample())
    many.close()
    assert list((tmp_path / "four").glob("*.mp4"))
