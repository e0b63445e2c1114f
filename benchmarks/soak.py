"""Whether the environment can run for as long as one likes: memory stays flat, nothing is NaN, seeds repeat.

    python benchmarks/soak.py                    # ten minutes at batch 256
    python benchmarks/soak.py --minutes 2        # shorter
    python benchmarks/soak.py --observation history --agent

Steps a native batch with random slates or, with --agent, with those of a policy that reads the observations. Every few
seconds it reads the process's resident memory; after the warm-up, a tenth of the time, a line is fitted through the
readings, and its slope is told with a 95 % interval (moving-block bootstrap of the residuals, for neighbouring readings
go together); memory is flat where the interval's upper end is below a MiB a minute. The slope of the second half is
told beside it: what fills up slowly levels off, and a leak does not. Observations and rewards of every step are checked
to be finite and inside their space. At the end, the first steps are run anew, in this process and in another, and must
be the same to the bit. The last line is one JSON object; the exit code is 1 where something fails.
"""

import argparse
import hashlib
import json
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from machine import describe
from numpy.typing import NDArray

from slatewise.envs import ShopVectorEnv

SEED = 0
REPEATED = 300
"""Steps at the beginning that are run again at the end."""
EVERY = 2.0  # seconds between readings of memory
MIB = 2**20
LEAK = 1.0
"""MiB a minute: at 256 shoppers and some 40,000 slates a second, less than half a byte a slate."""


