"""The bridge to Minari: logged sessions and rollouts of a policy as offline data sets, and back to a log.

One episode is one session, one step one slate. Observations and actions are those of `ShopEnv`. `infos` has an entry
more than there are steps, as Minari's own collector writes them: entry t + 1 belongs to step t, entry 0 to the reset.

| info | shape | meaning |
|---|---|---|
| `slate` | (K,) int64 | items as the shopper saw them, also where actions are places among candidates; 0 is empty |
| `propensity` | (K,) float64 | chance of each item at its place given those above it; nan where it is not known |
| `clicked` | int64 | slot, -1 for none |
| `carted`, `purchased` | bool | what became of the item clicked |
| `quantity` | int64 | how many were bought |
| `revenue` | float64 | in the shop's currency |
| `gap` | float64 | seconds from the shopper's last token to the slate |
| `dwell` | float64 | seconds on the slate; nan where it is not known |
| `returned` | bool | the slate ended the visit, and the shopper comes again; only of environments with visits |
| `days_away` | float64 | days from the beginning of that visit to that of the next; likewise |

Needs `pip install "slatewise[minari]"`. Minari keeps data sets under `MINARI_DATASETS_PATH`, by default in the user's
home. Shapes: K slots, T steps.
"""

import warnings
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from typing import Any

import gymnasium as gym
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from ..encoders.mean import MeanEncoder
from ..encoders.state import StateEncoder
from ..simulators.collect_events import write_events
from ..simulators.collect_plan import Plan
from ..simulators.collect_run import Arrivals, Shown
from .offline_log import LoggedSteps, history_space, logged_steps
from .rewards import RewardMix
from .spaces import SlateSpace

Propensities = Callable[[Any, NDArray[np.int64]], NDArray[np.float64]]
"""Observations and slates (B, K) -> (B, K) chance of each item at its place given those above it."""
FORMAT = "arrow"
"""Files of a data set: Arrow needs nothing more than Minari itself; `"hdf5"` needs h5py."""
_ITEMS = "slatewise_items"  # in a data set's metadata: how many items the catalogue has
_VISITS = "slatewise_visits"  # in a data set's metadata: whether an episode is several visits
_RETURNS = {"returned": False, "days_away": 0.0}
_OUTCOMES = {"clicked": -1, "carted": False, "purchased": False, "quantity": 0, "revenue": 0.0, "dwell": np.nan}
_APART = 3600 * 10**6  # microseconds between sessions whose time is not known


def export_log(
    log: ShopLog,
    dataset_id: str,
    *,
    encoder: StateEncoder | None = None,
    reward: RewardMix | str | Mapping[str, float] = "clicks_and_purchases",
    history_len: int = 20,
    data_format: str = FORMAT,
    **about: Any,
) -> Any:
    """Write the logged slates of a shop as a Minari data set.

    Every session ends as terminated: the shopper left. What it did elsewhere, between slates, is in the observations.
    Each episode's metadata has `session_id`, `shopper_id` and `start` under `options`.

    Args:
        log: with slates; sessions without any are left out.
        dataset_id: as Minari names data sets, for instance "shop/logged-v0".
        encoder: of the states that the agent sees; `MeanEncoder` of the log's catalogue by default.
        reward: what a slate earned: a mix, its name, or weights by name.
        history_len: tokens kept in an observation.
        data_format: "arrow", "parquet" or "hdf5".
        about: what else `minari.create_dataset_from_buffers` takes, `author` say.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        EvidenceError: the log shows no slates.
        ModuleNotFoundError: minari is not installed.
    """
    minari = _minari()
    encoder = encoder or MeanEncoder.from_catalogue(log.catalogue)
    steps = logged_steps(log, encoder, RewardMix.of(reward), history_len)
    k = steps.slates.shape[1]
    n_items = log.catalogue.n_items
    return _create(
        minari,
        dataset_id,
        [_logged_episode(minari, log, steps, number) for number in range(len(steps.sessions))],
        n_items,
        observation_space=history_space(n_items, k, encoder.dim, history_len),
        action_space=SlateSpace(n_items, max(k, 1)),
        data_format=data_format,
        **about,
    )


