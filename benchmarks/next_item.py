"""Next-item quality against strong rivals: full ranking, one split, the same processor budget for every model.

    python benchmarks/next_item.py DATA.npz --budget-cpu-minutes 120
    python benchmarks/next_item.py DATA.npz --quick                     # the latest twentieth, minutes in all
    python benchmarks/next_item.py DATA.npz --rivals item-kNN SASRec    # `--rivals` alone: none

DATA.npz holds sessions cut into prefixes (see benchmarks/prefixes.py). Our encoder trains with one set of defaults,
whatever the data. Rivals: popularity, item-kNN, session-kNN (STAN), and SASRec and GRU4Rec as RecBole trains them with
the full softmax, in an environment that the script builds. The latest 5 % of the training sessions choose settings and
epochs of every model; the test chooses nothing. Each model runs in a process of its own on one thread, and its user and
system seconds, from its start to the end of its training, stay within the budget. Each writes the rank of every test
target among the whole catalogue. Prints a table and, as the last line, one JSON object.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
from machine import describe
from prefixes import TAIL, Figures, Ints, PrefixData, cpu_seconds, figures, read_prefixes, sessions_of_test
from rivals.environment import recbole_python

OURS = "slatewise"
CLASSICS = ("popularity", "item-kNN", "session-kNN")
RECBOLE = ("SASRec", "GRU4Rec")
HERE = Path(__file__).resolve().parent
QUICK_SHARE, QUICK_MINUTES = 0.05, 1.5


def train_ours(data: PrefixData, budget_seconds: float, seed: int, folder: Path) -> tuple[Ints, dict[str, Any]]:
    """Pretrain the session encoder with the package's defaults, and rank the test.

    Returns:
        (M,) ranks, and what `run.json` says of the training.
    """
    import pandas as pd
    from rivals.classics import ranks, tokens_of

    from slatewise.datasets.artefact import read_config
    from slatewise.datasets.catalogue import Catalogue
    from slatewise.datasets.schema import Event
    from slatewise.datasets.tokens import History
    from slatewise.encoders import PretrainConfig
    from slatewise.encoders.next_item import encoder_scorer
    from slatewise.encoders.pretrain import pretrain_tokens

    ids = [str(item) for item in range(1, data.n_items + 1)]
    facts = {"text": "", "category": "", "brand": "", "price": np.nan, "available": True}
    catalogue = Catalogue(pd.DataFrame({"item_id": ids, **facts}))
    # The limit is what is left of the budget, which counts from the start of this process.
    held = "cpu_seconds" in {field.name for field in fields(PretrainConfig)}
    limit: dict[str, Any] = {"cpu_seconds": budget_seconds - cpu_seconds()} if held else {}
    config = PretrainConfig(seed=seed, validation_fraction=TAIL, **limit)
    no_text = np.zeros((data.n_items, 0), np.float32)
    encoder = pretrain_tokens(tokens_of(data), catalogue, folder / "encoder", config=config, text=no_text, force=True)
    spent = cpu_seconds()
    scores_of = encoder_scorer(encoder)

    def scores(items: Ints, lengths: Ints) -> np.ndarray:
        events = np.where(items > 0, int(Event.VIEW), 0)
        return scores_of(History(items, events, np.zeros(items.shape, np.float32), lengths))

    found = ranks(scores, data.test_items, data.test_offsets, data.test_target, last=config.window)
    return found, {
        "cpu_seconds": spent,
        "settings": asdict(config),
        "facts": read_config(folder / "encoder", "encoder"),
    }


def train_classic(name: str, data: PrefixData, budget_seconds: float) -> tuple[Ints, dict[str, Any]]:
    """Tune and fit one of the classics, and rank the test."""
    from rivals import classics

    if name == "popularity":
        scorer, settings = classics.popularity(data), {}
    elif name == "item-kNN":
        scorer, settings = classics.tuned_item_knn(data, budget_seconds)
    else:
        scorer, settings = classics.tuned_session_knn(data, budget_seconds)
    spent = cpu_seconds()
    found = classics.ranks(scorer, data.test_items, data.test_offsets, data.test_target)
    return found, {"cpu_seconds": spent, "settings": settings}


def run_here(name: str, data_path: Path, budget_seconds: float, seed: int, folder: Path) -> None:
    """What the process of one model does: leave `ranks.npy` and `run.json` in its folder."""
    import torch

    torch.set_num_threads(1)
    data = read_prefixes(data_path)
    if name == OURS:
        found, run = train_ours(data, budget_seconds, seed, folder)
    else:
        found, run = train_classic(name, data, budget_seconds)
    np.save(folder / "ranks.npy", found)
    (folder / "run.json").write_text(json.dumps(run, default=str))


@dataclass(frozen=True, slots=True)
class Job:
    """One training of one model."""

    name: str
    seed: int
    data_path: Path
    content: str
    budget_seconds: float
    folder: Path
    python: Path

    def command(self) -> list[str]:
        """The process of its own that runs it."""
        budget = ["--seed", str(self.seed), "--budget-seconds", f"{self.budget_seconds:.1f}"]
        if self.name in RECBOLE:
            script = [str(self.python), "-W", "ignore", "-m", "rivals.recbole_run", self.name]
            return [*script, str(self.data_path), str(self.folder), *budget]
        script = [str(self.python), str(HERE / "next_item.py"), str(self.data_path), "--run", self.name]
        return [*script, "--folder", str(self.folder), *budget]

    def run(self) -> tuple[Ints, dict[str, Any]]:
        """The ranks and what is told of the training; a finished job of the same kind is read back."""
        asked = {"model": self.name, "seed": self.seed, "data": self.content, "budget_seconds": self.budget_seconds}
        said = self.folder / "run.json"
        if said.is_file() and (run := json.loads(said.read_text())).get("asked") == asked:
            print(f"{self.name}, seed {self.seed}: kept from {self.folder}", flush=True)
            return np.load(self.folder / "ranks.npy"), run
        self.folder.mkdir(parents=True, exist_ok=True)
        said.unlink(missing_ok=True)
        began = time.monotonic()
        single = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
        with (self.folder / "log.txt").open("w") as log:
            process = subprocess.Popen(
                self.command(),
                stdout=log,
                stderr=log,
                cwd=self.folder,  # RecBole leaves files where it runs
                env=os.environ | single | {"PYTHONPATH": str(HERE)},
            )
            _, status, used = os.wait4(process.pid, 0)
            process.returncode = os.waitstatus_to_exitcode(status)
        if status or not said.is_file():
            told = (self.folder / "log.txt").read_text()[-2000:]
            raise RuntimeError(f"{self.name}, seed {self.seed} ended with {process.returncode}:\n{told}")
        run = json.loads(said.read_text()) | {"asked": asked, "wall_seconds": round(time.monotonic() - began, 1)}
        run["cpu_seconds_with_ranking"] = round(used.ru_utime + used.ru_stime, 1)
        said.write_text(json.dumps(run))
        minutes = run["cpu_seconds"] / 60
        print(f"{self.name}, seed {self.seed}: trained in {minutes:.1f} processor minutes", flush=True)
        return np.load(self.folder / "ranks.npy"), run


def told(found: Figures, runs: list[dict[str, Any]], seeds: list[int], budget_seconds: float) -> dict[str, Any]:
    """What the JSON says of one model."""
    spent = [run["cpu_seconds"] / 60 for run in runs]
    return {
        "recall_at_20": round(found.recall, 3),
        "mrr_at_20": round(found.mrr, 3),
        "recall_at_20_interval": [round(bound, 3) for bound in found.recall_interval],
        "mrr_at_20_interval": [round(bound, 3) for bound in found.mrr_interval],
        "per_seed": [
            {
                "seed": seed,
                "recall_at_20": round(r, 3),
                "mrr_at_20": round(m, 3),
                "cpu_minutes": round(minutes, 2),
            }
            for seed, (r, m), minutes in zip(seeds, found.per_seed, spent, strict=True)
        ],
        "cpu_minutes": round(max(spent), 2),
        "cpu_minutes_with_ranking": round(max(run["cpu_seconds_with_ranking"] for run in runs) / 60, 2),
        "within_budget": max(spent) * 60 <= budget_seconds,
        "settings": runs[0]["settings"],
        **{key: runs[0][key] for key in ("versions",) if key in runs[0]},
        **{key: [run[key] for run in runs] for key in ("ended_by", "best") if key in runs[0]},
    }


def table(results: dict[str, dict[str, Any]]) -> str:
    """One line a model."""
    lines = [f"{'model':<14}{'Recall@20 %':>24}{'MRR@20 %':>24}{'CPU min':>9}   ours ahead by (recall, MRR)"]
    for name, one in results.items():
        cells = [
            f"{one[metric]:.2f} [{one[f'{metric}_interval'][0]:.2f}, {one[f'{metric}_interval'][1]:.2f}]"
            for metric in ("recall_at_20", "mrr_at_20")
        ]
        ahead = ", ".join(f"{lead:+.2f} [{low:+.2f}, {high:+.2f}]" for lead, low, high in one.get("ahead", {}).values())
        over = "" if one["within_budget"] else "  over the budget!"
        lines.append(f"{name:<14}{cells[0]:>24}{cells[1]:>24}{one['cpu_minutes']:>9.1f}   {ahead}{over}")
    return "\n".join(lines)


def measure(args: argparse.Namespace, data: PrefixData, folder: Path) -> dict[str, Any]:
    """Run every model, and say what came out."""
    data_path = folder / "data.npz"
    data.save(data_path)
    budget_seconds = 60 * args.budget_cpu_minutes
    python = {name: Path(sys.executable) for name in (OURS, *CLASSICS)}
    if set(args.rivals) & set(RECBOLE):
        python |= dict.fromkeys(RECBOLE, recbole_python(args.cache.resolve()))
    # The classics draw nothing: one run is all.
    of_rival = {**dict.fromkeys(CLASSICS, args.seeds[:1]), **dict.fromkeys(RECBOLE, args.rival_seeds or args.seeds)}
    seeds = {OURS: args.seeds, **{name: of_rival[name] for name in args.rivals}}
    content = data.content()
    jobs = [
        Job(name, seed, data_path, content, budget_seconds, folder / name / f"seed-{seed}", python[name])
        for name, chosen in seeds.items()
        for seed in chosen
    ]
    with ThreadPoolExecutor(args.jobs) as pool:
        done = list(pool.map(Job.run, jobs))
    sessions = sessions_of_test(data)
    found, results = {}, {}
    for name, chosen in seeds.items():
        mine = [one for job, one in zip(jobs, done, strict=True) if job.name == name]
        found[name] = figures(np.stack([ranks for ranks, _ in mine]), sessions)
        results[name] = told(found[name], [run for _, run in mine], chosen, budget_seconds)
    for name in args.rivals:
        lead = found[OURS].ahead_of(found[name])
        results[name]["ahead"] = {metric: [round(value, 3) for value in three] for metric, three in lead.items()}
    print("\n" + table(results))
    about = {
        "content": content,
        "train_sessions": data.n_train,
        "items": data.n_items,
        "test_prefixes": len(data.test_target),
        "test_sessions": int(sessions[-1]) + 1,
    }
    return results[OURS] | {"rivals": {name: results[name] for name in args.rivals}, "data": about}


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    rivals = [*CLASSICS, *RECBOLE]
    parser.add_argument("data", type=Path, help="the data set, an .npz")
    parser.add_argument("--budget-cpu-minutes", type=float, help=f"of each training; 120, quick {QUICK_MINUTES}")
    parser.add_argument("--seeds", type=int, nargs="+", help="0 1 2, quick 0")
    parser.add_argument("--rival-seeds", type=int, nargs="+", help="of RecBole's models; those of ours")
    parser.add_argument("--quick", action="store_true", help="the latest twentieth of the sessions, one seed")
    parser.add_argument("--keep", type=Path, help="folder that keeps what models leave; done is done")
    parser.add_argument("--rivals", nargs="*", choices=rivals, default=rivals, help="which; all by default")
    parser.add_argument("--jobs", type=int, default=1, help="models run at once; each uses one thread")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "slatewise"
    parser.add_argument("--cache", type=Path, default=cache, help="folder that keeps RecBole's environment")
    # How the script calls itself, once a model.
    parser.add_argument("--run", help=argparse.SUPPRESS)
    parser.add_argument("--seed", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--budget-seconds", type=float, help=argparse.SUPPRESS)
    return parser.parse_args()


def main() -> None:
    args = arguments()
    if args.run:
        run_here(args.run, args.data, args.budget_seconds, args.seed, args.folder)
        return
    args.budget_cpu_minutes = args.budget_cpu_minutes or (QUICK_MINUTES if args.quick else 120.0)
    args.seeds = args.seeds or ([0] if args.quick else [0, 1, 2])
    data = read_prefixes(args.data)
    data = data.latest(QUICK_SHARE) if args.quick else data
    began = time.monotonic()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (args.keep or Path(scratch)).resolve()
        folder.mkdir(parents=True, exist_ok=True)
        result = measure(args, data, folder)
    print(
        json.dumps(
            {
                "benchmark": "next_item",
                "date": datetime.now(UTC).date().isoformat(),
                "source": args.data.name,
                "quick": args.quick,
                "seeds": args.seeds,
                "rival_seeds": args.rival_seeds or args.seeds,
                "budget_cpu_minutes": args.budget_cpu_minutes,
                "validation_tail": TAIL,
                **result,
                "wall_minutes": round((time.monotonic() - began) / 60, 1),
                "machine": describe(),
            }
        )
    )


if __name__ == "__main__":
    main()
