"""The best there is on shops where one mechanism is on: dynamic programming over the shopper's own state.

All shoppers of these shops like the same things and look at the whole slate, so that a click is a multinomial logit,
and what is left of the shopper between two slates is the mechanism's own state. Where that takes finitely many values
the plan is exact (`Planned`): backward induction over slates, the best slate of each state by Dinkelbach's iteration.

Shapes: B shoppers, K slots, N items, C categories, S states of the mechanism.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from slatewise.agents import best_slate
from slatewise.envs import RewardMix
from slatewise.simulators import KnownTruthShopper
from slatewise.simulators.known_truth_state import VISIT_BITS

DEPTHS = (1.0, 1.5, 2.0)
"""What a click, a cart and a purchase count for in `KnownShopConfig.complements`."""


@dataclass(frozen=True)
class Chain:
    """A mechanism as a decision process with finitely many states.

    Attributes:
        utility: (S, N + 1) logits of a click.
        earned: (S, N + 1) reward expected of a click.
        ahead: values (S,) of the states -> what is to come after a click on each item, (S, N + 1), and after none,
            (S,).
        where: states of the simulator -> (B,) int64 numbers of the mechanism's states.
    """

    utility: Tensor
    earned: Tensor
    ahead: Callable[[Tensor], tuple[Tensor, Tensor]]
    where: Callable[[Any], Tensor]


class Privileged:
    """Base of policies that see the simulator's own state; `evaluation.judge.serve` lets them, by `attend`."""

    def __init__(self, shopper: KnownTruthShopper, k: int) -> None:
        self.shopper, self.k = shopper, k
        self._see: Callable[[], Any] | None = None

    def attend(self, see: Callable[[], Any]) -> None:
        """Look at the simulator's own state from here on."""
        self._see = see

    def slates(self, state: Any) -> Tensor:
        """(B, K) slates for shoppers in these states."""
        raise NotImplementedError

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[np.int64], None]:
        """(B, K) slates, and None; the observation is not read."""
        del observation, state, episode_start, deterministic
        assert self._see is not None, "attend() comes first"
        with torch.no_grad():
            return self.slates(self._see()).cpu().numpy(), None


class MixPolicy(Privileged):
    """The slate that earns the most at once of a mix of clicks, purchases and revenue, by the true chances."""

    def __init__(self, shopper: KnownTruthShopper, k: int, mix: RewardMix) -> None:
        super().__init__(shopper, k)
        self.mix = mix

    def slates(self, state: Any) -> Tensor:
        """(B, K) slates."""
        utility = self.shopper.utilities(state)
        utility[:, 0] = -1e9
        cart, purchase = bought(self.shopper, utility)
        gain = earned(self.shopper, self.mix, cart * purchase)
        outside, places = outside_of(self.shopper, len(gain)), torch.zeros(self.k)
        return best_slate(utility, gain, outside, places, _items(self.shopper), 12).slate


class Planned(Privileged):
    """The plan that earns the most over a whole episode: exact where the chain is, by backward induction."""

    def __init__(self, shopper: KnownTruthShopper, k: int, chain: Chain, horizon: int, *, stationary: bool) -> None:
        """Plan.

        Args:
            shopper: the truth.
            k: slots.
            chain: the mechanism.
            horizon: slates of an episode at most.
            stationary: whether to act at every slate as `horizon` slates before the end; otherwise by the slates left.
        """
        super().__init__(shopper, k)
        self._chain, self._stationary = chain, stationary
        value, plan = torch.zeros(len(chain.utility)), []
        for _ in range(horizon):
            value, slate = backed_up(shopper, k, chain, value)
            plan.append(slate)
        self.value = value
        """(S,) what is earned from each state on, with the whole horizon left."""
        self._plan = torch.stack(plan[::-1])  # (horizon, S, K)

    def slates(self, state: Any) -> Tensor:
        """(B, K) planned slates."""
        at = torch.zeros_like(state.step) if self._stationary else state.step.clamp(max=len(self._plan) - 1)
        return self._plan[at, self._chain.where(state)]


def backed_up(shopper: KnownTruthShopper, k: int, chain: Chain, value: Tensor) -> tuple[Tensor, Tensor]:
    """(S,) values with one slate more to go, and the (S, K) best slates."""
    click, none = chain.ahead(value)
    gain = chain.earned + click - none[:, None]
    best = best_slate(chain.utility, gain, outside_of(shopper, len(gain)), torch.zeros(k), _items(shopper), 12)
    return none + best.value, best.slate


def outside_of(shopper: KnownTruthShopper, rows: int) -> Tensor:
    """(rows,) utility of clicking nothing."""
    return torch.full((rows,), float(np.log(shopper.config.outside_option)))


def _items(shopper: KnownTruthShopper) -> Tensor:
    return torch.arange(shopper.n_items + 1) > 0


def bought(shopper: KnownTruthShopper, utility: Tensor) -> tuple[Tensor, Tensor]:
    """(S, N + 1) chances of a cart given a click and of a purchase given a cart, at these utilities."""
    cart, purchase = shopper._funnel(utility, shopper._allure)
    return cart.nan_to_num(), purchase.nan_to_num()


