"""What every simulator's parts promise: rows that are overwritten, tokens of a response, slates without repeats."""

from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from slatewise.datasets.schema import Event
from slatewise.simulators.shopper import Response, Rows, ShopperState, TokenBatch, without_repeats


def response(clicked: list[int], carted: list[bool], purchased: list[bool], places: int = 3) -> Response:
    rows = len(clicked)
    return Response(
        examined=torch.ones(rows, places, dtype=torch.bool),
        clicked=torch.tensor(clicked),
        carted=torch.tensor(carted),
        purchased=torch.tensor(purchased),
        left=torch.zeros(rows, dtype=torch.bool),
        dwell=torch.ones(rows),
        revenue=torch.zeros(rows),
        quantity=torch.tensor(purchased).long(),
    )


@pytest.mark.parametrize(
    ("slate", "clicked", "carted", "purchased", "token"),
    [
        ([4, 5, 6], -1, False, False, (4, Event.IMPRESSION)),
        ([4, 5, 6], 0, False, False, (4, Event.CLICK)),
        ([4, 5, 6], 2, False, False, (6, Event.CLICK)),
        ([4, 5, 6], 1, True, False, (5, Event.CART)),
        ([4, 5, 6], 1, True, True, (5, Event.PURCHASE)),
        ([4, 5, 6], 1, False, True, (5, Event.PURCHASE)),  # bought without a cart
        ([0, 5, 6], -1, False, False, (5, Event.IMPRESSION)),  # the best place is empty
        ([0, 0, 6], 2, False, False, (6, Event.CLICK)),
        ([0, 0, 0], -1, False, False, (0, Event.PADDING)),  # nothing was shown
    ],
)
def test_a_response_adds_one_token(
    slate: list[int], clicked: int, carted: bool, purchased: bool, token: tuple[int, Event]
) -> None:
    items, events = response([clicked], [carted], [purchased]).tokens(torch.tensor([slate]))
    assert (int(items), int(events)) == token


def test_tokens_of_a_batch_are_those_of_its_rows() -> None:
    slate = torch.tensor([[4, 5, 6], [0, 0, 0], [7, 0, 8]])
    items, events = response([1, -1, -1], [True, False, False], [False, False, False]).tokens(slate)
    assert items.tolist() == [5, 0, 7]
    assert events.tolist() == [Event.CART, Event.PADDING, Event.IMPRESSION]


@pytest.mark.parametrize(
    ("slate", "expected"),
    [
        ([1, 2, 3], [1, 2, 3]),
        ([1, 1, 2], [1, 0, 2]),
        ([2, 1, 2], [2, 1, 0]),
        ([3, 3, 3], [3, 0, 0]),
        ([0, 0, 5], [0, 0, 5]),
        ([0, 5, 5], [0, 5, 0]),
    ],
)
def test_a_repeat_leaves_its_slot_empty(slate: list[int], expected: list[int]) -> None:
    asked = torch.tensor([slate])
    assert without_repeats(asked).tolist() == [expected]
    assert asked.tolist() == [slate]  # the slate asked for is left as it was


def test_every_slate_has_no_repeats_and_loses_no_item() -> None:
    slate = torch.randint(0, 6, (2_000, 5), generator=torch.Generator().manual_seed(1))
    clean = without_repeats(slate)
    for row, asked in zip(clean.tolist(), slate.tolist(), strict=True):
        kept = [item for item in row if item]
        assert len(kept) == len(set(kept))
        assert set(kept) == set(asked) - {0}


@dataclass(slots=True)
class Counting(Rows):
    count: Tensor
    unit: str
    inner: "Counting | None" = None


def test_rows_that_are_put_overwrite_tensors_at_every_depth_and_leave_settings() -> None:
    mine = Counting(torch.arange(4), "euro", Counting(torch.arange(8).reshape(4, 2), "cent"))
    count = mine.count
    mine.put(torch.tensor([3, 1]), Counting(torch.tensor([30, 10]), "yen", Counting(torch.full((2, 2), -1), "sen")))
    assert mine.count.tolist() == [0, 10, 2, 30]
    assert mine.count is count  # in place
    assert mine.inner is not None
    assert mine.inner.count.tolist() == [[0, 1], [-1, -1], [4, 5], [-1, -1]]
    assert (mine.unit, mine.inner.unit) == ("euro", "cent")


def test_rows_can_be_put_by_a_mask_and_none_at_all() -> None:
    mine = Counting(torch.arange(3), "euro")
    mine.put(torch.tensor([False, True, False]), Counting(torch.tensor([9]), "euro"))
    mine.put(torch.tensor([], dtype=torch.int64), Counting(torch.tensor([], dtype=torch.int64), "euro"))
    assert mine.count.tolist() == [0, 9, 2]


def test_a_newcomer_brings_its_arrival() -> None:
    def state(rows: int, value: int) -> ShopperState:
        whole, seconds = torch.full((rows, 2), value), torch.full((rows, 2), float(value))
        brought = TokenBatch(whole.clone(), whole.clone(), seconds, torch.full((rows,), value))
        return ShopperState(torch.full((rows,), value), torch.full((rows,), value), torch.zeros(rows), brought)

    crowd = state(3, 1)
    crowd.put(torch.tensor([0]), state(1, 7))
    assert crowd.seed.tolist() == [7, 1, 1]
    assert crowd.arrival.items.tolist() == [[7, 7], [1, 1], [1, 1]]
    assert crowd.arrival.lengths.tolist() == [7, 1, 1]
