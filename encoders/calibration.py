"""From how near items lie to a state to how likely each is next, as told by sessions that were not learnt from.

Learning by heart makes an encoder too sure of itself, and surer of what follows an item than of shoppers' coming back
to one. Some thirty weights set that right. They are fitted when the encoder's own are found, on the sessions held out,
to the likelihood of what came next:

- `sharpness` multiplies all logits;
- an item of the history gains by how long ago it was chosen last (`back`) and how (`event`), by how often (`often`), by
  how many items it shares the history with (`many`), and by its own log-chance (`nearness`; below 0 it evens out);
- every item gains by how popular it has been lately, and loses by how popular it has been all along (`trend`);
- an item that was never learnt from, which goes by its description alone, gains as much as makes it as likely as it
  is (`fresh`). How much is told by learnt items that are treated likewise for the while. So such an item is taken for
  one of the others, met afresh; what can no longer be bought is to be marked as unavailable.

Sources: scaling by a temperature, Guo et al., "On calibration of modern neural networks", ICML 2017, section 4.2.
Returns by recency and frequency, Anderson et al., "The dynamics of repeat consumption", WWW 2014, section 4.

Shapes: B histories, T tokens, N items, P spans of time, F kinds of recency.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..datasets.schema import N_EVENTS, Event
from ..datasets.tokens import Ints, Tokens
from .neighbours import item_counts

if TYPE_CHECKING:
    from .session import ShopSessionModel

SPANS = (1.0, 0.3, 0.08, 0.02)
"""Shares of the sessions, the latest, over which an item's popularity is counted."""
_EDGES = (1, 2, 3, 4, 5, 7, 10, 15)  # choices since an item's last one, by which kinds of recency are told apart
_WIDTHS = {"sharpness": 0.3, "nearness": 0.3, "trend": 0.3}  # of the weights' normal priors, in nats; 1 for the rest
_CELLS = 4_000_000  # predictions times items held at once
_ROUNDS = 30  # of the optimizer, at most
_PREDICTIONS, _ALL_CELLS = 4_000, 150_000_000  # that are fitted by, and these times items, at most
_ROWS = 256  # histories read at once
_AFRESH = 0.1  # share of the learnt items that are met afresh, to find `fresh`
_FEWEST = 100  # predictions that are fitted by, were there time for fewer
_SECONDS_A_CELL = 6e-7  # of processor time, for a whole fit

Logits = Callable[[slice], Tensor]
"""Some of the predictions -> (B, N + 1) logits of their next items."""


@dataclass(frozen=True, slots=True)
class Returns:
    """The items of histories, each where it was chosen last. All (B, T).

    Attributes:
        items: int64, 0 where a token is not an item's last choice.
        back: int64 kind of recency, 0 for the latest choice. event: int64 code. often: int64 choices of the item.
        many: int64 different items that the history has.
    """

    items: Tensor
    back: Tensor
    event: Tensor
    often: Tensor
    many: Tensor

    @classmethod
    def of(cls, items: Tensor, events: Tensor) -> "Returns":
        """Those of (B, T) histories; items are 0 at padding, and ignored slates are no choices."""
        chosen = (items > 0) & (events != Event.IMPRESSION)
        same = (items[:, :, None] == items[:, None, :]) & chosen[:, :, None] & chosen[:, None, :]
        last = chosen & ~same.triu(1).any(2)
        back = chosen.flip(1).cumsum(1).flip(1) - chosen.long()
        edges = torch.tensor(_EDGES, device=items.device)
        return cls(
            torch.where(last, items, 0),
            torch.bucketize(back, edges, right=True),
            events,
            same.sum(2).clamp(min=1),
            last.sum(1, keepdim=True).clamp(min=1).expand_as(items),
        )

    def part(self, rows: slice) -> "Returns":
        """Some of the histories."""
        return Returns(self.items[rows], self.back[rows], self.event[rows], self.often[rows], self.many[rows])


