"""Does the session encoder recommend items that no training session showed?

    python benchmarks/unseen_items.py --data FOLDER      # the public logs, see benchmarks/real_logs.py; 15 CPU minutes
    python benchmarks/unseen_items.py --quick            # the same measurement on less, under 2 CPU minutes
    python benchmarks/unseen_items.py --log gmerch       # one of the logs

A tenth of the items, by a hash of their ids, is held out: every event on them is taken out of the training sessions.
Their text, category and price stay in the catalogue, as those of an item that a shop adds tomorrow. Then, in later
sessions with nothing taken out, each next choice is asked for among ALL items. `unseen` are the questions whose answer
was held out, `seen` the others, `all` both: what is won on new items must not be lost elsewhere.

Rivals, given the same sessions:

  text of the last item    nearest by cosine of text vectors to the item before
  text of the session      nearest to the mean text vector of the session so far
  popular in its category  the most chosen of the last item's category (online_retail has no categories: of all);
                           equal counts, as those of all held-out items, are ordered by chance
  encoder without text     trained likewise, text left out of its parts

Each tenth is a training of its own, with another seed: ten on gmerch, which is small, so that every item is held out
once, and three on online_retail. Intervals (95 %) come from resampling sessions and trainings; differences are paired.
Figures are Recall@20. The last line is one JSON object.
"""

import argparse
import hashlib
import json
import statistics
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import torch
from foreseen import Floats, Ints, Questions, Scores, mean_interval, ranks, recall, scores_before
from machine import describe
from numpy.typing import NDArray
from real_logs import DATA, LOGS

from slatewise.datasets import ShopLog
from slatewise.encoders import PretrainConfig, TextEncoder
from slatewise.encoders.neighbours import item_counts
from slatewise.encoders.pretrain import pretrain

ENCODER, NO_TEXT = "encoder", "encoder without text"
LAST, SESSION, POPULAR = "text of the last item", "text of the session", "popular in its category"
K = 20


@dataclass(frozen=True)
class Study:
    """How a log is studied.

    Attributes:
        tenths: which tenths of the items are held out, each in a training of its own.
        sessions: the latest that are used.
        settings: of the training, where they are not the package's defaults.
    """

    tenths: Sequence[int]
    sessions: int
    settings: dict[str, Any] = field(default_factory=dict)


FULL = {
    "gmerch": Study(range(10), 2_000),
    "online_retail": Study(range(3), 9_000, {"epochs": 8, "max_tokens": 50}),
}
QUICK = {
    "gmerch": Study(range(2), 2_000, {"epochs": 6}),
    "online_retail": Study(range(1), 2_000, {"epochs": 4, "max_tokens": 30}),
}


@dataclass
class Answers:
    """Ranks that each model gave the answers, over all trainings of a log.

    Attributes:
        ranks: by model, an array of (M,) for each training.
        session: the sessions of the questions, for each training.
        unseen: whether the answer was held out, for each training.
    """

    ranks: dict[str, list[Ints]] = field(default_factory=dict)
    session: list[Ints] = field(default_factory=list)
    unseen: list[NDArray[np.bool_]] = field(default_factory=list)


def tenth_of(item_ids: Sequence[str]) -> Ints:
    """(N,) the tenth that each item falls into, 0 to 9; the same in every run."""
    digests = (hashlib.sha256(one.encode()).digest() for one in item_ids)
    return np.array([int.from_bytes(digest[:4], "big") % 10 for digest in digests])


def without_items(log: ShopLog, held_out: NDArray[np.bool_]) -> ShopLog:
    """The log without any event on these items, (N,) by row of the catalogue, which keeps them."""
    gone = log.catalogue.frame["item_id"][held_out]
    return ShopLog(log.events[~log.events["item_id"].isin(gone)].reset_index(drop=True), log.catalogue, log.facts)


def text_scores(log: ShopLog, asked: Questions, text: Floats) -> dict[str, Scores]:
    """The two neighbours by text; `text` holds unit vectors, (N + 1, E) by dense index."""
    tokens = log.tokens
    before = np.vstack([np.zeros((1, text.shape[1])), np.cumsum(text[tokens.items], axis=0, dtype=np.float64)])
    summed = before[asked.token] - before[tokens.offsets[asked.session]]  # its length does not matter
    mean = summed.astype(np.float32)
    last = text[tokens.items[asked.token - 1]]
    return {LAST: lambda part: last[part] @ text.T, SESSION: lambda part: mean[part] @ text.T}


def popular_scores(train: ShopLog, test: ShopLog, asked: Questions, seed: int) -> Scores:
    """The most chosen items of the last item's category first, then the most chosen of all."""
    counts = item_counts(train.tokens, train.catalogue.n_items)
    category = np.append(-1, np.unique(train.catalogue.frame["category"].fillna(""), return_inverse=True)[1])
    chosen = counts + 0.5 * np.random.default_rng(seed).random(len(counts))  # equal counts are ordered by chance
    same = 2 * float(counts.max()) + 1
    last = category[test.tokens.items[asked.token - 1]]
    return lambda part: (chosen + same * (category == last[part][:, None])).astype(np.float32)


