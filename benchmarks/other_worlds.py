"""What our agents earn in worlds that others wrote: SARDINE's shoppers who get bored, and RecSim's interest evolution.

    python benchmarks/other_worlds.py                                    # all worlds, five seeds
    python benchmarks/other_worlds.py --world sardine --quick            # the same measurement, some minutes
    python benchmarks/other_worlds.py --keep FOLDER                      # keeps trainings; done is done

The simulators run as they were published, in environments that the script builds, in a process beside ours. Agents are
told what the simulators tell their own agents, and nothing that they keep to themselves; references that know more are
named privileged. All policies meet the same shoppers, other ones than those of the trainings. Intervals (95 %) are over
shoppers and training seeds, by the scheme of `slatewise.evaluation.intervals`; differences are paired by shopper.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe
from numpy.typing import NDArray
from rivals.environment import environment
from rivals.recsim_shoppers import RecSimReader
from rivals.sardine_shoppers import RERANKED, SardineReader
from rivals.simulators import NEEDS, folder_of
from rivals.world_env import WorldEnv
from rivals.world_process import SARDINES, World
from scipy.stats import t as student
from stable_baselines3.common.utils import set_random_seed

from slatewise.agents import DQNConfig, LearnedPolicy, PPOConfig

ROWS = 64  # shoppers at a time in trainings
TEST, TRAINING = 10_000, 1_000_000  # first seeds of shoppers
SHOPPERS = {**dict.fromkeys(SARDINES, 200), "sardine_rerank": 1_000, "sardine_static": 1_000, "recsim": 100}
"""Of the test."""
RESAMPLES = 2_000
UNIT = {**dict.fromkeys(SARDINES, 5.0), "recsim": 1.0}
"""Of rewards in trainings: about the most that a slate of the first brings; SlateDQN finds its own."""
Floats = NDArray[np.float64]
Policy = Callable[[Any], NDArray[np.int64]]
"""Observations of all rows -> slates, as a world's reader takes them."""


PPO_RULED = PPOConfig(scale=20.0, rollout=4_096, gamma=0.95, learning_rate=1.5e-4, ent_coef=0.0)
PPO_WHOLE = replace(PPO_RULED, credit="slate")
PPO_FREE = PPOConfig(scale=20.0, rollout=4_096, gamma=0.9, learning_rate=1e-3, ent_coef=3e-4)
Q = DQNConfig(
    gamma=0.98,
    scale=1.0,
    hidden=64,
    gradient_steps=4,
    tau=0.02,
    exploration_start=1.0,
    exploration_end=0.1,
    huber=1_000.0,
)
"""Settings tuned on other shoppers than the test's, one seed."""


def returns(env: WorldEnv, policy: Policy) -> Floats:
    """(B,) what each of the test's shoppers brings until it leaves."""
    observation, total = env.reset_by(np.arange(env.num_envs) + TEST), np.zeros(env.num_envs)
    staying = np.ones(env.num_envs, bool)
    while staying.any():
        observation, reward, ended, _ = env.step(policy(observation))
        total += reward * staying
        staying &= ~ended
        env.idle = ~staying
    env.idle = np.zeros(env.num_envs, bool)
    return total


def bootstrap(found: Floats, seed: int = 0) -> Floats:
    """(R,) replicates of the mean of (S, B) returns: shoppers resampled, and seeds' own spread added."""
    rng = np.random.default_rng(seed)  # the same shoppers for all policies
    drawn = rng.integers(0, found.shape[1], (RESAMPLES, found.shape[1]))
    each = found[:, drawn].mean(2).T  # (R, S)
    total = each.mean(1)
    if len(found) > 1:
        noise = (each - found.mean(1)).var(1, ddof=1).mean()
        spread = max(found.mean(1).var(ddof=1) - noise, 0.0)
        total = total + student.rvs(len(found) - 1, size=RESAMPLES, random_state=rng) * np.sqrt(spread / len(found))
    return total


def told(found: dict[str, Floats], reference: str) -> list[dict[str, Any]]:
    """Means with intervals, and paired differences to a reference."""
    replicates = {name: bootstrap(one) for name, one in found.items()}
    rows = []
    for name, one in found.items():
        ends = np.percentile(replicates[name], (2.5, 97.5))
        less = np.percentile(replicates[name] - replicates[reference], (2.5, 97.5))
        rows.append(
            {
                "policy": name,
                "seeds": len(one),
                "mean": float(one.mean()),
                "interval": ends.tolist(),
                "by_seed": one.mean(1).tolist(),
                "over_reference": float(one.mean() - found[reference].mean()),
                "over_reference_interval": less.tolist(),
            }
        )
    return rows


