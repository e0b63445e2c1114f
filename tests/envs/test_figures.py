"""What infos and encoders are told of a slate is what the shopper's response says."""

import numpy as np
import pytest
import torch

from slatewise.envs.figures import figures_of
from slatewise.envs.rows import each_row, rows_of
from slatewise.simulators import KnownTruthShopper
from slatewise.simulators.shopper import Response


def drawn(rows: int, seed: int) -> tuple[torch.Tensor, Response]:
    """Slates with and without empty slots, some altogether empty, and responses of all depths that items allow."""
    rng = np.random.default_rng(seed)
    slate = rng.integers(1, 50, (rows, 4)) * (rng.random((rows, 4)) < 0.7)
    clicked = np.where(rng.random(rows) < 0.4, -1, rng.integers(0, 4, rows))
    clicked = np.where(slate[np.arange(rows), clicked] > 0, clicked, -1)
    carted, purchased = ((rng.random(rows) < 0.4) & (clicked >= 0) for _ in range(2))
    columns = clicked, carted, purchased, rng.random(rows) < 0.2, rng.random(rows) + 1, 9.5 * purchased, 2 * purchased
    return torch.from_numpy(slate), Response(torch.from_numpy(slate > 0), *(torch.from_numpy(one) for one in columns))


@pytest.mark.parametrize(("rows", "seed"), [(1, seed) for seed in range(12)] + [(300, 0)])
def test_figures_and_tokens_are_those_of_the_response(rows: int, seed: int) -> None:
    slate, response = drawn(rows, seed)
    figures, items, events = figures_of(slate, response)
    for told, token in zip((items, events), response.tokens(slate), strict=True):
        np.testing.assert_array_equal(told, token.numpy())
    for name in ("clicked", "carted", "purchased", "quantity", "revenue", "dwell"):
        np.testing.assert_array_equal(figures[name], getattr(response, name).numpy(), err_msg=name)
    hit = figures["clicked"] >= 0
    np.testing.assert_array_equal(figures["clicked_item"], np.where(hit, items, 0))
    np.testing.assert_array_equal(figures["examined"], (slate > 0).sum(1).numpy())


def test_no_slate_of_one_or_many_is_changed_by_being_told() -> None:
    slate, response = drawn(300, 1)
    before = slate.clone()
    figures_of(slate, response)
    assert torch.equal(slate, before)


def test_rows_one_by_one_are_the_rows() -> None:
    from slatewise.envs.defaults import default_shop

    state = KnownTruthShopper(default_shop()).reset(torch.arange(5))
    for row, one in enumerate(each_row(state, 5)):
        alone = rows_of(state, np.array([row]))
        for name in ("seed", "gap", "liking", "familiar", "day"):
            assert torch.equal(getattr(one, name), getattr(alone, name)), name
        assert torch.equal(one.arrival.items, alone.arrival.items)
