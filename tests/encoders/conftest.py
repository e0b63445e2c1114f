"""A small made-up log: shoppers stay within a group of items and walk through it in order."""

import numpy as np
import pandas as pd
import pyarrow as pa
import pytest

from slatewise.datasets.catalogue import Catalogue
from slatewise.datasets.log import ShopLog
from slatewise.datasets.schema import CATALOGUE_SCHEMA, EVENT_SCHEMA

GROUPS, SIZE = 4, 6
N_ITEMS = GROUPS * SIZE + 2  # the last two are never seen


def walking_log(sessions: int, seed: int = 0, noise: float = 0.1) -> ShopLog:
    """Sessions that visit the items of one group in a ring, one after the other, with ignored slates in between.

    With chance 1 - `noise` the next choice is the next item of the ring, so its best possible recall@1 is near that.
    """
    rng = np.random.default_rng(seed)
    rows = []
    for session in range(sessions):
        group, place = rng.integers(GROUPS), rng.integers(SIZE)
        begun = pd.Timestamp("2026-01-05", tz="UTC") + pd.Timedelta(minutes=30 * session)
        for step in range(rng.integers(2, 9)):
            at = begun + pd.Timedelta(seconds=20 * step)
            if rng.random() < 0.2:
                slate = f"{session}-{step}"
                rows.append((session, at, rng.integers(1, N_ITEMS - 1), "impression", slate, 0))
                continue
            place = (place + 1) % SIZE if rng.random() >= noise else rng.integers(SIZE)
            event = "purchase" if rng.random() < 0.1 else "view"
            rows.append((session, at, 1 + group * SIZE + place, event, None, None))
    names = ["session", "time", "item", "event", "slate_id", "position"]
    events = pd.DataFrame(rows, columns=names)
    events["shopper_id"] = events["session_id"] = "s" + events.pop("session").astype(str)
    events["item_id"] = "i" + events.pop("item").astype(str)
    events = events.assign(propensity=np.nan, price=np.nan, quantity=None, query=None)
    catalogue = pd.DataFrame(
        {
            "item_id": [f"i{i}" for i in range(1, N_ITEMS + 1)],
            "text": [f"thing {i}" for i in range(1, N_ITEMS + 1)],
            "category": [f"group {(i - 1) // SIZE}" for i in range(1, N_ITEMS + 1)],
            "brand": "",
            "price": np.linspace(5, 50, N_ITEMS),
            "available": True,
        }
    )
    frames = [
        pa.Table.from_pandas(frame[schema.names], schema=schema, preserve_index=False).to_pandas()
        for frame, schema in ((events, EVENT_SCHEMA), (catalogue, CATALOGUE_SCHEMA))
    ]
    return ShopLog(frames[0], Catalogue(frames[1]), {"source": "made up"})


@pytest.fixture(scope="session")
def small_log() -> ShopLog:
    return walking_log(400)


@pytest.fixture(scope="session")
def item_text() -> np.ndarray:
    """Vectors in which items of a group lie together, as a text model would give."""
    rng = np.random.default_rng(7)
    groups = np.repeat(rng.normal(size=(GROUPS, 12)), SIZE, axis=0)
    vectors = np.vstack([groups, groups[[0, -1]]]) + 0.3 * rng.normal(size=(N_ITEMS, 12))
    return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
