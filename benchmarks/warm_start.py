"""Does a shop with few sessions gain by beginning with another shop's encoder?

    python benchmarks/warm_start.py --data FOLDER      # the public logs, see benchmarks/real_logs.py; 8 CPU minutes
    python benchmarks/warm_start.py --quick            # the same measurement on less, under 2 CPU minutes
    python benchmarks/warm_start.py --source online_retail

The shop is gmerch (Google Merchandise Store). Its latest fifth of the sessions asks for each next item among all; it
learns from the 100 or 300 sessions before. It begins

  cold                     from random weights
  warm                     with the encoder of another shop (--source), or of its own months before ("gmerch")

and, without any session of its own, there are

  grown                    the other encoder, made to know the shop's items by their texts, category and price
  text of the last item    nearest by cosine of text vectors to the item before, itself included

All shops' texts are read by one text model. Cold and warm have the same sessions, settings and seeds. Intervals (95 %)
come from resampling sessions and seeds; gains are paired. The last line is one JSON object.
"""

import argparse
import json
import tempfile
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreseen import Floats, Ints, Questions, mean_interval, ranks, recall, reciprocal, scores_before
from machine import describe
from real_logs import DATA, LOGS

from slatewise.datasets import ShopLog
from slatewise.encoders import PretrainConfig, ShopSessionModel, TextEncoder, grow
from slatewise.encoders.pretrain import pretrain

TARGET, K = "gmerch", 20
METRICS = {f"recall@{K}": lambda rank: recall(rank, K), f"mrr@{K}": lambda rank: reciprocal(rank, K)}


@dataclass(frozen=True)
class Study:
    """How much is measured.

    Attributes:
        sources: name of the log -> how many of its sessions the other encoder learns from, at most, the latest.
        epochs: of the other encoder's training.
        sizes: sessions that the shop has. seeds: trainings of each.
    """

    sources: dict[str, int]
    epochs: int
    sizes: tuple[int, ...]
    seeds: tuple[int, ...]


FULL = Study({"online_retail": 2_000, "eshop2008": 4_000, TARGET: 800}, 6, (100, 300), (0, 1, 2, 3, 4))
QUICK = Study({"online_retail": 600, "eshop2008": 1_000, TARGET: 800}, 3, (100,), (0, 1))


def latest(log: ShopLog, sessions: int) -> ShopLog:
    """The last sessions by their start."""
    order = np.argsort(log.sessions["start"].to_numpy(dtype="datetime64[us]"), kind="stable")
    return log.part(order[max(len(log) - sessions, 0) :])


@dataclass(frozen=True)
class Shop:
    """The shop with few sessions: those it may learn from, and the questions it is asked.

    Attributes:
        train: earlier sessions. test: later ones. asked: in `test`. text: (N + 1, E) unit vectors by dense index.
    """

    train: ShopLog
    test: ShopLog
    asked: Questions
    text: Floats

    def ranks_of(self, encoder: ShopSessionModel) -> Ints:
        """(M,) rank of each answer."""
        return ranks(scores_before(encoder, self.test.tokens, self.asked), self.asked.item, encoder.n_items)

    def ranks_by_text(self) -> Ints:
        """(M,) rank of each answer among the items nearest to the one before, that one first."""
        last = self.test.tokens.items[self.asked.token - 1]
        return ranks(lambda part: self.text[last[part]] @ self.text.T, self.asked.item, len(self.text) - 1)


def study(shop: Shop, name: str, source: ShopLog, plan: Study, scratch: Path) -> list[dict[str, Any]]:
    """What one other encoder is worth: a row a number of sessions and metric."""
    folder = scratch / "encoders" / name
    pretrain(source, folder, config=PretrainConfig(epochs=plan.epochs), text=TextEncoder(), force=True)
    encoder = grow(folder, shop.train.catalogue, scratch / "encoders" / f"{name}-grown", force=True)
    rows = _rows(shop, name, 0, {"text of the last item": [shop.ranks_by_text()], "grown": [shop.ranks_of(encoder)]})
    for size in plan.sizes:
        found: dict[str, list[Ints]] = {"cold": [], "warm": []}
        few = latest(shop.train, size)
        for seed in plan.seeds:
            config = PretrainConfig(epochs=20, patience=5, seed=seed)
            for model, start in (("cold", None), ("warm", folder)):
                out = scratch / "encoders" / f"{name}-{size}-{seed}-{model}"
                encoder = pretrain(few, out, config=config, text=shop.text[1:], warm_start=start, force=True)
                found[model].append(shop.ranks_of(encoder))
        rows += _rows(shop, name, size, found)
    return rows


def _rows(shop: Shop, source: str, size: int, found: dict[str, list[Ints]]) -> list[dict[str, Any]]:
    """Two models, the second held against the first."""
    rows = []
    (plain, _), (better, seeds) = found.items()
    questions = len(shop.asked.item)
    drawn = np.tile(shop.asked.session, len(seeds)), np.repeat(np.arange(len(seeds)), questions)
    for metric, score in METRICS.items():
        each = {model: score(np.concatenate(ranked)) for model, ranked in found.items()}
        row: dict[str, Any] = {
            "source": source,
            "sessions": size,
            "metric": metric,
            "predictions": questions,
        }
        for model, values in each.items():
            row[model], row[f"{model}_interval"] = mean_interval(values, *drawn)
        row["gain"], row["gain_interval"] = mean_interval(each[better] - each[plain], *drawn)
        rows.append(row)
    return rows


def printed(row: dict[str, Any]) -> str:
    """A line for people."""
    models = [name.removesuffix("_interval") for name in row if name.endswith("_interval") and name != "gain_interval"]
    told = ", ".join(f"{name} {row[name]:.3f}" for name in models)
    low, high = row["gain_interval"]
    return (
        f"{row['source']:<14}{row['sessions']:>5} sessions  {row['metric']:<10}{told:<48} "
        f"gain {row['gain']:+.3f} [{low:+.3f}, {high:+.3f}]"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the logs; {DATA}")
    parser.add_argument("--source", action="append", choices=FULL.sources, help="once or more; all")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    plan, rows, began = QUICK if args.quick else FULL, [], time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        train, test = LOGS[TARGET](args.data, scratch).split_at(0.8)
        vectors = TextEncoder().encode(train.catalogue.texts())
        text = np.vstack([np.zeros((1, vectors.shape[1]), np.float32), vectors])
        shop = Shop(train, test, Questions.of(test.tokens), text)
        for name in args.source or plan.sources:
            # Of its own log the shop's earliest sessions, which are none of those it learns from.
            log = train.split_at(0.6)[0] if name == TARGET else LOGS[name](args.data, scratch)
            for row in study(shop, name, latest(log, plan.sources[name]), plan, scratch):
                print(printed(row), flush=True)
                rows.append(row)
    print(
        json.dumps(
            {
                "benchmark": "warm_start",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": list(plan.seeds),
                "machine": describe(),
                "cpu_seconds": round(time.process_time() - began, 1),
                **{f"{row['source']}_{row['sessions']}_gain_{row['metric']}": row["gain"] for row in rows},
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
