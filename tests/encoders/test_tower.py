"""What an item is made of: each part adds what it says, and what is unknown adds nothing."""

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from slatewise.encoders.session import ShopSessionConfig, ShopSessionModel
from slatewise.encoders.settings import PARTS, PretrainConfig
from slatewise.encoders.tower import item_rows, principal_directions

SEEN = np.array([False, True, True, True, False])
FACTS: dict[str, Any] = {
    "text": np.eye(4, 3, dtype=np.float32),
    "prices": np.array([0, np.e - 1, np.nan, np.e**3 - 1, np.e**2 - 1], np.float32),
    "categories": ["lamp", "desk", "", "sofa"],
    "brands": ["", "Oak", "Oak", "Oak"],
}


def made(parts: tuple[str, ...] = PARTS, **changed: Any) -> ShopSessionModel:
    """Four items, the last of them never seen; random weights everywhere, the same whatever the facts."""
    facts = {**FACTS, **changed}
    with torch.random.fork_rng():
        torch.manual_seed(0)
        config = ShopSessionConfig(width=8, heads=2, feed_forward=8, parts=list(parts))
        model = ShopSessionModel.for_items(
            config, facts["text"], facts["prices"], SEEN, categories=facts["categories"], brands=facts["brands"]
        )
        for name, weight in sorted(model.named_parameters()):
            torch.manual_seed(len(name))
            with torch.no_grad():
                weight.normal_()
        for table in (model.tower.categories, model.tower.brands, model.tower.ids):
            if table is not None:
                table.weight.data[0] = 0
    return model.eval()


def vectors(model: ShopSessionModel) -> Tensor:
    with torch.no_grad():
        return model.tower(torch.arange(1, 5))


def test_an_item_is_the_sum_of_what_is_known_of_it() -> None:
    model = made()
    tower, config = model.tower, model.config
    assert config.categories == ["desk", "lamp", "sofa"]
    assert config.brands == ["Oak"]
    assert (config.price_mean, config.price_std) == pytest.approx((2.0, np.sqrt(2 / 3)))  # of log prices 1, 3 and 2
    assert tower.text is not None
    assert tower.price is not None
    assert tower.categories is not None
    assert tower.brands is not None
    assert tower.ids is not None
    with torch.no_grad():
        first = tower.text(torch.tensor([1.0, 0, 0]) - tower.text_mean) + tower.ids.weight[1]
        first += tower.categories.weight[2] + tower.price(torch.tensor([-(1.5**0.5), 1.0]))  # no brand
        second = tower.text(torch.tensor([0, 1.0, 0]) - tower.text_mean) + tower.ids.weight[2]
        second += tower.categories.weight[1] + tower.brands.weight[1]  # no price
        last = tower.text(-tower.text_mean) + tower.categories.weight[3] + tower.brands.weight[1]  # never seen: no id
        last += tower.price(torch.tensor([0.0, 1.0]))
    found = vectors(model)
    for row, wanted in ((0, first), (1, second), (3, last)):
        assert torch.allclose(found[row], wanted, atol=1e-6)


OTHER: dict[str, Any] = {
    "text": np.eye(4, 3, dtype=np.float32)[::-1].copy(),
    "prices": np.array([0, 30, 1, 2, 5], np.float32),
    "categories": ["sofa", "desk", "lamp", "desk"],
    "brands": ["Oak", "", "", "Oak"],
}
NAME = {"text": "text", "prices": "price", "categories": "category", "brands": "brand"}


@pytest.mark.parametrize("fact", OTHER)
def test_a_part_that_is_left_out_does_not_matter_and_the_others_do(fact: str) -> None:
    without = tuple(part for part in PARTS if part != NAME[fact])
    assert torch.equal(vectors(made(without)), vectors(made(without, **{fact: OTHER[fact]})))
    assert not torch.allclose(vectors(made()), vectors(made(**{fact: OTHER[fact]})))


def test_an_item_may_go_without_an_embedding_of_its_own() -> None:
    model = made(("text",))
    assert model.tower.ids is None
    alike = made(("text",), text=FACTS["text"][[0, 0, 2, 3]])
    assert torch.equal(alike.item_vectors[1], alike.item_vectors[2])
    with pytest.raises(ValueError, match="nothing is left of an item"):
        made(("category", "event"), categories=[""] * 4)
    with pytest.raises(ValueError, match="nothing is left of an item"):
        made(("text",), text=np.zeros((4, 0), np.float32))


