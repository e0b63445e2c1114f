"""What comes next in held-out sessions: the questions, the ranks of the answers, and intervals.

Shapes: M questions, N items, D width of vectors.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from slatewise.datasets import Tokens
from slatewise.encoders import StateEncoder
from slatewise.encoders.next_item import rank_of

Ints = NDArray[np.int64]
Floats = NDArray[np.float32]
Scores = Callable[[slice], Floats]
"""Some of the questions -> (m, N + 1) scores of all items; column 0 is not read."""
_CELLS = 4_000_000  # scores held at once
_ROWS = 256  # sessions stepped through at once
_LAST = 100  # tokens of a history by which scores tell what shoppers come back to


@dataclass(frozen=True, slots=True)
class Questions:
    """Which item a shopper chooses next, asked after each token of a session but its last.

    Tokens of ignored slates are read and never asked for: what a shop shows is no choice of the shopper's.

    Attributes:
        token: (M,) number of the token asked for, in `Tokens.items`. session: (M,) its session. item: (M,) the answer.
    """

    token: Ints
    session: Ints
    item: Ints

    @classmethod
    def of(cls, tokens: Tokens) -> "Questions":
        """All that can be asked of these sessions."""
        session, place = tokens.choices()
        token = tokens.offsets[session] + place
        return cls(token, session, tokens.items[token])


def scores_before(encoder: StateEncoder, tokens: Tokens, asked: Questions) -> Scores:
    """What the encoder says before each token asked for, its state reached by stepping through the sessions."""
    states = _states_before(encoder, tokens, asked)
    place = asked.token - tokens.offsets[asked.session]

    def scores(part: slice) -> Floats:
        history = tokens.histories(asked.session[part], upto=place[part], last=_LAST)
        items, events = torch.from_numpy(history.items), torch.from_numpy(history.events)
        return encoder.scores(torch.from_numpy(states[part]), items=items, events=events).numpy()

    return scores


def _states_before(encoder: StateEncoder, tokens: Tokens, asked: Questions) -> Floats:
    """(M, D) the encoder's states."""
    states = np.zeros((len(tokens.items) + 1, encoder.dim), np.float32)  # after each token, by the number of the next
    order = np.argsort(tokens.lengths, kind="stable")
    for begin in range(0, len(order), _ROWS):
        sessions = order[begin : begin + _ROWS]
        history = tokens.histories(sessions)
        memory = encoder.start(len(sessions))
        for place in range(history.items.shape[1]):
            parts = (history.items[:, place], history.events[:, place], history.gaps[:, place])
            memory = encoder.step(memory, *(torch.from_numpy(np.ascontiguousarray(part)) for part in parts))
            held = history.lengths > place
            states[tokens.offsets[sessions[held]] + place + 1] = memory.state.numpy()[held]
    return states[asked.token]


def ranks(scores_of: Scores, item: Ints, n_items: int) -> Ints:
    """(M,) rank of each answer among all items, best 1; of equal scores the last.

    Args:
        scores_of: the model.
        item: (M,) the answers.
        n_items: of the catalogue; decides how many questions are answered at once.
    """
    found = np.zeros(len(item), np.int64)
    size = max(_CELLS // (n_items + 1), 1)
    for begin in range(0, len(item), size):
        part = slice(begin, min(begin + size, len(item)))
        found[part] = rank_of(scores_of(part), item[part])
    return found


def recall(rank: Ints, k: int = 20) -> NDArray[np.float64]:
    """(M,) 1 where the answer is among the first `k`."""
    return (rank <= k).astype(np.float64)


def reciprocal(rank: Ints, k: int = 20) -> NDArray[np.float64]:
    """(M,) 1 / rank among the first `k`, 0 beyond."""
    return np.where(rank <= k, 1 / rank, 0.0)


def mean_interval(
    values: NDArray[np.float64], session: Ints, training: Ints, *, resamples: int = 2_000, seed: int = 0
) -> tuple[float, list[float]]:
    """The mean over questions, and its 95 % interval from resampling sessions and trainings.

    Args:
        values: (M,), for instance a difference of two models' `recall` on the same questions.
        session: (M,) numbers; a session is drawn as a whole, and for all trainings together.
        training: (M,) numbers of the trainings that the values come from; drawn likewise.
        resamples: bootstrap samples.
        seed: of the resampling; equal sessions, trainings and seeds draw the same samples.

    Raises:
        ValueError: there are no questions.
    """
    if not len(values):
        raise ValueError("no question was asked, so there is no mean")
    groups = [np.unique(names, return_inverse=True)[1] for names in (training, session)]
    shape = tuple(int(group.max()) + 1 for group in groups)
    cell = np.ravel_multi_index(tuple(groups), shape)
    total, count = (np.bincount(cell, weights, shape[0] * shape[1]).reshape(shape) for weights in (values, None))
    rng, drawn = np.random.default_rng(seed), []
    while len(drawn) < resamples:
        times = [np.bincount(rng.integers(0, n, n), minlength=n) for n in shape]
        if asked := times[0] @ count @ times[1]:
            drawn.append(times[0] @ total @ times[1] / asked)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(values.mean()), [float(low), float(high)]
