"""SASRec and GRU4Rec as RecBole trains them, on our split, within a budget of processor time.

Runs inside the environment that `rivals/environment.py` builds; imports nothing of Slatewise. RecBole's own data sets,
models, losses, optimizer, early stopping and validation are used; from outside come the clock that ends a training, and
the code that ranks the test prefixes, which is that of every other model.

    PYTHONPATH=benchmarks ENVIRONMENT/bin/python -m rivals.recbole_run SASRec DATA.npz FOLDER --budget-seconds 7200
"""

import argparse
import json
import logging
import platform
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import recbole  # pyright: ignore[reportMissingImports]
import torch
from prefixes import K, PrefixData, cpu_seconds, last_items, rank_of, read_prefixes
from recbole.config import Config  # pyright: ignore[reportMissingImports]
from recbole.data import create_dataset, data_preparation  # pyright: ignore[reportMissingImports]
from recbole.data.interaction import Interaction  # pyright: ignore[reportMissingImports]
from recbole.trainer import Trainer  # pyright: ignore[reportMissingImports]
from recbole.utils import get_model, init_seed  # pyright: ignore[reportMissingImports]

# Chosen by validation trials, as benchmarks/README.md tells. What is not named is RecBole's default.
SETTINGS: dict[str, dict[str, Any]] = {
    "SASRec": {
        "hidden_size": 64,
        "inner_size": 256,
        "hidden_dropout_prob": 0.2,
        "attn_dropout_prob": 0.2,
        "learning_rate": 1e-3,
    },
    "GRU4Rec": {"embedding_size": 64, "hidden_size": 128, "dropout_prob": 0.3, "learning_rate": 4e-3},
}
COMMON = {"loss_type": "CE", "train_neg_sample_args": None}
LONGEST = 50  # items of a prefix that are read, at most: RecBole's default
RESERVE = 5  # seconds of the budget kept for what comes after the last validation


def longest(data: PrefixData) -> int:
    """Items of a prefix that are read: all of 99 in 100 training prefixes. Each more is padding that costs time."""
    place = np.concatenate([np.arange(1, n) for n in np.diff(data.train_offsets)])
    return int(min(max(np.quantile(place, 0.99), 10), LONGEST))


def batch_size(data: PrefixData) -> int:
    """Examples a batch, 512 for large data sets; smaller ones need small batches to have enough steps in the budget."""
    learn = data.before_tail()
    fitting = (len(learn.train_items) - learn.n_train) / 1_300  # an epoch of Diginetica is some 1 300 batches of 512
    return int(min(max(2 ** round(np.log2(max(fitting, 1))), 64), 512))


def write_atomic(data: PrefixData, folder: Path, width: int) -> None:
    """RecBole's atomic files, one row a prefix: what its own augmentation would make of the same sessions.

    The valid file has the prefixes of the validation tail. The test file has one row an item, so that RecBole's
    vocabulary is the whole catalogue; RecBole is never shown the test.
    """
    folder.mkdir(parents=True, exist_ok=True)
    learn = data.before_tail()
    session = np.repeat(np.arange(learn.n_train), np.diff(learn.train_offsets))
    place = np.arange(len(session)) - learn.train_offsets[session]
    asked = np.flatnonzero(place > 0)
    items = data.train_items
    train = ((items[max(at - place[at], at - width) : at], items[at]) for at in asked)
    part, offsets, target = data.validation()
    valid = ((part[max(a, b - width) : b], one) for a, b, one in zip(offsets[:-1], offsets[1:], target, strict=True))
    every = ((np.array([item]), item) for item in range(1, data.n_items + 1))
    for name, rows in (("train", train), ("valid", valid), ("test", every)):
        with (folder / f"{folder.name}.{name}.inter").open("w") as file:
            file.write("session_id:token\titem_id_list:token_seq\titem_id:token\n")
            file.writelines(
                f"{number}\t{' '.join(map(str, prefix.tolist()))}\t{one}\n" for number, (prefix, one) in enumerate(rows)
            )


def configure(model: str, folder: Path, seed: int, settings: dict[str, Any]) -> Config:
    """RecBole's settings for one run on the processor: `settings`, and where the data are and how it is judged."""
    return Config(
        model=model,
        dataset="prefixes",
        config_dict={
            "USER_ID_FIELD": "session_id",
            "load_col": {"inter": ["session_id", "item_id_list", "item_id"]},
            "alias_of_item_id": ["item_id_list"],
            "benchmark_filename": ["train", "valid", "test"],
            "data_path": str(folder),
            "checkpoint_dir": str(folder / "saved"),
            "epochs": 300,
            "metrics": ["Recall", "MRR"],
            "topk": [K],
            "valid_metric": f"MRR@{K}",
            "eval_args": {"order": "TO", "mode": "full"},
            "eval_batch_size": 512,
            "use_gpu": False,
            "show_progress": False,
            "seed": seed,
            **settings,
        },
    )


class BudgetSpentError(Exception):
    """No time is left for another epoch."""


class Clock:
    """RecBole's training batches, until what is left of the budget is needed to validate."""

    def __init__(self, batches: Any, budget: float, judging: int) -> None:
        self.batches, self.budget, self.judging = batches, budget, judging
        self.spent, self.examples = False, 0
        self.validation_seconds = 0.0
        """What a validation takes; until the first one, what training on as many examples would."""
        self._began: float | None = None

    def __iter__(self) -> Iterator[Any]:
        self._began = self._began or cpu_seconds()
        for batch in self.batches:
            if self.out_of_time():
                self.spent = True
                return
            yield batch
            self.examples += len(batch)

    def __len__(self) -> int:
        return len(self.batches)

    def __getattr__(self, name: str) -> Any:
        return getattr(self.batches, name)

    def out_of_time(self) -> bool:
        """Whether another batch would leave too little to validate what was learnt."""
        now = cpu_seconds()
        judging = self.validation_seconds
        if not judging and self._began is not None and self.examples:
            judging = (now - self._began) / self.examples * self.judging
        return now + 1.1 * judging + RESERVE > self.budget


