"""What a shopper remembers, the features made of it, and that a log replayed shows what the simulation saw."""

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.schema import Event
from slatewise.datasets.tokens import Tokens
from slatewise.encoders.mean import MeanEncoder
from slatewise.simulators.draw import Draw
from slatewise.simulators.features import ITEM_FEATURES, OUTSIDE_FEATURES, item_facts, item_features, outside_features
from slatewise.simulators.popularity import shown_popularity, viewed_popularity, without_own_views
from slatewise.simulators.replay import replay
from slatewise.simulators.trail import Trail

ITEMS = 6


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue(
        pd.DataFrame(
            {
                "item_id": [f"i{number}" for number in range(ITEMS)],
                "text": "thing",
                "category": ["a", "a", "a", "b", "b", "b"],
                "brand": "x",
                "price": [1.0, 2.0, 4.0, 10.0, 20.0, 40.0],
                "available": True,
            }
        )
    )


@pytest.fixture
def encoder() -> MeanEncoder:
    rng = torch.Generator().manual_seed(0)
    return MeanEncoder(torch.randn(ITEMS + 1, 8, generator=rng))


DRAW = Draw(torch.tensor([0.2, 0.1]), torch.tensor([0.0, 1.0, 2.0, 1.0, 0.5, 1.0, 1.0]))
"""Places below the first draw half as many clicks; item 2 twice as many as others there, item 4 half as many."""


def told(trail: Trail, price: torch.Tensor, items: list[int], event: Event) -> None:
    trail.after_token(torch.tensor(items), torch.where(torch.tensor(items) > 0, int(event), 0), price)


def test_features_are_what_their_names_say(catalogue: Catalogue, encoder: MeanEncoder) -> None:
    facts = item_facts(catalogue, (np.arange(ITEMS + 1) / 10).astype(np.float32), (0.35, 0.45), DRAW)
    trail = Trail.start(1, torch.device("cpu"))
    price = facts.price_in_category
    told(trail, price, [1], Event.VIEW)
    trail.after_slate(torch.tensor([[2, 4, 5]]), DRAW)
    told(trail, price, [2], Event.IMPRESSION)
    trail.after_slate(torch.tensor([[4, 6, 0]]), DRAW)
    told(trail, price, [4], Event.PURCHASE)
    trail.after_slate(torch.tensor([[2, 3, 4]]), DRAW)
    told(trail, price, [2], Event.IMPRESSION)
    slate = torch.tensor([[1, 4, 5, 3]])
    state = encoder.item_vectors[4:5]
    raw = item_features(state, trail, slate, encoder.item_vectors, facts, bend=0.5)[0]
    column = {name: raw[:, number] for number, name in enumerate(ITEM_FEATURES)}

    np.testing.assert_allclose(column["match"], encoder.item_vectors[[1, 4, 5, 3]] @ state[0], rtol=1e-6)
    assert float(column["match_high"][1]) == pytest.approx(0.5)
    np.testing.assert_allclose(column["popularity"], [0.1, 0.4, 0.5, 0.3])
    np.testing.assert_allclose(column["popularity_low"], [0.25, 0, 0, 0.05], atol=1e-6)
    np.testing.assert_allclose(column["popularity_high"], [0, 0, 0.05, 0], atol=1e-6)
    # Item 4 was at places 2, 1 and 3, item 5 at place 3, item 3 at place 2.
    np.testing.assert_allclose(column["shown_before"], [0, 2, 0.5, 0.5], rtol=1e-6)
    assert column["viewed_before"].tolist() == [1, 0, 0, 0]
    assert column["clicked_before"].tolist() == [0, 1, 0, 0]
    assert column["bought_before"].tolist() == [0, 1, 0, 0]
    assert column["same_category"].tolist() == [0, 1, 1, 0]
    np.testing.assert_allclose(column["category_share"], [0.5, 0.5, 0.5, 0.5])
    np.testing.assert_allclose(column["category_clicks"], np.log1p([0, 1, 1, 0]), rtol=1e-6)
    # Items 2, 2 and 3 are of the one category, 4, 5, 4, 6 and 4 of the other.
    np.testing.assert_allclose(column["category_shown"], [2.5, 3, 3, 2.5], rtol=1e-6)
    first, second = 0.2 * 2 + 0.2 * 2 + 0.1, (0.1 + 0.2 + 0.1) * 0.5 + 0.1 + 0.1
    np.testing.assert_allclose(column["category_draw"], [first, second, second, first], rtol=1e-6)
    usual = float(price[[1, 4]].mean())
    np.testing.assert_allclose(column["dearer"], (price[[1, 4, 5, 3]] - usual).clamp(min=0), rtol=1e-5)
    np.testing.assert_allclose(column["cheaper"], (usual - price[[1, 4, 5, 3]]).clamp(min=0), rtol=1e-5)

    sides = dict(zip(OUTSIDE_FEATURES, outside_features(trail, torch.tensor([5]))[0].tolist(), strict=True))
    # Three slates, the last of them without interest.
    assert sides == pytest.approx(
        {
            "nothing": 1,
            "nothing_by_slate": np.log(4),
            "nothing_when_idle": np.log(2),
            "nothing_when_new": 0,
            "nothing_after_first": 1,
            "nothing_by_clicks": 1,
            "nothing_by_draw": first + second,
            "nothing_by_size": np.log(5),
        }
    )


