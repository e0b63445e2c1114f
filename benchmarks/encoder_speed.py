"""How fast the session encoder reads one more token of every shopper, beside reading their whole histories again.

    python benchmarks/encoder_speed.py                  # some three minutes
    python benchmarks/encoder_speed.py --quick          # the same measurement, seconds
    python benchmarks/encoder_speed.py --compile        # and a row for the step under torch.compile

The traffic is that of a simulator: sessions end by chance, a hundred tokens long on average, so that rows stand at
different lengths, many beyond the window, and in every step some rows begin anew. Rows of the table:

  step            `ShopSessionModel.step`, the reset of rows whose session ended included
  re-encode       `encode` of the last `window` tokens of the same rows; sorted by length, cut into chunks of the size
                  that a search found best, each chunk as wide as its longest row. To agree with `step` it would have to
                  read up to `reach` tokens, twice as many; that is spared it
  re-encode full  the same where every row has `window` tokens
  StaticCache     transformers' own Llama of the same size on its own cache, which wants all rows to stand at the same
                  token: no row may begin anew before all do

One thread. Rates are shopper-steps a second of processor time (of this process) and of the clock; medians over rounds
in which all contestants take turns, so that whatever else the machine does hits all, with bootstrap intervals.
`of peak` is the step's share of what a large fp32 matrix product reaches in the same rounds, its floating-point
operations counted without norms, rotations and softmax. The run checks that `step` and `encode` of whole histories
agree, and says by how much they differ. Weights are random: speed does not depend on them.
"""

import argparse
import inspect
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

import numpy as np
import torch
from machine import describe
from numpy.typing import NDArray
from torch import Tensor
from transformers import LlamaModel, StaticCache

from slatewise.datasets import N_EVENTS, History
from slatewise.encoders import ShopSessionConfig, ShopSessionModel

N_ITEMS = 5_000
WINDOW = 50
SESSION = 100  # tokens, on average
WARM_UP = 200  # steps before anything is timed: rows stand at lengths as in the long run
TOLERANCE = 1e-5
BATCHES = (64, 256, 1024)
CHUNKS = (16, 32, 64, 128, 256, 512, 1024)
GEMM = 768  # rows and columns of the matrices whose product tells the peak

CACHE = "cache" if "cache" in inspect.signature(LlamaModel.forward).parameters else "past_key_values"
"""Argument by which a model of transformers takes a cache; 5.24 renamed it."""

Work = Callable[[int], int]
"""Number of the round -> shopper-steps done in it."""


@dataclass(frozen=True)
class Traffic:
    """Tokens of B rows over S steps, and where sessions begin.

    Attributes:
        items, events: (S, B) int64. gaps: (S, B) float32.
        began: (S, B) the step in which the session that a row is in began.
        begins: S row numbers (int64) whose session begins in the step.
    """

    items: Tensor
    events: Tensor
    gaps: Tensor
    began: NDArray[np.int64]
    begins: list[Tensor]

    @classmethod
    def make(cls, rows: int, steps: int, seed: int) -> "Traffic":
        """Sessions that end after any token with the same chance."""
        rng = np.random.default_rng([seed, rows])
        fresh = rng.random((steps, rows)) < 1 / SESSION
        fresh[0] = True
        began = np.maximum.accumulate(np.where(fresh, np.arange(steps)[:, None], 0), axis=0)
        return cls(
            torch.from_numpy(rng.integers(1, N_ITEMS + 1, (steps, rows))),
            torch.from_numpy(rng.integers(1, N_EVENTS, (steps, rows))),
            torch.from_numpy(rng.exponential(60.0, (steps, rows)).astype(np.float32)),
            began,
            [torch.from_numpy(np.flatnonzero(row)) for row in fresh],
        )

    def histories(self, after: int, last: int) -> History:
        """The latest `last` tokens of each row's session once step number `after` was read."""
        start = np.maximum(self.began[after], after + 1 - last)
        lengths = after + 1 - start
        place = start[:, None] + np.arange(lengths.max())
        held, source = place <= after, (np.minimum(place, after), np.arange(len(start))[:, None])
        items, events, gaps = (np.where(held, part.numpy()[source], 0) for part in (self.items, self.events, self.gaps))
        return History(items, events, gaps.astype(np.float32), lengths)


