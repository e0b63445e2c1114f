"""What each part of a token is worth: the session encoder trained with all of them, and with one left out at a time.

    python benchmarks/token_parts.py --data FOLDER      # the public logs, see benchmarks/real_logs.py; 25 CPU minutes
    python benchmarks/token_parts.py --quick            # the same measurement on less, under 2 CPU minutes
    python benchmarks/token_parts.py --log gmerch       # one of the logs

A token is the sum of its parts: of its item the text, an embedding of its own (id), category, brand and price; the type
of event; the time since the token before (gap). Each log is cut by time: 70 % of the sessions to learn from, 10 % for
early stopping, the latest 20 % to judge by. There the next choice is asked for among all items. Every row of the table
is a training without that part, three seeds each, and shows what the full encoder has more: Recall@20 and MRR@20, with
95 % intervals from resampling sessions and seeds, which are the same for both (paired). A part helps (hurts) that has
an interval above (below) 0; where both hold 0, nothing is shown. Parts that a log does not have are named only: text
that is just the item's id, prices or categories that are all alike, events all of one kind, gaps without a clock. Texts
name the category and the brand too, so what these add is beside what the text says of them. The last line is one JSON
object.
"""

import argparse
import json
import statistics
import tempfile
import time
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreseen import Floats, Ints, Questions, mean_interval, ranks, recall, reciprocal, scores_before
from machine import describe
from real_logs import DATA, LOGS

from slatewise.datasets import ShopLog
from slatewise.encoders import PretrainConfig, TextEncoder
from slatewise.encoders.pretrain import pretrain

FULL = "all parts"
STUDIED = ("text", "id", "category", "brand", "price", "event", "gap")


@dataclass(frozen=True)
class Study:
    """How a log is studied.

    Attributes:
        sessions: the latest that are used.
        settings: of the training, where they are not the package's defaults.
    """

    sessions: int
    settings: dict[str, Any] = field(default_factory=dict)


STUDIES = {"gmerch": Study(2_000), "eshop2008": Study(10_000), "jd_micro": Study(1_200)}
QUICK = {
    "gmerch": Study(2_000, {"epochs": 4}),
    "eshop2008": Study(1_000, {"epochs": 3}),
    "jd_micro": Study(500, {"epochs": 5}),
}


def parts_in(log: ShopLog) -> list[str]:
    """Which of the parts a log has."""
    frame, tokens = log.catalogue.frame, log.tokens
    there = {
        "text": bool((frame["text"] != frame["item_id"]).any()),
        "id": True,
        "category": frame["category"].fillna("").nunique() > 1,
        "brand": frame["brand"].fillna("").nunique() > 1,
        "price": frame["price"].nunique() > 1,
        "event": len(np.unique(tokens.events)) > 1,
        "gap": log.facts.get("clock") != "order" and bool(tokens.gaps.any()),
    }
    return [part for part in STUDIED if there[part]]


def trained_ranks(train: ShopLog, test: ShopLog, text: Floats, config: PretrainConfig, folder: Path) -> Ints:
    """(M,) ranks of the answers in `test` by an encoder trained on `train`."""
    encoder = pretrain(train, folder, config=config, text=text, force=True)
    asked = Questions.of(test.tokens)
    return ranks(scores_before(encoder, test.tokens, asked), asked.item, encoder.n_items)


