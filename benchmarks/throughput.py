"""How many slates a second shoppers answer: shopper-steps under a random policy, slates of 10, beside other simulators.

    python benchmarks/throughput.py                       # some twenty minutes
    python benchmarks/throughput.py --quick               # the same measurement, a few minutes
    python benchmarks/throughput.py --plot costs.png      # and a plot of the cost by catalogue and history
    python benchmarks/throughput.py --peers               # without other simulators

Rows of the table, for catalogues of 1,000 and 50,000 items and batches of 1 to 4,096 shoppers:

  known truth      the known-truth shopper alone
  + encoder        and the agent's Transformer, which reads what they do
  fitted           a shopper fitted on a log, its own Transformer beside the agent's
  Gymnasium        `make` (batch 1) or `make_vec` of the known-truth shop with its default encoder
  SB3              the bridge to stable-baselines3 over the same
  Gymnasium + encoder, SB3 + encoder    both with the agent's Transformer

Who leaves is replaced at once by another shopper, whose arrival is part of the time; 30 slates are the most. Slates are
drawn beforehand. Peers (SARDINE, RecSim, RecoGym) run in environments that the script builds, at batch 1 as they must,
and take turns with ours. One thread. Rates are shopper-steps a second of processor time, and of the clock; medians over
rounds in which all contestants take turns, with bootstrap intervals. Weights of encoders are random: speed does not
depend on them.
"""

import argparse
import json
import os
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field, fields, is_dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import torch
from encoder_speed import median_interval
from gymnasium.vector import AutoresetMode
from machine import describe
from rivals.environment import NotInstalledError, environment
from rivals.simulators import LEFT_OUT, NEEDS, Process, folder_of
from torch import Tensor

from slatewise.datasets import KnownShop, KnownShopConfig
from slatewise.encoders import ShopSessionConfig, ShopSessionModel
from slatewise.envs.sb3 import SB3Bridge
from slatewise.simulators import FitConfig, KnownTruthShopper, collect_log, fit_shopper

K = 10
LIMIT = 30  # slates of a visit, as in the environments
CATALOGUES = (1_000, 50_000)
BATCHES = (1, 64, 256, 1024, 4096)
AHEAD = 4  # shoppers ready for each row, as in the environments
SIZES = (1_000, 3_000, 10_000, 50_000)  # of catalogues, for the slope of the cost
LENGTHS = (2, 10, 50, 200)  # of histories
PARTS = ("encoder", "choice", "bookkeeping")
SINGLE, ENV, BRIDGE = "Gymnasium", "Gymnasium + encoder", "SB3 + encoder"
Work = Callable[[int], Any]
"""Steps -> nothing that matters."""


def make_shop(n_items: int, seed: int) -> KnownShop:
    """A shop of the demo's kind."""
    return KnownShop.make(KnownShopConfig(n_items=n_items, n_brands=40, seed=seed))


def make_encoder(shop: KnownShop, seed: int) -> ShopSessionModel:
    """A Transformer of the default shape with random weights."""
    torch.manual_seed(seed)
    text = np.random.default_rng(seed).normal(size=(shop.n_items, 32)).astype(np.float32)
    known = np.ones(shop.n_items + 1, bool)
    return ShopSessionModel.for_items(ShopSessionConfig(), text, shop.catalogue.prices, known).eval()


def make_slates(n_items: int, rows: int, seed: int) -> list[Tensor]:
    """Random slates without repeats, (B, K) each."""
    rng = np.random.default_rng([seed, rows])
    drawn = rng.integers(1, n_items + 1, (8, rows, K))
    while len(bad := np.argwhere((np.diff(np.sort(drawn, axis=2), axis=2) == 0).any(2))):
        drawn[bad[:, 0], bad[:, 1]] = rng.integers(1, n_items + 1, (len(bad), K))
    return list(torch.from_numpy(drawn))


def some(part: Any, rows: Tensor) -> Any:
    """A copy of some rows of a state or a memory."""
    if isinstance(part, Tensor):
        return part.index_select(0, rows)
    if callable(taken := getattr(part, "rows", None)):
        return taken(rows)
    if is_dataclass(part) and not isinstance(part, type):
        return replace(part, **{one.name: some(getattr(part, one.name), rows) for one in fields(part)})
    return part


