"""A fitted shopper's click model as a teacher: the chance of each slot of a slate, not only the slot drawn.

Shapes: B shoppers, K slots, N items.
"""

from typing import Any

import torch
from numpy.typing import ArrayLike
from torch import Tensor

from ..simulators.choice import NEVER, ChoiceWeights
from ..simulators.examination import click_log_chances
from .histories import ScoringShopper, scores_by


class ShopperClicks:
    """Chances of what a fitted shopper does with slates, examination included.

    Args:
        shopper: whose choice model is trusted; costs its `choice_scores`, that is B x N features, each time.
    """

    def __init__(self, shopper: ScoringShopper) -> None:
        self.shopper = shopper

    @torch.no_grad()
    def __call__(self, observation: Any, slates: ArrayLike) -> Tensor:
        """(B, K + 1) float32 chance of no click, then of each slot, given "history" observations and slates (B, K).

        Raises:
            ValueError: the observation holds no history.
        """
        shopper, choice = self.shopper, self.shopper.model.own.choice
        scores, shown = scores_by(shopper, observation), torch.as_tensor(slates).to(shopper.device)
        utility = scores.utility.gather(1, shown).masked_fill(shown == 0, NEVER)
        form = choice.form if isinstance(choice, ChoiceWeights) else "depth"  # boosted shoppers look to a depth
        proceed = choice.proceed.to(utility.device, utility.dtype)
        chances = click_log_chances(form, utility, scores.outside, proceed).exp()
        return torch.cat([chances[:, -1:], chances[:, :-1]], 1).float()