def measure(name: str, log: ShopLog, study: Study, seeds: int, scratch: Path) -> list[dict[str, Any]]:
    """One row for the full encoder, and one for each part: in the log or not, and what it adds."""
    log = log.part(np.arange(max(len(log) - study.sessions, 0), len(log)))
    train, test = log.split_at(0.8)
    there = parts_in(log)
    width = TextEncoder().dim if "text" in there else 0
    text = TextEncoder().encode(log.catalogue.texts()) if width else np.zeros((log.catalogue.n_items, 0), np.float32)
    found: dict[str, list[Ints]] = {}
    for left_out in ("", *there):
        parts = tuple(part for part in there if part != left_out)
        for seed in range(seeds):
            config = PretrainConfig(seed=seed, parts=parts, validation_fraction=0.125, **study.settings)
            folder = scratch / "encoders" / f"{name}-{left_out or 'full'}-{seed}"
            found.setdefault(left_out, []).append(trained_ranks(train, test, text, config, folder))
        hits = ", ".join(f"{recall(rank).mean():.4f}" for rank in found[left_out])
        print(f"{name}, without {left_out or 'nothing'}: Recall@20 {hits}", flush=True)
    session = Questions.of(test.tokens).session
    both = np.tile(session, seeds), np.repeat(np.arange(seeds), len(session))
    rows = [figures(name, FULL, found[""], found[""], *both)]
    for part in STUDIED:
        in_log = part in there
        rows.append(figures(name, part, found[part], found[""], *both) if in_log else {"log": name, "part": part})
        rows[-1]["in_log"] = in_log
    return rows


def figures(
    name: str, part: str, without: list[Ints], full: list[Ints], session: Ints, training: Ints
) -> dict[str, Any]:
    """The figures of the encoder without a part, and what the full one has more."""
    row: dict[str, Any] = {"log": name, "part": part, "questions": len(without[0])}
    for metric, of in (("recall@20", recall), ("mrr@20", reciprocal)):
        value, interval = mean_interval(of(np.concatenate(without)), session, training)
        adds, adds_interval = mean_interval(of(np.concatenate(full)) - of(np.concatenate(without)), session, training)
        by_seed = [float(of(rank).mean()) for rank in without]
        row[metric] = {"without": value, "interval": interval, "by_seed": by_seed, "median": statistics.median(by_seed)}
        row[metric] |= {"adds": adds, "adds_interval": adds_interval}
    intervals = [row[metric]["adds_interval"] for metric in ("recall@20", "mrr@20")]
    helps, hurts = any(low > 0 for low, _ in intervals), any(high < 0 for _, high in intervals)
    row["verdict"] = "helps and hurts" if helps and hurts else "helps" if helps else "hurts" if hurts else "not shown"
    return row


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    if not row.get("in_log", True):
        return f"  {row['part']:<12}not in this log"
    cells = []
    for metric in ("recall@20", "mrr@20"):
        found = row[metric]
        (low, high), (least, most) = found["interval"], found["adds_interval"]
        cells.append(
            f"{found['without']:.3f} [{low:.3f}, {high:.3f}]"
            if row["part"] == FULL
            else f"{found['adds']:+.4f} [{least:+.4f}, {most:+.4f}]"
        )
    return (
        f"  {row['part']:<12}"
        + "".join(f"{cell:<32}" for cell in cells)
        + ("" if row["part"] == FULL else row["verdict"])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the logs; {DATA}")
    parser.add_argument("--log", action="append", choices=STUDIES, help="once or more; all")
    parser.add_argument("--seeds", type=int, help="trainings of each encoder; 3, quick 1")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that keeps logs and encoders; otherwise they are thrown away")
    args = parser.parse_args()
    torch.set_num_threads(1)
    studies, seeds = QUICK if args.quick else STUDIES, args.seeds or (1 if args.quick else 3)
    began, rows = time.process_time(), []
    with tempfile.TemporaryDirectory() as temporary:
        scratch = args.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for name in args.log or studies:
            rows += (fresh := measure(name, LOGS[name](args.data, scratch), studies[name], seeds, scratch))
            print(f"\n{name}: {fresh[0]['questions']:,} questions, {seeds} seeds; what each part adds")
            print(f"  {'':<12}{'Recall@20':<32}{'MRR@20':<32}")
            print("\n".join(line(row) for row in fresh) + "\n", flush=True)
    print(
        json.dumps(
            {
                "benchmark": "token_parts",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": list(range(seeds)),
                "settings": {name: studies[name].settings for name in args.log or studies},
                "machine": describe(),
                "cpu_seconds": round(time.process_time() - began, 1),
                "adds_recall@20": {
                    f"{row['log']}_{row['part']}": row["recall@20"]["adds"]
                    for row in rows
                    if row.get("in_log") and row["part"] != FULL
                },
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
