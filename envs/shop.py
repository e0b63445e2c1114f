"""One shopper as a plain Gymnasium environment: a row of the batch that `ShopVectorEnv` computes."""

from collections.abc import Callable, Mapping
from typing import Any, Literal

import gymnasium as gym
import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray

from ..datasets.catalogue import Catalogue
from ..encoders.state import StateEncoder
from ..simulators.shopper import Shopper
from .batch import Observation, ShopBatch
from .defaults import DEFAULT_K, DEFAULT_MAX_SLATES, parts
from .render import RENDER_MODES, checked_mode, rendered
from .rewards import RewardMix, SlateOutcome, reward_of
from .seeds import SeedStreams
from .settings import ActionKind, ObservationKind, Retrieve, ShopSettings
from .waiting import WaitingRoom


class ShopEnv(gym.Env[Observation, NDArray[np.int64]]):
    """A shopper sees one slate of `k` items per step, and clicks at most one.

    One implementation, registered with different settings; what is set can be set anew in `gymnasium.make`:

    | id | an episode is | settings |
    |---|---|---|
    | `slatewise/Shop-v0` | one visit | the defaults below |
    | `slatewise/Visits-v0` | a shopper's visits | `visits=True, observation="context", max_slates=200` |
    | `slatewise/Search-v0` | one visit, to search | `search=True, observation="query"` |

    ## Action Space
    `SlateSpace`, that is `MultiDiscrete([n_items + 1] * k)` sampled without repeats: dense item indices, best place
    first. 0 leaves a slot empty, and so do an item's second place and an unavailable item: every action is legal.
    With `candidates=M` a slate names places in the list of candidates instead, `MultiDiscrete([M + 1] * k)`: place p is
    the item `observation["candidates"][p]`, places count from 1, and 0 leaves a slot empty (`actions="items"` names
    items all the same). `action_masks()`, (k * (n + 1),) bool for a space of n + 1 choices a slot, says which choices
    do what they say, in the layout of sb3-contrib: an unavailable item and an empty place do not, 0 always does.
    ## Observation Space
    `observation="state"`: `Box(-1, 1, (d,), float32)`, the encoder's state of what the shopper did so far. The name of
    another part, or several names, give a `Dict` with the state and these parts (M candidates, H = `history_len`):

    | part | key and space | meaning |
    |---|---|---|
    | `state` | `state`: `Box(-1, 1, (d,), float32)` | as above; always there |
    | `history` | `items`: `Box(0, n_items, (H,), int64)` | the last H tokens, oldest first, then zeros: item index |
    | | `events`: `Box(0, 6, (H,), int64)` | their deepest event, code of `datasets.schema.Event` |
    | | `gaps`: `Box(0, large, (H,), float32)` | seconds since the token before |
    | | `lengths`: `Box(0, H, (1,), int64)` | tokens held |
    | | `slates`: `Box(0, n_items, (H * k,), int64)` | `reshape(H, k)`: row t is the slate that token t answers |
    | `candidates` | `candidates`: `Box(0, n_items, (M + 1,), int64)` | items retrieved, best first, from entry 1 |
    | `candidate_features` | same: `Box(-1, 1, ((M + 1) * (2 + d),), float32)` | of each, see below |
    | `context` | same: `Box(-1, 1, (9,), float32)` | where visit and shopper stand, columns `slatewise.envs.CONTEXT` |
    | `query` | same: `Box(-1, 1, (E,), float32)` | vector of what the shopper searches for |
    | `action_mask` | same: `Box(0, 1, (k * (n + 1),), int8)` | `action_masks()`, by the key that RLlib reads |

    `candidates` are always there with `candidates=M`; entry 0, and those left over at the end, are 0. A row of
    `candidate_features.reshape(M + 1, -1)` has the cosine of item and state, the rank of its price in [0, 1], and the
    item's vector.
    `slates` has the slates as the shopper saw them, best place first; its row is zero for a token that the shopper
    brought along. A slate that was empty makes no token, and is not told.

    With `search` the state is turned towards what the shopper searches for, so that a policy which ranks by the state
    answers the search; and so are candidates. `info["query"]` is the number of the search in `queries`. What a shopper
    wants is as without it: the search tells what the visit is mostly about.
    ## Rewards
    The `reward` of what happened on this slate: by default 1 for a click and 5 more for a purchase. It is a name
    ("clicks_and_purchases", "clicks", "purchases", "revenue", or "long_term", which adds 5 for a visit that is followed
    by another), a `RewardMix`, weights by name, or a function from a `SlateOutcome` of B shoppers to (B,) numbers.

    `info` has the business figures: `clicked` (slot, -1 for none), `clicked_item` (0 for none), `carted`, `purchased`,
    `quantity` (bought), `revenue` (in currency), `dwell` (seconds on this slate), `examined` (slots looked at), `doubt`
    where it has a price; the episode's totals so far, `clicks`, `carts`, `purchases` and `sales` (in currency); and, as
    after `reset`, `slates` (shown so far) and `shopper_seed`.

    With visits there are also `returned` (the slate ended the visit, and the shopper comes again), `days_away` (until
    then) and `discount`, and, as after `reset`, `visit` (those before the one that goes on now) and `day` (on which it
    began, counted from the first one). A reward of day d counts `day_discount ** d`, which is `discount`: a learner's
    own discount goes by slates, and this one by the days between visits. At 1, the default, days cost nothing.
    ## Starting State
    A shopper drawn by the seed, who may have done something already. Episode e after `reset(seed=s)` meets a shopper
    that is a function of (s, e); `reset(options={"shopper_seeds": [n]})` names the shopper. With visits the low 40 bits
    of n name it, and its first visit begins.
    ## Episode End
    Terminated: the shopper left. Truncated: `max_slates` slates were shown, and the shopper would have stayed.

    With visits an episode goes on until the shopper has left and does not come again; how its visit went decides that.
    Truncated is also where the next visit would be more than `max_visits`, or later than `max_days` after the first.
    The step that ends a visit shows the beginning of the next one already: the encoder starts anew, as it was trained
    and is served, unless the shop `remembers` (the first token's gap is then the days away). How long the shopper was
    away is in `context`.
    ## Arguments
    - `shopper` (Shopper): who comes; of the small known-truth shop by default.
    - `encoder` (StateEncoder): of the same items; `MeanEncoder` of the catalogue by default.
    - `k` (int, 5): slots in a slate.
    - `reward` ("clicks_and_purchases"): see above.
    - `max_slates` (int, 30): slates of an episode at most.
    - `observation` ("state"): see above. `history_len` (int, 20): tokens kept in a history.
    - `available` ((n_items + 1,) bool, all): items that may be shown; or "on_sale": those that a known-truth shop has
      on sale on the day of the visit (`KnownShopConfig.turnover`).
    - `doubt` (None): how much reward is taken off for each unit of it by which the shopper's ensemble disagrees about
      the slate; 0 tells it only.
    - `candidates` (None): how many available items to retrieve in front of each slate. `retrieve` (states (B, d) ->
      scores (B, n_items + 1)): by default the encoder's `scores`. `actions` ("places" or "items"): what slates name.
    - `visits` (bool, False): whether a shopper's visits are one episode; it must come again by itself. `max_visits`
      (int, 20), `max_days` (365), `day_discount` (1.0), `remembers` (bool, False): see above.
    - `search` (bool, False): whether the shopper's search is told. `query_vectors` ((Q + 1, E)): of its `queries`,
      zeros first, by the text encoder of a session encoder that was trained with searches; for other encoders in the
      space of the items, by default the mean of those that match.
    - `device` (None): where shopper and encoder must live, and defaults are made.
    - `catalogue` (Catalogue): titles for `render`; the shopper's by default.
    - `render_mode` (None): "ansi" for text, "rgb_array" for a picture.
    ## Version History
    - `Shop-v0`, `Visits-v0`, `Search-v0`: first release.
    """

    metadata: dict[str, Any] = {"render_modes": RENDER_MODES, "render_fps": 1}  # noqa: RUF012

    def __init__(
        self,
        shopper: Shopper | None = None,
        encoder: StateEncoder | None = None,
        k: int = DEFAULT_K,
        reward: RewardMix | str | Mapping[str, float] | Callable[[SlateOutcome], Any] = "clicks_and_purchases",
        max_slates: int = DEFAULT_MAX_SLATES,
        *,
        observation: ObservationKind = "state",
        history_len: int = 20,
        available: ArrayLike | Literal["on_sale"] | None = None,
        doubt: float | None = None,
        candidates: int | None = None,
        retrieve: Retrieve | None = None,
        actions: ActionKind | None = None,
        visits: bool = False,
        max_visits: int = 20,
        max_days: float = 365.0,
        day_discount: float = 1.0,
        remembers: bool = False,
        search: bool = False,
        query_vectors: ArrayLike | None = None,
        device: torch.device | str | None = None,
        catalogue: Catalogue | None = None,
        render_mode: str | None = None,
    ) -> None:
        shopper, encoder, self.catalogue = parts(shopper, encoder, catalogue, visits=visits, device=device)
        settings = ShopSettings(
            k=k,
            reward=reward_of(reward),
            max_slates=max_slates,
            observation=observation,
            history_len=history_len,
            available=available,
            doubt=doubt,
            candidates=candidates,
            retrieve=retrieve,
            actions=actions,
            visits=visits,
            max_visits=max_visits,
            max_days=max_days,
            day_discount=day_discount,
            remembers=remembers,
            search=search,
            query_vectors=query_vectors,
        )
        self.batch = ShopBatch(1, shopper, encoder, settings, self.catalogue)
        self.action_space = self.batch.action_space
        self.observation_space = self.batch.observation_space
        self.render_mode = checked_mode(render_mode)
        self._streams = SeedStreams(1)
        self._room = WaitingRoom(self.batch, self._streams)
        self._ended = False

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
        self._ended = False
        return self._observation(), self._episode()

    def step(self, action: NDArray[np.int64]) -> tuple[Observation, float, bool, bool, dict[str, Any]]:
        """Show the shopper a slate, (k,).

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`, or after the episode's end.
            ValueError: `action` is no slate over these items.
        """
        if not self.batch.started:
            raise gym.error.ResetNeeded("call reset() before step(): no shopper has arrived yet")
        if self._ended:
            raise gym.error.ResetNeeded("the episode has ended; call reset()")
        turn = self.batch.show(np.asarray(action)[None])
        self._ended = bool(turn.terminated[0] or turn.truncated[0])
        info = {name: values[0].item() for name, values in turn.figures.items()} | self._episode()
        return self._observation(), float(turn.rewards[0]), bool(turn.terminated[0]), bool(turn.truncated[0]), info

    def render(self) -> Any:
        """The last slate: text under `"ansi"`, a picture (height, 720, 3) uint8 under `"rgb_array"`, or None.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        frames = rendered(self.batch, self.render_mode, self.catalogue)
        return None if frames is None else frames[0]

    @property
    def queries(self) -> tuple[str, ...]:
        """Texts of the searches that `info["query"]` numbers; none where nobody searches."""
        return () if self.batch.search is None else self.batch.search.texts

    def action_masks(self) -> NDArray[np.bool_]:
        """(k * (n + 1),) bool as sb3-contrib reads them: for each slot, whether each action does what it says.

        Raises:
            gymnasium.error.ResetNeeded: before the first `reset`.
        """
        if not self.batch.started:
            raise gym.error.ResetNeeded("call reset() before action_masks(): no shopper has arrived yet")
        return self.batch.shelf.action_masks()[0]

    def _observation(self) -> Observation:
        seen = self.batch.observe()
        return {name: values[0] for name, values in seen.items()} if isinstance(seen, dict) else seen[0]

    def _episode(self) -> dict[str, Any]:
        return {name: values[0].item() for name, values in self.batch.episode().items()}


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