@pytest.mark.parametrize("part", ["event", "gap"])
def test_events_and_gaps_can_be_left_out_too(part: str) -> None:
    items, events, gaps = torch.tensor([[1, 2, 3]]), torch.tensor([[2, 2, 3]]), torch.tensor([[0.0, 9.0, 70.0]])
    other_events = torch.tensor([[5, 3, 2]]) if part == "event" else events
    other_gaps = torch.tensor([[0.0, 700.0, 2.0]]) if part == "gap" else gaps
    length = torch.tensor([3])
    model, without = made(), made(tuple(one for one in PARTS if one != part))
    assert not torch.allclose(
        model.encode(items, events, gaps, length), model.encode(items, other_events, other_gaps, length)
    )
    state = without.encode(items, events, gaps, length)
    assert torch.equal(state, without.encode(items, other_events, other_gaps, length))
    memory = without.start(1)
    for t in range(3):
        memory = without.step(memory, items[:, t], other_events[:, t], other_gaps[:, t])
    assert torch.allclose(memory.state, state, atol=1e-5)


def test_new_items_are_read_by_the_vocabularies_and_prices_of_the_old_ones() -> None:
    rows = item_rows(
        made().config,
        np.zeros((2, 3), np.float32),
        np.array([np.e**2 - 1, np.nan], np.float32),
        np.array([False, True]),
        ["lamp", "chair"],
        ["Elm", "Oak"],
    )
    assert rows["item_category"].tolist() == [2, 0]
    assert rows["item_brand"].tolist() == [0, 1]
    assert rows["item_price"].tolist() == [[pytest.approx(0, abs=1e-6), 1], [0, 0]]
    assert rows["item_seen"].tolist() == [0, 1]


def test_a_label_that_no_item_of_the_training_has_adds_nothing() -> None:
    config = ShopSessionConfig(width=8, heads=2, feed_forward=8)
    text = np.zeros((4, 0), np.float32)
    tower = ShopSessionModel.for_items(config, text, FACTS["prices"], SEEN, categories=FACTS["categories"]).tower
    assert tower.categories is not None
    assert tower.categories.weight.any(dim=1).tolist() == [False, True, True, False]  # none, desk, lamp, sofa


@pytest.mark.parametrize("parts", [("text", "colour"), ("text", "text")])
def test_parts_that_do_not_exist_are_refused(parts: tuple[str, ...]) -> None:
    with pytest.raises(ValueError, match="parts are some of"):
        PretrainConfig(parts=parts)


def test_items_that_read_alike_are_near_before_anything_is_learnt() -> None:
    rng = np.random.default_rng(0)
    kinds = rng.normal(size=(6, 40))
    texts = (kinds[np.arange(60) % 6] + 0.1 * rng.normal(size=(60, 40))).astype(np.float32)
    texts /= np.linalg.norm(texts, axis=1, keepdims=True)
    model = ShopSessionModel.for_items(
        ShopSessionConfig(width=8, heads=2), texts, np.full(61, np.nan, np.float32), np.ones(61, bool)
    ).eval()
    near = (model.item_vectors[1:] @ model.item_vectors[1:].T).fill_diagonal_(-1).argmax(1).numpy()
    assert (near % 6 == np.arange(60) % 6).all()


@pytest.mark.parametrize(("n", "wide", "width"), [(50, 12, 4), (3, 12, 8), (50, 4, 8), (1, 5, 4)])
def test_projected_texts_have_unit_length_in_the_mean(n: int, wide: int, width: int) -> None:
    texts = torch.randn(n, wide, generator=torch.Generator().manual_seed(0))
    texts = texts - texts.mean(0)
    found = principal_directions(texts, width)
    assert found.shape == (width, wide)
    assert found.isfinite().all()
    length = (texts @ found.T).norm(dim=1).mean().item()
    assert length == pytest.approx(1.0 if n > 1 else 0.0, abs=1e-4)
    if width < wide <= n:
        spread = (texts @ found.T).square().mean(0)
        assert (spread.diff() < 0).all()  # the strongest first, evened out by half
        strongest = torch.linalg.svdvals(texts)[:width]
        assert torch.allclose(spread / spread[0], strongest / strongest[0], atol=1e-4)


def test_without_its_own_embedding_an_item_stands_where_an_unseen_one_would() -> None:
    model = made()
    items = torch.arange(1, 5)
    before = model.tower(items, own=False)
    model.tower.item_seen.zero_()
    assert torch.equal(model.tower(items), before)