def test_features_of_the_whole_catalogue_are_those_of_slates(catalogue: Catalogue, encoder: MeanEncoder) -> None:
    facts = item_facts(catalogue, np.zeros(ITEMS + 1, np.float32))
    trail = Trail.start(2, torch.device("cpu"))
    trail.after_slate(torch.tensor([[1, 2], [3, 4]]), DRAW, torch.tensor([True, False]))
    told(trail, facts.price_in_category, [2, 5], Event.CLICK)
    state = encoder.item_vectors[[2, 5]]
    every = torch.arange(ITEMS + 1)
    whole = item_features(state, trail, every, encoder.item_vectors, facts, 0.1)
    slates = item_features(state, trail, every.expand(2, -1), encoder.item_vectors, facts, 0.1)
    np.testing.assert_allclose(whole[:, 1:], slates[:, 1:], atol=1e-6)


def test_nothing_bought_or_shown_is_mistaken_for_an_empty_slot(catalogue: Catalogue, encoder: MeanEncoder) -> None:
    facts = item_facts(catalogue, np.zeros(ITEMS + 1, np.float32))
    trail = Trail.start(1, torch.device("cpu"))
    before = [getattr(trail, name).clone() for name in ("taken", "clicked", "bought", "price_sum", "idle")]
    told(trail, facts.price_in_category, [0], Event.PADDING)
    after = [getattr(trail, name) for name in ("taken", "clicked", "bought", "price_sum", "idle")]
    assert all(torch.equal(one, two) for one, two in zip(before, after, strict=True))


def test_a_replayed_log_shows_each_slate_as_it_looked_when_shown(catalogue: Catalogue, encoder: MeanEncoder) -> None:
    rng = np.random.default_rng(0)
    facts = item_facts(catalogue, rng.normal(size=ITEMS + 1).astype(np.float32), draw=DRAW)
    rows, steps, k = 5, 7, 3
    slates = np.stack([[rng.permutation(ITEMS)[:k] + 1 for _ in range(rows)] for _ in range(steps)])
    item = slates[:, :, 0]
    event = rng.choice([1, 3, 5], size=(steps, rows))
    gap = rng.random((steps, rows)).astype(np.float32)
    trail, memory, live = Trail.start(rows, torch.device("cpu")), encoder.start(rows), []
    for slate, i, e, g in zip(*(torch.from_numpy(part) for part in (slates, item, event, gap)), strict=True):
        live.append(item_features(memory.state, trail, slate, encoder.item_vectors, facts, 0.2))
        trail.after_slate(slate, DRAW)
        memory = encoder.step(memory, i, e, g)
        trail.after_token(i, e, facts.price_in_category)
    tokens = Tokens(item.T.ravel(), event.T.ravel().astype(np.int64), gap.T.ravel(), np.arange(rows + 1) * steps)
    seen = replay(
        tokens,
        np.repeat(np.arange(rows), steps),
        np.tile(np.arange(steps), rows),
        slates.transpose(1, 0, 2).reshape(-1, k),
        encoder=encoder,
        facts=facts,
        bend=0.2,
    )
    np.testing.assert_allclose(seen.raw.view(rows, steps, k, -1), torch.stack(live, 1), atol=1e-6)
    assert seen.slates.tolist() == list(range(steps)) * rows


