"""The plain encoder: its weights by hand, stepping equals reading whole."""

import numpy as np
import pandas as pd
import pytest
import torch

from slatewise.datasets.catalogue import Catalogue
from slatewise.encoders import MeanEncoder

AXES = torch.cat([torch.zeros(1, 3), torch.eye(3)])
CLICK, IMPRESSION = 3, 1


def test_a_state_weighs_items_by_recency_and_ignored_ones_little() -> None:
    encoder = MeanEncoder(AXES, decay=0.5)
    items, events = torch.tensor([[1, 2, 3]]), torch.tensor([[CLICK, CLICK, IMPRESSION]])
    state = encoder.encode(items, events, torch.zeros(1, 3), torch.tensor([3]))
    wanted = torch.tensor([[0.25, 0.5, 0.1]])  # 0.5 ** 2, 0.5 ** 1, and a tenth of 0.5 ** 0
    assert torch.allclose(state, wanted / wanted.norm())


def test_no_history_is_zero_and_stepping_equals_reading_whole() -> None:
    encoder = MeanEncoder(torch.randn(21, 8, generator=torch.Generator().manual_seed(0)))
    rng = np.random.default_rng(0)
    lengths = torch.tensor([0, 1, 4, 7])
    held = torch.arange(7) < lengths[:, None]
    items = torch.from_numpy(rng.integers(1, 21, (4, 7))) * held
    events = torch.from_numpy(rng.integers(1, 7, (4, 7))) * held
    memory = encoder.start(4)
    for t in range(7):
        memory = encoder.step(memory, items[:, t], events[:, t], torch.zeros(4))
    assert torch.allclose(memory.state, encoder.encode(items, events, torch.zeros(4, 7), lengths), atol=1e-5)
    assert not memory.state[0].any()
    memory.put(torch.tensor([3, 1]), encoder.start(2))
    assert not memory.state[[1, 3]].any()
    assert memory.state[2].norm().item() == pytest.approx(1.0)


def test_the_catalogue_alone_puts_items_of_a_category_together() -> None:
    n = 60
    frame = pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(n)],
            "text": "",
            "category": [f"c{i % 4}" for i in range(n)],
            "brand": [f"b{i % 7}" for i in range(n)],
            "price": np.linspace(1, 50, n),
            "available": True,
        }
    )
    encoder = MeanEncoder.from_catalogue(Catalogue(frame), dim=64, seed=1)
    again = MeanEncoder.from_catalogue(Catalogue(frame), dim=64, seed=1)
    assert torch.equal(encoder.item_vectors, again.item_vectors)
    vectors = encoder.item_vectors[1:]
    alike = vectors @ vectors.T
    category = np.arange(n) % 4
    same = torch.from_numpy(category[:, None] == category) & ~torch.eye(n, dtype=torch.bool)
    other = torch.from_numpy(category[:, None] != category)
    assert alike[same].mean() > alike[other].mean() + 0.3
    assert alike[same].max() < 0.999


def test_settings_out_of_range_are_refused() -> None:
    with pytest.raises(ValueError, match="decay"):
        MeanEncoder(AXES, decay=0.0)
    with pytest.raises(ValueError, match="n_items"):
        MeanEncoder(torch.zeros(3))