class Stepping:
    """An encoder that goes through the traffic by `step`."""

    def __init__(self, encoder: ShopSessionModel, traffic: Traffic) -> None:
        self.encoder, self.traffic, self.next = encoder, traffic, 0
        self.memory = encoder.start(traffic.items.shape[1])

    def go(self, steps: int) -> int:
        """Read the next tokens; returns the shopper-steps done."""
        traffic = self.traffic
        for number in range(self.next, self.next + steps):
            if len(begins := traffic.begins[number]):
                self.memory.put(begins, self.encoder.start(len(begins)))
            self.memory = self.encoder.step(
                self.memory, traffic.items[number], traffic.events[number], traffic.gaps[number]
            )
        self.next += steps
        return steps * traffic.items.shape[1]


def make_encoder(width: int, seed: int) -> ShopSessionModel:
    """An encoder of the default shape with random weights."""
    rng = np.random.default_rng(seed)
    torch.manual_seed(seed)
    config = ShopSessionConfig(width=width, feed_forward=2 * width, window=WINDOW)
    text = rng.normal(size=(N_ITEMS, 32)).astype(np.float32)
    prices = rng.exponential(20.0, N_ITEMS + 1).astype(np.float32)
    return ShopSessionModel.for_items(config, text, prices, np.ones(N_ITEMS + 1, bool)).eval()