@dataclass
class Bench:
    """One world: its process's interpreter, and what was measured."""

    name: str
    args: argparse.Namespace
    found: dict[str, Floats] = field(default_factory=dict)
    seconds: dict[str, float] = field(default_factory=dict)

    def __post_init__(self) -> None:
        kind = "RecSim" if self.name == "recsim" else "SARDINE"
        self.python = environment(folder_of(kind, self.args.cache, sys.executable), sys.executable, NEEDS[kind])
        self.shoppers = 60 if self.args.quick else SHOPPERS[self.name]
        self.about: dict[str, str] = {}

    def env(self, rows: int, unit: float = 1.0, **settings: Any) -> WorldEnv:
        """Rows of shoppers, by a reader with these settings; rewards in units."""
        world = World(self.python, self.name, rows)
        self.about = world.about
        limited = self.name != "recsim"
        reader: Any = SardineReader if limited else RecSimReader
        made = reader(rows, world.catalogue["vectors"], **settings)
        return WorldEnv(world, made, time_limit=limited, unit=unit)

    def fixed(self, name: str, env: WorldEnv, policy: Policy) -> None:
        """Measure a policy that is not trained."""
        self._put(name, returns(env, policy)[None], 0.0)

    def trained(
        self,
        name: str,
        config: Any,
        steps: int,
        act: Callable[[Any], Policy],
        *,
        seeds: int | None = None,
        **settings: Any,
    ) -> None:
        """Train an agent for each seed, or the first `seeds` of them, and measure them."""
        found, seconds = [], []
        for seed in self.args.seeds[:seeds]:
            kept = self.args.keep and self.args.keep / f"{self.name} {name} {steps} {self.shoppers} {seed}.npz"
            if kept and kept.is_file():
                with np.load(kept) as held:
                    found.append(held["returns"])
                    seconds.append(float(held["seconds"]))
                continue
            began = time.process_time()
            agent = self._agent(config, steps, seed, settings)
            seconds.append(time.process_time() - began)
            judged = self.env(self.shoppers, **settings)
            found.append(returns(judged, act(agent)))
            judged.close()
            print(f"    {name}, seed {seed}: {found[-1].mean():.1f}", flush=True)
            if kept:
                kept.parent.mkdir(parents=True, exist_ok=True)
                agent.save(kept.with_suffix(".zip"))
                np.savez(kept, returns=found[-1], seconds=seconds[-1])
        self._put(name, np.stack(found), float(np.mean(seconds)))

    def _agent(self, config: Any, steps: int, seed: int, settings: dict[str, Any]) -> Any:
        env = self.env(ROWS, unit=UNIT[self.name], **settings)
        agent = config.build(env, item_vectors=env.reader.item_vectors, seed=seed)  # pyright: ignore[reportAttributeAccessIssue]
        if steps:
            set_random_seed(seed)
            env.seed(TRAINING * (seed + 1))
            agent.learn(steps, log_interval=10**9)
        env.close()
        return agent

    def _put(self, name: str, found: Floats, seconds: float) -> None:
        self.found[name] = found
        if np.isfinite(seconds):
            self.seconds[name] = round(seconds, 1)
        low, high = np.percentile(bootstrap(found), (2.5, 97.5))
        print(f"{name:<48}{len(found):>3}{found.mean():>9.1f}{f'[{low:.1f}, {high:.1f}]':>20}", flush=True)


def drawn(agent: Any) -> Policy:
    """The policy as it was trained: slates drawn by their scores."""
    policy = LearnedPolicy(agent.scorer, seed=0)
    return lambda observation: policy.predict(observation, deterministic=False)[0]


def greedy(agent: Any) -> Policy:
    """The best slates."""
    return lambda observation: agent.predict(observation, deterministic=True)[0]


def sardine(bench: Bench) -> str:
    """SARDINE's slates of the best ten of a thousand; names the reference."""
    few, steps = 2, 8_192 if bench.args.quick else 65_536
    env, rng = bench.env(bench.shoppers), np.random.default_rng(0)
    n_items, k = env.action_space.n_items, env.action_space.k  # pyright: ignore[reportAttributeAccessIssue]
    bench.fixed("random", env, lambda _: rng.random((bench.shoppers, n_items)).argsort(1)[:, :k] + 1)
    bench.fixed("greedy oracle (privileged)", env, lambda _: np.zeros((bench.shoppers, k), np.int64))
    bench.fixed("guard against boredom (privileged)", env, lambda _: np.full((bench.shoppers, k), -2))
    env.close()
    rule: dict[str, Any] = {"ranked": 40, "most": 2}
    bench.trained("untrained, 2 of a topic", PPO_RULED, 0, drawn, seeds=1, **rule)
    bench.trained("SlatePPO, 2 of a topic", PPO_RULED, steps, drawn, **rule)
    if bench.args.parts:
        one: dict[str, Any] = {"all_clicks": False} | rule
        bench.trained("SlatePPO, no rule", PPO_FREE, steps, drawn, seeds=few)
        bench.trained("SlatePPO, 2 of a topic, one click told", PPO_RULED, steps, drawn, seeds=few, **one)
        bench.trained("SlatePPO, 2 of a topic, whole slates credited", PPO_WHOLE, steps, drawn, seeds=few, **rule)
    return "greedy oracle (privileged)"