def resident() -> float:
    """MiB of memory that this process holds now."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") / MIB


class Shop:
    """A native batch, stepped and checked.

    Args:
        rows: shoppers at a time.
        observation: "state" or "history".
        agent: whether a policy chooses the slates; otherwise they are drawn.
    """

    def __init__(self, rows: int, observation: Any, agent: bool) -> None:
        self.env = ShopVectorEnv(rows, observation=observation, autoreset_mode=AutoresetMode.SAME_STEP)
        self.env.action_space.seed(SEED)
        self.choose = self._policy() if agent else lambda _seen: self.env.action_space.sample()
        self.seen, _ = self.env.reset(seed=SEED)
        self.steps = self.episodes = self.clicks = 0

    def _policy(self) -> Callable[[Any], NDArray[np.int64]]:
        from slatewise.agents import NextItemPolicy

        policy = NextItemPolicy(self.env.batch.encoder.item_vectors, self.env.batch.k)
        return lambda seen: policy.predict(seen)[0]

    def step(self, told: "hashlib._Hash | None" = None) -> None:
        """One slate for everyone; `told` is updated with all that came of it."""
        self.seen, rewards, terminated, truncated, infos = self.env.step(self.choose(self.seen))
        parts = [self.seen] if not isinstance(self.seen, dict) else [self.seen[name] for name in sorted(self.seen)]
        for values in (*parts, rewards, infos["dwell"], infos["revenue"]):
            if not np.isfinite(values).all():
                raise AssertionError(f"step {self.steps} has values that are not finite")
        if not self.env.observation_space.contains(self.seen):
            raise AssertionError(f"the observation of step {self.steps} is outside its space")
        self.steps += 1
        self.episodes += int((terminated | truncated).sum())
        self.clicks += int((infos["clicked"] >= 0)[infos["_clicked"]].sum())
        if told is not None:
            for values in (*parts, rewards, terminated, truncated, infos["shopper_seed"]):
                told.update(np.ascontiguousarray(values).tobytes())


def fingerprint(make: Callable[[], Shop]) -> tuple[Shop, str]:
    """A new shop after its first steps, and a hash of all that happened in them."""
    shop, told = make(), hashlib.sha256()
    for _ in range(REPEATED):
        shop.step(told)
    return shop, told.hexdigest()


def told_elsewhere(rows: int, observation: str, agent: bool) -> str:
    """The hash of `fingerprint` as another process has it."""
    command = [sys.executable, __file__, "--fingerprint", "--batch", str(rows), "--observation", observation]
    command += ["--agent"] if agent else []
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.split()[-1]


def slope(minutes: NDArray[np.float64], mib: NDArray[np.float64]) -> tuple[float, float, float]:
    """MiB a minute by least squares, and a 95 % interval by a moving-block bootstrap of the residuals."""
    if len(minutes) < 10:
        raise SystemExit(f"{len(minutes)} readings tell no slope; give more --minutes")
    line = np.polyfit(minutes, mib, 1)
    left = mib - np.polyval(line, minutes)
    rng, block = np.random.default_rng(SEED), max(2, round(len(left) ** (1 / 2)))
    found = []
    for _ in range(1_000):
        starts = rng.integers(0, len(left) - block + 1, size=-(-len(left) // block))
        noise = np.concatenate([left[one : one + block] for one in starts])[: len(left)]
        found.append(np.polyfit(minutes, np.polyval(line, minutes) + noise, 1)[0])
    low, high = np.quantile(found, [0.025, 0.975])
    return float(line[0]), float(low), float(high)


def run(minutes: float, rows: int, observation: str, agent: bool) -> dict[str, Any]:
    """The soak: what it found, as the JSON has it."""

    def make() -> Shop:
        return Shop(rows, observation, agent)

    began, cpu = time.monotonic(), time.process_time()
    shop, first = fingerprint(make)
    readings: list[tuple[float, float]] = []
    speeds: list[float] = []
    last, steps = time.monotonic(), shop.steps
    while (now := time.monotonic()) - began < 60 * minutes:
        shop.step()
        if now - last >= EVERY:
            readings.append((now - began, resident()))
            speeds.append((shop.steps - steps) * rows / (now - last))
            last, steps = now, shop.steps
    used = time.process_time() - cpu
    at, mib = np.array(readings).T if readings else (np.zeros(0), np.zeros(0))
    warm = at > 6 * minutes  # the first tenth, in seconds
    late = at > 30 * minutes
    growth, later = (slope(at[some] / 60, mib[some]) for some in (warm, late))
    held = mib[warm][0], mib[-1], mib.max()
    again, elsewhere = fingerprint(make)[1], told_elsewhere(rows, observation, agent)
    return {
        "minutes": round((time.monotonic() - began) / 60, 2),
        "batch": rows,
        "observation": observation,
        "slates_by": "next item" if agent else "random",
        "slates": shop.steps * rows,
        "episodes": shop.episodes,
        "clicks": shop.clicks,
        "slates_per_second": {
            "median": round(statistics.median(speeds)),
            "low": round(float(np.quantile(speeds, 0.1))),
            "high": round(float(np.quantile(speeds, 0.9))),
            "per_cpu_second": round(shop.steps * rows / used),
        },
        "rss_mib": dict(zip(("start", "end", "peak"), (round(float(one), 1) for one in held), strict=True)),
        "rss_mib_per_minute": _named(growth),
        "rss_mib_per_minute_second_half": _named(later),
        "readings": len(readings),
        "finite": True,
        "same_seed_same_trajectory": first == again,
        "same_in_another_process": first == elsewhere,
        "memory_flat": growth[2] < LEAK,
    }


def _named(growth: tuple[float, float, float]) -> dict[str, float]:
    return dict(zip(("slope", "low", "high"), (round(one, 4) for one in growth), strict=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--minutes", type=float, default=10.0)
    parser.add_argument("--batch", type=int, default=256)
    parser.add_argument("--observation", choices=["state", "history"], default="state")
    parser.add_argument("--agent", action="store_true", help="slates of a policy that reads the observations")
    parser.add_argument("--quick", action="store_true", help="one minute")
    parser.add_argument("--fingerprint", action="store_true", help="print the hash of the first steps, and end")
    args = parser.parse_args()
    if args.fingerprint:
        print(fingerprint(lambda: Shop(args.batch, args.observation, args.agent))[1])
        return
    found = run(1.0 if args.quick else args.minutes, args.batch, args.observation, args.agent)
    growth, later = found["rss_mib_per_minute"], found["rss_mib_per_minute_second_half"]
    memory, speed = found["rss_mib"], found["slates_per_second"]
    same = found["same_seed_same_trajectory"], found["same_in_another_process"]
    print(f"slates          {found['slates']:,} in {found['minutes']} minutes, {found['episodes']:,} episodes")
    print(f"slates a second {speed['median']:,} (tenths {speed['low']:,} to {speed['high']:,})")
    print(f"memory          {memory['start']} MiB after the warm-up, {memory['end']} MiB at the end")
    print(f"growth          {growth['slope']} MiB a minute [{growth['low']}, {growth['high']}]")
    print(f"  second half   {later['slope']} MiB a minute [{later['low']}, {later['high']}]")
    for where, well in zip(("same seed", "elsewhere"), same, strict=True):
        print(f"{where:<16}{'the same trajectory' if well else 'ANOTHER TRAJECTORY'}")
    print(json.dumps({"benchmark": "soak", "seed": SEED, **found, "machine": describe()}))
    if not (all(same) and found["memory_flat"]):
        sys.exit(1)


if __name__ == "__main__":
    main()
