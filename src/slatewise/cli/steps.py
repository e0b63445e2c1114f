"""The steps of the loop, folder to folder: what the commands and the demo both call.

Every step returns plain facts, leaves a finished folder of the same settings as it is, and resumes an unfinished one.
Sessions are split by time: the earlier part is learnt from, the latest `held_out` share only judges. Shoppers are split
in two halves: the agent's encoder learns from one, the simulated shopper's encoder from the other.
"""

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.log import ShopLog
from ..errors import LogFormatError
from .console import Reporter, checked
from .encoding import Transfer, pretrain_step
from .inputs import (
    Selection,
    Shoppers,
    catalogue_id,
    check_same_items,
    facts_of,
    half_not_learnt_from,
    id_of,
)

SLATE_SIZE = 8
REWARD = "clicks_and_purchases"
TRAINED_IN = "fitted shopper"
"""What reports call the simulator that agents are trained in."""
STORE = "store"
"""The source that is a server's own database."""


def ingest_step(
    reporter: Reporter,
    paths: Sequence[Path],
    out: Path,
    *,
    source: str,
    catalogue: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Read a log; `store` is the server's own database, exported to the event schema first."""
    from ..datasets.cleaning import IngestConfig
    from ..datasets.ingest import write_log
    from ..datasets.readers import SOURCES

    with checked():
        config = IngestConfig(**(settings or {}))
        if mapping and catalogue is None and not (source in SOURCES and SOURCES[source].takes_mapping):
            raise ValueError(f"source {source!r} knows its columns and takes no --map; use --source table")
    with tempfile.TemporaryDirectory() as scratch, reporter.step(f"reading {source}") as progress:
        if source == STORE:
            paths, source = [_stored_events(paths, Path(scratch))], "events"
        return write_log(
            paths,
            out,
            source=source,
            config=config,
            catalogue=catalogue,
            mapping=mapping,
            force=force,
            progress=progress,
        )


def _stored_events(paths: Sequence[Path], scratch: Path) -> Path:
    """What a server stored, as a table of events."""
    from ..serving.feedback_log import export_file

    if len(paths) != 1 or not paths[0].is_file():
        given = ", ".join(map(str, paths))
        raise LogFormatError(f"source store takes one file, the one that `slatewise serve` wrote; got {given}")
    exported = scratch / f"{paths[0].stem}.parquet"
    export_file(paths[0], exported)
    return exported


def fit_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    selection: Selection,
    encoder_folder: Path | None,
    family: str = "transformer",
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
    title: str = "fitting shoppers",
) -> dict[str, Any]:
    """Fit simulated shoppers on a selection of a log, with the encoder named; those of the family "boosted" have none.

    They are judged by the sessions held out of the selection, if any are.
    """
    inputs = {"log": selection.named(log_folder), "catalogue": catalogue_id(log_folder)}
    if encoder_folder is not None:
        inputs["encoder"] = id_of(encoder_folder, "encoder")
        check_same_items(log_folder, (encoder_folder, "encoder"))
    from ..encoders import load_encoder
    from ..simulators import FitConfig, fit

    with checked():
        config = FitConfig(**(settings or {}))
    log = ShopLog.load(log_folder)
    judged = selection.part == "train" and selection.held_out > 0
    with reporter.step(title) as progress:
        shared: dict[str, Any] = {
            "config": config,
            "later": Selection(selection.held_out, "test").of(log) if judged else None,
            "inputs": inputs,
            "force": force,
            "progress": progress,
        }
        if family == "boosted":
            fit(selection.of(log), None, out, family="boosted", **shared)
        else:
            assert encoder_folder is not None
            other_half = selection.other_half()
            shared["others"] = None if other_half is None else other_half.of(log)
            fit(selection.of(log), load_encoder(encoder_folder), out, encoder_path=encoder_folder, **shared)
    return facts_of(out, "shopper")


def fit_command(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    family: str = "transformer",
    encoder: Path | None,
    text_model: str | None,
    held_out: float,
    seed: int,
    priors: Mapping[str, Any],
    members: int = 10,
    examination: str = "depth",
    force: bool = False,
) -> dict[str, Any]:
    """`fit`, with an encoder of the shopper's own pretrained first where none is named.

    That encoder learns from the simulator's half of the shoppers, and the choices are fitted on the other half, which
    it has not seen: on its own half it would look more certain of what comes next than it is. Carts and purchases after
    a click, which are few, are learnt from both. With an encoder that is
    named, choices are fitted on the half that this one has not seen. Boosted shoppers have no encoder; their choices
    are fitted on the simulator's half, whose choices the others do not know.
    """
    from ..simulators.priors import Priors

    boosted = family == "boosted"
    with checked():
        settings = {"seed": seed, "priors": Priors(**priors), "members": members, "examination": examination}
        if boosted and examination != "depth":
            raise ValueError("boosted shoppers look to a depth; leave --examination out")
        if boosted and not (encoder is None and text_model is None):
            raise ValueError("boosted shoppers have no encoder; leave --encoder and --text-model out")
    fitted_on: Shoppers = "simulator" if boosted else "agent"
    if encoder is not None:
        fitted_on = half_not_learnt_from(log_folder, encoder)
    elif not boosted:
        encoder = out.with_name(out.name + "-encoder")
        pretrain_step(
            reporter,
            log_folder,
            encoder,
            selection=Selection(held_out, shoppers="simulator"),
            settings={"seed": seed + 1},
            transfer=Transfer(text_model=text_model),
            force=force,
            title="pretraining the shopper's own encoder",
        )
    return fit_step(
        reporter,
        log_folder,
        out,
        selection=Selection(held_out, shoppers=fitted_on),
        encoder_folder=encoder,
        family=family,
        settings=settings,
        force=force,
    )


def check_slate_size(k: int, available: NDArray[np.bool_]) -> None:
    """Raise ValueError where a slate has more slots than there are items to fill them."""
    if k > int(available[1:].sum()):
        raise ValueError(f"a slate of {k} slots cannot be filled with the {int(available[1:].sum())} items available")