class BudgetTrainer(Trainer):
    """RecBole's trainer; it stops by the clock, keeps the best weights alone, and notes every validation."""

    def __init__(self, config: Any, model: Any, clock: Clock) -> None:
        super().__init__(config, model)
        self.clock, self.history = clock, []

    def _valid_epoch(self, valid_data: Any, show_progress: bool = False) -> tuple[float, dict[str, float]]:
        """Recall plus MRR, both being what is reported, decides which epoch is the best."""
        began = cpu_seconds()
        _, found = super()._valid_epoch(valid_data, show_progress)
        self.clock.validation_seconds = cpu_seconds() - began
        score = found[f"recall@{K}"] + found[f"mrr@{K}"]
        self.history.append(
            {
                "epochs": round(self.clock.examples / self.clock.sample_size, 3),
                "recall_at_20": round(100 * found[f"recall@{K}"], 3),
                "mrr_at_20": round(100 * found[f"mrr@{K}"], 3),
                "loss": round(self.train_loss_dict[max(self.train_loss_dict)], 2),
                "cpu_seconds": round(cpu_seconds(), 1),
            }
        )
        print(json.dumps(self.history[-1]), flush=True)
        return score, found

    def _save_checkpoint(self, epoch: int, verbose: bool = True, **_: Any) -> None:  # noqa: ARG002
        torch.save(self.model.state_dict(), self.saved_model_file)

    def train_within_budget(self, valid_data: Any) -> str:
        """Fit; the model then has the weights of the best validation. Returns what ended the training."""

        def check(epoch: int, score: float) -> None:  # noqa: ARG001
            if self.clock.spent or self.clock.out_of_time():
                raise BudgetSpentError

        ended = "early stopping"
        try:
            self.fit(self.clock, valid_data, verbose=False, saved=True, show_progress=False, callback_fn=check)
        except BudgetSpentError:
            ended = "budget"
        self.model.load_state_dict(torch.load(self.saved_model_file, weights_only=True))
        return ended


def rank_test(model: Any, dataset: Any, data: PrefixData, width: int) -> np.ndarray:
    """(M,) rank of each test target among the whole catalogue."""
    tokens = dataset.id2token("item_id", np.arange(dataset.num("item_id")))
    column = np.zeros(data.n_items + 1, np.int64)  # our item -> RecBole's
    column[tokens[1:].astype(np.int64)] = np.arange(1, len(tokens))
    items, lengths = last_items(data.test_items, data.test_offsets, width)
    ranks = np.zeros(len(lengths), np.int64)
    model.eval()
    with torch.inference_mode():
        for begin in range(0, len(lengths), 256):
            part = slice(begin, begin + 256)
            asked = {
                model.ITEM_SEQ: torch.from_numpy(column[items[part]]),
                model.ITEM_SEQ_LEN: torch.from_numpy(lengths[part]),
            }
            scores = model.full_sort_predict(Interaction(asked)).numpy()[:, column]
            ranks[part] = rank_of(scores, data.test_target[part])
    return ranks


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", choices=sorted(SETTINGS))
    parser.add_argument("data", type=Path)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--budget-seconds", type=float, default=7200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--set", type=json.loads, default={}, help="JSON object of RecBole settings to change")
    args = parser.parse_args()
    torch.set_num_threads(1)
    data = read_prefixes(args.data)
    chosen = {"train_batch_size": batch_size(data), "MAX_ITEM_LIST_LENGTH": longest(data)}
    settings = {**COMMON, **SETTINGS[args.model], **chosen, **args.set}
    width = settings["MAX_ITEM_LIST_LENGTH"]
    write_atomic(data, args.folder / "prefixes", width)
    config = configure(args.model, args.folder, args.seed, settings)
    logging.getLogger().setLevel(logging.ERROR)
    init_seed(args.seed, True)
    dataset = create_dataset(config)
    train, valid, _ = data_preparation(config, dataset)
    model_class = get_model(args.model)
    # One of RecBole's other models (SINE) switches it on for all when RecBole looks models up: a third of the time.
    torch.autograd.set_detect_anomaly(False)
    init_seed(args.seed, True)
    model = model_class(config, train.dataset)
    print(json.dumps({"prepared_cpu_seconds": round(cpu_seconds(), 1)}), flush=True)
    trainer = BudgetTrainer(config, model, Clock(train, args.budget_seconds, len(valid.dataset)))
    began = time.monotonic()
    ended = trainer.train_within_budget(valid)
    spent = cpu_seconds()
    np.save(args.folder / "ranks.npy", rank_test(model, dataset, data, width))
    best = max(trainer.history, key=lambda one: one["recall_at_20"] + one["mrr_at_20"])
    run = {
        "cpu_seconds": round(spent, 1),
        "wall_seconds": round(time.monotonic() - began, 1),
        "settings": settings,
        "ended_by": ended,
        "best": best,
        "epochs": trainer.history,
        "versions": {"recbole": recbole.__version__, "torch": torch.__version__, "numpy": np.__version__}
        | {"python": platform.python_version()},
    }
    (args.folder / "run.json").write_text(json.dumps(run))


if __name__ == "__main__":
    main()
