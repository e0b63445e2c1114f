"""How fast agents train by the size of the catalogue, where the time goes, and what a million decisions take.

    python benchmarks/scale.py [--quick] [--items 1000 10000 50000]

SlateDQN and SlatePPO with their default settings learn in the known-truth shop, slates of 10, 64 shoppers at a time,
the state by a session encoder of the default shape (random weights: speed does not hang on them), in three ways:

  2,000 nearest    the default: up to 2,000 items nearest the state are scored, and in a smaller catalogue all
  300 nearest      `max_candidates=300`
  300 by place     the environment retrieves 300 items (`candidates=300`), and slates name places among them

Shopper-steps a second of processor time, learning included; medians over rounds in which all contestants take turns,
after one round that warms up, with bootstrap intervals. Shares of the time: `encoder`, a token of each shopper;
`retrieval`, by the environment; `env`, all else that it does; `learner`, gradient steps; `policy`, filling the slates,
with what stable-baselines3 does besides.

Then the memory of a replay of a million decisions, of ours as resident, beside stable-baselines3's (`scale_replay`).
"""

import argparse
import json
import time
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

import torch
from encoder_speed import median_interval
from machine import describe
from scale_replay import replays
from throughput import make_encoder, make_shop

from slatewise.agents import DQNConfig, PPOConfig
from slatewise.encoders import ShopSessionModel
from slatewise.envs.sb3 import SB3Bridge
from slatewise.simulators import KnownTruthShopper

K, ROWS = 10, 64
STRETCH = {
    "SlateDQN": 256,
    "SlatePPO": 1_024,
}  # slates: one rollout of SlatePPO; each step of SlateDQN is like the last
ITEMS = (1_000, 10_000, 50_000)
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "2,000 nearest": ({}, {}),
    "300 nearest": ({"max_candidates": 300}, {}),
    "300 by place": ({"max_candidates": 300}, {"candidates": 300}),
}
"""Settings of the agent, and of the environment."""
AGENTS: dict[str, Any] = {"SlateDQN": DQNConfig, "SlatePPO": PPOConfig}
PARTS = ("encoder", "retrieval", "env", "learner", "policy")


class Clock:
    """Processor seconds spent in functions that it wraps, by name; a function within another counts for both."""

    def __init__(self) -> None:
        self.spent: dict[str, float] = {}

    def around(self, owner: Any, method: str, name: str) -> None:
        """Time an object's method from now on."""
        inner: Callable[..., Any] = getattr(owner, method)
        self.spent[name] = 0.0

        def timed(*args: Any, **kwargs: Any) -> Any:
            began = time.process_time()
            try:
                return inner(*args, **kwargs)
            finally:
                self.spent[name] += time.process_time() - began

        setattr(owner, method, timed)


class Training:
    """One agent that learns on one catalogue in one way, stretch by stretch."""

    def __init__(self, agent: str, way: str, truth: KnownTruthShopper, encoder: ShopSessionModel) -> None:
        settings, played = WAYS[way]
        if agent == "SlateDQN":
            settings = {**settings, "learning_starts": ROWS}
        env = SB3Bridge.make(ROWS, shopper=truth, encoder=encoder, k=K, **played)
        self.slates = STRETCH[agent]
        self.agent = AGENTS[agent](**settings).build(env, item_vectors=encoder.item_vectors, seed=0)
        self.clock = Clock()
        self.clock.around(env, "step_wait", "env")
        self.clock.around(self.agent, "train", "learner")
        self.clock.around(env.env.batch.encoder, "step", "encoder")
        retrieval = env.env.batch.shelf.retrieval
        if retrieval is not None:
            self.clock.around(retrieval, "find", "retrieval")
        self.learn()
        self.rates: list[tuple[float, float]] = []
        self.shares = dict.fromkeys(PARTS, 0.0)

    def learn(self) -> None:
        """One stretch."""
        self.agent.learn(self.slates, log_interval=10**9, reset_num_timesteps=False)

    def timed(self) -> None:
        """One stretch, with the clocks on."""
        self.clock.spent |= dict.fromkeys(self.clock.spent, 0.0)
        wall, cpu = time.perf_counter(), time.process_time()
        self.learn()
        taken = time.process_time() - cpu
        self.rates.append((self.slates / taken, self.slates / (time.perf_counter() - wall)))
        spent = {"retrieval": 0.0, **self.clock.spent}
        spent["policy"] = taken - spent["env"] - spent["learner"]
        spent["env"] -= spent["encoder"] + spent["retrieval"]
        for name in PARTS:
            self.shares[name] += spent[name]


