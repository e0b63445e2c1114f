"""Logged sessions as an agent would have seen them: what stood before each slate, the slate, and what came of it.

Shapes: S sessions with slates, R slates, V views (before each slate of a session, and after its last), H tokens kept,
K slots, D state width.
"""

from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from gymnasium.spaces import Dict
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..datasets.schema import Event
from ..datasets.tokens import Ints
from ..encoders.state import StateEncoder
from ..errors import EvidenceError
from ..simulators.shopper import Response
from .observations import history_spaces, state_space
from .rewards import RewardMix

_AT_ONCE = 512  # histories encoded together


@dataclass(frozen=True)
class LoggedSteps:
    """Slates of a log as steps of episodes, a session with slates an episode.

    Attributes:
        sessions: (S,) numbers of the sessions in the log.
        first: (S + 1,) row of each session's first slate, and R. Its first view is `first[s] + s`.
        observations: name -> (V, ...) what the agent sees, as `ShopEnv` has it under "history".
        slates: (R, K) int64.
        rewards: (R,) float64.
        infos: name -> (R, ...) what came of each slate, see `offline`.
    """

    sessions: Ints
    first: Ints
    observations: dict[str, NDArray[Any]]
    slates: Ints
    rewards: NDArray[np.float64]
    infos: dict[str, NDArray[Any]]


def history_space(n_items: int, k: int, dim: int, history_len: int) -> Dict:
    """What observations of logged sessions are of: as that of `ShopEnv` under "history"."""
    return Dict(history_spaces(n_items, history_len, k) | {"state": state_space(dim)})


def logged_steps(log: ShopLog, encoder: StateEncoder, reward: RewardMix, history_len: int) -> LoggedSteps:
    """The slates of a log as steps.

    Args:
        log: with slates; sessions without any are left out.
        encoder: of the states that the agent sees; over the log's items.
        reward: what a slate earned.
        history_len: tokens kept in an observation, at least 1.

    Raises:
        EvidenceError: the log shows no slates.
    """
    shown, tokens = log.slates, log.tokens
    if not len(shown):
        raise EvidenceError("the log has no impressions, so there are no slates to export")
    sessions, first = np.unique(shown.session, return_index=True)
    first = np.append(first, len(shown)).astype(np.int64)
    end = first[1:] - 1
    # A view before each slate, and one after the last, which a token answers.
    view_session = np.insert(shown.session, first[1:], sessions)
    upto = np.insert(shown.before, first[1:], shown.before[end] + 1)
    upto = np.minimum(upto, tokens.lengths[view_session])
    answers = np.full(len(tokens.items), -1, np.int64)  # token -> slate that it answers
    answers[tokens.offsets[shown.session] + shown.before] = np.arange(len(shown))
    observations = _histories(log, answers, view_session, upto, history_len)
    observations["state"] = _states(log, encoder, view_session, upto)
    revenue, quantity = _sales(log)
    response = Response(
        examined=torch.ones(shown.items.shape, dtype=torch.bool),
        clicked=torch.from_numpy(shown.clicked),
        carted=torch.from_numpy(shown.carted),
        purchased=torch.from_numpy(shown.purchased),
        left=torch.from_numpy(shown.last),
        dwell=torch.from_numpy(shown.dwell),
        revenue=torch.from_numpy(revenue.astype(np.float32)),
        quantity=torch.from_numpy(quantity),
    )
    infos: dict[str, NDArray[Any]] = {
        "propensity": shown.propensity,
        "gap": tokens.gaps[tokens.offsets[shown.session] + shown.before].astype(np.float64),
        "clicked": shown.clicked,
        "carted": shown.carted,
        "purchased": shown.purchased,
        "quantity": quantity,
        "revenue": revenue,
        "dwell": shown.dwell.astype(np.float64),
    }
    rewards = reward(response).numpy().astype(np.float64)
    return LoggedSteps(sessions, first, observations, shown.items, rewards, infos)


def _histories(log: ShopLog, answers: Ints, session: Ints, upto: Ints, history_len: int) -> dict[str, NDArray[Any]]:
    """The last H of each view's first `upto` tokens, left-aligned, with the slates that they answer."""
    tokens, slates = log.tokens, log.slates.items
    lengths = np.minimum(upto, history_len)
    place = np.arange(history_len)
    held = place < lengths[:, None]
    source = np.where(held, (tokens.offsets[session] + upto - lengths)[:, None] + place, 0)
    slate = np.where(held, answers[source], -1)
    shown = slates[slate] * (slate >= 0)[..., None]
    return {
        "items": tokens.items[source] * held,
        "events": tokens.events[source] * held,
        "gaps": (tokens.gaps[source] * held).astype(np.float32),
        "lengths": lengths[:, None].astype(np.int64),
        "slates": shown.reshape(len(session), -1),
    }


@torch.no_grad()
def _states(log: ShopLog, encoder: StateEncoder, session: Ints, upto: Ints) -> NDArray[np.float32]:
    """(V, D) the encoder's states after each view's first `upto` tokens."""
    device, found = encoder.item_vectors.device, []
    for rows in np.array_split(np.arange(len(session)), max(1, -(-len(session) // _AT_ONCE))):
        past = log.tokens.histories(session[rows], upto[rows])
        parts = (past.items, past.events, past.gaps, past.lengths)
        found.append(encoder.encode(*(torch.from_numpy(part).to(device) for part in parts)).cpu().numpy())
    return np.clip(np.concatenate(found), -1.0, 1.0)


def _sales(log: ShopLog) -> tuple[NDArray[np.float64], Ints]:
    """(R,) what the item clicked on each slate brought in and how many were bought; 0 where it was not.

    Purchases of one item in a session count for the slates from which it was bought, shared equally; a price or number
    that is not logged is the catalogue's price, or one.
    """
    shown, events = log.slates, log.events
    revenue, quantity = np.zeros(len(shown)), np.zeros(len(shown), np.int64)
    rows = np.flatnonzero(shown.purchased)
    if not len(rows):
        return revenue, quantity
    bought = (events["event"] == Event.PURCHASE.label).to_numpy()
    item = log.catalogue.index_of(events["item_id"][bought], unknown="zero")
    count = events["quantity"][bought].astype("Float64").fillna(1).to_numpy(dtype=np.float64)
    price = events["price"][bought].to_numpy(dtype=np.float64)
    price = np.where(np.isfinite(price), price, log.catalogue.prices[item])
    size = log.catalogue.n_items + 1
    key = log.session_of_event[bought] * size + item
    wanted = shown.session[rows] * size + shown.items[rows, shown.clicked[rows]]
    keys, place = np.unique(key, return_inverse=True)
    money, pieces = np.bincount(place, count * price), np.bincount(place, count)
    at = np.searchsorted(keys, wanted)
    _, again, shares = np.unique(wanted, return_inverse=True, return_counts=True)
    revenue[rows] = money[at] / shares[again]
    quantity[rows] = np.maximum(np.round(pieces[at] / shares[again]), 1).astype(np.int64)
    return revenue, quantity
