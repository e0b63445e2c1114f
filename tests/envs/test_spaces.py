"""Slates are drawn without repeats, evenly, and whatever a MultiDiscrete holds is a slate."""

from copy import deepcopy

import numpy as np
import pytest
from gymnasium.spaces import MultiDiscrete
from gymnasium.vector.utils import batch_space

from slatewise.envs.spaces import SlateBatchSpace, SlateSpace, draw_slates


def test_a_sample_holds_no_item_twice_and_no_empty_slot() -> None:
    space = SlateSpace(8, 6, seed=0)
    for _ in range(200):
        slate = space.sample()
        assert space.contains(slate)
        assert len(set(slate.tolist())) == 6
        assert slate.min() >= 1


def test_every_ordered_slate_is_equally_likely() -> None:
    drawn = draw_slates(np.random.default_rng(1), np.arange(1, 5), 2, 12_000)
    _, counts = np.unique(drawn[:, 0] * 10 + drawn[:, 1], return_counts=True)
    assert len(counts) == 12
    chi_squared = ((counts - 1_000) ** 2 / 1_000).sum()
    assert chi_squared < 31.3  # 0.1 % of even draws exceed this with 11 degrees of freedom


def test_the_space_is_the_multidiscrete_that_learners_know() -> None:
    space = SlateSpace(8, 3)
    assert isinstance(space, MultiDiscrete)
    assert space == MultiDiscrete([9, 9, 9])
    assert space.contains(np.array([0, 4, 4]))
    assert not space.contains(np.array([0, 4, 9]))
    assert deepcopy(space).k == 3


def test_a_space_of_places_is_marked_and_says_so() -> None:
    assert not SlateSpace(8, 3).places
    places = SlateSpace(8, 3, places=True)
    assert deepcopy(places).places
    assert "places=True" in repr(places)


def test_samples_are_repeated_by_their_seed() -> None:
    one, two = SlateSpace(50, 5, seed=3), SlateSpace(50, 5)
    two.seed(3)
    np.testing.assert_array_equal(one.sample(), two.sample())


def test_only_available_items_are_drawn_and_the_rest_stays_empty() -> None:
    available = np.zeros(9, bool)
    available[[2, 5]] = True
    slate = SlateSpace(8, 3, available, seed=0).sample()
    assert sorted(slate.tolist()) == [0, 2, 5]
    assert slate[2] == 0


def test_a_mask_is_read_as_multidiscrete_reads_it() -> None:
    space = SlateSpace(3, 2, seed=0)
    only = tuple(np.array([0, 0, 1, 0], np.int8) for _ in range(2))
    assert space.sample(mask=only).tolist() == [2, 2]


def test_a_batch_of_slates_is_sampled_row_by_row_without_repeats() -> None:
    batch = batch_space(SlateSpace(30, 4, seed=0), 50)
    assert isinstance(batch, SlateBatchSpace)
    slates = batch.sample()
    assert batch.contains(slates)
    assert slates.shape == (50, 4)
    assert all(len(set(slate)) == 4 for slate in slates.tolist())
    assert len(np.unique(slates, axis=0)) > 40
    with pytest.raises(ValueError, match="mask"):
        batch.sample(mask=())  # pyright: ignore[reportArgumentType]


def test_a_slate_longer_than_the_catalogue_is_refused() -> None:
    with pytest.raises(ValueError, match=r"\[1, 8\].*got 9"):
        SlateSpace(8, 9)
    with pytest.raises(ValueError, match=r"\(9,\)"):
        SlateSpace(8, 2, np.ones(8, bool))