def test_slates_shown_before_the_next_token_follow_each_other(catalogue: Catalogue, encoder: MeanEncoder) -> None:
    facts = item_facts(catalogue, np.zeros(ITEMS + 1, np.float32))
    tokens = Tokens(np.array([1]), np.array([3]), np.zeros(1, np.float32), np.array([0, 1]))
    seen = replay(
        tokens,
        np.array([0, 0, 0]),
        np.array([0, 0, 1]),
        np.array([[1, 2], [2, 3], [1, 2]]),
        encoder=encoder,
        facts=facts,
        bend=0.0,
    )
    shown = seen.raw[..., ITEM_FEATURES.index("shown_before")]
    assert shown.tolist() == [[0, 0], [1, 0], [1, 2]]
    assert seen.idle.tolist() == [0, 1, 0]
    assert seen.last_clicked.tolist() == [0, 0, 1]


def test_slots_draw_by_place_and_by_item() -> None:
    # 100 slates of items 1 and 2 are clicked at the first place 30 times, 100 of 3 and 1 10 times at the first, 10 at
    # the second: a place's clicks, five more as if of the place above, and an item's over what its places would bring.
    items = np.repeat(np.array([[1, 2], [3, 1]]), 100, axis=0)
    clicked = np.r_[np.zeros(30), np.full(70, -1), np.zeros(10), np.ones(10), np.full(80, -1)].astype(np.int64)
    draw = Draw.of(items, clicked, n_items=4)
    first = (40 + 5) / (200 + 5 / (50 / 400))
    place = np.array([first, (10 + 5) / (200 + 5 / first)])
    np.testing.assert_allclose(draw.place, place, rtol=1e-6)
    expected = np.array([20 + 5, 5, 20, 0])
    np.testing.assert_allclose(draw.item, np.append(0, (np.array([40, 0, 10, 0]) + 5) / (expected + 5)), rtol=1e-6)
    slate = torch.tensor([[2, 0, 3]])  # the third place is as the second
    np.testing.assert_allclose(draw.looks(slate), [[1, 0, place[1] / place[0]]], rtol=1e-6)
    np.testing.assert_allclose(draw.clicks(slate), [[0.5 * place[0], 0, 0.6 * place[1]]], rtol=1e-6)
    nothing = Draw.of(items, np.full(200, -1), n_items=4)
    assert nothing.looks(slate).tolist() == [[1, 0, 1]]
    assert not nothing.clicks(slate).any()


def test_items_hardly_ever_shown_are_told_apart() -> None:
    often = np.repeat(np.arange(1, 6), (5, 50, 500, 5_000, 50_000))
    clicked = np.where(np.arange(len(often)) % 50 == 0, 0, -1)
    table = shown_popularity(often[:, None], clicked, n_items=5)
    assert np.diff(table[1:]) == pytest.approx([np.log(10)] * 4, abs=0.6)


def test_popularity_counts_what_places_are_worth_and_no_own_views() -> None:
    # Place 1 brings a click in half of the slates, place 2 never: item 2, shown below, gains nothing by it.
    items, clicked = np.array([[1, 2], [1, 2], [3, 1], [3, 2]]), np.array([0, -1, 0, -1])
    table = shown_popularity(items, clicked, n_items=3)
    mean = (1 + 0 + 1) / 3
    np.testing.assert_allclose(table, [0, *np.log(np.array([1.1, 0.1, 1.1]) / (mean + 0.1))], rtol=1e-6)
    often, rows = np.array([2.0, 0.0, 1.0, 1.0]), [0, 0, 2, 3]
    np.testing.assert_allclose(
        shown_popularity(items, clicked, n_items=3, weight=often),
        shown_popularity(items[rows], clicked[rows], n_items=3),
    )
    viewer, viewed = np.array([0, 0, 1]), np.array([1, 2, 1])
    np.testing.assert_allclose(
        viewed_popularity(viewed, n_items=2, weight=np.array([1.0, 3.0, 0.0])),
        viewed_popularity(np.array([1, 2, 2, 2]), n_items=2),
    )
    whole = viewed_popularity(viewed, n_items=2)
    np.testing.assert_allclose(whole, [0, np.log(7 / 6.5), np.log(6 / 6.5)], rtol=1e-6)
    rest = without_own_views(np.array([0, 1]), np.array([[1, 2], [1, 2]]), viewer, viewed, n_items=2)
    np.testing.assert_allclose(rest, np.log(np.array([[6, 5], [6, 6]]) / 6.5), rtol=1e-6)
