"""Logs that keep only the slates that were clicked: they tell which item was, and nothing of how often none is.

See `choice_evidence.all_clicked` for which these are.

What such a log holds is the chance of a click at each place given that there was one, which depends on how attractive
clicking nothing is too: where it never tempts, those who look at one place alone click as often as those who look at
all. So the level of nothing is not fitted but set, at the click rate that is assumed, and the places are fitted at it.

Shapes: S slates, K slots, H places with a logit of looking of their own, N items.
"""

from dataclasses import fields

import numpy as np
import torch
from torch import Tensor

from ..datasets.log import Slates
from .examination import Examination, click_log_chances
from .occasions import Occasions

LEVELS = 3
"""Times that the level of nothing is set, and the choices fitted again."""
_SHOPPERS = 512


def clicked_alone(slates: Slates) -> Slates:
    """The slates that were clicked."""
    rows = slates.clicked >= 0
    return Slates(**{one.name: getattr(slates, one.name)[rows] for one in fields(slates)})


def popular_slates(occasions: Occasions, popularity: Tensor, k: int) -> Occasions:
    """The `k` most popular items, shown in place of the first slates of up to 512 sessions.

    Args:
        occasions: slates of a log.
        popularity: (N + 1,) of the items; entry 0 unread.
        k: places.
    """
    first = np.unique(occasions.session, return_index=True)[1]
    first = first[np.unique(np.linspace(0, len(first) - 1, _SHOPPERS).astype(np.int64))]
    best = popularity[1:].topk(min(k, len(popularity) - 1)).indices.cpu().numpy() + 1
    items = np.tile(best, (len(first), 1))
    return Occasions(occasions.session[first], occasions.before[first], items, np.full(len(first), -1))


@torch.no_grad()
def level_of_nothing(utility: Tensor, rest: Tensor, proceed: Tensor, rate: float, form: Examination = "depth") -> float:
    """What must be added to the utility of clicking nothing for slates to be clicked at a given rate.

    Args:
        utility: (S, K) of the items.
        rest: (S,) of nothing, as it stands.
        proceed: (H + 1,) logits of looking, see `examination`.
        rate: wanted, in (0, 1).
        form: of examination.
    """
    low, high = -50.0, 50.0
    for _ in range(60):  # halving 100 nats to far below what float32 tells apart
        middle = (low + high) / 2
        clicks = 1 - float(click_log_chances(form, utility, rest + middle, proceed)[:, -1].exp().mean())
        low, high = (middle, high) if clicks > rate else (low, middle)
    return (low + high) / 2


def first_level(rate: float, decay: float, k: int) -> float:
    """The level at which `k` items of utility 0 are clicked at a rate, where each next place is looked at by chance.

    Args:
        rate: in (0, 1).
        decay: chance to look at the next place, in (0, 1).
        k: places.
    """
    alike = torch.zeros(1, k, dtype=torch.float64)
    return level_of_nothing(alike, alike[:, 0], torch.logit(torch.tensor([decay], dtype=torch.float64)), rate)
