"""Logged slates as offline learners read them: the state when each was shown, what was done, and what came of it.

Shapes: S slates, K slots, T tokens, D width of states.
"""

from dataclasses import dataclass

import numpy as np
import torch
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..datasets.tokens import Floats, Ints
from ..encoders.state import StateEncoder
from ..errors import EvidenceError

_AT_ONCE = 512  # histories encoded together


@dataclass(frozen=True, slots=True)
class LoggedSlates:
    """Slates of a log, in order of session and time. Only what was shown is here: nothing is made up as not wanted.

    Attributes:
        states: (S, D) float32 the encoder's, of the session up to the slate.
        slates: (S, K) int64 dense indices, best place first, 0 in empty slots.
        clicked: (S,) int64 slot, -1 for none.
        rewards: (S,) float32 what each slate earned.
        propensity: (S, K) chance of each item at its place given those above it; nan where not logged.
        session: (S,) int64 numbers of the sessions, non-decreasing.
    """

    states: Floats
    slates: Ints
    clicked: Ints
    rewards: Floats
    propensity: NDArray[np.float64]
    session: Ints

    def __len__(self) -> int:
        return len(self.session)

    @classmethod
    @torch.no_grad()
    def from_log(
        cls,
        log: ShopLog,
        encoder: StateEncoder,
        *,
        click: float = 1.0,
        cart: float = 0.0,
        purchase: float = 5.0,
        revenue: float = 0.0,
    ) -> "LoggedSlates":
        """The slates of a log with the states of an encoder.

        Args:
            log: with impressions.
            encoder: of the agent.
            click: reward of a click.
            cart: more where the item clicked went into the cart.
            purchase: more where it was bought.
            revenue: more for each unit of its price where it was bought.

        Raises:
            EvidenceError: the log holds no slates.
            ValueError: the encoder knows other items.
        """
        if encoder.n_items != log.catalogue.n_items:
            raise ValueError(f"the encoder knows {encoder.n_items} items and the log {log.catalogue.n_items}")
        shown = log.slates
        if not len(shown):
            raise EvidenceError(
                "the log holds no slates (events of kind impression with a slate_id), and offline agents learn from "
                "what was shown; train ppo or dqn on fitted shoppers instead"
            )
        device, reach = encoder.item_vectors.device, getattr(encoder, "reach", 50)
        states = np.zeros((len(shown), encoder.dim), np.float32)
        for rows in np.array_split(np.arange(len(shown)), -(-len(shown) // _AT_ONCE)):
            history = log.tokens.histories(shown.session[rows], upto=shown.before[rows], last=reach)
            parts = (history.items, history.events, history.gaps, history.lengths)
            states[rows] = encoder.encode(*(torch.from_numpy(part).to(device) for part in parts)).cpu().numpy()
        hit = shown.clicked >= 0
        item = np.take_along_axis(shown.items, np.maximum(shown.clicked, 0)[:, None], 1)[:, 0]
        paid = np.nan_to_num(log.catalogue.prices[item]) * shown.purchased
        rewards = hit * (click + cart * shown.carted + purchase * shown.purchased + revenue * paid)
        return cls(states, shown.items, shown.clicked, rewards.astype(np.float32), shown.propensity, shown.session)

    def returns(self, gamma: float) -> Floats:
        """(S,) what each slate and those after it in its session earned, discounted per slate."""
        found = self.rewards.astype(np.float64)
        for row in range(len(found) - 2, -1, -1):
            if self.session[row] == self.session[row + 1]:
                found[row] += gamma * found[row + 1]
        return found.astype(np.float32)

    def check_propensities(self) -> None:
        """See that every slot clicked tells its propensity.

        Raises:
            EvidenceError: one does not, or is no chance; off-policy learning would be a guess.
        """
        rows = np.flatnonzero(self.clicked >= 0)
        logged = self.propensity[rows, self.clicked[rows]]
        bad = ~((logged > 0) & (logged <= 1))
        if bad.any():
            raise EvidenceError(
                f"{int(bad.sum())} of {len(rows)} clicked slots have no propensity in (0, 1]; log propensities, or "
                "estimate them (behaviour='estimated')"
            )
