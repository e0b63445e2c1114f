"""The report: one self-contained HTML page that says who was judged, by whom, and what came of it.

Everything that reaches the page is plain data, and every text of it is escaped: titles come from a shop's catalogue.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from . import figures
from .findings import Evaluation
from .metrics import ALL_METRICS
from .outcomes import FIXED
from .page import as_table, inline, render_page, write_page
from .words import as_rows, decimals, heading, how_much, is_settled, number, rows_of, sentence

_SHOWN_MOST = 5  # items named for each policy
_TABLES = (
    ("reward", "revenue", "ctr", "clicks", "cart_rate", "conversion", "slates"),
    (
        "looked",
        "freshness",
        "diversity",
        "coverage",
    ),
)


@dataclass(frozen=True, kw_only=True)
class Extras:
    """What a report tells beyond the evaluation itself; whatever is left out is left out of the page.

    Tables of `next_item` and `realism` are shown as they come, column by column; `mean`, `value` or `gain` is shown
    with the interval of the columns `low` and `high`.
    """

    title: str = "Who should fill the shelves?"
    """Headline of the page."""
    shop: str = ""
    """Whose log it is."""
    currency: str = ""
    """Named beside money, for instance `"EUR"`."""
    settings: Mapping[str, Any] = field(default_factory=dict)
    """Further settings, by name."""
    notes: Sequence[str] = ()
    """Warnings that the reader must see."""
    curves: pd.DataFrame | None = None
    """Learning curves: `policy`, `training_seed`, `steps`, `value`."""
    next_item: pd.DataFrame | None = None
    """How well the encoder foretells the next item, beside its rivals."""
    evidence: pd.DataFrame | None = None
    """What the log told of its shoppers, what was assumed: `quantity`, `source`, `evidence`, `value`, `low`, `high`."""
    realism: pd.DataFrame | None = None
    """How real the fitted shopper is, beside plainer models."""
    calibration: pd.DataFrame | None = None
    """Of a fitted shopper, a row a group: `part`, `count`, `predicted`, `observed`, and `low`, `high` of the latter."""
    catalogue: pd.DataFrame | None = None
    """Columns `item_id` and `text`, row i the item of index i + 1: names of the items shown most."""
    places: Mapping[str, str] = field(default_factory=dict)
    """Artefact -> where it lies."""


def write_report(path: Path, evaluation: Evaluation, extras: Extras | None = None) -> Path:
    """Write the page.

    Args:
        path: of the HTML file.
        evaluation: as found by `find`, or loaded.
        extras: what else to tell.

    Returns:
        The path.
    """
    return write_page(path, render(evaluation, extras or Extras()))


def render(evaluation: Evaluation, extras: Extras) -> str:
    """The page as text."""
    level = float(evaluation.facts.get("level", 0.95))
    return render_page(
        "report.html.j2",
        extras=extras,
        metric=ALL_METRICS[evaluation.facts.get("metric", "reward")],
        metrics=ALL_METRICS.values(),
        level=number(100 * level, 0),
        resamples=f"{evaluation.facts.get('resamples', 2_000):,}",
        primary=evaluation.primary,
        warnings=[*_warnings(evaluation), *extras.notes],
        verdict=_verdict(evaluation, level),
        judges=_judges(evaluation),
        policies=_policies(evaluation),
        values=_values(evaluation, extras),
        comparisons=_comparisons(evaluation, level),
        shown_most=_shown_most(evaluation, extras.catalogue),
        tables={
            "next_item": as_table(extras.next_item),
            "realism": as_table(extras.realism),
        },
        evidence=_evidence(extras.evidence),
        pictures=_pictures(evaluation, extras, level),
        versions=evaluation.facts.get("versions", {}),
    )


def _warnings(evaluation: Evaluation) -> list[str]:
    """What would mislead a reader who is not told."""
    said = []
    for simulator in evaluation.outcomes.simulators:
        own = [policy for policy, name in evaluation.flattered if name == simulator]
        if own:
            verb = "was" if len(own) == 1 else "were"
            said.append(
                f"{_listed(own)} {verb} trained in “{simulator}”, which also judges here. A policy learns its "
                "simulator’s faults along with its shoppers, so its figures there flatter it: trust another’s."
            )
        chosen = [policy for policy, names in evaluation.chosen_in.items() if simulator in names]
        if chosen:
            said.append(
                f"Shoppers of “{simulator}” chose among versions or settings of {_listed(chosen)}. Others of it "
                "judge here, but it is no independent judge: trust a simulator that neither trained nor chose."
            )
    counts = evaluation.summary.drop_duplicates("policy").set_index("policy")["seeds"]
    single = [name for name in evaluation.trained if counts[name] == 1]
    if single:
        said.append(
            f"{_listed(single)}: one training only. Intervals hold for this very training; how much another training "
            "would differ is not in them."
        )
    unknown = [name for name in evaluation.trained if name not in evaluation.trained_in]
    if unknown:
        said.append(f"{_listed(unknown)}: it is not recorded in which simulator the training took place.")
    return said


def _listed(names: Sequence[str]) -> str:
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"


def _verdict(evaluation: Evaluation, level: float) -> list[dict[str, Any]]:
    """Sentences on the best trained policy (or the best of all) against every reference, in the primary simulator."""
    metric = evaluation.facts.get("metric", "reward")
    table = evaluation.summary
    table = table[(table["simulator"] == evaluation.primary) & (table["metric"] == metric)]
    best = table[table["policy"].isin(evaluation.trained)] if evaluation.trained else table
    subject = str(best.sort_values("mean")["policy"].iloc[-1])
    rows = [one for one in _told(evaluation, level) if subject in (one["policy"], one["reference"])]
    return [one for one in rows if one["simulator"] == evaluation.primary]


def _told(evaluation: Evaluation, level: float) -> list[dict[str, Any]]:
    """Comparisons with their sentence and outcome."""
    table = evaluation.comparisons
    family = table.groupby("simulator")["policy"].transform("size") if len(table) else []
    told = []
    for one, size in zip(rows_of(table), family, strict=True):
        settled = is_settled(one, level)
        outcome = ("better" if one["difference"] > 0 else "worse") if settled else "open"
        told.append({**one, "sentence": sentence(one, level=level, family=int(size)), "outcome": outcome})
    return told


def _comparisons(evaluation: Evaluation, level: float) -> list[dict[str, Any]]:
    """The table of comparisons, as text."""
    return [
        {
            **one,
            "amount": how_much(one, signed=True),
            "p_text": number(one["p_adjusted"], 3 if one["p_adjusted"] < 0.1 else 2),
            "word": "undecided" if one["outcome"] == "open" else one["outcome"],
        }
        for one in _told(evaluation, level)
    ]


def _judges(evaluation: Evaluation) -> list[dict[str, Any]]:
    """How each simulator judged."""
    rows = []
    for name in evaluation.outcomes.simulators:
        facts = evaluation.facts.get("simulators", {}).get(name, {})
        weights = facts.get("reward", {})
        reward = " + ".join(f"{weight:g} × {part}" for part, weight in weights.items() if weight)
        trained = [policy for policy, simulator in evaluation.trained_in.items() if simulator == name]
        rows.append({"name": name, "facts": facts, "reward": reward, "trained": ", ".join(trained)})
    return rows


def _policies(evaluation: Evaluation) -> list[dict[str, Any]]:
    """Who was judged: what kind of policy, how many trainings, trained where."""
    frame = evaluation.outcomes.frame
    seeds = frame.groupby("policy", sort=False)["training_seed"].agg(lambda column: sorted(column.unique()))
    own = {policy for policy, _ in evaluation.flattered}
    return [
        {
            "name": policy,
            "trainings": "none: fixed rule" if numbers == [FIXED] else str(len(numbers)),
            "trained_in": evaluation.trained_in.get(str(policy), "" if numbers == [FIXED] else "not recorded"),
            "flattered": policy in own,
        }
        for policy, numbers in seeds.items()
    ]


def _values(evaluation: Evaluation, extras: Extras) -> list[dict[str, Any]]:
    """Tables of metrics, one a simulator and group of metrics; cells are (mean, interval)."""
    tables = []
    for simulator in evaluation.outcomes.simulators:
        part = evaluation.summary[evaluation.summary["simulator"] == simulator]
        for group, metrics in zip(("Earnings", "What was shown"), _TABLES, strict=True):
            held = [name for name in metrics if name in set(part["metric"])]
            _, rows = as_rows(part, held, currency=extras.currency)
            cells = [[row[0], *(tuple(cell.partition(" [")[::2]) for cell in row[1:])] for row in rows]
            columns = [(heading(name, extras.currency), ALL_METRICS[name].meaning) for name in held]
            tables.append({"simulator": simulator, "group": group, "columns": columns, "rows": cells})
    return tables


def _shown_most(evaluation: Evaluation, catalogue: pd.DataFrame | None) -> list[dict[str, Any]]:
    """The items each policy showed most in the primary simulator, with their share of all slots filled."""
    items = evaluation.outcomes.items
    items = items[items["simulator"] == evaluation.primary]
    if catalogue is None or not len(items):
        return []
    names = catalogue["text"].where(catalogue["text"].astype(str).str.len() > 0, catalogue["item_id"]).tolist()
    rows = []
    for policy, part in items.groupby("policy", sort=False):
        shown = part.groupby("item")["shown"].sum().sort_values(ascending=False, kind="stable")
        top = shown.head(_SHOWN_MOST) / shown.sum()
        held = sum((shown.sort_values(ascending=False) / shown.sum()).head(max(len(names) // 10, 1)))
        rows.append(
            {
                "policy": policy,
                "items": [
                    (names[item - 1], f"{100 * share:.1f}\N{NO-BREAK SPACE}%")
                    for item, share in zip(top.index.tolist(), top.tolist(), strict=True)
                ],
                "tenth": f"{100 * held:.0f} %",
            }
        )
    return rows


def _evidence(frame: pd.DataFrame | None) -> list[dict[str, Any]]:
    """What is known of the fitted shopper and from where."""
    if frame is None:
        return []
    rows = []
    for row in rows_of(frame):
        low, high, value = (math.nan if row[name] is None else float(row[name]) for name in ("low", "high", "value"))
        places = decimals(low, high, value)
        span = f"{number(low, places)} to {number(high, places)}" if math.isfinite(low) and math.isfinite(high) else "–"
        learned = str(row["source"]).startswith("learned")
        rows.append({**row, "learned": learned, "value_text": number(value, places), "span": span})
    return rows


def _pictures(evaluation: Evaluation, extras: Extras, level: float) -> dict[str, Markup]:
    """The page's pictures by name, as inline SVG; those without data are missing."""
    metric = evaluation.facts.get("metric", "reward")
    label = ALL_METRICS[metric].label.lower()
    primary, summary, outcomes = evaluation.primary, evaluation.summary, evaluation.outcomes
    drawn: dict[str, tuple[Figure, str]] = {
        "values": (figures.policy_values(summary, metric, currency=extras.currency), f"{label} of every policy"),
        "funnel": (figures.funnel(figures.funnel_table(outcomes, primary)), "from slates to purchases"),
    }
    if len(evaluation.comparisons):
        against = figures.paired_differences(evaluation.comparisons, simulator=primary, level=level)
        drawn["differences"] = (against, f"{label} of policies against references")
    places = outcomes.places[outcomes.places["simulator"] == primary]
    if len(places):
        drawn["places"] = (figures.position_curve(places), "looked at and clicked, by place")
    others = [name for name in outcomes.simulators if name != primary]
    used = [name for name in others if name in evaluation.trained_in.values()] or others
    if used:
        drawn["simulators"] = (figures.two_simulators(summary, used[0], primary, metric), f"{label} in two simulators")
    if extras.curves is not None and len(extras.curves):
        drawn["curves"] = (figures.learning_curves(extras.curves), "earnings during training")
    if extras.calibration is not None and len(extras.calibration):
        drawn["calibration"] = (figures.calibration(extras.calibration), "foretold against happened")
    return inline(drawn)
