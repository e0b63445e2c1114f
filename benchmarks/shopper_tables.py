"""What the study of fitted shoppers shows people: tables and pictures of what was measured."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
from shopper_pictures import funnel, place_curves

from slatewise.evaluation.drawing import as_png
from slatewise.evaluation.figures import calibration


def draw(name: str, found: dict[str, Any], ours: Sequence[str], rivals: Sequence[str], folder: Path) -> None:
    """The pictures of a log, as PNG files that begin with its name.

    Args:
        name: of the log.
        found: what was measured.
        ours: the fitted shoppers.
        rivals: other models whose places are drawn.
        folder: for the files.
    """
    folder.mkdir(parents=True, exist_ok=True)
    if "places" in found:
        as_png(place_curves(found["places"], [*ours, *rivals]), folder / f"{name}-places.png")
    if "rates" in found:
        simulated = {f"simulated, {model}": rows for model, rows in found["rates"].items() if model != "real"}
        as_png(funnel(found["rates"]["real"], foretold_rates(found, ours) | simulated), folder / f"{name}-funnel.png")
    for model, bins in found["bins"].items():
        if bins:
            as_png(calibration(pd.DataFrame(bins)), folder / f"{name}-calibration-{model.replace(' ', '-')}.png")


def foretold_rates(found: dict[str, Any], ours: Sequence[str]) -> dict[str, list[dict[str, Any]]]:
    """What fitted shoppers foretold of the funnel's steps, for those of the later sessions who got so far."""
    slates = sum(row["slates"] for row in found["places"] if row["place"] == 1)
    rows = {}
    for model in ours:
        clicks = sum(row["slates"] * row["foretold"][model] for row in found["places"]) / slates
        names = {"cart": "carts a click", "purchase": "purchases a cart"}
        steps = [{"step": names[row["step"]], "rate": row["foretold"]} for row in found["funnel"][model]]
        rows[f"foretold, {model}"] = [{"step": "clicks a slate", "rate": clicks}, *steps]
    return rows


def span(row: dict[str, Any], figure: str, places: int = 3) -> str:
    """A figure with its interval; with signs where they may be of either."""
    low, high = row["interval" if f"{figure}_interval" not in row else f"{figure}_interval"]
    sign = "+" if low < 0 else ""
    return "{} [{}, {}]".format(*(f"{value:{sign}.{places}f}" for value in (row[figure], low, high)))


def printed(name: str, found: dict[str, Any]) -> str:
    """The tables for people."""
    early, later = found["learnt_from"], found["judged_by"]
    given = ", given a click" if found.get("given_a_click") else ""
    lines = [f"\n{name}: learnt from {early}, judged by {later}", f"log likelihood{given}, gain, AUC within, AUC all"]
    for row in found["models"]:
        spans = [span(row, figure) for figure in ("gain", "auc_within", "auc_all") if figure in row]
        lines.append(f"  {row['model']:<53}{row['log_likelihood']:8.4f}  " + "  ".join(f"{one:<23}" for one in spans))
    for model, rows in found["calibration"].items():
        parts = (
            f"{row['part']} {row['ece']:.4f} [{row['low']:.4f}, {row['high']:.4f}] (floor {row['floor']:.4f})"
            for row in rows
        )
        lines.append(f"calibration error, {model}: " + "; ".join(parts))
    for model, rows in found["funnel"].items():
        for row in rows:
            lines.append(
                f"{row['step']}, {model}: {row['happened']} of {row['tried']}, {span(row, 'observed')} observed, "
                f"{row['foretold']:.3f} foretold, gain over one chance {span(row, 'gain')}"
            )
    for model, row in found["time"].items():
        if row:
            lines.append(f"time, {model}: gain {span(row, 'gain')}, within 10-90 % {span(row, 'within_80')}")
    for who, rows in found.get("rates", {}).items():
        lines.append(f"{who}: " + ", ".join(f"{row['step']} {span(row, 'rate')}" for row in rows))
    for row in found.get("telling", []):
        by = ", ".join(f"{one['feature']} {one['share']:.2f}" for one in row.get("by", []))
        less = f"  less than independent clicks {span(row, 'less')}  {by}" if by else ""
        lines.append(f"told from real: {row['model']:<36}{span(row, 'auc')}{less}")
    for row in found.get("returns", []):
        lines.append(f"back within {row['days']} days: {span(row, 'observed')} of {row['visits']} visits")
    for row in found.get("bought_again", []):
        lines.append(f"bought later, of what was {row['before']}: {span(row, 'observed', 4)} of {row['pairs']} pairs")
    for row in found.get("known_items", []):
        told_ = ", ".join(f"{model} {value:.4f}" for model, value in row["foretold"].items())
        lines.append(f"bought, of views of what was {row['item']}: {span(row, 'observed', 4)}; foretold {told_}")
    for model, rows in found["evidence"].items():
        lines.append(f"what {model} rests on:")
        for row in rows:
            value = "" if row["value"] is None else f": {row['value']:.4g}"
            lines.append(f"  {row['source']:<22}{row['quantity']}{value} ({row['evidence']})")
    return "\n".join(lines)