def _basis(shopper: KnownTruthShopper, gains: Tensor, reward: RewardMix) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Utilities (S, N + 1) with categories raised by (S, C), rewards of clicks, and chances of cart and purchase."""
    state = shopper.reset(torch.zeros(len(gains), dtype=torch.int64))
    state.satiation = -gains
    utility = shopper.utilities(state)
    utility[:, 0] = -1e9
    cart, purchase = bought(shopper, utility)
    return utility, earned(shopper, reward, cart * purchase), cart, purchase


def earned(shopper: KnownTruthShopper, reward: RewardMix, sold: Tensor) -> Tensor:
    """(B, N + 1) reward expected of a click, by the chance that it ends in a purchase."""
    return reward.click + (reward.purchase + reward.revenue * shopper.prices) * sold


def stays(shopper: KnownTruthShopper, sold: Tensor) -> Tensor:
    """Chance that who clicked stays, by the chance that it bought."""
    config = shopper.config
    return 1 - config.leave - sold * (config.leave_bought - config.leave)


def off_chain(shopper: KnownTruthShopper, reward: RewardMix) -> Chain:
    """No mechanism: one state."""
    utility, earned, cart, purchase = _basis(shopper, torch.zeros(1, shopper.config.n_categories), reward)
    stay = stays(shopper, cart * purchase)

    def ahead(value: Tensor) -> tuple[Tensor, Tensor]:
        return stay * value, (1 - shopper.config.leave) * value

    return Chain(utility, earned, ahead, lambda state: torch.zeros_like(state.step))


def patience_chain(shopper: KnownTruthShopper, reward: RewardMix) -> Chain:
    """A state for each number of slates that are still borne: less a whole number, what some item clicked has left."""
    full = float(shopper.config.patience)
    left = (full - shopper._letdown).unique()  # a click on an item sets the patience anew
    grid = (left[:, None] - torch.arange(full + 1)).flatten()
    grid = grid[grid > 1e-4].unique()  # ascending
    utility, earned, cart, purchase = _basis(shopper, torch.zeros(len(grid), shopper.config.n_categories), reward)
    stay, leave = stays(shopper, cart * purchase), shopper.config.leave

    def worth(value: Tensor, patience: Tensor) -> Tensor:
        return torch.where(patience > 1e-4, value[_nearest(grid, patience)], 0.0)

    def ahead(value: Tensor) -> tuple[Tensor, Tensor]:
        return stay * worth(value, full - shopper._letdown), (1 - leave) * worth(value, grid - 1)

    return Chain(utility, earned, ahead, lambda state: _nearest(grid, state.patience))


def _nearest(grid: Tensor, asked: Tensor) -> Tensor:
    """Places of the nearest numbers of an ascending grid."""
    place = torch.searchsorted(grid, asked.contiguous()).clamp(1, len(grid) - 1)
    return place - ((asked - grid[place - 1]) < (grid[place] - asked)).long()


def complements_chain(shopper: KnownTruthShopper, reward: RewardMix) -> Chain:
    """A state for each way in which categories can have gained: which were clicked, carted or bought on this visit."""
    config, companions = shopper.config, shopper._companions
    levels = torch.tensor([0.0, *DEPTHS]) * config.complements
    depths = torch.tensor(list(itertools.product(range(4), repeat=config.n_categories)))
    reached = (levels[depths][:, :, None] * companions).amax(1)  # (4 ** C, C)
    states = (reached / 1e-3).round().unique(dim=0) * 1e-3
    utility, earned, cart, purchase = _basis(shopper, states, reward)
    carted, sold = cart * (1 - purchase), cart * purchase
    chances = torch.stack([1 - cart, carted, sold])  # of a click that ends so
    stay = torch.tensor([1 - config.leave, 1 - config.leave, 1 - config.leave_bought])[:, None, None]

    def where(gain: Tensor) -> Tensor:
        return torch.cdist(gain, states).argmin(1)

    after = torch.stack(
        [
            torch.stack(
                [where(torch.maximum(states, level * companions[category])) for category in range(len(companions))], 1
            )
            for level in levels[1:]
        ]
    )  # (3, S, C)
    onto = after[:, :, shopper._category]  # (3, S, N + 1)

    def ahead(value: Tensor) -> tuple[Tensor, Tensor]:
        return (chances * stay * value[onto]).sum(0), (1 - config.leave) * value

    return Chain(utility, earned, ahead, lambda state: where(state.gain))


def visits_chain(shopper: KnownTruthShopper, reward: RewardMix, max_visits: int) -> Chain:
    """A state for each visit and the best thing that has happened on it: nothing, a click or a purchase."""
    config = shopper.config
    utility, earned, cart, purchase = _basis(shopper, torch.zeros(3 * max_visits, config.n_categories), reward)
    sold = cart * purchase
    pleasure = torch.arange(3 * max_visits) % 3  # 0 nothing, 1 a click, 2 a purchase
    visit = torch.arange(3 * max_visits) // 3
    back = torch.sigmoid(torch.logit(torch.tensor(config.come_back)) + config.delight * torch.arange(-1.0, 2.0))

    def ahead(value: Tensor) -> tuple[Tensor, Tensor]:
        following = torch.cat([value[::3][1:], torch.zeros(1)])[
            visit
        ]  # the next visit's first state; paid, if late too
        away = back * (following[:, None] + reward.returned)  # (S, 3) what leaving is worth, by how pleased
        here = value.view(max_visits, 3)[visit]  # (S, 3) what staying is worth

        def then(leave: float, least: Tensor) -> Tensor:
            mixed = leave * away + (1 - leave) * here
            return mixed.gather(1, torch.maximum(pleasure, least)[:, None])

        click = then(config.leave, torch.ones_like(pleasure))
        purchase_ = then(config.leave_bought, torch.full_like(pleasure, 2))
        return (1 - sold) * click + sold * purchase_, then(config.leave, torch.zeros_like(pleasure))[:, 0]

    def where(state: Any) -> Tensor:
        return 3 * (state.seed >> VISIT_BITS).clamp(max=max_visits - 1) + state.pleasure + 1

    return Chain(utility, earned, ahead, where)