def measured(n_items: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """A row of the table for each agent and way on one catalogue."""
    shop = make_shop(n_items, args.seed)
    truth = KnownTruthShopper(shop)
    trainings = {
        (agent, way): Training(agent, way, truth, make_encoder(shop, args.seed))  # each wraps an encoder of its own
        for agent in AGENTS
        for way in WAYS
    }
    for number in range(args.rounds):
        for training in list(trainings.values())[:: 1 if number % 2 else -1]:
            training.timed()
    rows = []
    for (agent, way), training in trainings.items():
        rate, interval = median_interval([pair[0] for pair in training.rates], args.seed)
        whole = sum(training.shares.values())
        rows.append(
            {
                "items": n_items,
                "agent": agent,
                "way": way,
                "per_cpu_second": round(rate, 1),
                "interval": [round(end, 1) for end in interval],
                "per_second": round(sorted(pair[1] for pair in training.rates)[args.rounds // 2], 1),
                "shares": {name: round(share / whole, 3) for name, share in training.shares.items()},
            }
        )
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    low, high = row["interval"]
    shares = ", ".join(f"{name} {share:.0%}" for name, share in row["shares"].items() if share >= 0.005)
    return (
        f"{row['items']:>7,}  {row['agent']:<9} {row['way']:<14}{row['per_cpu_second']:>8,.0f}"
        f"{f'[{low:,.0f}, {high:,.0f}]':>18}  {shares}"
    )


def main() -> None:
    """Train, fill, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a short version of the same measurement")
    parser.add_argument("--items", type=int, nargs="+", default=ITEMS, help="in the catalogues; 1000 10000 50000")
    parser.add_argument("--rounds", type=int, help="of the trainings; 5, with --quick 2")
    parser.add_argument("--decisions", type=int, help="in the replays; 1,000,000, with --quick 50,000")
    parser.add_argument("--seed", type=int, default=0, help="of shops, weights and bootstrap; 0")
    args = parser.parse_args()
    args.rounds = args.rounds or (2 if args.quick else 5)
    args.decisions = args.decisions or (50_000 if args.quick else 1_000_000)
    torch.set_num_threads(1)
    began = time.process_time()
    print(f"{'items':>7}  {'agent':<9} {'way':<14}{'steps/CPU s':>11}{'95 %':>15}")
    rows: list[dict[str, Any]] = []
    for n_items in args.items[:2] if args.quick else args.items:
        rows += (fresh := measured(n_items, args))
        print("\n".join(line(row) for row in fresh), flush=True)
    replay = replays(K, args.decisions)
    print(f"\n{'replay of decisions':<26}{'resident MiB':>13}{'bytes each':>12}{'stable-baselines3 MiB':>23}")
    for kind, one in replay.items():
        print(
            f"{kind:<26}{one['resident_mib']:>13,.0f}{one['bytes_a_decision']:>12,.0f}"
            f"{one['stable_baselines3_mib']:>23,.0f}  ({one['times_less']:.1f} times ours)"
        )
    print(
        json.dumps(
            {
                "benchmark": "scale",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": [args.seed],
                "rounds": args.rounds,
                "threads": 1,
                "slates_a_stretch": STRETCH,
                "rows_at_a_time": ROWS,
                "rows": rows,
                "replay": replay,
                "cpu_seconds": round(time.process_time() - began, 1),
                "machine": describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
