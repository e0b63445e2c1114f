"""Calibration of a fitted shopper's four parts: what it foretells beside what shoppers of a log did.

Shapes: S slates, K slots, B bins, E events that were foretold, P shoppers.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..datasets.tokens import Ints
from .foretold import FITTED, Foretells, Foretold
from .observed import outcomes
from .priors import wilson

PARTS = ("examination", "choice", "cart", "purchase", "leaving")
_COLUMNS = ["part", "group", "count", "predicted", "observed", "low", "high"]


@dataclass(frozen=True, slots=True)
class _Foretold:
    """Events of one part: their chances beside what happened, all (E,).

    Attributes:
        part: out of `PARTS`. group: number of the group. chance: foretold. happened: bool. slate: row of the slate.
    """

    part: str
    group: Ints
    chance: NDArray[np.float64]
    happened: NDArray[np.bool_]
    slate: Ints


def calibration_table(shopper: Foretells, log: ShopLog | Foretold, *, bins: int = 10) -> pd.DataFrame:
    """Foretold and observed rates, grouped.

    Args:
        shopper: fitted on slates; one fitted on next views has nothing to hold against a log.
        log: sessions that the shopper was not fitted on, or what the shopper foretold of them.
        bins: groups of about equal size by foretold chance.

    Returns:
        One row a group: `part`, one of `PARTS`; `group`, the place (from 1) for examination, the number of the slate
        for leaving, otherwise the bin, from the lowest chance; `count`; `predicted` and `observed` mean chance; `low`
        and `high`, 95 % interval of what was observed (Wilson 1927). Empty without slates; without leaving where the
        log's sessions were sampled by length. Of a log that keeps only slates that were clicked, the chances of
        examination and choice are those given a click, and leaving is left out too.

    Raises:
        EvidenceError: the log has nothing to judge by.
    """
    seen = log if isinstance(log, Foretold) else shopper.foretell(log)
    rows = [row for part in _parts(seen, bins) for row in _groups(part)]
    return pd.DataFrame(rows, columns=_COLUMNS)


def calibration_errors(
    shopper: Foretells, log: ShopLog | Foretold, *, bins: int = 10, resamples: int = 200, seed: int = 0
) -> pd.DataFrame:
    """Expected calibration error of each part: how far foretold and observed rates of a group differ, on average.

    Groups are those of `calibration_table`, and weigh as many events as they hold. An error has no sign, so chance
    alone makes one; `floor` says how much.

    Args:
        shopper: see `calibration_table`.
        log: see `calibration_table`.
        bins: groups of about equal size by foretold chance.
        resamples: bootstrap samples of shoppers, and draws behind the floor.
        seed: of both.

    Returns:
        One row a part: `part`; `ece` in [0, 1]; `low` and `high` of its 95 % interval, by the percentile bootstrap of
        shoppers, moved so that the resamples' mean is the figure, for resampling adds noise of its own; `floor`, what
        the error would be on average if every chance were right and events fell independently.

    Raises:
        EvidenceError: the log has nothing to judge by.

    Sources: Guo et al., "On calibration of modern neural networks", ICML 2017, for the error; Bröcker and Smith,
    "Increasing the reliability of reliability diagrams", Weather and Forecasting 2007, for the floor.
    """
    seen = log if isinstance(log, Foretold) else shopper.foretell(log)
    rng = np.random.default_rng(seed)
    owner = np.unique(seen.shopper, return_inverse=True)[1]
    count = int(owner.max()) + 1
    weights = rng.multinomial(count, np.full(count, 1 / count), size=resamples)
    rows = []
    for one in _parts(seen, bins):
        numbers, group = np.unique(one.group, return_inverse=True)
        cell = owner[one.slate] * len(numbers) + group
        excess, events = (
            np.bincount(cell, values, count * len(numbers)).reshape(count, -1)
            for values in (one.happened - one.chance, np.ones(len(cell)))
        )
        ece = float(np.abs(excess.sum(0)).sum() / events.sum())
        resampled = np.abs(weights @ excess).sum(1) / np.maximum((weights @ events).sum(1), 1)
        low, high = np.maximum(ece + np.quantile(resampled, (0.025, 0.975)) - resampled.mean(), 0)
        spread = np.sqrt(np.bincount(group, one.chance * (1 - one.chance), len(numbers)))
        floor = float(np.abs(rng.standard_normal((resamples, len(numbers))) * spread).sum(1).mean() / events.sum())
        rows.append((one.part, ece, float(low), float(high), floor))
    return pd.DataFrame(rows, columns=["part", "ece", "low", "high", "floor"])


def _parts(seen: Foretold, bins: int) -> list[_Foretold]:
    """What was foretold of each part, and the groups it is judged in; nothing without slates."""
    slates = seen.slates
    if slates is None:
        return []
    chances = seen.choices[FITTED][1].exp().numpy()
    hits = slates.clicked[:, None] == np.arange(slates.items.shape[1])
    there = slates.items > 0
    place = np.broadcast_to(np.arange(1, hits.shape[1] + 1), hits.shape)
    slot = (chances[there].astype(np.float64), hits[there], np.nonzero(there)[0])
    found = [_Foretold("examination", place[there], *slot), _Foretold("choice", _bins(slot[0], bins), *slot)]

    outcome = outcomes(slates).numpy()
    for part, chance, deeper in (("cart", seen.cart, 2), ("purchase", seen.purchase, 3)):
        if chance is not None:
            reached = np.flatnonzero(outcome >= deeper - 1)
            foretold = chance.numpy()[reached].astype(np.float64)
            found.append(_Foretold(part, _bins(foretold, bins), foretold, outcome[reached] >= deeper, reached))

    if seen.leaving is not None:
        _, first = np.unique(slates.session, return_index=True)
        number = np.arange(len(slates)) - np.repeat(first, np.diff(np.append(first, len(slates)))) + 1
        leaving = seen.leaving.numpy().astype(np.float64)
        number = np.minimum(number, 2 * bins)
        found.append(_Foretold("leaving", number, leaving, slates.last, np.arange(len(slates))))
    return [one for one in found if len(one.group)]


def _bins(chances: NDArray[np.floating], bins: int) -> NDArray[np.int64]:
    """Number of the group of about equal size, from 1, that each chance falls into."""
    if not len(chances):
        return np.zeros(0, np.int64)
    edges = np.unique(np.quantile(chances, np.arange(1, bins) / bins))
    return 1 + np.searchsorted(edges, chances, side="right")


def _groups(one: _Foretold) -> list[tuple[str, int, int, float, float, float, float]]:
    rows = []
    for number in np.unique(one.group):
        there = one.group == number
        count, got = int(there.sum()), int(one.happened[there].sum())
        low, high = wilson(got, count)
        rows.append((one.part, int(number), count, float(one.chance[there].mean()), got / count, low, high))
    return rows
