"""How much processor time it takes to fit shoppers of both families, with their ensembles, and where it goes.

    python benchmarks/fit_speed.py --data FOLDER        # gmerch in FOLDER/gmerch, and a demo shop of 20,000 sessions
    python benchmarks/fit_speed.py --quick              # a demo shop of 1,000 sessions and two members alone

Parts of a fit, each of the time in which it was not inside another one:

  reading     the log, from its folder as it was ingested; gmerch is ingested first, which counts
  replay      what slates looked like to their shoppers
  drift       how fast interests and saturation fade
  choice      examination and choice, and their rivals
  funnel      carts and purchases
  leaving     when shoppers leave
  time        the time on slates
  returning   whether and when shoppers come again; the first family alone
  quantities  how many are bought; the first family alone
  members     all of the above once more for each member of the ensemble
  judging     what the fit foretells of the latest sessions, which were kept aside
  rest        all else

Seconds are of this process, user and system together, on one thread. The first family's encoder, of its default size,
is trained before, one epoch on a thousand sessions, for speed does not depend on its weights; that is not counted. The
bars are 2 minutes for gmerch and 10 for the demo shop, both families together, on two cores. The last line is one JSON
object.
"""

import argparse
import json
import tempfile
import time
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch
from machine import describe
from real_logs import DATA, gmerch

from slatewise.datasets import KnownShop, KnownShopConfig, ShopLog
from slatewise.datasets.artefact import building
from slatewise.encoders import PretrainConfig, TextEncoder
from slatewise.encoders.pretrain import pretrain
from slatewise.errors import SharedSessionsWarning
from slatewise.simulators import (
    FitConfig,
    KnownTruthShopper,
    boosted_fit,
    boosted_learn,
    collect_log,
    fit_boosted,
    fit_shopper,
    ground,
    learn,
    learn_after,
)

FIT = import_module("slatewise.simulators.fit")  # the package's `fit` is a function
SEED = 0
DEMO_SESSIONS, QUICK_SESSIONS, ENCODER_SESSIONS = 20_000, 1_000, 1_000
BARS = {"gmerch": 120, "demo": 600}
"""Log -> seconds in which both families are to be fitted."""
PARTS = (
    "reading",
    "replay",
    "drift",
    "choice",
    "funnel",
    "leaving",
    "time",
    "returning",
    "quantities",
    "members",
    "judging",
    "rest",
)
CALLS: tuple[tuple[str, Any, str], ...] = (
    ("replay", learn.Occasions, "replay"),
    ("drift", learn, "find_drift"),
    ("drift", learn, "faded"),
    ("choice", learn, "chosen_form"),
    ("choice", learn, "fit_choice"),
    ("members", FIT, "learn_again"),
    ("funnel", learn_after, "learn_funnel"),
    ("leaving", learn_after, "learn_leaving"),
    ("time", learn_after, "learn_pauses"),
    ("returning", learn_after, "learn_returning"),
    ("quantities", learn_after, "learn_quantities"),
    ("judging", ground, "judged"),
    ("judging", FIT, "judged_after"),
    ("replay", boosted_fit.Looks, "across_folds"),
    ("choice", boosted_fit, "fit_boosted_choice"),
    ("funnel", boosted_learn.Learner, "_funnel"),
    ("leaving", boosted_learn.Learner, "_leaving"),
    ("time", boosted_learn, "learn_pauses"),
    ("members", boosted_learn.Learner, "again"),
)
"""Part, and the call that it is: where its name is looked up, and the name."""


class Clock:
    """Processor seconds by part; of calls within one another the outermost counts."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = defaultdict(float)
        self._inside = False

    @contextmanager
    def part(self, name: str) -> Iterator[None]:
        """Count what is done inside to a part, unless another one is being counted."""
        if self._inside:
            yield
            return
        self._inside, began = True, time.process_time()
        try:
            yield
        finally:
            self.seconds[name] += time.process_time() - began
            self._inside = False

    def counted(self, name: str, call: Callable[..., Any], *given: Any, **named: Any) -> Any:
        """What a call returns, its time counted."""
        with self.part(name):
            return call(*given, **named)

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Count all of `CALLS`, and what a member of the first family learns beside its choices."""
        before = [(owner, name, vars(owner)[name]) for _, owner, name in CALLS]
        rest_of: Any = learn_after.Rest
        again = rest_of.learn
        for part, owner, name in CALLS:
            found = vars(owner)[name]
            if isinstance(found, classmethod):
                setattr(owner, name, classmethod(_method(self, part, found.__func__)))
            else:
                setattr(owner, name, _method(self, part, found))

        def learn_rest(rest: Any, weight: Any, choice: Any, start: Any = None, luck: Any = None) -> Any:
            given = rest, weight, choice
            return again(*given) if start is None else self.counted("members", again, *given, start, luck)

        rest_of.learn = learn_rest
        try:
            yield
        finally:
            rest_of.learn = again
            for owner, name, was in before:
                setattr(owner, name, was)