def export_rollouts(
    env: gym.Env[Any, Any],
    policy: Any,
    dataset_id: str,
    *,
    episodes: int = 100,
    seed: int = 0,
    deterministic: bool = True,
    propensities: Propensities | None = None,
    data_format: str = FORMAT,
    **about: Any,
) -> Any:
    """Write what a policy showed to simulated shoppers, and what they did, as a Minari data set.

    Episode e is that of `env.reset(seed=seed + e)`; its metadata has this seed. Of an environment with visits it is
    several of them, which a log cannot hold: `log_of` refuses the data set. Where `gymnasium.make` made `env` with
    plain settings, Minari's `recover_environment` makes it again.

    Args:
        env: of slates, wrapped or not.
        policy: with stable-baselines3's `predict`, over batches of observations.
        dataset_id: as Minari names data sets, for instance "shop/random-v0".
        episodes: how many.
        seed: of the first.
        deterministic: handed to the policy.
        propensities: of the policy's slates; `nan` is written without. See `plackett_luce`.
        data_format: "arrow", "parquet" or "hdf5".
        about: what else `minari.create_dataset_from_buffers` takes, `author` say.

    Returns:
        The `minari.MinariDataset`.

    Raises:
        ModuleNotFoundError: minari is not installed.
    """
    minari = _minari()
    buffers = [
        _rolled_out(minari, env, policy, seed + number, deterministic, propensities) for number in range(episodes)
    ]
    spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
    spec = {"env": env} if _can_be_written(env) else {}
    batch = getattr(env.unwrapped, "batch", None)
    n_items = None if batch is None else int(batch.shopper.n_items)
    dataset = _create(minari, dataset_id, buffers, n_items, data_format=data_format, **spaces, **spec, **about)
    if batch is not None and batch.visits is not None:
        dataset.storage.update_metadata({_VISITS: True})
    return dataset


def plackett_luce(policy: Any) -> Propensities:
    """Propensities of a policy that samples by Plackett-Luce on its `scores`, as a `LearnedPolicy` does."""

    def propensities(observation: Any, slates: NDArray[np.int64]) -> NDArray[np.float64]:
        scores = np.asarray(policy.scores(observation), dtype=np.float64)
        weights = np.exp(scores - scores.max(axis=1, keepdims=True))
        chosen = np.take_along_axis(weights, slates, axis=1)
        rest = weights.sum(axis=1, keepdims=True) - (chosen.cumsum(axis=1) - chosen)
        return np.where(slates > 0, np.minimum(chosen / rest, 1.0), 1.0)

    return propensities


def log_of(dataset: Any, catalogue: Catalogue, *, start: datetime | None = None) -> ShopLog:
    """The log of a data set that `export_log` or `export_rollouts` wrote: its slates, what came of them, propensities.

    Kept are the slates with their outcomes, times and propensities, and, of "history" observations, what a shopper did
    before its first slate as far as the observation reaches back. What it did elsewhere between slates is not.

    Args:
        dataset: a `minari.MinariDataset`, as `minari.load_dataset` reads it.
        catalogue: of its items.
        start: of the first session where the data set does not tell; then sessions begin an hour apart.

    Raises:
        ValueError: the data set is over other items, its episodes are of several visits, or it does not have the infos
            listed above.
    """
    _check_readable(dataset, catalogue)
    episodes = list(dataset.iterate_episodes())
    told = [one.get("options") or {} for one in dataset.storage.get_episode_metadata([one.id for one in episodes])]
    begins = start or datetime(2025, 1, 1, tzinfo=UTC)
    at = np.array(
        [
            _microseconds(one["start"]) if "start" in one else _microseconds(begins.isoformat()) + number * _APART
            for number, one in enumerate(told)
        ],
        np.int64,
    )
    order = np.argsort(at, kind="stable")
    episodes, told, at = [episodes[one] for one in order], [told[one] for one in order], at[order]
    shoppers = np.array([str(one.get("shopper_id", f"s{number:06d}")) for number, one in enumerate(told)], object)
    sessions = np.array([str(one.get("session_id", f"v{number:07d}")) for number, one in enumerate(told)], object)
    numbers = np.arange(len(episodes))
    plan = Plan(numbers, numbers, numbers, at, np.zeros(len(episodes), np.bool_))
    frame = write_events(plan, _arrivals(episodes), _shown(episodes), catalogue)
    row = frame["session_id"].str[1:].astype(np.int64).to_numpy()
    frame["shopper_id"], frame["session_id"] = shoppers[row], sessions[row]
    return ShopLog(frame, catalogue, {"source": f"minari:{dataset.spec.dataset_id}"})


