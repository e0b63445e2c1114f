"""The whole loop, measured: what every policy earns, how long each step takes, how much memory it needs.

    python benchmarks/loop.py                                  # the known-truth shop
    python benchmarks/loop.py --source ga360 PATH              # a real log
    python benchmarks/loop.py --quick                          # minutes less, the same measurement on a small shop

Runs `slatewise demo` in processes of its own, once for each `--seed` (another shop, other trainings, other shoppers),
and prints a table and, as the last line, one JSON object. Peers: every policy meets the same shoppers, so the baselines
in the table are the rivals; item-kNN and popularity are those of the next-item figures.
"""

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from machine import describe

GIB = 2**20  # ru_maxrss is in KiB on Linux


def run_demo(seed: int, source: str | None, path: Path | None, quick: bool, out: Path) -> dict[str, Any]:
    """One demo in a process of its own: its JSON, with wall and processor seconds and the peak of its memory."""
    command = [sys.executable, "-m", "slatewise", "demo", "--json", "--seed", str(seed), "--out", str(out)]
    command += ["--quick"] if quick else []
    command += ["--source", source, str(path)] if source else []
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty: a demo that resumes would be timed as a whole one")
    began = time.monotonic()
    running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    assert running.stdout is not None
    said = running.stdout.read()
    _, status, used = os.wait4(running.pid, 0)
    if status:
        sys.exit(f"{' '.join(command)} ended with {os.waitstatus_to_exitcode(status)}: {said}")
    result = json.loads(said)
    result["wall_seconds"] = round(time.monotonic() - began, 1)
    result["cpu_seconds"] = round(used.ru_utime + used.ru_stime, 1)
    result["peak_gib"] = round(used.ru_maxrss / GIB, 2)
    return result


def table(result: dict[str, Any]) -> str:
    """Every policy's reward, click rate and conversion with intervals, by simulator."""
    lines = []
    wanted = ("reward", "ctr", "conversion", "revenue")
    for simulator in dict.fromkeys(row["simulator"] for row in result["summary"]):
        lines += [f"\n{simulator}", f"{'policy':<18}" + "".join(f"{metric:>28}" for metric in wanted)]
        rows = [row for row in result["summary"] if row["simulator"] == simulator]
        for policy in dict.fromkeys(row["policy"] for row in rows):
            cells = {row["metric"]: row for row in rows if row["policy"] == policy}
            text = [f"{cells[m]['mean']:.4g} [{cells[m]['low']:.4g}, {cells[m]['high']:.4g}]" for m in wanted]
            lines.append(f"{policy:<18}" + "".join(f"{one:>28}" for one in text))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("path", type=Path, nargs="?", help="the log, for --source")
    parser.add_argument("--source", help="a reader's name, for instance ga360")
    parser.add_argument("--seed", type=int, action="append", help="once or more; 0")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--keep", type=Path, help="folder that keeps what the demos wrote")
    args = parser.parse_args()
    seeds = args.seed or [0]
    results = []
    with tempfile.TemporaryDirectory() as scratch:
        for seed in seeds:
            out = (args.keep or Path(scratch)) / f"seed-{seed}"
            results.append(run_demo(seed, args.source, args.path, args.quick, out))
            print(f"\n== seed {seed}: {results[-1]['wall_seconds']} s, peak {results[-1]['peak_gib']} GiB", end="")
            print(table(results[-1]))
            for row in results[-1]["next_item"]:
                interval = f"{row['value']:.3f} [{row['low']:.3f}, {row['high']:.3f}]"
                print(f"next item, {row['model']:<12} {row['metric']:<10} {interval}")
            for row in results[-1]["held_out"] or []:
                figures = f"log-likelihood {row['log_likelihood']:.4f}, AUC {row['auc']:.3f}"
                print(f"held-out slates, {row['model']:<26} {figures}")
    print(
        json.dumps(
            {
                "benchmark": "loop",
                "date": datetime.now(UTC).date().isoformat(),
                "source": args.source or "known truth",
                "quick": args.quick,
                "seeds": seeds,
                "machine": describe(),
                "wall_seconds": statistics.median(one["wall_seconds"] for one in results),
                "peak_gib": max(one["peak_gib"] for one in results),
                "runs": results,
            }
        )
    )


if __name__ == "__main__":
    main()