class Clocked:
    """An encoder whose steps are timed."""

    def __init__(self, encoder: ShopSessionModel) -> None:
        self._encoder, self.spent = encoder, 0.0

    def __getattr__(self, name: str) -> Any:
        return getattr(self._encoder, name)

    def step(self, *args: Any) -> Any:
        """As the encoder's."""
        began = time.process_time()
        memory = self._encoder.step(*args)
        self.spent += time.process_time() - began
        return memory


@dataclass
class Shop:
    """B shoppers who come, see slates and leave, with the agent's encoder or without one."""

    shopper: Any
    encoder: ShopSessionModel | None
    slates: list[Tensor]
    seed: int
    spent: dict[str, float] = field(default_factory=lambda: dict.fromkeys(PARTS, 0.0))
    done: int = 0

    def __post_init__(self) -> None:
        self.rows = len(self.slates[0])
        self.came = 0
        self._make_ready()
        self.state, self.memory = self._next(self.rows)

    def _make_ready(self) -> None:
        """Let the next shoppers wait, many at once."""
        many = AHEAD * self.rows
        state = self.shopper.reset(torch.arange(self.came, self.came + many) + self.seed * 2**32)
        self.came += many
        memory = None
        if self.encoder is not None:
            memory, came = self.encoder.start(many), state.arrival
            for place in range(int(came.lengths.max())):
                memory = self.encoder.step(memory, came.items[:, place], came.events[:, place], came.gaps[:, place])
        self.ready, self.left = (state, memory), many

    def _next(self, count: int) -> tuple[Any, Any]:
        if count > self.left:
            self._make_ready()
        rows = torch.arange(self.left - count, self.left)
        self.left -= count
        state, memory = self.ready
        return some(state, rows), None if memory is None else some(memory, rows)

    @torch.no_grad()
    def go(self, steps: int) -> None:
        """Show slates; says in `spent` how long each part took."""
        for _ in range(steps):
            began = time.process_time()
            slate = self.slates[self.done % len(self.slates)]
            self.done += 1
            gap = self.state.gap.clone()
            response, self.state = self.shopper.respond(self.state, slate)
            answered = time.process_time()
            if self.encoder is not None:
                items, events = response.tokens(slate)
                self.memory = self.encoder.step(self.memory, items, events, gap)
            read = time.process_time()
            gone = (response.left | (self.state.step >= LIMIT)).nonzero().squeeze(1)
            if len(gone):
                state, memory = self._next(len(gone))
                self.state.put(gone, state)
                if memory is not None:
                    self.memory.put(gone, memory)
            self.spent["choice"] += answered - began
            self.spent["encoder"] += read - answered
            self.spent["bookkeeping"] += time.process_time() - read


def single(shopper: Any, slates: list[Tensor], seed: int, **settings: Any) -> Work:
    """`gymnasium.make`, with a reset after every visit."""
    env = gym.make("slatewise/Shop-v0", shopper=shopper, k=K, **settings)
    env.reset(seed=seed)
    shown = [one[0].numpy() for one in slates]

    def work(steps: int) -> None:
        for number in range(steps):
            _, _, terminated, truncated, _ = env.step(shown[number % len(shown)])
            if terminated or truncated:
                env.reset()

    return work


def many(shopper: Any, slates: list[Tensor], seed: int, **settings: Any) -> Work:
    """`gymnasium.make_vec`, or `make` where there is one row."""
    if len(slates[0]) == 1:
        return single(shopper, slates, seed, **settings)
    settings["autoreset_mode"] = AutoresetMode.SAME_STEP  # as the bridge must
    env = gym.make_vec("slatewise/Shop-v0", len(slates[0]), shopper=shopper, k=K, **settings)
    env.reset(seed=seed)
    shown = [one.numpy() for one in slates]
    return lambda steps: [env.step(shown[number % len(shown)]) for number in range(steps)] and None


def bridged(shopper: Any, slates: list[Tensor], seed: int, **settings: Any) -> Work:
    """The bridge to stable-baselines3."""
    env = SB3Bridge.make(len(slates[0]), shopper=shopper, k=K, **settings)
    env.seed(seed)
    env.reset()
    shown = [one.numpy() for one in slates]
    return lambda steps: [env.step(shown[number % len(shown)]) for number in range(steps)] and None