def _minari() -> Any:
    try:
        import minari
    except ModuleNotFoundError as error:
        words = 'Minari data sets need the package minari; pip install "slatewise[minari]"'
        raise ModuleNotFoundError(words, name=error.name) from error
    return minari


def _create(minari: Any, dataset_id: str, buffers: list[Any], n_items: int | None, **settings: Any) -> Any:
    with warnings.catch_warnings():  # that there is no env, or no other one to evaluate in, is no fault of the user's
        warnings.filterwarnings("ignore", message=r"`eval_env` is set to None|env_spec is None")
        dataset = minari.create_dataset_from_buffers(dataset_id, buffers, **settings)
    if n_items is not None:
        dataset.storage.update_metadata({_ITEMS: n_items})
    return dataset


def _can_be_written(env: gym.Env[Any, Any]) -> bool:
    """Whether the spec of an env holds plain settings alone."""
    try:
        return env.spec is not None and bool(env.spec.to_json())
    except (TypeError, ValueError):
        return False


def _logged_episode(minari: Any, log: ShopLog, steps: LoggedSteps, number: int) -> Any:
    """One session as Minari's buffer."""
    rows = slice(int(steps.first[number]), int(steps.first[number + 1]))
    views = slice(rows.start + number, rows.stop + number + 1)
    session = log.sessions.iloc[int(steps.sessions[number])]
    count = rows.stop - rows.start
    return minari.data_collector.EpisodeBuffer(
        id=number,
        options={
            "session_id": str(session["session_id"]),
            "shopper_id": str(session["shopper_id"]),
            "start": session["start"].isoformat(),
        },
        observations={name: values[views] for name, values in steps.observations.items()},
        actions=steps.slates[rows],
        rewards=steps.rewards[rows].tolist(),
        terminations=[False] * (count - 1) + [True],
        truncations=[False] * count,
        infos=_with_reset({"slate": steps.slates[rows], **{name: one[rows] for name, one in steps.infos.items()}}),
    )


