"""What stands beside another encoder's state, worked out by hand, and that it is a state encoder like others."""

import math

import pytest
import torch

from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder, RecallEncoder
from slatewise.testing import check_encoder

AXES = torch.cat([torch.zeros(1, 3), torch.eye(3)])
IMPRESSION, VIEW, CLICK, PURCHASE, UNCART = 1, 2, 3, 5, 6


def told(events: list[int], items: list[int]) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Vectors (5, 3), counts (7,), both without their scale, and the last column of one history's state."""
    encoder = RecallEncoder(MeanEncoder(AXES, decay=0.5), decay=0.5, kept=1.0)
    length = torch.tensor([len(items)])
    state = encoder.encode(torch.tensor([items]), torch.tensor([events]), torch.zeros(1, len(items)), length)[0]
    return state[:15].view(5, 3) * math.sqrt(7), state[15:22] * 7, state[22]


def test_it_keeps_the_contract_of_encoders() -> None:
    vectors = torch.randn(21, 8, generator=torch.Generator().manual_seed(0))
    check_encoder(RecallEncoder(MeanEncoder(vectors)))


def test_parts_are_as_worked_out_by_hand() -> None:
    vectors, counts, _ = told([VIEW, CLICK, PURCHASE, IMPRESSION, IMPRESSION], [1, 1, 2, 3, 3])
    inner, last, clicked, left, deep = vectors
    assert inner.norm().item() == pytest.approx(1.0, abs=1e-5)
    assert last.tolist() == pytest.approx([0, 1, 0], abs=1e-5)
    wanted = torch.tensor([0.125, 0.25, 0.0])  # clicked three and two tokens back; the view is no click
    assert torch.allclose(clicked, wanted / math.sqrt(1 + wanted.square().sum()), atol=1e-5)
    assert left[2].item() == pytest.approx(1.5 / math.sqrt(1 + 1.5**2), abs=1e-5)
    assert deep.tolist() == pytest.approx([0, 1 / math.sqrt(2), 0], abs=1e-5)  # kept in full
    # Two slates since the last click, cart and purchase; two clicks, one cart and purchase; four slates.
    numbers, half = (2, 2, 2, 2, 1, 1, 4), (2, 4, 5, 5, 2, 2, 10)
    assert counts.tolist() == pytest.approx(
        [number / (number + at) for number, at in zip(numbers, half, strict=True)],
        abs=1e-5,
    )


def test_what_is_taken_out_of_the_cart_is_no_purchase() -> None:
    vectors, counts, _ = told([UNCART], [1])
    assert not vectors[1:].any()
    assert not counts[3:6].any()


def test_one_more_slate_without_a_click_makes_another_state() -> None:
    states = [told([CLICK, *[IMPRESSION] * many], [1, *[2] * many])[1] for many in (3, 4)]
    assert states[1][0] > states[0][0] + 0.05


def test_items_rank_as_by_the_inner_state() -> None:
    inner = MeanEncoder.from_catalogue(KnownShop.make(KnownShopConfig.tiny()).catalogue, words=0.3)
    history = torch.tensor([[3, 5]]), torch.tensor([[CLICK, IMPRESSION]]), torch.zeros(1, 2), torch.tensor([2])
    outer = RecallEncoder(inner)
    state = outer.encode(*history)
    assert torch.allclose(outer.scores(state)[:, 1:], inner.scores(inner.encode(*history))[:, 1:], atol=1e-5)
    assert torch.equal((state @ outer.item_vectors.T)[0, 1:].argsort(), outer.scores(state)[0, 1:].argsort())


@pytest.mark.parametrize("setting", ["decay", "kept"])
def test_decays_out_of_range_are_refused(setting: str) -> None:
    with pytest.raises(ValueError, match=setting):
        RecallEncoder(MeanEncoder(AXES), **{setting: 0.0})
