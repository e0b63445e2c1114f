"""A small shop and a bundle of a plain policy over it, made by the same export as a trained one."""

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor, nn

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.log import ShopLog
from slatewise.encoders.mean import MeanEncoder
from slatewise.serving.bundle import Bundle
from slatewise.serving.export import write_bundle
from slatewise.serving.runtime import Runtime

N_ITEMS, DIM, K = 40, 16, 5


class NearState(nn.Module):
    """Scores items by nearness to the state, newcomers by a bias that falls with the item's index."""

    k = K
    vectors: Tensor
    available: Tensor
    bias: Tensor

    def __init__(self, vectors: Tensor, available: Tensor) -> None:
        super().__init__()
        self.register_buffer("vectors", vectors)
        self.register_buffer("available", available)
        self.register_buffer("bias", -torch.arange(len(vectors)) * 0.01)

    def forward(self, state: Tensor) -> Tensor:
        return (4 * state @ self.vectors.T + self.bias).masked_fill(~self.available, -1e9)


def make_catalogue() -> Catalogue:
    number = np.arange(1, N_ITEMS + 1)
    return Catalogue(
        pd.DataFrame(
            {
                "item_id": [f"item-{i}" for i in number],
                "text": [f"Thing number {i}" for i in number],
                "category": np.where(number % 2, "odd", "even"),
                "brand": [f"brand-{i % 4}" for i in number],
                "price": np.where(number == 7, np.nan, number * 2.0),
                "available": number != 3,
            }
        )
    )


def make_log(catalogue: Catalogue, sessions: int = 120, seed: int = 1) -> ShopLog:
    """Sessions of random views, clicks, carts and purchases, one shopper each, some of them shown slates."""
    rng = np.random.default_rng(seed)
    rows = []
    for session in range(sessions):
        time = 1_700_000_000 + session * 5_000.0
        for step in range(rng.integers(1, 9)):
            time += float(rng.integers(0, 300_000)) / 1_000
            item = f"item-{rng.integers(1, N_ITEMS + 1)}"
            if rng.random() < 0.4:
                shown = rng.choice(N_ITEMS, 3, replace=False) + 1
                slate = f"slate-{session}-{step}"
                rows += [(session, time, f"item-{i}", "impression", slate, place) for place, i in enumerate(shown)]
                if rng.random() < 0.5:
                    rows.append((session, time + 2, f"item-{shown[1]}", "click", slate, None))
            else:
                rows.append((session, time, item, "view", None, None))
                if rng.random() < 0.5:
                    rows.append((session, time + 1, item, rng.choice(["cart", "purchase"]), None, None))
    frame = pd.DataFrame(rows, columns=["session", "seconds", "item_id", "event", "slate_id", "position"])
    frame["time"] = pd.to_datetime((frame["seconds"] * 1e6).round().astype("int64"), unit="us", utc=True)
    frame = frame.sort_values(["session", "time"], kind="stable").reset_index(drop=True)
    frame["session_id"] = frame["session"].map("session-{}".format)
    frame["shopper_id"] = frame["session"].map("shopper-{}".format)
    frame["position"] = frame["position"].astype("Int32")
    for name in ("propensity", "price", "quantity", "query"):
        frame[name] = None
    return ShopLog(frame, catalogue)


@pytest.fixture(scope="session")
def catalogue() -> Catalogue:
    return make_catalogue()


@pytest.fixture(scope="session")
def log(catalogue: Catalogue) -> ShopLog:
    return make_log(catalogue)


@pytest.fixture(scope="session")
def encoder(catalogue: Catalogue) -> MeanEncoder:
    return MeanEncoder.from_catalogue(catalogue, dim=DIM)


@pytest.fixture(scope="session")
def scorer(encoder: MeanEncoder, catalogue: Catalogue) -> NearState:
    return NearState(encoder.item_vectors, torch.from_numpy(catalogue.available))


@pytest.fixture(scope="session")
def bundle_folder(
    tmp_path_factory: pytest.TempPathFactory,
    catalogue: Catalogue,
    encoder: MeanEncoder,
    scorer: NearState,
    log: ShopLog,
) -> Path:
    out = tmp_path_factory.mktemp("bundle") / "policy"
    write_bundle(out, encoder, scorer, log, k=K, settings={"policy": "near state"}, inputs={}, histories=100)
    return out


@pytest.fixture(scope="session")
def bundle(bundle_folder: Path) -> Bundle:
    return Bundle.load(bundle_folder)


@pytest.fixture(scope="session")
def runtime(bundle: Bundle) -> Runtime:
    return Runtime(bundle)