@dataclass(frozen=True)
class World:
    """What is measured on one catalogue."""

    truth: KnownTruthShopper
    fitted: Any
    encoder: ShopSessionModel
    seed: int

    @classmethod
    def make(cls, n_items: int, seed: int) -> "World":
        """The shop, its shoppers, and the encoders of shopper and agent, which are not the same."""
        shop = make_shop(n_items, seed)
        truth = KnownTruthShopper(shop)
        log = collect_log(truth, shop.catalogue, sessions=600, k=K, seed=seed)
        fitted: Any = fit_shopper(log, make_encoder(shop, seed + 1), config=FitConfig(members=0))
        fitted.encoder = Clocked(fitted.encoder)
        return cls(truth, fitted, make_encoder(shop, seed), seed)

    def contestants(self, rows: int) -> tuple[dict[str, Work], dict[str, Shop]]:
        """Work by name, and the shops among it, which tell how long their parts took."""
        slates, encoder = make_slates(self.truth.n_items, rows, self.seed), self.encoder
        shops = {
            "known truth": Shop(self.truth, None, slates, self.seed),
            "+ encoder": Shop(self.truth, encoder, slates, self.seed),
            "fitted": Shop(self.fitted, encoder, slates, self.seed),
        }
        works: dict[str, Work] = {name: shop.go for name, shop in shops.items()}
        works[SINGLE] = many(self.truth, slates, self.seed)
        works["SB3"] = bridged(self.truth, slates, self.seed)
        works[ENV] = many(self.truth, slates, self.seed, encoder=encoder)
        works[BRIDGE] = bridged(self.truth, slates, self.seed, encoder=encoder)
        return works, shops


