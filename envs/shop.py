"""One shopper as a plain Gymnasium environment: a row of the batch that `ShopVectorEnv` computes."""

from collections.abc import Mapping
from typing import Any

import gymnasium as gym
import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..datasets.catalogue import Catalogue
from ..encoders.state import StateEncoder
from ..simulators.shopper import Shopper
from .batch import Observation, ObservationKind, ShopBatch
from .defaults import DEFAULT_K, DEFAULT_MAX_SLATES, parts
from .render import slate_text
from .rewards import RewardMix
from .seeds import SeedStreams
from .waiting import WaitingRoom


class ShopEnv(gym.Env[Observation, NDArray[np.int64]]):
    """A shopper sees one slate of `k` items per step, and clicks at most one.

    ## Action Space
    `SlateSpace`, that is `MultiDiscrete([n_items + 1] * k)` sampled without repeats: dense item indices, best place
    first. 0 leaves a slot empty, and so do an item's second place and an unavailable item: every action is legal.
    ## Observation Space
    `observation="state"`: `Box(-1, 1, (d,), float32)`, the encoder's state of what the shopper did so far.
    `observation="history"`: a `Dict` with the last `history_len` (H) tokens, left-aligned, oldest first, then zeros:

    | key | space | meaning |
    |---|---|---|
    | `state` | `Box(-1, 1, (d,), float32)` | as above |
    | `items` | `Box(0, n_items, (H,), int64)` | dense item index |
    | `events` | `Box(0, 6, (H,), int64)` | deepest event, code of `datasets.schema.Event` |
    | `gaps` | `Box(0, large, (H,), float32)` | seconds since the token before |
    | `lengths` | `Box(0, H, (1,), int64)` | tokens held |
    | `slates` | `Box(0, n_items, (H * k,), int64)` | `reshape(H, k)`: row t is the slate that token t answers |

    `slates` has the slates as the shopper saw them, best place first; its row is zero for a token that the shopper
    brought along. A slate that was empty makes no token, and is not told.
    ## Rewards
    The `reward` mix of what happened on this slate: by default 1 for a click and 5 more for a purchase. `info` has the
    business figures: `clicked` (slot, -1 for none), `clicked_item` (0 for none), `carted`, `purchased`, `quantity`
    (bought), `revenue` (in currency), `dwell` (seconds on this slate), `examined` (slots looked at), `doubt` where it
    has a price; and, as after `reset`, `slates` (shown so far) and `shopper_seed`.
    ## Starting State
    A shopper drawn by the seed, who may have done something already. Episode e after `reset(seed=s)` meets a shopper
    that is a function of (s, e); `reset(options={"shopper_seeds": [n]})` names the shopper.
    ## Episode End
    Terminated: the shopper left. Truncated: `max_slates` slates were shown, and the shopper would have stayed.
    ## Arguments
    `shopper` (Shopper, of the small known-truth shop), `encoder` (StateEncoder, `MeanEncoder` of the catalogue), `k`
    (int, 5), `reward` (RewardMix, name, or weights by name, "clicks_and_purchases"), `max_slates` (int, 30),
    `observation` ("state"), `history_len` (int, 20), `available` ((n_items + 1,) bool, all), `doubt` (None: how much
    reward is taken off for each unit of it by which the shopper's ensemble disagrees about the slate; 0 tells it only),
    `catalogue` (Catalogue, the shopper's: titles for `render`), `render_mode` (None or "ansi").
    ## Version History
    - v0: first release.
    """

    metadata: dict[str, Any] = {"render_modes": ["ansi"], "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        shopper: Shopper | None = None,
        encoder: StateEncoder | None = None,
        k: int = DEFAULT_K,
        reward: RewardMix | str | Mapping[str, float] = "clicks_and_purchases",
        max_slates: int = DEFAULT_MAX_SLATES,
        *,
        observation: ObservationKind = "state",
        history_len: int = 20,
        available: ArrayLike | None = None,
        doubt: float | None = None,
        catalogue: Catalogue | None = None,
        render_mode: str | None = None,
    ) -> None:
        shopper, encoder, self.catalogue = parts(shopper, encoder, catalogue)
        mix = RewardMix.of(reward)
        self.batch = ShopBatch(1, shopper, encoder, k, mix, max_slates, observation, history_len, available, doubt)
        self.action_space = self.batch.action_space
        self.observation_space = self.batch.observation_space
        self.render_mode = render_mode
        self._streams = SeedStreams(1)
        self._room = WaitingRoom(self.batch, self._streams)

    def reset(
        self, *, seed: int | None = None, options: dict[str, Any] | None = None
    ) -> tuple[Observation, dict[str, Any]]:
        """Let a new shopper arrive.

        Raises:
            ValueError: an unknown option.
        """
        super().reset(seed=seed)
        named = _named_shopper(options)
        row = np.zeros(1, np.int64)
        self._streams.seed(row, seed, self.np_random)
        if seed is None and named is None and self.batch.started:
            self.batch.arrive(row, *self._room.next(row))
        else:
            drawn = self._streams.draw(row)
            self.batch.arrive(row, drawn if named is None else named)
            self._room.forget(row)
        return self._observation(), self._episode()

    def step(self, action: NDArray[np.int64]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show the shopper a slate, (k,).

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
            ValueError: `action` is no slate over these items.
        """
        if not self.batch.started:
            raise gym.error.ResetNeeded("call reset() before step(): no shopper has arrived yet")
        turn = self.batch.show(np.asarray(action)[None])
        info = {name: values[0].item() for name, values in turn.figures.items()} | self._episode()
        return self._observation(), float(turn.rewards[0]), bool(turn.terminated[0]), bool(turn.truncated[0]), info

    def render(self) -> str | None:  # pyright: ignore[reportIncompatibleMethodOverride]
        """The last slate as text, where `render_mode` is `"ansi"`."""
        return None if self.render_mode is None else slate_text(self.batch, 0, self.catalogue)

    def _observation(self) -> Observation:
        seen = self.batch.observe()
        return {name: values[0] for name, values in seen.items()} if isinstance(seen, dict) else seen[0]

    def _episode(self) -> dict[str, Any]:
        return {"slates": int(self.batch.slates[0]), "shopper_seed": int(self.batch.shopper_seeds[0])}


def _named_shopper(options: Mapping[str, Any] | None) -> NDArray[np.int64] | None:
    """(1,) the seed of the shopper asked for, if one is."""
    options = options or {}
    for name in options:
        if name != "shopper_seeds":
            raise ValueError(f"reset knows no option {name!r}; it knows shopper_seeds")
    seeds = options.get("shopper_seeds")
    if seeds is None:
        return None
    named = np.asarray(seeds)
    if named.shape != (1,) or named.dtype.kind not in "iu":
        raise ValueError(f"option 'shopper_seeds' must hold one integer, got {seeds!r}")
    return named.astype(np.int64)
