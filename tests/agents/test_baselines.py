"""Baselines on sessions small enough to count by hand."""

from typing import Any

import numpy as np
import pytest
import torch

from slatewise.agents import ItemKNNPolicy, MyopicPolicy, NextItemPolicy, PopularPolicy, RandomPolicy
from slatewise.agents.baselines import item_similarity
from slatewise.datasets.schema import Event
from slatewise.datasets.tokens import Tokens
from slatewise.encoders.neighbours import item_counts
from slatewise.simulators.choice_scores import ChoiceScores
from slatewise.testing.batteries import check_policy

V, SHOWN, C = Event.VIEW, Event.IMPRESSION, Event.CLICK


@pytest.fixture
def tokens() -> Tokens:
    # Sessions: 1 2 | 1 2 3 | 1 (shown 4) | 5.
    items = np.array([1, 2, 1, 2, 3, 1, 4, 5])
    events = np.array([V, V, C, V, V, V, SHOWN, V], dtype=np.int64)
    return Tokens(items, events, np.zeros(8, np.float32), np.array([0, 2, 5, 7, 8]))


def seen(*rows: list[int], event: int = V) -> dict[str, Any]:
    width = max(len(row) for row in rows) + 1
    items = np.array([row + [0] * (width - len(row)) for row in rows])
    lengths = np.array([len(row) for row in rows])
    gaps = np.zeros(items.shape, np.float32)
    return {
        "state": np.zeros((len(rows), 4), np.float32),
        "items": items,
        "events": np.where(items > 0, event, 0),
        "gaps": gaps,
        "lengths": lengths,
    }


def test_slates_shown_and_left_are_not_counted(tokens: Tokens) -> None:
    assert item_counts(tokens, 6).tolist() == [0, 3, 2, 1, 0, 1, 0]


def test_random_slates_are_available_without_repeats_and_repeat_with_the_seed() -> None:
    available = np.arange(21) % 3 != 0
    first = RandomPolicy(available, 5, seed=1).predict(seen(*[[1]] * 500))[0]
    np.testing.assert_array_equal(first, RandomPolicy(available, 5, seed=1).predict(seen(*[[1]] * 500))[0])
    assert available[first].all()
    assert (np.diff(np.sort(first, axis=1)) > 0).all()
    assert len(np.unique(first)) == available.sum()
    policy = RandomPolicy(available, 5, seed=9)
    policy.predict(seen([1]))
    policy.reseed(1)
    np.testing.assert_array_equal(first, policy.predict(seen(*[[1]] * 500))[0])


def test_popular_items_come_first_and_gone_ones_never(tokens: Tokens) -> None:
    assert PopularPolicy.from_tokens(tokens, 6, 3).predict(seen([5], [5]))[0].tolist() == [[1, 2, 3]] * 2
    gone = np.arange(7) != 1
    assert PopularPolicy.from_tokens(tokens, 6, 3, gone).predict(np.zeros((1, 4)))[0].tolist() == [[2, 3, 5]]


def test_popular_items_of_the_category_touched_last_come_first(tokens: Tokens) -> None:
    policy = PopularPolicy.from_tokens(tokens, 6, 3, categories=np.array([0, 1, 1, 2, 2, 2, 1]))
    assert policy.predict(seen([1, 5], []))[0].tolist() == [[3, 5, 4], [1, 2, 3]]


def test_similarities_are_shrunk_cosines(tokens: Tokens) -> None:
    near = item_similarity(tokens, 6, shrink=1.0).toarray()
    # Items 1 and 2: together in 2 sessions, of 3 and 2: 2 / (sqrt 6 + 1). Items 2 and 3: 1 / (sqrt 2 + 1).
    assert near[1, 2] == near[2, 1] == pytest.approx(2 / (6**0.5 + 1))
    assert near[2, 3] == pytest.approx(1 / (2**0.5 + 1))
    assert near[4].sum() == near[:, 4].sum() == near.diagonal().sum() == 0
    assert (np.count_nonzero(item_similarity(tokens, 6, neighbours=1).toarray(), axis=1) <= 1).all()