def _method(clock: Clock, part: str, call: Callable[..., Any]) -> Callable[..., Any]:
    """The call, counted; a function, so that it can be a method."""

    def counted(*given: Any, **named: Any) -> Any:
        return clock.counted(part, call, *given, **named)

    return counted


def measured(make: Callable[[], Any]) -> dict[str, float]:
    """Seconds of the parts of a fit, and their sum as `total`."""
    clock, began = Clock(), time.process_time()
    with clock.watching():
        make()
    total = time.process_time() - began
    found = {part: clock.seconds[part] for part in PARTS}
    return found | {"rest": total - sum(clock.seconds.values()), "total": total}


def demo(folder: Path, sessions: int) -> Path:
    """A folder with the log of a demo shop."""
    shop = KnownShop.make(KnownShopConfig.demo(SEED))
    log = collect_log(KnownTruthShopper(shop), shop.catalogue, sessions=sessions, k=8, seed=SEED, again=0.5)
    with building(folder, "log", {"sessions": sessions}) as draft:
        log.save(draft.folder)
        draft.facts |= log.facts
    return folder


def both(log: ShopLog, folder: Path, members: int) -> dict[str, dict[str, float]]:
    """Family -> seconds of its parts."""
    text = TextEncoder().encode(log.catalogue.texts())
    first = log.part(np.arange(min(ENCODER_SESSIONS, len(log))))
    encoder = pretrain(first, folder, config=PretrainConfig(epochs=1, seed=SEED), text=text)
    config = FitConfig(members=members, seed=SEED)
    return {
        "transformer": measured(partial(fit_shopper, log, encoder, config=config)),
        "boosted": measured(partial(fit_boosted, log, config=config)),
    }


def printed(name: str, log: ShopLog, found: dict[str, dict[str, float]]) -> str:
    """A table of the shares."""
    slates = log.slates
    lines = [f"{name}: {len(log)} sessions, {len(slates)} slates, {int((slates.clicked >= 0).sum())} clicks"]
    lines.append(f"{'part':<12}" + "".join(f"{family:>22}" for family in found))
    for part in (*PARTS, "total"):
        cells = (f"{one[part]:>13.1f} s {one[part] / max(one['total'], 1e-9):>5.0%} " for one in found.values())
        lines.append(f"{part:<12}" + "".join(cells))
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", type=Path, default=DATA, help=f"folder of the logs; {DATA}")
    parser.add_argument("--log", action="append", choices=BARS, help="once or more; all")
    parser.add_argument("--sessions", type=int, default=DEMO_SESSIONS, help=f"of the demo shop; {DEMO_SESSIONS}")
    parser.add_argument("--members", type=int, default=FitConfig().members, help=f"{FitConfig().members}")
    parser.add_argument("--quick", action="store_true")
    args = parser.parse_args()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore", SharedSessionsWarning)  # how long it takes does not depend on it
    sessions, members = (QUICK_SESSIONS, 2) if args.quick else (args.sessions, args.members)
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory() as temporary:
        scratch = Path(temporary)
        for name in args.log or (["demo"] if args.quick else BARS):
            folder, began = scratch / name, time.process_time()
            if name == "gmerch":
                log = gmerch(args.data, scratch)
            else:
                demo(folder, sessions)
                began = time.process_time()
                log = ShopLog.load(folder)
            slates = len(log.slates)  # with the tokens, made when first asked for
            reading = time.process_time() - began
            rows[name] = {"reading": reading, "slates": slates} | both(log, scratch / f"{name}-encoder", members)
            for family in ("transformer", "boosted"):
                rows[name][family] |= {"reading": reading, "total": rows[name][family]["total"] + reading}
            print(printed(name, log, {family: rows[name][family] for family in ("transformer", "boosted")}), flush=True)
    print(
        json.dumps(
            {
                "benchmark": "fit_speed",
                "date": datetime.now(UTC).date().isoformat(),
                "quick": args.quick,
                "seeds": [SEED],
                "members": members,
                "machine": describe(),
                **{
                    f"{name}_seconds": found["transformer"]["total"] + found["boosted"]["total"] - found["reading"]
                    for name, found in rows.items()
                },
                "bars": BARS,
                "rows": rows,
            }
        )
    )


if __name__ == "__main__":
    main()
