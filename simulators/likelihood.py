"""How likely a fitted shopper finds what shoppers of a log did, against simpler models fitted on the same slates.

Shapes: S slates, K slots.
"""

from dataclasses import dataclass

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..datasets.log import ShopLog
from .choice_fit import ChoiceData
from .foretold import FITTED, Foretells, Foretold


@dataclass(frozen=True, slots=True)
class SlateLikelihood:
    """How well choices were foretold.

    Attributes:
        shoppers: shoppers judged on. sessions: their sessions.
        slates: slates (or next views). clicks: slates with a click.
        table: one row a model, the fitted one first: `model`; `log_likelihood`, mean over slates in nats; `gain`, what
            the fitted one has more of it, with `low` and `high` of its 95 % interval over shoppers; `auc`, chance
            that the item clicked was given a higher chance than another one of its slate. Where the log keeps only
            slates that were clicked, chances are those given a click.
    """

    shoppers: int
    sessions: int
    slates: int
    clicks: int
    table: pd.DataFrame


def slate_likelihood(
    shopper: Foretells, log: ShopLog | Foretold, *, resamples: int = 1000, seed: int = 0
) -> SlateLikelihood:
    """Judge a fitted shopper's choices on a log that it was not fitted on.

    Args:
        shopper: with its rivals, fitted in the same way with features switched off.
        log: later sessions, or other shoppers; or what the shopper foretold of it.
        resamples: bootstrap samples behind the intervals: of shoppers, whose sessions are alike.
        seed: of the bootstrap.

    Raises:
        EvidenceError: the log has nothing to judge by.
    """
    seen = log if isinstance(log, Foretold) else shopper.foretell(log)
    own = seen.choices[FITTED][0]
    _, shopper_of = np.unique(seen.shopper, return_inverse=True)
    table = []
    for name, (log_chance, chances) in seen.choices.items():
        gain = (own - log_chance).numpy()
        low, high = bootstrap_mean(gain, shopper_of, resamples, seed) if name != FITTED else (0.0, 0.0)
        auc = within_slate_auc(chances, seen)
        table.append((name, float(log_chance.mean()), float(gain.mean()), low, high, auc))
    clicks = int((seen.clicked >= 0).sum())
    frame = pd.DataFrame(table, columns=["model", "log_likelihood", "gain", "low", "high", "auc"])
    shoppers, sessions = int(shopper_of.max()) + 1, len(np.unique(seen.session))
    return SlateLikelihood(shoppers, sessions, len(own), clicks, frame)


def within_slate_auc(chances: Tensor, data: ChoiceData | Foretold) -> float:
    """Chance that the item clicked ranks above another of its slate, ties half; nan without clicks.

    Args:
        chances: (S, K) what items are ranked by.
        data: the slates, and what was clicked.
    """
    _, won = slates_won(chances, data)
    return float(won.mean()) if len(won) else float("nan")


def auc_intervals(seen: Foretold, *, resamples: int = 1000, seed: int = 0) -> dict[str, tuple[float, float]]:
    """95 % interval of each model's `within_slate_auc`, over shoppers; nan where nothing was clicked.

    Args:
        seen: of the models.
        resamples: bootstrap samples of shoppers.
        seed: of the bootstrap.
    """
    found = {}
    for name, (_, chances) in seen.choices.items():
        rows, won = slates_won(chances, seen)
        owner = np.unique(seen.shopper[rows.numpy()], return_inverse=True)[1]
        nothing = (float("nan"), float("nan"))
        found[name] = bootstrap_mean(won.numpy(), owner, resamples, seed) if len(won) else nothing
    return found


def slates_won(chances: Tensor, data: ChoiceData | Foretold) -> tuple[Tensor, Tensor]:
    """Slates clicked that hold another item, and the share of their other items that the one clicked ranks above."""
    hit = torch.nonzero(data.clicked >= 0).squeeze(1)
    chances, items, clicked = chances[hit], data.items[hit], data.clicked[hit]
    mine = chances.gather(1, clicked[:, None])
    others = (items > 0) & (torch.arange(items.shape[1]) != clicked[:, None])
    won = ((mine > chances).double() + 0.5 * (mine == chances).double()) * others
    several = others.any(1)
    return hit[several], won.sum(1)[several] / others.sum(1)[several]


def bootstrap_mean(
    values: NDArray[np.float64], group: NDArray[np.int64], resamples: int, seed: int
) -> tuple[float, float]:
    """95 % interval of a mean over values whose groups (S,), numbered from 0, are drawn with replacement.

    Source: the percentile bootstrap of clusters, Davison and Hinkley, "Bootstrap methods", 1997, section 3.8.
    """
    total, count = np.bincount(group, values), np.bincount(group)
    rng = np.random.default_rng(seed)
    means = np.empty(resamples)
    for sample in range(resamples):
        drawn = rng.integers(len(total), size=len(total))
        means[sample] = total[drawn].sum() / count[drawn].sum()
    low, high = np.quantile(means, (0.025, 0.975))
    return float(low), float(high)