def timed(work: Work, steps: int, rows: int) -> tuple[float, float]:
    """Shopper-steps a second of processor time, and of the clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    work(steps)
    return steps * rows / (time.process_time() - cpu), steps * rows / (time.perf_counter() - wall)


def measure(world: World, rows: int, peers: dict[str, Process], args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row of the table for each contestant at a batch."""
    works, shops = world.contestants(rows)
    steps = int(np.clip(args.work // rows, 2, args.most))
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in (*works, *peers)}
    for name, work in works.items():
        timed(work, max(steps // 2, 2), rows)  # warms up
        if name in shops:
            shops[name].spent |= dict.fromkeys(PARTS, 0.0)
    world.fitted.encoder.spent = 0.0
    for number in range(args.rounds):
        for name in list(works) if number % 2 else reversed(list(works)):
            rates[name].append(timed(works[name], steps, rows))
        for name, process in peers.items():
            rates[name].append(process.timed())
    found = []
    for name, pairs in rates.items():
        cpu = [pair[0] for pair in pairs]
        row = {"items": world.truth.n_items, "batch": rows if name in works else 1, "name": name}
        row["per_cpu_second"], row["interval"] = median_interval(cpu, args.seed)
        row["per_second"] = statistics.median(pair[1] for pair in pairs)
        if name in shops:
            whole = sum(shops[name].spent.values())
            row["shares"] = {part: shops[name].spent[part] / whole for part in PARTS}
        if name == "fitted":
            spent, own = shops[name].spent, world.fitted.encoder.spent
            own = min(own, spent["choice"])  # arrivals are read by it too, which is bookkeeping
            row["shares"]["encoder"] += own / sum(spent.values())
            row["shares"]["choice"] -= own / sum(spent.values())
            row["respond_over_encoder"] = (spent["choice"] - own) / spent["encoder"]
            row["respond_and_own_over_encoder"] = spent["choice"] / spent["encoder"]
        if name in ("SB3", BRIDGE):
            plain = rates[SINGLE if name == "SB3" else ENV]
            over = [1 - one[0] / other[0] for one, other in zip(pairs, plain, strict=True)]
            row["bridge_cost"], row["bridge_cost_interval"] = median_interval(over, args.seed)
        found.append(row)
    return found


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    low, high = row["interval"]
    told = ", ".join(f"{part} {share:.0%}" for part, share in row.get("shares", {}).items())
    if "bridge_cost" in row:
        told = f"the bridge costs {row['bridge_cost']:.1%}"
    return (
        f"{row['items']:>7,}{row['batch']:>7}  {row['name']:<20}{row['per_cpu_second']:>12,.0f}"
        f"{f'[{low:,.0f}, {high:,.0f}]':>24}{row['per_second']:>12,.0f}  {told}"
    )


def slopes(args: argparse.Namespace) -> dict[str, Any]:
    """Processor microseconds a shopper-step by catalogue size and by history length, and the slope on log scales.

    `catalogue` is a slate shown, and read by the agent's encoder; `scoring` is what an agent adds that ranks all items.
    """
    rows, found = 256, {}
    works: dict[str, dict[int, Work]] = {"catalogue": {}, "scoring": {}, "history": {}}
    for n_items in SIZES:
        shop = make_shop(n_items, args.seed)
        slates = make_slates(n_items, rows, args.seed)
        encoder = make_encoder(shop, args.seed)
        works["catalogue"][n_items] = Shop(KnownTruthShopper(shop), encoder, slates, args.seed).go
        works["scoring"][n_items] = _scoring(encoder, rows)
    shop = make_shop(SIZES[0], args.seed)
    for length in LENGTHS:
        works["history"][length] = _reading(make_encoder(shop, args.seed), length, rows, args.seed)
    for by, each in works.items():
        taken: dict[int, list[float]] = {size: [] for size in each}
        for number in range(args.rounds + 1):
            for size, work in each.items():
                rate = timed(work, 10, rows)[0]
                taken[size] += [1e6 / rate] if number else []
        cost = {size: statistics.median(values) for size, values in taken.items()}
        drawn = np.log(np.array([taken[size] for size in each]))  # (sizes, rounds)
        each_round = [float(np.polyfit(np.log(list(each)), one, 1)[0]) for one in drawn.T]
        slope, interval = median_interval(each_round, args.seed)
        found[by] = {"microseconds": cost, "slope": slope, "interval": interval}
    return found


def _scoring(encoder: ShopSessionModel, rows: int) -> Work:
    """An encoder's scores of its whole catalogue."""
    states = encoder.item_vectors[1 : rows + 1]

    @torch.no_grad()
    def work(steps: int) -> None:
        for _ in range(steps):
            encoder.scores(states)

    return work


def _reading(encoder: ShopSessionModel, length: int, rows: int, seed: int) -> Work:
    """Steps of an encoder whose rows have read so many tokens."""
    memory, items = encoder.start(rows), torch.cat(make_slates(encoder.n_items, rows, seed), 1)
    event, gap = torch.full((rows,), 3), torch.full((rows,), 9.0)

    def work(steps: int) -> None:
        nonlocal memory
        for number in range(steps):
            memory = encoder.step(memory, items[:, number % items.shape[1]], event, gap)
        memory.length.fill_(length)  # so that what is timed stays where it is

    work(length)
    return work


def draw(found: dict[str, Any], path: Path) -> None:
    """The costs as a plot."""
    import matplotlib as mpl

    mpl.use("Agg")
    from matplotlib import pyplot as plt

    figure, axes = plt.subplots(1, 2, figsize=(10, 4), layout="constrained")
    words = {"catalogue": "a slate shown and read", "scoring": "ranking all items", "history": "a token read"}
    for by, one in found.items():
        axis, (low, high) = axes[int(by == "history")], one["interval"]
        told = f"{words[by]}: slope {one['slope']:.2f} [{low:.2f}, {high:.2f}]"
        axis.plot(list(one["microseconds"]), list(one["microseconds"].values()), marker="o", label=told)
    axes[0].set(xscale="log", yscale="log", xlabel="items in the catalogue", ylabel="processor µs a shopper-step")
    axes[1].set(xscale="log", xlabel="tokens in the history", ylabel="processor µs a shopper-step")
    for axis, name in ((axes[0], "catalogue"), (axes[1], "history")):
        sizes = list(found[name]["microseconds"])
        axis.set_xticks(sizes, [f"{size:,}" for size in sizes])
        axis.minorticks_off()
        axis.legend(loc="lower right" if name == "history" else "upper left", frameon=False, fontsize="small")
    low, high = axes[0].get_ylim()
    axes[0].set_ylim(low / 2, high * 4)  # room for the legend
    axes[1].set_ylim(0, 1.2 * max(found["history"]["microseconds"].values()))
    figure.savefig(path, dpi=150)
    plt.close(figure)


def start_peers(n_items: int, args: argparse.Namespace) -> tuple[dict[str, Process], dict[str, str]]:
    """Other simulators at work, and why some are not."""
    working: dict[str, Process] = {}
    missing = dict(LEFT_OUT) if args.peers else {}
    for name in args.peers:
        try:
            python = environment(folder_of(name, args.cache, sys.executable), sys.executable, NEEDS[name])
            working[name] = Process(python, name, n_items, K, args.peer_steps, args.seed)
            working[name].timed()  # warms up
        except (NotInstalledError, RuntimeError, OSError) as error:
            working.pop(name, None)
            missing[name] = str(error).strip()[-300:]
    return working, missing


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="batches of 1 and 1,024 alone, fewer rounds")
    parser.add_argument("--plot", type=Path, metavar="FILE", help="draw the cost by catalogue and history")
    parser.add_argument("--peers", nargs="*", choices=list(NEEDS), default=list(NEEDS), help="which; all by default")
    parser.add_argument("--seed", type=int, default=0, help="of shops, weights, shoppers and slates; 0")
    parser.add_argument("--rounds", type=int, help="in which all contestants take turns; 15, quick 5")
    parser.add_argument("--items", type=int, nargs="+", default=CATALOGUES, help="in the catalogues; 1000 50000")
    parser.add_argument("--batches", type=int, nargs="+", help="of shoppers; 1 64 256 1024 4096, quick 1 1024")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "slatewise"
    parser.add_argument("--cache", type=Path, default=cache, help="folder that keeps the peers' environments")
    args = parser.parse_args()
    args.rounds = args.rounds or (5 if args.quick else 15)
    args.batches = sorted({1, *(args.batches or ((1, 1024) if args.quick else BATCHES))})
    args.work, args.most, args.peer_steps = (4_096, 60, 60) if args.quick else (16_384, 200, 200)
    return args


def summary(rows: list[dict[str, Any]]) -> dict[str, Any]:
    """The figures by which the aims are judged: the best batch of each, on the smallest catalogue."""
    least = min(row["items"] for row in rows)

    def of(name: str) -> list[dict[str, Any]]:
        return [row for row in rows if row["name"] == name and row["items"] == least]

    told: dict[str, Any] = {}
    keys = {"known_truth_per_s": "known truth", "with_encoder_per_s": "+ encoder", "fitted_per_s": "fitted"}
    for key, name in keys.items():
        best = max(of(name), key=lambda row: row["per_cpu_second"])
        told[key], told[f"{key}_interval"], told[f"{key}_batch"] = (
            best[one] for one in ("per_cpu_second", "interval", "batch")
        )
    alone = next(row for row in of(SINGLE) if row["batch"] == 1)
    told["single_per_s"], told["single_per_s_interval"] = alone["per_cpu_second"], alone["interval"]
    costs = [row for row in of(BRIDGE) if row["batch"] > 1]
    told["bridge_cost"] = statistics.median(row["bridge_cost"] for row in costs)
    fitted = max(of("fitted"), key=lambda row: row["per_cpu_second"])
    told["respond_over_encoder"] = fitted["respond_over_encoder"]
    return told


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    print(f"{'items':>7}{'batch':>7}  {'':<20}{'steps/CPU s':>12}{'95 %':>24}{'steps/s':>12}")
    rows: list[dict[str, Any]] = []
    missing: dict[str, str] = {}
    versions: dict[str, Any] = {}
    for n_items in args.items:
        world = World.make(n_items, args.seed)
        peers, missing = start_peers(n_items, args)
        versions |= {name: process.about for name, process in peers.items()}
        for batch in args.batches:
            rows += (fresh := measure(world, batch, peers if batch == 1 else {}, args))
            print("\n".join(line(row) for row in fresh), flush=True)
        for process in peers.values():
            process.close()
    grown = slopes(args)
    if args.plot:
        draw(grown, args.plot)
    told = summary(rows)
    print(
        f"\nrespond of the fitted shopper, its own encoder's step left out, over one encoder step: "
        f"{told['respond_over_encoder']:.2f}"
    )
    for by, one in grown.items():
        costs = ", ".join(f"{cost:.1f} at {size:,}" for size, cost in one["microseconds"].items())
        low, high = one["interval"]
        name = "scoring by catalogue" if by == "scoring" else f"cost by {by}"
        print(f"{name}, processor µs a shopper-step: {costs}; slope {one['slope']:.3f} [{low:.3f}, {high:.3f}]")
    for name, why in missing.items():
        print(f"left out: {name}, {why}")
    peers_told = {
        f"{row['name']}, {row['items']:,} items": {one: row[one] for one in ("per_cpu_second", "interval")}
        for row in rows
        if row["name"] in NEEDS
    }
    print(
        json.dumps(
            {
                "benchmark": "throughput",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": [args.seed],
                "rounds": args.rounds,
                "machine": describe(),
                "threads": 1,
                **told,
                "peers": peers_told,
                "peer_versions": versions,
                "left_out": missing,
                "cost": grown,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
