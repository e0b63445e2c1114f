"""Logs and slates to try simulators on.

Shapes: B shoppers, K slots.
"""

import numpy as np
import torch
from torch import Tensor

from ..datasets.log import ShopLog
from ..datasets.schema import Event


def only_views(log: ShopLog) -> ShopLog:
    """The log with its slates struck out: what shoppers looked at, put into the cart and bought; clicks are views."""
    events = log.events[log.events["event"] != Event.IMPRESSION.label].copy()
    events.loc[events["event"] == Event.CLICK.label, "event"] = Event.VIEW.label
    events["slate_id"], events["position"], events["propensity"] = None, None, np.nan
    return ShopLog(events.reset_index(drop=True), log.catalogue, log.facts)


def random_slates(rows: int, k: int, n_items: int, seed: int = 0) -> Tensor:
    """(B, K) int64 slates of different items for so many rows, drawn by the seed."""
    return torch.rand(rows, n_items, generator=torch.Generator().manual_seed(seed)).topk(k).indices + 1
