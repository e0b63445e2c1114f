"""Which form of examination foretells a real shop's later clicks: each fitted before a day, and judged after it.

    python benchmarks/examination_forms.py              # Google Merchandise Store; some ten minutes of one processor
    python benchmarks/examination_forms.py --quick      # fewer passes of the encoder, and one half of the shoppers
    python benchmarks/examination_forms.py --auto       # also what `auto` would choose, from the earlier slates alone

The earlier shoppers are halved by chance. The encoder of a fit learns from one half, and the choices are fitted on the
other, as the command does; a later slate's figure is the mean over both ways round. All forms have the same encoders.
Figures: log-likelihood a slate in nats, and within-slate AUC (chance that the item clicked ranks above another of its
slate); and what each has more than `depth`, paired, with 95 % intervals over the later shoppers. The last line is one
JSON object.
"""

import argparse
import json
import tempfile
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from machine import describe
from numpy.typing import NDArray
from real_logs import DATA, LOGS

from slatewise.datasets import ShopLog
from slatewise.encoders import PretrainConfig, TextEncoder
from slatewise.encoders.pretrain import pretrain
from slatewise.simulators import FitConfig, FittedShopper, Foretold, fit_shopper
from slatewise.simulators.examination import FORMS
from slatewise.simulators.foretold import FITTED
from slatewise.simulators.likelihood import bootstrap_mean, slates_won

LOG, UNTIL = "gmerch", "2017-02-01"
RESAMPLES = 2_000
Doubles = NDArray[np.float64]


def fits(log: ShopLog, until: str, scratch: Path, *, quick: bool, auto: bool) -> list[dict[str, FittedShopper]]:
    """Shoppers by form, fitted on either half of the earlier shoppers with an encoder of the other."""
    early = (log.sessions["start"] < until).to_numpy()
    shopper = log.sessions["shopper_id"].to_numpy()
    half = np.isin(shopper, np.random.default_rng(0).permutation(np.unique(shopper))[::2])
    text = TextEncoder().encode(log.catalogue.texts())
    found = []
    for number, taught in enumerate([half] if quick else [half, ~half]):
        config = PretrainConfig(seed=number, epochs=2 if quick else 6)
        encoder = pretrain(log.part(np.flatnonzero(early & taught)), scratch / str(number), config=config, text=text)
        train = log.part(np.flatnonzero(early & ~taught))
        shoppers = {}
        for form in (*FORMS, "auto") if auto else FORMS:
            shoppers[form] = fit_shopper(train, encoder, config=FitConfig(members=0, held_out=0, examination=form))
            print(f"half {number + 1}: {form} is fitted", flush=True)
        found.append(shoppers)
    return found


def judged(shoppers: list[dict[str, FittedShopper]], later: ShopLog) -> list[dict[str, Any]]:
    """A row a form."""
    log_chances: dict[str, Doubles] = {}
    won: dict[str, Doubles] = {}
    seen: Foretold | None = None
    for form in FORMS:
        told = [half[form].foretell(later) for half in shoppers]
        seen = told[0]
        log_chances[form] = np.mean([one.choices[FITTED][0].numpy() for one in told], 0)
        won[form] = np.mean([slates_won(one.choices[FITTED][1], one)[1].numpy() for one in told], 0)
    assert seen is not None
    clicked = slates_won(seen.choices[FITTED][1], seen)[0].numpy()
    rows = []
    for form in FORMS:
        row: dict[str, Any] = {"form": form}
        for name, values, whose in (
            ("log_likelihood", log_chances, seen.shopper),
            ("auc", won, seen.shopper[clicked]),
        ):
            owner = np.unique(whose, return_inverse=True)[1]
            more = values[form] - values["depth"]
            row[name] = {
                "mean": float(values[form].mean()),
                "interval": bootstrap_mean(values[form], owner, RESAMPLES, 0),
                "more": float(more.mean()),
                "more_interval": bootstrap_mean(more, owner, RESAMPLES, 0),
            }
        rows.append(row)
    return rows


def line(row: dict[str, Any]) -> str:
    """A row of the table."""
    cells = []
    for name in ("log_likelihood", "auc"):
        one = row[name]
        (low, high), (least, most) = one["interval"], one["more_interval"]
        cells.append(f"{one['mean']:.4f} [{low:.4f}, {high:.4f}]  {one['more']:+.4f} [{least:+.4f}, {most:+.4f}]")
    return f"{row['form']:<10}" + "   ".join(cells)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help="folder of the logs")
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--auto", action="store_true")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        log = LOGS[LOG](args.data, Path(scratch))
        later = log.part(np.flatnonzero((log.sessions["start"] >= pd.Timestamp(UNTIL, tz="UTC")).to_numpy()))
        shoppers = fits(log, UNTIL, Path(scratch), quick=args.quick, auto=args.auto)
        rows = judged(shoppers, later)
    clicks = int((later.slates.clicked >= 0).sum())
    print(f"\n{LOG}: {len(later)} later sessions, {len(later.slates)} slates, {clicks} clicks")
    print(f"{'form':<10}log-likelihood a slate, and more than depth   within-slate AUC, and more than depth")
    print("\n".join(map(line, rows)))
    chosen = [half["auto"].report["forms"] for half in shoppers if "auto" in half]
    for table in chosen:
        print("auto:", ", ".join(f"{row['form']} {row['log_likelihood']:.4f}" for row in table))
    print(
        json.dumps(
            {
                "benchmark": "examination_forms",
                "date": datetime.now(UTC).date().isoformat(),
                "log": LOG,
                "until": UNTIL,
                "quick": args.quick,
                "machine": describe(),
                "rows": rows,
                "auto": chosen,
            }
        )
    )


if __name__ == "__main__":
    main()
