"""The known shop's oracle: what a recommender could earn that knows each shopper through and through.

Shapes: B shoppers, K slots, N items.
"""

from collections.abc import Callable
from typing import Any

import torch
from numpy.typing import ArrayLike

from ..datasets.tokens import Ints
from ..simulators.known_truth import KnownTruthShopper, KnownTruthState, Value
from ..simulators.oracle import best_slates


class OraclePolicy:
    """The slate that earns the most when shown once, by the shopper's true tastes, which no agent is told.

    It looks no further than this slate, so that it is a bound on what a slate earns, and not on what a visit does.
    It reads no observation: whoever runs it lets it see the shoppers, by `attend` (`evaluation.judge` does).

    Args:
        shopper: the truth.
        k: slots.
        value: what is earned: clicks, purchases, or revenue.
        available: (N + 1,) bool; all by default.
        exact: by branch and bound, where a slot is left empty if an item would cost more than it brings; otherwise in
            the good order of `KnownTruthShopper.oracle_slates`, many times as fast, and exact for clicks.
    """

    def __init__(
        self,
        shopper: KnownTruthShopper,
        k: int,
        value: Value = "purchase",
        available: ArrayLike | None = None,
        *,
        exact: bool = True,
    ) -> None:
        if value not in ("click", "purchase", "revenue"):
            raise ValueError(f"value must be 'click', 'purchase' or 'revenue', got {value!r}")
        self.shopper, self.k, self.value, self.exact = shopper, k, value, exact
        self.available = None if available is None else torch.as_tensor(available, dtype=torch.bool).clone()
        self._see: Callable[[], Any] | None = None

    def attend(self, see: Callable[[], Any]) -> None:
        """Look at the simulator's own state from here on: `see()` gives it, a row for each row of an observation."""
        self._see = see

    def predict(
        self, observation: Any = None, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[Ints, None]:
        """(B, k) int64 slates, best place first, 0 in slots left empty, and None; the observation is not read.

        Raises:
            ValueError: it was not let see the shoppers, or they are not of the known-truth shop.
        """
        del observation, state, episode_start, deterministic
        seen = None if self._see is None else self._see()
        if not isinstance(seen, KnownTruthState):
            kind = "nothing" if seen is None else type(seen).__name__
            raise ValueError(
                f"the oracle sees known-truth shoppers, got {kind}; call attend(lambda: env.batch.here.state), and "
                "judge it in the known-truth shop alone"
            )
        settings: dict[str, Any] = {"value": self.value, "available": self.available}
        if self.exact:
            return best_slates(self.shopper, seen, self.k, **settings).slates.cpu().numpy(), None
        return self.shopper.oracle_slates(seen, self.k, **settings).cpu().numpy(), None
