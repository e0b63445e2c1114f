"""What the steps found, as tables and lines for people."""

import csv
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from .console import Reporter


def show_rows(reporter: Reporter, facts: Mapping[str, Any], out: Path) -> None:
    """What became of every row that an ingest read, and what the log holds."""
    named = {name: count for name, count in facts["rows"].items() if name not in ("quarantined", "ignored")}
    named = {name: count for name, count in named.items() if count or name in ("read", "kept")}
    rows = [(name.replace("_", " "), f"{count:,}") for name, count in named.items()]
    for title, reasons in (("set aside", facts["quarantined"]), ("passed over", facts["ignored"])):
        rows += [(f"{title}: {reason}", f"{count:,}") for reason, count in reasons.items()]
    reporter.table("What became of the rows", ["", "rows"], rows)
    if facts["quarantined"]:
        reporter.tell(f"rows set aside, with line and reason: {out / 'quarantine.jsonl'}")
    if facts["items_without_text"]:
        reporter.tell(f"{facts['items_without_text']:,} items have no text; their id stands for it")
    sizes = f"{facts['sessions']:,} sessions of {facts['shoppers']:,} shoppers over {facts['items']:,} items"
    reporter.tell(f"{sizes}: {out}")


def show_next_item(reporter: Reporter, rows: Sequence[Mapping[str, Any]]) -> None:
    """How well an encoder and its rivals foretell the next item; nothing where no session was held out."""
    if rows:
        cells = [(row["model"], row["metric"], with_interval(row)) for row in rows]
        columns = ["model", "metric", "value [95 % interval]"]
        reporter.table("Next item on held-out sessions, whole catalogue ranked", columns, cells)


def with_interval(row: Mapping[str, Any], digits: int = 3) -> str:
    """`0.123 [0.110, 0.136]`."""
    return f"{row['value']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def show_learning(reporter: Reporter, facts: Mapping[str, Any]) -> None:
    """What the exploring policy of each training earned at its end, or how an offline training ended.

    Where a judge valued versions: what the one that was kept is worth to its shoppers, and after how many slates.
    """
    learning = facts["learning"]
    known = ("reward", "ctr", "slates", "loss", "later_log_likelihood", "capped", "value", "value_error", "best_at")
    known = (*known, "stopped_at", "seconds")
    columns = [name for name in known if any(name in row for row in learning.values())]
    rows = [(seed, *(f"{row[name]:.4g}" if name in row else "" for name in columns)) for seed, row in learning.items()]
    title = "At the end of training, while exploring" if "reward" in columns else "At the end of training"
    reporter.table(title, ["seed", *columns], rows)
    judge, chosen = facts.get("judge"), chosen_training(learning)
    if judge is not None:
        stopped = sum("stopped_at" in row for row in learning.values())
        reporter.tell(
            f"best versions kept, and {stopped} of {len(learning)} trainings stopped, by shoppers of {judge}: value is "
            f"the reward of a session there. It is no independent judge of this agent any more; let `evaluate` have "
            f"another. `export` ships training {chosen}, which it values highest."
        )


def chosen_training(learning: Mapping[str, Mapping[str, float]]) -> str:
    """The training to ship: the one that validation shoppers value highest, or else that earned most as it trained.

    Neither looks at the simulators that `evaluate` judges by. The first, where nothing is known: offline agents met no
    shoppers.
    """
    return max(learning, key=lambda one: learning[one].get("value", learning[one].get("reward", 0.0)))


def show_trials(reporter: Reporter, facts: Mapping[str, Any], path: Path) -> None:
    """The best trials of a search, which settings mattered, and what the best are worth on fresh shoppers."""
    with path.open(encoding="utf-8", newline="") as file:
        trials = list(csv.DictReader(file))
    trials.sort(key=lambda row: (row["state"] == "complete", float(row["value"] or "-inf")), reverse=True)
    columns = [name for name in trials[0] if name not in ("trial", "state", "value", "seconds")]
    rows = [
        [row["trial"], row["state"], _short(row["value"]), *(_short(row[name]) for name in columns)] for row in trials
    ]
    reporter.table(f"The best of {len(rows)} trials; 0 is the defaults", ["trial", "", "value", *columns], rows[:10])
    if facts["importance"]:
        said = ", ".join(f"{name} {share:.0%}" for name, share in facts["importance"].items())
        reporter.tell(f"what the differences come from: {said}")
    if facts["best_trial"] == 0:
        reporter.tell("no settings tried are worth more than the defaults")
        return
    from ..evaluation import sentence

    reporter.tell(
        f"trial {facts['best_trial']} was worth {facts['value']:.4g} and the defaults {facts['defaults_value']:.4g} to "
        "the shoppers that chose, which flatters the best of many. Trained anew, before fresh shoppers:"
    )
    check = {name: float("nan") if value is None else value for name, value in facts["check"].items()}
    reporter.tell(f"- {sentence(check)}")


def _short(text: str) -> str:
    """A number from a table with as many digits as are read; other text as it is."""
    try:
        return f"{float(text):.4g}"
    except ValueError:
        return text


def show_values(reporter: Reporter, out: Path) -> None:
    """The table of every policy's figures, and what the comparisons say."""
    from ..evaluation import Evaluation, as_rows, sentence

    found = Evaluation.load(out)
    for simulator in found.outcomes.simulators:
        said = " (agents were trained in it)" if simulator in found.trained_in.values() else ""
        chose = any(simulator in names for names in found.chosen_in.values())
        said += " (it chose an agent's version or settings)" if chose else ""
        columns, rows = as_rows(found.summary[found.summary["simulator"] == simulator])
        reporter.table(f"In the {simulator}{said}: mean [95 % interval]", columns, rows)
    primary = found.comparisons[found.comparisons["simulator"] == found.primary]
    for row in primary.to_dict("records"):
        reporter.tell(f"- {sentence({str(name): value for name, value in row.items()}, family=len(primary))}")


def show_evidence(reporter: Reporter, facts: Mapping[str, Any]) -> None:
    """What a fitted shopper learned from its log, what it assumes, and how well it foretells held-out slates."""
    rows = []
    for row in facts.get("evidence", []):
        rows.append((row["quantity"], f"{row['source']} ({row['evidence']})", _range(row)))
    reporter.table("What is known of the shoppers", ["quantity", "whence", "value [range]"], rows)
    tables = (
        ("forms", "Forms of examination, on the latest slates learnt from"),
        ("held_out", "On held-out slates"),
        ("returns", "Visits followed by another, in held-out sessions"),
        ("quantities", "How many were bought at once, in held-out sessions"),
    )
    for name, title in tables:
        if found := facts.get(name):
            reporter.table(title, list(found[0]), [_cells(row) for row in found])


def _range(row: Mapping[str, Any]) -> str:
    """A value and its range, as far as they are known."""
    value, low, high = (row[name] for name in ("value", "low", "high"))
    if value is None:
        return ""
    return f"{value:.3g}" if low is None or high is None else f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]
