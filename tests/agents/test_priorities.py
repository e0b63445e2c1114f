"""Drawing by priority: as often as errors say, never what is not there."""

import numpy as np
import pytest

from slatewise.agents.priorities import SMALL, Priorities


def test_rows_come_in_proportion_to_the_power_of_their_errors() -> None:
    priorities = Priorities(5, power=0.5)
    priorities.add(np.arange(3))
    priorities.set(np.arange(3), np.array([1.0, 4.0, 9.0]) - SMALL)
    rows, chance = priorities.draw(60_000, np.random.default_rng(0))
    # Square roots 1, 2 and 3, of 6.
    np.testing.assert_allclose(np.bincount(rows, minlength=5) / 60_000, [1 / 6, 2 / 6, 3 / 6, 0, 0], atol=1e-3)
    np.testing.assert_allclose(chance, np.array([1, 2, 3])[rows] / 6)


@pytest.mark.parametrize("rows", [1, 2, 3, 8, 1_000])
def test_only_rows_that_were_added_are_drawn_and_each_can_be(rows: int) -> None:
    priorities, rng = Priorities(rows + 3, power=1.0), np.random.default_rng(1)
    priorities.add(np.arange(rows))
    drawn, _ = priorities.draw(20 * rows, rng)
    assert set(drawn.tolist()) == set(range(rows))
    priorities.set(np.arange(rows), rng.exponential(size=rows) ** 8)  # from tiny to huge
    drawn, chance = priorities.draw(20 * rows, rng)
    assert drawn.max() < rows
    assert (chance > 0).all()


def test_new_rows_get_the_highest_priority_so_far() -> None:
    priorities = Priorities(4, power=1.0)
    priorities.add(np.array([0]))
    priorities.set(np.array([0, 0]), np.array([50.0, 7.0 - SMALL]))  # the last one counts
    priorities.add(np.array([1]))
    _, chance = priorities.draw(1_000, np.random.default_rng(0))
    assert sorted(set(np.round(chance, 6))) == pytest.approx([7 / (57 + SMALL), 50 / 57], rel=1e-3)
