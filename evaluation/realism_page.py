"""The realism report: one self-contained HTML page that says how far a simulated shopper can be believed."""

import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd
from markupsafe import Markup

from ..datasets.artefact import package_versions, write_json
from ..simulators.foretold import FITTED
from ..simulators.realism import Realism
from . import figures, realism_figures
from .page import as_table, inline, render_page, write_page
from .words import decimals, number, rows_of

_NAMED_MOST = 6  # measures that one sentence names


def write_realism(path: Path, found: Realism, *, title: str = "How real are these shoppers?", shop: str = "") -> Path:
    """Write the page, and beside it the same figures as JSON, under the same name.

    Args:
        path: of the HTML file.
        found: of `simulators.realism`.
        title: headline.
        shop: whose log it is.

    Returns:
        The path.
    """
    path = write_page(Path(path), render_realism(found, title=title, shop=shop))
    write_json(path.with_suffix(".json"), found.to_rows())
    return path


def render_realism(found: Realism, *, title: str = "How real are these shoppers?", shop: str = "") -> str:
    """The page as text; arguments as of `write_realism`."""
    facts = found.facts
    occasions = "slates" if facts["from_slates"] else "next views"
    sizes = [f"{facts[name]:,} {label}" for name, label in (("sessions", "sessions"), ("shoppers", "shoppers"))]
    return render_page(
        "realism.html.j2",
        title=title,
        shop=shop,
        facts=facts,
        notes=found.notes,
        sizes=f"{sizes[0]} of {sizes[1]} held out, {facts['slates']:,} {occasions}",
        verdict=verdict(found),
        likelihood=_likelihood(found.likelihood),
        errors=_errors(found.errors),
        distances=_distances(found.distances),
        classifier=rows_of(found.classifier),
        telling=_telling(found.telling),
        pictures=_pictures(found),
        versions=package_versions(),
    )


def verdict(found: Realism) -> list[dict[str, str]]:
    """What the page says first: sentences, each with an `outcome` out of `better`, `worse` and `open`."""
    said = []
    for row in rows_of(found.likelihood):
        if row["model"] != FITTED:
            said.append(_gained(row))
    simulated, real = rows_of(found.classifier)
    told = simulated["low"] > max(0.5, real["auc"])
    sentence = (
        f"Trees tell its sessions from real ones with an AUC of {_span(simulated, 'auc')}; real ones from other real "
        f"ones with {_span(real, 'auc')}."
    )
    chance = "" if told else " That is no more than chance, as far as so many sessions can tell."
    said.append({"outcome": "worse" if told else "open", "sentence": sentence + chance})
    apart = list(dict.fromkeys(found.distances["measure"][found.distances["apart"]]))
    count = found.distances["measure"].nunique()
    if apart:
        more = f" and {len(apart) - _NAMED_MOST} more" if len(apart) > _NAMED_MOST else ""
        names = ", ".join(apart[:_NAMED_MOST]) + more
        verb = "differs" if len(apart) == 1 else "differ"
        sentence = f"{len(apart)} of {count} measures {verb} from the shop’s by more than chance: {names}."
    else:
        sentence = f"None of {count} measures differs from the shop’s by more than chance."
    said.append({"outcome": "worse" if apart else "open", "sentence": sentence})
    worst = max(rows_of(found.errors), key=lambda row: row["low"] - row["floor"], default=None)
    if worst:
        sentence = f"Its chances of {worst['part']} are off by {_percent(worst, 'ece')} on average"
        right = f", where right ones would seem off by {number(100 * worst['floor'], 1)} %; no other part is more so."
        told = worst["low"] > worst["floor"]
        said.append({"outcome": "worse" if told else "open", "sentence": sentence + right})
    return said


def _gained(row: Mapping[str, Any]) -> dict[str, str]:
    """What the fitted model has more than a simpler one."""
    span, than = _span(row, "gain"), f"the model “{row['model']}”"
    if row["low"] > 0:
        outcome, sentence = "better", f"It finds what shoppers did likelier than {than}"
    elif row["high"] < 0:
        outcome, sentence = "worse", f"It finds what shoppers did less likely than {than}"
    else:
        outcome, sentence = "open", f"It foretells no better and no worse than {than}"
    return {"outcome": outcome, "sentence": f"{sentence}: by {span} nats each time."}


def _span(row: Mapping[str, Any], figure: str, low: str = "low", high: str = "high", times: float = 1.0) -> str:
    """`"0.61 [0.58, 0.65]"`, rounded to what the interval supports; a dash for none."""
    if any(row[name] is None for name in (figure, low, high)):
        return "–"
    middle, least, most = (times * float(row[name]) for name in (figure, low, high))
    places = decimals(least, most, middle)
    edges = f" [{number(least, places)}, {number(most, places)}]" if math.isfinite(least + most) else ""
    return number(middle, places) + edges


def _percent(row: Mapping[str, Any], figure: str) -> str:
    """`"4.2 % [3.1, 5.4]"`."""
    middle, _, edges = _span(row, figure, times=100).partition(" ")
    return f"{middle} % {edges}".rstrip()


def _likelihood(table: pd.DataFrame) -> dict[str, Any] | None:
    """What models foretell, as text."""
    if not len(table):
        return None
    spans = [_span(row, "auc", "auc_low", "auc_high") for row in rows_of(table)]
    return as_table(table.assign(auc=spans).drop(columns=["auc_low", "auc_high"]))


def _errors(table: pd.DataFrame) -> list[dict[str, str]]:
    """Calibration errors as text, in percent."""
    return [
        {"part": row["part"], "ece": _span(row, "ece", times=100), "floor": number(100 * row["floor"], 2)}
        for row in rows_of(table)
    ]


def _distances(table: pd.DataFrame) -> list[dict[str, Any]]:
    """Distances as text."""
    rows = []
    for row in rows_of(table):
        means = [float("nan") if row[name] is None else float(row[name]) for name in ("real", "simulated")]
        half = abs(float(row["high"] or 0) - float(row["low"] or 0)) / 2
        places = decimals(-half, half, max(map(abs, means))) if all(map(math.isfinite, means)) else 0
        rows.append(
            {
                "measure": row["measure"],
                "statistic": row["statistic"] + (f", {row['unit']}" if row["statistic"] == "Wasserstein-1" else ""),
                "real": number(means[0], places),
                "simulated": number(means[1], places),
                "distance": _span(row, "distance"),
                "floor": _span(row, "floor", "floor_low", "floor_high"),
                "p": f"= {number(row['p'], 3 if row['p'] < 0.1 else 2)}",
                "apart": bool(row["apart"]),
            }
        )
    return rows


def _telling(table: pd.DataFrame) -> list[dict[str, str]]:
    """What the trees split by, the most telling first."""
    rows = [row for row in rows_of(table) if row["share"] >= 0.005]
    return [{"feature": row["feature"], "share": f"{100 * row['share']:.0f} %"} for row in rows[:8]]


def _pictures(found: Realism) -> dict[str, Markup]:
    """The page's pictures by name; those without data are missing."""
    drawn = {
        "distances": (realism_figures.distances(found.distances), "distances in units of their floors"),
        "classifier": (realism_figures.classifier(found.classifier), "how well real sessions are told from others"),
    }
    if len(found.shapes):
        drawn["shapes"] = (realism_figures.shapes(found.shapes), "distributions of real and simulated sessions")
    if len(found.places):
        drawn["places"] = (realism_figures.places(found.places), "clicks by place, real and simulated")
    if len(found.calibration):
        drawn["calibration"] = (figures.calibration(found.calibration), "foretold against happened")
    return inline(drawn)
