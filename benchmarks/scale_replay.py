"""What a replay of decisions takes: resident memory of `SlateReplayBuffer` once full, beside stable-baselines3's own.

Each buffer is filled in a process of its own, for an allocator gives back what it likes. Ours is filled step by step
through `add`, visits ending by chance; resident memory is read before it is made and after. Stable-baselines3's takes
what its arrays say (`nbytes`), worked out from a short buffer of the same spaces; its infos, from which the shopper's
click is learnt, it does not keep at all.

Shapes: E rows at a time, D width of the state, K slots, M candidates.
"""

import multiprocessing
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium import spaces
from stable_baselines3.common.buffers import DictReplayBuffer, ReplayBuffer

from slatewise.agents.transitions import SlateReplayBuffer
from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.encoders import MeanEncoder
from slatewise.envs.sb3 import SB3Bridge
from slatewise.simulators import KnownTruthShopper

ROWS, WIDTH, ENDS = 64, 64, 1 / 8  # an end every eighth slate
KINDS: dict[str, dict[str, Any]] = {
    "state": {},
    "state, drawn by priority": {"priority": 0.6},
    "history of 20 tokens": {"observation": "history"},
    "200 candidates": {"candidates": 200},
    "500 candidates": {"candidates": 500},
}
_SHORT = 100  # steps of the buffer from which the size of stable-baselines3's is worked out


def spaces_of(kind: str, k: int) -> tuple[spaces.Space[Any], spaces.Space[Any]]:
    """What an agent observes and does in a shop of 1,000 items."""
    settings = {name: value for name, value in KINDS[kind].items() if name != "priority"}
    shop = KnownShop.make(KnownShopConfig())
    encoder = MeanEncoder.from_catalogue(shop.catalogue, WIDTH)
    env = SB3Bridge.make(1, shopper=KnownTruthShopper(shop), encoder=encoder, k=k, **settings)
    return env.observation_space, env.action_space


def resident() -> int:
    """Bytes of this process that are in memory now."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmRSS"))


def filled(kind: str, k: int, decisions: int) -> dict[str, int]:
    """Bytes of our buffer when it holds so many decisions: resident, and by its arrays."""
    seen, slates = spaces_of(kind, k)
    rng = np.random.default_rng(0)
    before = resident()
    buffer = SlateReplayBuffer(decisions, seen, slates, "cpu", ROWS, priority=KINDS[kind].get("priority", 0.0))
    n_items, observation = 1_000, _observed(rng, seen)
    for _ in range(buffer.buffer_size):
        after = _observed(rng, seen)
        shown = rng.integers(1, n_items, (ROWS, k)) if "candidates" not in KINDS[kind] else _places(rng, k)
        done = rng.random(ROWS) < ENDS
        infos = [{"clicked": int(slot)} for slot in rng.integers(-1, k, ROWS)]
        buffer.add(observation, after, shown, rng.random(ROWS), done, infos)
        observation = after
    arrays = [part for part in vars(buffer).values() if isinstance(part, np.ndarray)]
    return {"resident": resident() - before, "arrays": sum(part.nbytes for part in arrays), "decisions": len(buffer)}


def _observed(rng: np.random.Generator, space: spaces.Space[Any]) -> Any:
    if not isinstance(space, spaces.Dict):
        return rng.random((ROWS, WIDTH), np.float32)
    told: dict[str, Any] = {"state": rng.random((ROWS, WIDTH), np.float32)}
    if "candidates" in space.spaces:
        told["candidates"] = rng.integers(1, 1_000, (ROWS, *(space["candidates"].shape or ())))
    return told


def _places(rng: np.random.Generator, k: int) -> Any:
    return np.tile(np.arange(1, k + 1), (ROWS, 1)) + rng.integers(0, 100, (ROWS, 1))


def stock(kind: str, k: int, decisions: int) -> int:
    """Bytes of the arrays of stable-baselines3's own buffer for so many decisions."""
    seen, slates = spaces_of(kind, k)
    made: Any = DictReplayBuffer if isinstance(seen, spaces.Dict) else ReplayBuffer
    buffer = made(_SHORT * ROWS, seen, slates, "cpu", ROWS)
    held = [
        part
        for value in vars(buffer).values()
        for part in (value.values() if isinstance(value, dict) else [value])
        if isinstance(part, np.ndarray)
    ]
    return sum(part.nbytes for part in held) * decisions // (_SHORT * ROWS)


def replays(k: int, decisions: int) -> dict[str, dict[str, float]]:
    """MiB of both buffers by kind of observation."""
    told = {}
    for kind in KINDS:
        with multiprocessing.get_context("spawn").Pool(1) as pool:
            ours = pool.apply(filled, (kind, k, decisions))
        theirs = stock(kind, k, decisions)
        told[kind] = {
            "decisions": ours["decisions"],
            "resident_mib": round(ours["resident"] / 2**20, 1),
            "arrays_mib": round(ours["arrays"] / 2**20, 1),
            "bytes_a_decision": round(ours["resident"] / ours["decisions"], 1),
            "stable_baselines3_mib": round(theirs / 2**20, 1),
            "times_less": round(theirs / ours["resident"], 2),
        }
    return told
