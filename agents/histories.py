"""What policies read of the "history" observation beside its state.

Shapes: B shoppers, T tokens, K slots.
"""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.schema import Event
from ..datasets.tokens import Ints
from ..simulators.boosted import BoostedShopper
from ..simulators.choice_scores import ChoiceScores
from ..simulators.fitted import FittedShopper
from ..simulators.shopper import TokenBatch

ScoringShopper = FittedShopper | BoostedShopper
"""A simulated shopper that tells what it would make of every item."""


def history_of(observation: Any) -> Mapping[str, NDArray[Any]]:
    """The history in an observation: items, events and gaps (B, T), lengths (B,).

    Raises:
        ValueError: it holds none.
    """
    if not isinstance(observation, Mapping) or "items" not in observation:
        raise ValueError("this policy reads histories; make the env with observation='history'")
    history = {name: np.asarray(observation[name]) for name in ("items", "events", "gaps", "lengths")}
    return {**history, "lengths": history["lengths"].reshape(-1)}  # envs give each row's as an array of one


def last_touched(observation: Any) -> Ints:
    """(B,) the item each shopper touched last, 0 for none; slates shown and left do not count.

    Raises:
        ValueError: the observation holds no history.
    """
    items, events, lengths = (history_of(observation)[name] for name in ("items", "events", "lengths"))
    touched = (np.arange(items.shape[1]) < lengths[:, None]) & (events != Event.IMPRESSION)
    last = items.shape[1] - 1 - touched[:, ::-1].argmax(1)
    return np.where(touched.any(1), items[np.arange(len(items)), last], 0).astype(np.int64)


def scores_by(shopper: ScoringShopper, observation: Any) -> ChoiceScores:
    """What a simulated shopper with these histories would make of every item, knowing the slates shown before.

    Raises:
        ValueError: the observation holds no history.
    """
    history = history_of(observation)
    tokens = TokenBatch(*(torch.as_tensor(history[name]) for name in ("items", "events", "gaps", "lengths")))
    shown: Tensor | None = observation.get("slates")
    if shown is not None:
        shown = torch.as_tensor(np.asarray(shown)).reshape(*tokens.items.shape, -1)  # envs give them flat
    return shopper.choice_scores(tokens, shown)