def flops_a_step(config: ShopSessionConfig) -> int:
    """Floating-point operations of one row's step in matrix products and attention; a multiply-add counts two."""
    d, shared = config.width, 2 * config.kv_heads * (config.width // config.heads)
    block = d * (d + shared) + d * d + 2 * config.window * d + 3 * d * config.feed_forward
    return 2 * (config.layers * block + d * d)


def encode_in_chunks(encoder: ShopSessionModel, history: History, size: int) -> Tensor:
    """(B, D) states, in the order of length."""
    order = np.argsort(history.lengths, kind="stable")
    states = []
    for begin in range(0, len(order), size):
        rows = order[begin : begin + size]
        longest = history.lengths[rows[-1]]
        parts = (history.items[rows, :longest], history.events[rows, :longest], history.gaps[rows, :longest])
        states.append(encoder.encode(*(torch.from_numpy(part) for part in (*parts, history.lengths[rows]))))
    return torch.cat(states)


def largest_difference(encoder: ShopSessionModel, rows: int, checks: int, seed: int) -> tuple[float, int, int]:
    """How far `step` and `encode` of whole histories lie apart at most.

    Returns:
        That, how many of the histories compared were longer than the window, and how many rows began anew on the way.
    """
    traffic = Traffic.make(rows, WARM_UP + 40 * checks, seed)
    stepping = Stepping(encoder, traffic)
    stepping.go(WARM_UP)
    apart, beyond, anew = 0.0, 0, sum(len(begins) for begins in traffic.begins[1:])
    for _ in range(checks):
        stepping.go(40)
        history = traffic.histories(stepping.next - 1, last=stepping.next)
        order = np.argsort(history.lengths, kind="stable")
        difference = encode_in_chunks(encoder, history, 32) - stepping.memory.state[torch.from_numpy(order)]
        apart = max(apart, float(difference.abs().max()))
        beyond += int((history.lengths > WINDOW).sum())
    return apart, beyond, anew


def static_cache(encoder: ShopSessionModel, rows: int, steps: int, seed: int) -> Work:
    """The own way of transformers: a Llama over item ids with a `StaticCache`; all rows begin anew together."""
    config = encoder.config.backbone()
    config.vocab_size, config.use_cache = N_ITEMS + 1, True
    torch.manual_seed(seed)
    peer = LlamaModel(config).eval()
    items = Traffic.make(rows, WINDOW, seed).items
    cache, place = StaticCache(config=config, max_cache_len=WINDOW), 0

    def work(_: int) -> int:
        nonlocal place
        with torch.no_grad():
            for _ in range(steps):
                if place == 0:
                    cache.reset()
                peer(input_ids=items[place][:, None], **{CACHE: cache})
                place = (place + 1) % WINDOW
        return steps * rows

    return work


def timed(work: Work, number: int) -> tuple[float, float]:
    """Shopper-steps a second of processor time, and of the clock."""
    wall, cpu = time.perf_counter(), time.process_time()
    done = work(number)
    return done / (time.process_time() - cpu), done / (time.perf_counter() - wall)


def best_chunk(encoder: ShopSessionModel, history: History, tries: int) -> int:
    """Rows a chunk with which re-encoding these histories takes the least processor time."""
    rates: dict[int, list[float]] = {size: [] for size in CHUNKS if size <= len(history)}
    for _ in range(tries + 1):  # the first one warms up
        for size, found in rates.items():
            found.append(timed(lambda _, size=size: len(encode_in_chunks(encoder, history, size)), 0)[0])
    return max(rates, key=lambda size: statistics.median(rates[size][1:]))


def re_encoding(encoder: ShopSessionModel, moments: list[History], tries: int) -> tuple[str, Work]:
    """Re-encoding the histories of each round, in the chunks that are best for the first, and the chunks in words."""
    chunk = best_chunk(encoder, moments[0], tries)
    return f"chunks of {chunk}", lambda number: len(encode_in_chunks(encoder, moments[number % len(moments)], chunk))


def contestants(
    encoder: ShopSessionModel, rows: int, steps: int, args: argparse.Namespace
) -> dict[str, tuple[str, Work]]:
    """Name -> (how it is done, what is measured), all warmed up."""
    traffic = Traffic.make(rows, WARM_UP + (args.rounds + 1) * steps, args.seed)
    stepping = Stepping(encoder, traffic)
    stepping.go(WARM_UP)
    moments = [traffic.histories(WARM_UP + number * steps, last=WINDOW) for number in range(args.rounds + 1)]
    items, events, gaps = (part[:WINDOW].T.numpy() for part in (traffic.items, traffic.events, traffic.gaps))
    full = [History(items, events, gaps, np.full(rows, WINDOW))]
    mean = np.mean([history.lengths.mean() for history in moments])
    how, work = re_encoding(encoder, moments, args.tries)
    found: dict[str, tuple[str, Work]] = {
        "step": ("", lambda _: stepping.go(steps)),
        "re-encode": (f"{how}, {mean:.0f} tokens a row", work),
        "re-encode full": re_encoding(encoder, full, args.tries),
        "StaticCache": ("rows aligned", static_cache(encoder, rows, steps, args.seed)),
    }
    if args.compile:
        compiled = Stepping(make_encoder(encoder.dim, args.seed).compile_step(), traffic)
        compiled.go(WARM_UP)
        found["step, compiled"] = "torch.compile", lambda _: compiled.go(steps)
    return found


def median_interval(values: list[float], seed: int) -> tuple[float, list[float]]:
    """The median, and its 95 % interval from resampling."""
    drawn = np.random.default_rng(seed).choice(np.array(values), (1_000, len(values)))
    low, high = np.quantile(np.median(drawn, axis=1), [0.025, 0.975])
    return float(np.median(values)), [float(low), float(high)]


def measure(width: int, rows: int, args: argparse.Namespace) -> list[dict[str, Any]]:
    """One row of the table for each contestant at a width and a batch."""
    encoder = make_encoder(width, args.seed)
    works = contestants(encoder, rows, max(args.work // rows, 4), args)
    rates: dict[str, list[tuple[float, float]]] = {name: [] for name in (*works, "gemm")}
    square = torch.randn(GEMM, GEMM, generator=torch.Generator().manual_seed(args.seed))
    for number in range(args.rounds + 1):
        for name, (_, work) in works.items():
            rates[name].append(timed(work, number))
        rates["gemm"].append(max(timed(lambda _: len(torch.mm(square, square)) // GEMM, 0) for _ in range(3)))
    found = []
    for name, (how, _) in works.items():
        cpu, wall = ([rate[place] for rate in rates[name][1:]] for place in (0, 1))
        over = [rate / other for rate, (other, _) in zip(cpu, rates["re-encode"][1:], strict=True)]
        row = {"width": width, "batch": rows, "name": name, "how": how}
        row["steps_per_cpu_second"], row["interval"] = median_interval(cpu, args.seed)
        row["steps_per_second"] = statistics.median(wall)
        row["over_reencode"], row["over_reencode_interval"] = median_interval(over, args.seed)
        if name.startswith("step"):
            flops = flops_a_step(encoder.config)
            peak = [rate * 2 * GEMM**3 for rate, _ in rates["gemm"][1:]]
            row["gemm_gflops"] = statistics.median(peak) / 1e9
            row["of_peak"] = statistics.median(rate * flops / top for rate, top in zip(cpu, peak, strict=True))
        found.append(row)
    return found


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    low, high = row["interval"]
    share = f"{row['of_peak']:.1%}" if "of_peak" in row else ""
    return (
        f"{row['width']:>5}{row['batch']:>7}  {row['name']:<16}{row['steps_per_cpu_second']:>12,.0f}"
        f"{f'[{low:,.0f}, {high:,.0f}]':>22}{row['steps_per_second']:>12,.0f}{row['over_reencode']:>9.1f}{share:>9}"
        f"  {row['how']}"
    )


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="width 64 alone, fewer rounds")
    parser.add_argument(
        "--compile", action="store_true", help="measure `compile_step` too; it takes minutes to compile"
    )
    parser.add_argument("--seed", type=int, default=0, help="of weights and traffic; 0")
    parser.add_argument("--rounds", type=int, help="in which all contestants take turns; 15, quick 5")
    args = parser.parse_args()
    args.rounds = args.rounds or (5 if args.quick else 15)
    args.widths = (64,) if args.quick else (64, 128)
    args.work, args.tries = (8_192, 1) if args.quick else (16_384, 3)
    return args


def main() -> None:
    args = parsed()
    torch.set_num_threads(1)
    apart, beyond, anew = largest_difference(make_encoder(64, args.seed), 128, 2 if args.quick else 5, args.seed)
    said = f"{beyond} histories beyond the window of {WINDOW}, {anew} rows begun anew on the way"
    print(f"step and encode differ by {apart:.1e} at most ({said})")
    if apart > TOLERANCE:
        sys.exit(f"step and encode must agree to {TOLERANCE}: nothing was timed")
    print(
        f"\n{'width':>5}{'batch':>7}  {'':<16}{'steps/CPU s':>12}{'95 %':>22}{'steps/s':>12}{'ratio':>9}{'of peak':>9}"
    )
    rows: list[dict[str, Any]] = []
    for width in args.widths:
        for batch in BATCHES:
            rows += (fresh := measure(width, batch, args))
            print("\n".join(line(row) for row in fresh), flush=True)
    best = max(
        (row for row in rows if row["width"] == 64 and row["name"] == "step"),
        key=lambda row: row["steps_per_cpu_second"],
    )
    print(f"\nratio: to re-encoding the same rows. fp32 matrix product: {best['gemm_gflops']:.0f} GFLOP/s")
    print(
        json.dumps(
            {
                "benchmark": "encoder_speed",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": [args.seed],
                "machine": describe(),
                "threads": 1,
                "step_over_reencode": best["over_reencode"],
                "step_over_reencode_interval": best["over_reencode_interval"],
                "steps_per_cpu_second": best["steps_per_cpu_second"],
                "steps_per_cpu_second_interval": best["interval"],
                "batch": best["batch"],
                "largest_difference": apart,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