def test_neighbours_of_the_latest_item_come_first_and_popular_ones_fill_up(tokens: Tokens) -> None:
    policy = ItemKNNPolicy.from_tokens(tokens, 6, 3)
    slates = policy.predict(seen([1], [2, 5], []))[0].tolist()
    assert slates[0] == [2, 3, 1]  # neighbours by closeness, then what is popular
    assert slates[1][0] == 1  # nothing is near item 5; item 1 is nearest to item 2
    assert slates[2] == [1, 2, 3]  # no history: popular
    assert policy.predict(seen([2], event=SHOWN))[0].tolist() == [[1, 2, 3]]  # shown and left is no interest


def test_next_item_is_the_nearest_vector_and_popularity_breaks_ties() -> None:
    vectors = np.eye(4, 3, k=-1)  # item i points along axis i - 1
    policy = NextItemPolicy(vectors, 2, counts=[0, 1, 2, 3])
    assert policy.predict(np.array([[0.1, 0.9, 0.2], [0, 0, 0]]))[0].tolist() == [[2, 3], [3, 2]]


class Chooser:
    """A fitted shopper's face: one shopper's utilities and chances, whatever the history."""

    n_items, device = 3, torch.device("cpu")
    prices = torch.tensor([0.0, 1.0, 10.0, 100.0])

    def looked(self, k: int) -> torch.Tensor:
        return torch.ones(k)

    def choice_scores(self, tokens: Any, slates: torch.Tensor | None = None) -> ChoiceScores:
        self.told = slates
        rows = len(tokens.lengths)
        utility = torch.tensor([[-torch.inf, 3.0, 2.0, 1.0]]).expand(rows, -1)
        bought = torch.tensor([[0.0, 0.01, 0.5, 0.1]]).expand(rows, -1)
        return ChoiceScores(utility, torch.zeros(rows), bought, bought)


@pytest.mark.parametrize(("value", "slate"), [("click", [1, 2]), ("purchase", [2, 3]), ("revenue", [3, 2])])
def test_myopic_slates_earn_most_of_what_they_are_for(value: Any, slate: list[int]) -> None:
    # By hand, chances of a purchase: items 2 and 3 together (.5 e^2 + .1 e) / (1 + e^2 + e) = .36, 2 and 1 .13.
    policy = MyopicPolicy(Chooser(), 2, value)  # type: ignore[arg-type]
    slates = policy.predict(seen([1], [2]))[0]
    assert slates.dtype == np.int64
    assert slates.tolist() == [slate] * 2


def test_myopic_slates_are_chosen_knowing_the_slates_shown_before() -> None:
    chooser, observation = Chooser(), seen([1, 2], [3])
    policy = MyopicPolicy(chooser, 2)  # type: ignore[arg-type]
    policy.predict(observation)
    assert chooser.told is None
    slates = np.array([[[0, 0], [2, 1], [0, 0]], [[3, 2], [0, 0], [0, 0]]])
    policy.predict({**observation, "slates": slates.reshape(2, 6)})  # flat, as envs give them
    assert chooser.told is not None
    assert chooser.told.tolist() == slates.tolist()


def test_every_baseline_keeps_the_promises_of_a_policy(tokens: Tokens) -> None:
    observation = seen([1], [2, 5], [3, 1, 2], [])
    check_policy(RandomPolicy(np.ones(7), 3), observation, 6, repeatable=False)
    for policy in (PopularPolicy.from_tokens(tokens, 6, 3), ItemKNNPolicy.from_tokens(tokens, 6, 3)):
        check_policy(policy, observation, 6)
    check_policy(NextItemPolicy(np.eye(7, 4), 3), observation, 6)
    check_policy(MyopicPolicy(Chooser(), 2), observation, 3)  # type: ignore[arg-type]


def test_policies_that_read_histories_say_so(tokens: Tokens) -> None:
    with pytest.raises(ValueError, match="observation='history'"):
        ItemKNNPolicy.from_tokens(tokens, 6, 3).predict(np.zeros((2, 4)))


def test_slates_longer_than_what_is_available_are_refused(tokens: Tokens) -> None:
    with pytest.raises(ValueError, match="2 items are available"):
        PopularPolicy.from_tokens(tokens, 6, 3, np.arange(7) > 4)
