"""Judging: every policy meets the same shoppers with the same luck, each until the shopper leaves.

Shapes: B rows of the environment, n sessions, N items.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from ..datasets.artefact import fingerprint
from ..encoders.state import StateEncoder
from ..envs.defaults import DEFAULT_MAX_SLATES
from ..envs.rewards import RewardMix
from ..envs.vector import ShopVectorEnv
from ..errors import ArtefactError, EvidenceError
from ..simulators.learn import ARRIVAL_WIDTH
from ..simulators.shopper import Shopper
from .diary import Diary, tally
from .outcomes import FIXED, Outcomes

Ints = NDArray[np.int64]
Progress = Callable[[int, int, str], None]
_LARGEST = 2**63  # shopper seeds are drawn below it


class SlatePolicy(Protocol):
    """What is judged: anything that fills slates of `k` items from a batch of observations."""

    @property
    def k(self) -> int:
        """Slots it fills."""
        ...

    def predict(
        self, observation: Any, state: Any = None, episode_start: Any = None, deterministic: bool = True
    ) -> tuple[NDArray[Any], Any]:
        """(B, k) integer slates for a batch of observations, and a state that is not used."""
        ...


def judge(
    policies: Mapping[str, SlatePolicy | Sequence[SlatePolicy]],
    shopper: Shopper,
    encoder: StateEncoder,
    *,
    shoppers: int = 2_000,
    seed: int = 0,
    k: int,
    reward: RewardMix | str | Mapping[str, float] = "clicks_and_purchases",
    max_slates: int = DEFAULT_MAX_SLATES,
    batch: int = 512,
    observation: str = "history",
    history_len: int | None = None,
    available: NDArray[np.bool_] | None = None,
    categories: NDArray[np.int64] | None = None,
    deterministic: bool = True,
    shopper_name: str = "simulator",
    progress: Progress | None = None,
    folder: Path | None = None,
) -> Outcomes:
    """Let policies serve the same shoppers, and write down what came of it.

    Args:
        policies: name -> a policy, or a sequence of them: one learner's trainings, seed by seed. A bare policy counts
            as fixed (a rule, counts of a log): nothing about it would change if it were made anew.
        shopper: the simulator that judges.
        encoder: what the policies' observations are made with.
        shoppers: sessions for each policy, at least 1; all meet the same ones.
        seed: decides the shoppers and their luck. Use another one than trainings did.
        k: slots in a slate.
        reward: what `reward` in the outcomes counts.
        max_slates: slates after which a session is cut.
        batch: shoppers served at once; changes no outcome of a policy that draws nothing at random. One that does, and
            has a method `reseed(seed)`, is seeded anew for each simulator: what it draws depends on `seed`, its name,
            the training and the simulator, and not on what was judged before.
        observation: `"history"` (which every policy can read), or `"state"`.
        history_len: tokens in a history observation; by default enough for whole sessions, see `whole_session`.
        available: (N + 1,) items that may be shown; all by default.
        categories: (N + 1,) category numbers by item, for `distinct_categories`.
        deterministic: whether policies act greedily, or draw as in training.
        shopper_name: the simulator's name in the outcomes.
        progress: told (sessions ended, of all, words).
        folder: where each policy's outcomes are kept when done; what is there already, judged in the same way, is not
            judged again. Policies are known by name: use a fresh folder for other policies of the same names.

    Returns:
        One row a (policy, training seed, shopper), with the places and items shown.

    Raises:
        EvidenceError: there is no policy, or an empty sequence of them.
        ValueError: a policy fills slates of another length, or a setting is out of range.
    """
    runs = _runs(policies, k)
    if shoppers < 1 or batch < 1:
        raise ValueError(f"shoppers and batch must be at least 1, got {shoppers} and {batch}")
    mix = RewardMix.of(reward)
    history_len = whole_session(max_slates) if history_len is None else history_len
    facts: dict[str, Any] = {
        "shoppers": shoppers,
        "seed": seed,
        "k": k,
        "reward": asdict(mix),
        "max_slates": max_slates,
        "observation": observation,
        "history_len": history_len,
        "deterministic": deterministic,
        "n_items": shopper.n_items,
        "available": shopper.n_items if available is None else int(np.asarray(available)[1:].sum()),
    }
    met = np.random.default_rng(seed).integers(_LARGEST, size=shoppers, dtype=np.int64)
    whose = members_of(shopper, met)
    env = ShopVectorEnv(
        min(batch, shoppers),
        shopper,
        encoder,
        k,
        mix,
        max_slates,
        observation="state" if observation == "state" else "history",
        history_len=history_len,
        available=available,
        autoreset_mode=AutoresetMode.DISABLED,
    )
    vectors = encoder.item_vectors.detach().cpu().numpy()
    parts: list[Outcomes] = []
    for number, (name, training_seed, policy) in enumerate(runs):
        label = name if training_seed == FIXED else f"{name}, training {training_seed + 1}"
        kept = _kept(folder, shopper_name, name, training_seed, facts)
        if kept is None:
            _reseed(policy, seed, shopper_name, name, training_seed)
            told = _told(progress, number * shoppers, len(runs) * shoppers, f"{label} in {shopper_name}")
            diary = serve(policy, env, met, deterministic=deterministic, progress=told)
            tables = tally(diary, vectors, categories)
            tables[0].insert(1, "member", whose)
            keys = {"simulator": shopper_name, "policy": name, "training_seed": training_seed}
            frame, places, items = (table.assign(**keys)[[*keys, *table.columns]] for table in tables)
            kept = Outcomes(frame, places, items, {shopper_name: facts})
            if folder is not None:
                kept.save(_home(folder, shopper_name, name, training_seed, facts))
        if progress is not None:
            progress((number + 1) * shoppers, len(runs) * shoppers, f"{label} in {shopper_name}")
        parts.append(kept)
    return Outcomes.joined(parts)


def _runs(policies: Mapping[str, SlatePolicy | Sequence[SlatePolicy]], k: int) -> list[tuple[str, int, SlatePolicy]]:
    """Name, training seed and policy of everything to judge."""
    runs: list[tuple[str, int, SlatePolicy]] = []
    for name, one in policies.items():
        if isinstance(one, Sequence):
            if not one:
                raise EvidenceError(f"policy {name!r} has no training to judge; train it, or leave it out")
            runs += [(name, number, policy) for number, policy in enumerate(one)]
        else:
            runs.append((name, FIXED, one))
    if not runs:
        raise EvidenceError("there is no policy to judge; name at least one")
    for name, _, policy in runs:
        if policy.k != k:
            raise ValueError(f"policy {name!r} fills slates of {policy.k}, and k is {k}; judge it with k={policy.k}")
    return runs


def members_of(shopper: Shopper, seeds: Ints) -> Ints:
    """(n,) the member of an ensemble that the shoppers of these seeds are of; 0 outside one."""
    whose = getattr(shopper, "whose", None)
    who = None if whose is None else whose(torch.from_numpy(seeds))
    return np.zeros(len(seeds), np.int64) if who is None else who.cpu().numpy()


def whole_session(max_slates: int) -> int:
    """Tokens of the longest session: one a slate, and what a shopper may bring along."""
    return max_slates + ARRIVAL_WIDTH


def _reseed(policy: SlatePolicy, seed: int, simulator: str, name: str, training_seed: int) -> None:
    """Start a policy's draws, if it has any, where they start whatever was judged before it in this process."""
    reseed = getattr(policy, "reseed", None)
    if reseed is not None:
        key = fingerprint({"seed": seed, "simulator": simulator, "policy": name, "training_seed": training_seed})
        reseed(int(key, 16) % _LARGEST)


