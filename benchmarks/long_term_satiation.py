"""A strong plan for shoppers who tire of categories: one slate ahead exactly, and from there by a value on a grid.

What a slate does to the shopper hangs on how many items of each category it holds, and on the category clicked. For
every such composition the best items are found by Dinkelbach's iteration, and the best composition is shown. The values
of what comes after are those of the same problem without familiarity, by value iteration over a grid of the satiation
of each category, with linear interpolation between its points. The policy is a lower bound of the optimum.

Shapes: B shoppers, K slots, N items, C categories, L levels, P compositions.
"""

import itertools
from typing import Any

import torch
from long_term_bounds import Privileged, bought, earned, outside_of
from torch import Tensor

from slatewise.envs import RewardMix
from slatewise.simulators import KnownTruthShopper

LEVELS = 9


class SatiationPlan(Privileged):
    """See above. Where buying makes nobody leave sooner than not buying."""

    def __init__(self, shopper: KnownTruthShopper, k: int, reward: RewardMix, sweeps: int) -> None:
        super().__init__(shopper, k)
        config, n = shopper.config, shopper.config.n_categories
        self._reward, self._n = reward, n
        assert config.leave == config.leave_bought
        # All K places on one category, slate after slate, and a click on it.
        self._most = (k + 2) / 3 * config.satiation / (1 - config.satiation_kept)
        self._whose = [
            torch.nonzero((shopper._category == one) & (torch.arange(shopper.n_items + 1) > 0))[:, 0]
            for one in range(n)
        ]
        counts = [one for one in itertools.product(range(k + 1), repeat=n) if sum(one) == k]
        self._compositions = [
            one for one in counts if all(many <= len(own) for many, own in zip(one, self._whose, strict=True))
        ]
        axis = self._most * torch.linspace(0, 1, LEVELS) ** 2  # finer where shoppers mostly are
        self._axis = axis
        points = torch.cartesian_prod(*[axis] * n)
        state = shopper.reset(torch.zeros(len(points), dtype=torch.int64))
        state.satiation = points
        utility = shopper.utilities(state)
        self.value = torch.zeros([LEVELS] * n)
        for _ in range(sweeps):
            self.value = self._best(points, utility)[0].view([LEVELS] * n)

    def slates(self, state: Any) -> Tensor:
        """(B, K) the slates."""
        return self._best(state.satiation, self.shopper.utilities(state))[1]

    def _best(self, satiation: Tensor, utility: Tensor) -> tuple[Tensor, Tensor]:
        """(B,) values of the best slates for shoppers so tired, (B, C), of utilities (B, N + 1), and the slates."""
        config = self.shopper.config
        cart, purchase = bought(self.shopper, utility)
        at_once = earned(self.shopper, self._reward, cart * purchase)
        attraction = utility.exp()  # 0 for the padding
        outside = outside_of(self.shopper, len(utility)).exp()
        best = torch.full((len(utility),), -torch.inf)
        slates = torch.zeros(len(utility), self.k, dtype=torch.int64)
        for counts in self._compositions:
            passed = config.satiation_kept * satiation + config.satiation / 3 * torch.tensor(counts)
            none = (1 - config.leave) * self.at(passed)
            after = torch.zeros_like(utility)
            for category, many in enumerate(counts):
                if many:
                    clicked = passed.clone()
                    clicked[:, category] += 2 / 3 * config.satiation
                    after[:, self._whose[category]] = ((1 - config.leave) * self.at(clicked) - none)[:, None]
            level, slate = self._filled(counts, attraction, at_once + after, outside)
            better = none + level > best
            best = torch.where(better, none + level, best)
            slates = torch.where(better[:, None], slate, slates)
        return best, slates

    def _filled(
        self, counts: tuple[int, ...], attraction: Tensor, gain: Tensor, outside: Tensor
    ) -> tuple[Tensor, Tensor]:
        """(B,) what the best slates of one composition gain over no click, and the slates."""
        level = torch.zeros(len(gain))
        slate = torch.zeros(len(gain), self.k, dtype=torch.int64)
        for _ in range(4):
            worth = attraction * (gain - level[:, None])
            parts = [
                own[worth[:, own].topk(many, dim=1).indices]
                for own, many in zip(self._whose, counts, strict=True)
                if many
            ]
            slate = torch.cat(parts, 1)
            pull = attraction.gather(1, slate)
            level = (pull * gain.gather(1, slate)).sum(1) / (outside + pull.sum(1))
        return level, slate

    def at(self, satiation: Tensor) -> Tensor:
        """(B,) values of shoppers so tired, (B, C), linear between the points of the grid."""
        held = satiation.clamp(0, self._most)
        upper = torch.searchsorted(self._axis, held.contiguous()).clamp(1, LEVELS - 1)
        share = (held - self._axis[upper - 1]) / (self._axis[upper] - self._axis[upper - 1])
        total = torch.zeros(len(held))
        for corner in itertools.product((0, 1), repeat=self._n):
            at = upper - 1 + torch.tensor(corner)
            weight = torch.where(torch.tensor(corner) > 0, share, 1 - share).prod(1)
            total += weight * self.value[tuple(at.T)]
        return total