def _with_reset(infos: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    """Infos of T steps (T, ...) with an entry for the reset before them.

    Numbers are lists: of an array of one dimension Minari 0.5.4 writes Arrow files that it cannot read.
    """
    found: dict[str, Any] = {}
    for name, values in infos.items():
        nothing = {**_OUTCOMES, **_RETURNS, "slate": 0}.get(name, np.nan)
        whole = np.concatenate([np.full_like(values[:1], nothing), values])
        found[name] = whole.tolist() if whole.ndim == 1 else whole
    return found


def _rolled_out(
    minari: Any,
    env: gym.Env[Any, Any],
    policy: Any,
    seed: int,
    deterministic: bool,
    propensities: Propensities | None,
) -> Any:
    """One episode as Minari's buffer."""
    observation, info = env.reset(seed=seed)
    views, slates, rewards, ends, cuts = [observation], [], [], [], []
    told: list[dict[str, Any]] = []
    ended = False
    while not ended:
        batch = _batched(observation)
        slate = np.asarray(policy.predict(batch, deterministic=deterministic)[0])
        chance = np.full(slate.shape, np.nan) if propensities is None else propensities(batch, slate)
        gap = _gap(env)
        observation, reward, terminated, truncated, info = env.step(slate[0])
        views.append(observation)
        slates.append(slate[0])
        rewards.append(float(reward))
        ends.append(bool(terminated))
        cuts.append(bool(truncated))
        shown = _shown_items(env, slate[0])
        came = {name: info[name] for name in (*_OUTCOMES, *_RETURNS) if name in _OUTCOMES or name in info}
        told.append({"slate": shown, "propensity": chance[0], "gap": gap, **came})
        ended = terminated or truncated
    return minari.data_collector.EpisodeBuffer(
        seed=seed,
        observations=_stacked(views),
        actions=np.stack(slates),
        rewards=rewards,
        terminations=ends,
        truncations=cuts,
        infos=_with_reset({name: np.array([one[name] for one in told]) for name in told[0]}),
    )


def _batched(observation: Any) -> Any:
    if isinstance(observation, Mapping):
        return {name: np.asarray(values)[None] for name, values in observation.items()}
    return np.asarray(observation)[None]


def _stacked(views: list[Any]) -> Any:
    if isinstance(views[0], Mapping):
        return {name: np.stack([view[name] for view in views]) for name in views[0]}
    return np.stack(views)


def _gap(env: gym.Env[Any, Any]) -> float:
    """Seconds from the shopper's last token to now; nan where the env does not say."""
    batch = getattr(env.unwrapped, "batch", None)
    return float("nan") if batch is None else float(batch.gap[0])


def _shown_items(env: gym.Env[Any, Any], slate: NDArray[np.int64]) -> NDArray[np.int64]:
    """Items that the last slate had; the action itself where the env does not say."""
    turn = getattr(getattr(env.unwrapped, "batch", None), "last", None)
    return slate.astype(np.int64) if turn is None else turn.slate[0].cpu().numpy().astype(np.int64)


def _check_readable(dataset: Any, catalogue: Catalogue) -> None:
    n_items = dataset.storage.metadata.get(_ITEMS)
    if n_items is not None and int(n_items) != catalogue.n_items:
        raise ValueError(f"the data set is over {n_items} items, and the catalogue over {catalogue.n_items}")
    if dataset.storage.metadata.get(_VISITS):
        raise ValueError("episodes are of several visits, and a log's sessions of one; export from slatewise/Shop-v0")
    lacking = {"slate", "propensity", "gap", *_OUTCOMES} - set(dataset[0].infos)
    if lacking:
        raise ValueError(f"the data set does not tell {', '.join(sorted(lacking))}; slatewise did not write it")


def _microseconds(time: str) -> int:
    return int(pd.Timestamp(time).tz_convert("UTC").as_unit("us").asm8.astype(np.int64))


def _arrivals(episodes: list[Any]) -> Arrivals:
    """What was done before the first slates, of "history" observations; nothing of others."""
    numbers = np.arange(len(episodes))
    first = episodes[0].observations
    if not isinstance(first, Mapping) or "items" not in first:
        none = np.zeros((len(episodes), 1), np.int64)
        return Arrivals(numbers, none, none.copy(), none.astype(np.float32), np.zeros(len(episodes), np.int64))
    seen = [one.observations for one in episodes]
    items, events, gaps = (np.stack([one[name][0] for one in seen]) for name in ("items", "events", "gaps"))
    lengths = np.array([int(one["lengths"][0, 0]) for one in seen])
    gaps[:, 0] = 0.0
    return Arrivals(numbers, items, events, gaps, lengths)


def _shown(episodes: list[Any]) -> Shown:
    """The slates of all episodes, in order."""
    counts = [len(one) for one in episodes]
    infos = {name: np.concatenate([one.infos[name][1:] for one in episodes]) for name in episodes[0].infos}
    return Shown(
        session=np.repeat(np.arange(len(episodes)), counts),
        step=np.concatenate([np.arange(count) for count in counts]),
        gap=np.nan_to_num(infos["gap"]),
        slate=infos["slate"],
        propensity=infos["propensity"],
        clicked=infos["clicked"],
        carted=infos["carted"],
        purchased=infos["purchased"],
        quantity=infos["quantity"],
        dwell=np.nan_to_num(infos["dwell"]),
    )