class Calibration(nn.Module):
    """Logits by nearness -> logits of the next item. Changes nothing until it is fitted."""

    sharpness: Tensor
    nearness: Tensor
    often: Tensor
    many: Tensor
    back: Tensor
    event: Tensor
    trend: Tensor
    fresh: Tensor
    items: Tensor

    WEIGHTS = ("sharpness", "nearness", "often", "many", "back", "event", "trend")

    def __init__(self, n_items: int) -> None:
        super().__init__()
        self.register_buffer("sharpness", torch.ones(()))
        for name in ("nearness", "often", "many", "fresh"):
            self.register_buffer(name, torch.zeros(()))
        self.register_buffer("back", torch.zeros(len(_EDGES) + 1))
        self.register_buffer("event", torch.zeros(N_EVENTS))
        self.register_buffer("trend", torch.zeros(len(SPANS)))
        # What each gains by its popularity; entry 0 is for those that come later.
        self.register_buffer("items", torch.zeros(n_items + 1))

    def forward(self, logits: Tensor, returns: Returns | None = None) -> Tensor:
        """(B, N + 1) logits of the next item out of those by nearness; without `returns` of unknown histories."""
        return _calibrated(self._weights(), self.items, logits, returns)

    def fit(
        self,
        logits: Logits,
        returns: Returns,
        targets: Tensor,
        popularity: Tensor,
        names: Sequence[str] = WEIGHTS,
    ) -> None:
        """Find the likeliest weights, given what came next.

        Args:
            logits: by nearness, -inf for index 0.
            returns: of the M histories.
            targets: (M,) items that came next.
            popularity: (N + 1, P + 1) from `popularity`.
            names: of the weights to find; the others stay.
        """
        weights = self._weights()
        start = {name: weights[name] for name in names}
        weights |= {name: value.clone().requires_grad_() for name, value in start.items()}
        sought = [weights[name] for name in names]
        rows = max(_CELLS // popularity.shape[0], 1)
        optimizer = torch.optim.LBFGS(sought, max_iter=_ROUNDS, line_search_fn="strong_wolfe")

        def loss() -> Tensor:
            optimizer.zero_grad()
            total = sum(
                ((weights[name] - start[name]).square().sum() / (2 * _WIDTHS.get(name, 1.0) ** 2) for name in names),
                start=torch.zeros((), device=targets.device),
            ) / len(targets)
            total.backward()
            for begin in range(0, len(targets), rows):
                part = slice(begin, begin + rows)
                near = logits(part).clamp(min=-1e9)  # infinities would leave no gradient
                found = _calibrated(weights, _gains(weights, popularity), near, returns.part(part))
                share = F.cross_entropy(found, targets[part], reduction="sum") / len(targets)
                share.backward()
                total = total.detach() + share.detach()
            return total

        with torch.enable_grad():
            optimizer.step(loss)
        for name in names:
            self.get_buffer(name).copy_(weights[name].detach())
        self.follow(popularity)

    @torch.no_grad()
    def follow(self, popularity: Tensor) -> None:
        """Take popularity as it is now, (N + 1, P + 1)."""
        self.items.copy_(_gains(self._weights(), popularity))

    def _weights(self) -> dict[str, Tensor]:
        return {name: self.get_buffer(name) for name in (*self.WEIGHTS, "fresh")}


def _gains(weights: Mapping[str, Tensor], popularity: Tensor) -> Tensor:
    """(N + 1,) what items gain by their popularity, or for want of any."""
    return popularity[:, :-1] @ weights["trend"] + popularity[:, -1] * weights["fresh"]


def _calibrated(weights: Mapping[str, Tensor], items: Tensor, logits: Tensor, returns: Returns | None) -> Tensor:
    found = weights["sharpness"] * logits + items
    if returns is None:
        return found
    own = logits.gather(1, returns.items) - logits.logsumexp(1, keepdim=True)
    gain = weights["back"][returns.back] + weights["event"][returns.event]
    gain = gain + weights["often"] * returns.often.log() + weights["many"] * returns.many.log()
    held = returns.items > 0
    gain = torch.where(held, gain + weights["nearness"] * own.masked_fill(~held, 0), 0)
    return found.scatter_add(1, returns.items, gain)


def popularity(tokens: Tokens, n_items: int) -> Tensor:
    """How much oftener items were chosen lately than others.

    Returns:
        (N + 1, P + 1) float32: logarithms, one column a span of `SPANS`, less the mean of the items that were chosen at
        all; those that were not, index 0 among them, have zeros, and 1 in the last column.
    """
    columns = []
    for span in SPANS:
        latest = tokens.part(np.arange(len(tokens) - max(round(span * len(tokens)), 1), len(tokens)))
        columns.append(np.log1p(item_counts(latest, n_items)))
    counts = np.stack(columns, axis=1)
    seen = counts[:, :1] > 0
    centred = np.where(seen, counts - counts.sum(0) / max(int(seen.sum()), 1), 0)
    return torch.from_numpy(np.concatenate([centred, ~seen], axis=1).astype(np.float32))


@torch.no_grad()
def calibrate(model: "ShopSessionModel", train: Tokens, held_out: Tokens, *, cpu_seconds: float | None = None) -> None:
    """Fit a model's calibration to sessions that it has not learnt from.

    Args:
        model: in eval mode; its `calibration` is changed.
        train: the sessions that it has learnt from, in order of time.
        held_out: later ones; where they have no choice of a known item, nothing is changed.
        cpu_seconds: of processor time that the fit may take, about; None for no limit.
    """
    cells = _ALL_CELLS if cpu_seconds is None else min(cpu_seconds / _SECONDS_A_CELL, _ALL_CELLS)
    most = min(max(int(cells) // (model.n_items + 1), _FEWEST), _PREDICTIONS)
    session, place = asked_of(held_out, item_counts(train, model.n_items), most)
    if not len(session):
        return
    history, device = held_out.histories(session, upto=place, last=model.config.window), model.device
    items, events, gaps, lengths = (
        torch.from_numpy(part).to(device) for part in (history.items, history.events, history.gaps, history.lengths)
    )
    parts = [slice(begin, begin + _ROWS) for begin in range(0, len(session), _ROWS)]
    states = torch.cat([model.encode(items[part], events[part], gaps[part], lengths[part]) for part in parts])
    targets = torch.from_numpy(held_out.items[held_out.offsets[session] + place]).to(device)
    latest, returns = popularity(train, model.n_items).to(device), Returns.of(items, events)
    model.calibration.fit(lambda part: model.nearness(states[part]), returns, targets, latest)
    if model.tower.id_dropout:
        vectors, afresh = _met_afresh(model, latest)
        never = latest[:, -1] > 0

        def logits(part: slice) -> Tensor:
            return model.nearness(states[part], vectors).masked_fill(never, -torch.inf)

        model.calibration.fit(logits, returns, targets, afresh, names=["fresh"])
        model.calibration.follow(latest)


def _met_afresh(model: "ShopSessionModel", latest: Tensor) -> tuple[Tensor, Tensor]:
    """(N + 1, D) vectors of items, and their popularity, were some of the learnt ones never learnt from."""
    learnt = torch.nonzero(latest[:, -1] == 0)[:, 0]
    drawn = torch.rand(len(learnt), generator=torch.Generator().manual_seed(0)) < _AFRESH
    some = learnt[drawn.to(learnt.device)]
    vectors, popularity = model.item_vectors.clone(), latest.clone()
    vectors[some] = F.normalize(model.tower(some, own=False), dim=1)
    popularity[some] = latest[0]
    return vectors, popularity


def asked_of(tokens: Tokens, known: Ints, most: int) -> tuple[Ints, Ints]:
    """Predictions to fit by: choices of known items after a session's first token, `most` of them, evenly spaced.

    Args:
        tokens: sessions that were not learnt from.
        known: (N + 1,) how often each item was learnt from.
        most: how many, at least 1.

    Returns:
        (M,) session numbers, and (M,) places in the session, from 0.
    """
    session, place = tokens.choices()
    asked = np.flatnonzero(known[tokens.items[tokens.offsets[session] + place]])
    asked = asked[:: max(-(-len(asked) // most), 1)]
    return session[asked], place[asked]