def encoder_scores(
    train: ShopLog, test: ShopLog, asked: Questions, text: Floats, config: PretrainConfig, folder: Path
) -> Scores:
    """A session encoder trained on `train`."""
    encoder = pretrain(train, folder, config=config, text=text[1:], force=True)
    return scores_before(encoder, test.tokens, asked)


def answer(log: ShopLog, study: Study, text: Floats, scratch: Path, name: str) -> Answers:
    """All trainings of a log."""
    log = log.part(np.arange(max(len(log) - study.sessions, 0), len(log)))
    train, test = log.split_at(0.8)
    asked, n_items = Questions.of(test.tokens), log.catalogue.n_items
    tenths = tenth_of(log.catalogue.frame["item_id"].tolist())
    found = Answers()
    for seed in study.tenths:
        held_out = tenths == seed
        seen = without_items(train, held_out)
        config = PretrainConfig(seed=seed, **study.settings)
        parts = tuple(part for part in config.parts if part != "text")
        configs = {ENCODER: config, NO_TEXT: PretrainConfig(seed=seed, **study.settings, parts=parts)}
        scores = text_scores(test, asked, text) | {POPULAR: popular_scores(seen, test, asked, seed)}
        for model, its in configs.items():
            folder = scratch / "encoders" / f"{name}-{seed}-{model.replace(' ', '-')}"
            scores[model] = encoder_scores(seen, test, asked, text, its, folder)
        for model, scores_of in scores.items():
            found.ranks.setdefault(model, []).append(ranks(scores_of, asked.item, n_items))
        found.session.append(asked.session)
        found.unseen.append(np.append(False, held_out)[asked.item])
        hits = {model: recall(each[-1], K)[found.unseen[-1]].mean() for model, each in found.ranks.items()}
        print(f"{name}, tenth {seed}: " + ", ".join(f"{model} {hit:.3f}" for model, hit in hits.items()), flush=True)
    return found


def figures(found: Answers) -> list[dict[str, Any]]:
    """One row a model and kind of question: its recall, and how much more the encoder has."""
    session, unseen = np.concatenate(found.session), np.concatenate(found.unseen)
    hits = {model: recall(np.concatenate(each), K) for model, each in found.ranks.items()}
    training = np.repeat(np.arange(len(found.session)), [len(each) for each in found.session])
    rows = []
    for kind, asked in (("unseen", unseen), ("seen", ~unseen), ("all", np.ones(len(unseen), bool))):
        for model, hit in hits.items():
            value, interval = mean_interval(hit[asked], session[asked], training[asked])
            more, more_interval = mean_interval((hits[ENCODER] - hit)[asked], session[asked], training[asked])
            by_training = [float(hit[asked & (training == one)].mean()) for one in range(len(found.session))]
            row: dict[str, Any] = {"model": model, "kind": kind, "questions": int(asked.sum()), "recall@20": value}
            row |= {"interval": interval, "median": statistics.median(by_training), "by_training": by_training}
            rows.append(row | {"encoder_minus": more, "encoder_minus_interval": more_interval})
    return rows


def printed(name: str, rows: list[dict[str, Any]]) -> str:
    """The table for people."""
    lines = [f"\n{name}: Recall@{K} of the next item among all, and the encoder's less that"]
    for row in rows:
        if row["model"] == rows[0]["model"]:
            lines.append(f"{row['kind']}, {row['questions']:,} questions")
        (low, high), (least, most) = row["interval"], row["encoder_minus_interval"]
        more = f"{row['encoder_minus']:+.3f} [{least:+.3f}, {most:+.3f}]" if row["model"] != ENCODER else ""
        lines.append(f"  {row['model']:<26}{row['recall@20']:.3f} [{low:.3f}, {high:.3f}]   {more}")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the logs; {DATA}")
    parser.add_argument("--log", action="append", choices=FULL, help="once or more; all")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that keeps logs and encoders; otherwise they are thrown away")
    args = parser.parse_args()
    torch.set_num_threads(1)
    studies, tables = QUICK if args.quick else FULL, {}
    began = time.process_time()
    with tempfile.TemporaryDirectory() as temporary:
        scratch = args.keep or Path(temporary)
        scratch.mkdir(parents=True, exist_ok=True)
        for name in args.log or studies:
            log = LOGS[name](args.data, scratch)
            vectors = TextEncoder().encode(log.catalogue.texts())
            text = np.vstack([np.zeros((1, vectors.shape[1]), np.float32), vectors])
            tables[name] = figures(answer(log, studies[name], text, scratch, name))
            print(printed(name, tables[name]), flush=True)
    print(
        json.dumps(
            {
                "benchmark": "unseen_items",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": {name: list(studies[name].tenths) for name in tables},
                "settings": {name: studies[name].settings for name in tables},
                "machine": describe(),
                "cpu_seconds": round(time.process_time() - began, 1),
                **{
                    f"{name}_{row['kind']}_recall@20": row["recall@20"]
                    for name, rows in tables.items()
                    for row in rows
                    if row["model"] == ENCODER
                },
                "rows": tables,
            }
        )
    )


if __name__ == "__main__":
    main()
