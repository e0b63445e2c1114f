"""The network of SlateQ in stable-baselines3: a scorer and its slowly following copy.

Shapes: B rows, K slots.
"""

from copy import deepcopy
from typing import Any

from gymnasium import spaces
from stable_baselines3.common.policies import BasePolicy
from stable_baselines3.common.type_aliases import Schedule
from torch import Tensor

from .learning import constructor_parameters
from .replay import catalogue_size, names_places, slate_space, state_of, state_space
from .scorers import SlateQScorer


class SlateQPolicy(BasePolicy):
    """Greedy slates by a `SlateQScorer`, with its slowly following copy; arguments as for `SlatePolicy`.

    Where slates name places, they are filled from the "candidates" observed, whose largest number is the catalogue's
    size.
    """

    def __init__(
        self,
        observation_space: spaces.Space,
        action_space: spaces.MultiDiscrete,
        lr_schedule: Schedule,
        *,
        hidden: int = 128,
        scale: float = 5.0,
        max_candidates: int = 2_000,
        shown_value: bool = False,
    ) -> None:
        super().__init__(observation_space, action_space)
        n_items, (_, k) = catalogue_size(observation_space, action_space), slate_space(action_space)
        self.places = names_places(action_space)
        dim = state_space(observation_space).shape[0]
        shape: dict[str, Any] = {"hidden": hidden, "scale": scale, "max_candidates": max_candidates}
        self.scorer = SlateQScorer(dim, n_items, k, **shape, shown_value=shown_value)
        self.target = deepcopy(self.scorer).requires_grad_(False)
        self.optimizer = self.optimizer_class(self.scorer.parameters(), lr=lr_schedule(1), **self.optimizer_kwargs)  # pyright: ignore[reportCallIssue]

    def forward(self, obs: Any, deterministic: bool = True) -> Tensor:
        """(B, K) greedy slates."""
        return self._predict(obs, deterministic)

    def _predict(self, observation: Any, deterministic: bool = False) -> Tensor:  # noqa: ARG002
        if self.places:
            return self.scorer.best(state_of(observation), observation["candidates"].long()).slate
        return self.scorer.slates(state_of(observation))

    def _get_constructor_parameters(self) -> dict[str, Any]:
        return constructor_parameters(self) | {"shown_value": self.scorer.shown is not None}
