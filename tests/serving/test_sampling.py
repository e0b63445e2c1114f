import itertools

import numpy as np
import pytest

from slatewise.serving.sampling import draw_slate, place_chances, top_k


def test_the_best_come_first_and_ties_by_index() -> None:
    scores = np.array([-np.inf, 1.0, 3.0, 3.0, 2.0, -np.inf, 3.0])
    assert top_k(scores, 2).tolist() == [2, 3]
    assert top_k(scores, 4).tolist() == [2, 3, 6, 4]
    assert top_k(scores, 9).tolist() == [2, 3, 6, 4, 1]
    assert top_k(np.full(3, -np.inf), 2).tolist() == []


def test_chances_of_a_slate_are_those_worked_out_by_hand() -> None:
    logits = np.log([1.0, 2.0, 3.0, 4.0])
    # 4 of 10 first, then 2 of the remaining 6, then 3 of the remaining 4
    assert place_chances(logits, np.array([3, 1, 2])) == pytest.approx([4 / 10, 2 / 6, 3 / 4])


def test_chances_stay_exact_where_one_item_outweighs_all() -> None:
    logits = np.array([-np.inf, 2_000.0, 0.0, 0.0, -2_000.0])
    assert place_chances(logits, np.array([1, 2, 3, 4])) == pytest.approx([1.0, 0.5, 1.0, 1.0])


def test_chances_of_all_orders_sum_to_one() -> None:
    logits = np.array([0.3, -1.0, 2.0, 0.5])
    total = sum(place_chances(logits, np.array(order)).prod() for order in itertools.permutations(range(4), 3))
    assert total == pytest.approx(1.0)


def test_draws_come_as_often_as_their_chances_say() -> None:
    rng = np.random.default_rng(5)
    logits = np.array([-np.inf, 0.0, 1.0, 0.5])
    draws = [tuple(draw_slate(logits, 2, rng)[0].tolist()) for _ in range(20_000)]
    for order in itertools.permutations((1, 2, 3), 2):
        chance = place_chances(logits, np.array(order)).prod()
        assert draws.count(order) / len(draws) == pytest.approx(chance, abs=4 * np.sqrt(chance * (1 - chance) / 20_000))


def test_a_slate_is_no_longer_than_what_may_be_shown() -> None:
    items, chances = draw_slate(np.array([-np.inf, 1.0, -np.inf]), 3, np.random.default_rng(0))
    assert (items.tolist(), chances.tolist()) == ([1], [1.0])