def _told(progress: Progress | None, before: int, total: int, words: str) -> Callable[[int], None] | None:
    return None if progress is None else lambda done: progress(before + done, total, words)


def _home(folder: Path, simulator: str, policy: str, training_seed: int, facts: Mapping[str, Any]) -> Path:
    """Where one policy's outcomes are kept: readable, and other for other settings and for names that look alike."""
    readable = re.sub(r"[^a-z0-9]+", "-", f"{simulator} {policy}".lower()).strip("-")[:60]
    key = fingerprint({"simulator": simulator, "policy": policy, "training_seed": training_seed, "facts": facts})
    return Path(folder) / f"{readable}-{key}"


def _kept(
    folder: Path | None, simulator: str, policy: str, training_seed: int, facts: Mapping[str, Any]
) -> Outcomes | None:
    if folder is None:
        return None
    try:
        return Outcomes.load(_home(folder, simulator, policy, training_seed, facts))
    except ArtefactError:  # never judged, or cut off while writing
        return None


def serve(
    policy: SlatePolicy,
    env: ShopVectorEnv,
    met: Ints,
    *,
    deterministic: bool = True,
    progress: Callable[[int], None] | None = None,
) -> Diary:
    """Serve every shopper until it leaves; a row whose shopper left takes the next one who waits.

    Args:
        policy: fills the slates; one with a method `attend(see)` is let see the simulator's own state by `see()`.
        env: with autoreset disabled, and no more rows than shoppers.
        met: (n,) int64 seeds of the shoppers.
        deterministic: handed to `predict`.
        progress: told the number of sessions ended.
    """
    diary = Diary(len(met))
    rows = env.num_envs
    who = np.arange(rows)
    waiting, ended = rows, 0
    observation, _ = env.reset(seed=0, options={"shopper_seeds": met[:rows]})
    attend = getattr(policy, "attend", None)
    if attend is not None:  # an oracle, which sees the shoppers themselves
        attend(lambda: env.batch.here.state)
    while (who >= 0).any():
        slates, _ = policy.predict(observation, deterministic=deterministic)
        observation, _, terminated, truncated, _ = env.step(np.asarray(slates))
        assert env.batch.last is not None
        diary.note(who, env.batch.last)
        over = terminated | truncated
        if not over.any():
            continue
        ended += int((over & (who >= 0)).sum())
        free = np.flatnonzero(over)
        taking = free[: len(met) - waiting]
        who[free] = -1
        who[taking] = np.arange(waiting, waiting + len(taking))
        waiting += len(taking)
        # Rows that nobody waits for must be reset as well; the shopper they get is not written down.
        observation, _ = env.reset(options={"shopper_seeds": met[np.maximum(who, 0)], "reset_mask": over})
        if progress is not None:
            progress(ended)
    return diary