def reranked(bench: Bench) -> str:
    """SARDINE's slates of all ten items, in order; names the reference."""
    env, rng = bench.env(bench.shoppers), np.random.default_rng(0)
    told_: dict[str, Any] = {"seen": RERANKED}
    bench.fixed("random", env, lambda _: rng.random((bench.shoppers, 10)).argsort(1) + 1)
    bench.fixed("greedy oracle (privileged)", env, lambda _: np.zeros((bench.shoppers, 10), np.int64))
    env.close()
    bench.trained("untrained", PPO_RULED, 0, drawn, seeds=1, **told_)
    bench.trained("SlatePPO", PPO_RULED, 8_192 if bench.args.quick else 65_536, drawn, **told_)
    return "greedy oracle (privileged)"


def recsim(bench: Bench) -> str:
    """RecSim's interest evolution; names the reference."""
    steps = 16_384 if bench.args.quick else 24_576
    env, rng = bench.env(bench.shoppers), np.random.default_rng(0)
    bench.fixed("random", env, lambda _: rng.random((bench.shoppers, 10)).argsort(1)[:, :3] + 1)
    quality = np.append(-9.0, np.append(np.linspace(-3, 0, 14), np.linspace(0, 3, 6)))  # of topics, as RecSim draws it
    by_quality = lambda seen: (-quality[seen["candidates"]]).argsort(1, kind="stable")[:, :3]  # noqa: E731
    bench.fixed("best quality first (privileged)", env, by_quality)
    env.close()
    bench.trained("SlateDQN, myopic", replace(Q, gamma=0.0), steps // 4, greedy)
    bench.trained("SlateDQN, SARSA", replace(Q, target="shown"), steps, greedy)
    bench.trained("SlateDQN, Q-learning", Q, steps, greedy)
    if bench.args.parts:
        bench.trained("SlateDQN, Q-learning, Huber's loss at 1", replace(Q, huber=1.0), steps, greedy, seeds=2)
    return "random"


WORLDS: dict[str, Callable[[Bench], str]] = {
    "sardine": sardine,
    "sardine_inf": sardine,
    "sardine_uncertain": sardine,
    "sardine_rerank": reranked,
    "sardine_static": reranked,
    "recsim": recsim,
}
"""World -> its measurement. The settings of all of SARDINE's are those tuned on the first."""


def main() -> None:
    """Measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--world", action="append", choices=list(WORLDS), help="once or more; all")
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    parser.add_argument("--parts", action="store_true", help="also what made the difference, two seeds each")
    parser.add_argument("--seeds", type=int, nargs="+", default=None, help="of trainings")
    parser.add_argument("--keep", type=Path, help="folder that keeps agents and returns; done is done")
    cache = Path.home() / ".cache" / "slatewise"
    parser.add_argument("--cache", type=Path, default=cache, help="folder that keeps the simulators' environments")
    args = parser.parse_args()
    args.seeds = args.seeds or ([0, 1] if args.quick else [0, 1, 2, 3, 4])
    torch.set_num_threads(1)
    results = {}
    for name in args.world or WORLDS:
        print(f"{name + ', mean return of a shopper':<48}seeds{'mean':>7}{'95 %':>20}")
        bench = Bench(name, args)
        reference = WORLDS[name](bench)
        rows = told(bench.found, reference)
        print(f"\nover {reference}:")
        for row in rows:
            low, high = row["over_reference_interval"]
            print(f"{row['policy']:<48}{row['over_reference']:>+9.1f}{f'[{low:+.1f}, {high:+.1f}]':>20}")
        print()
        results[name] = {"versions": bench.about, "shoppers": bench.shoppers, "reference": reference, "rows": rows}
        results[name]["cpu_seconds_a_training"] = bench.seconds
    print(
        json.dumps(
            {
                "benchmark": "other_worlds",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": args.seeds,
                "machine": describe(),
                "worlds": results,
            }
        )
    )


if __name__ == "__main__":
    main()
