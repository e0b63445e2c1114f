"""The steps of the loop, folder to folder: what the commands and the demo both call.

Every step returns plain facts, leaves a finished folder of the same settings as it is, and resumes an unfinished one.
Sessions are split by time: the earlier part is learnt from, the latest `held_out` share only judges. Shoppers are split
in two halves: the agent's encoder learns from one, the simulated shopper's encoder from the other.
"""

import json
import re
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast

import numpy as np
from numpy.typing import NDArray

from ..datasets.artefact import artefact_id, fingerprint, read_config, write_json
from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from ..errors import ArtefactError, LogFormatError
from .console import Reporter, checked

HELD_OUT = 0.2
"""Share of the sessions, the latest, that nothing learns from unless told to."""
SLATE_SIZE = 8
REWARD = "clicks_and_purchases"
TRAINED_IN = "fitted shopper"
"""What reports call the simulator that agents are trained in."""
STORE = "store"
"""The source that is a server's own database."""
ENVS = 64
"""Shoppers that an agent meets at a time while it trains."""
AGENT_HALF, SIMULATOR_HALF = 0, 1

Shoppers = Literal["agent", "simulator", "all"]


_NAMED = re.compile(
    r"(?P<log>.+)/(?P<part>\w+)\((?P<held_out>[\d.]+)\)/(?P<shoppers>\w+)"
)  # what `Selection.named` writes


@dataclass(frozen=True)
class Selection:
    """Which sessions of a log a step reads: a part by time, and a half of the shoppers."""

    held_out: float = HELD_OUT
    part: Literal["train", "test", "all"] = "train"
    shoppers: Shoppers = "all"

    def of(self, log: ShopLog) -> ShopLog:
        """The sessions selected."""
        if self.part != "all" and self.held_out > 0:
            train, test = log.split_at(1 - self.held_out)
            log = train if self.part == "train" else test
        if self.shoppers == "all":
            return log
        return log.shopper_half(AGENT_HALF if self.shoppers == "agent" else SIMULATOR_HALF)

    def named(self, log_folder: Path) -> str:
        """The id recorded among a step's inputs: of the log, and of what was selected."""
        return f"{id_of(log_folder, 'log')}/{self.part}({self.held_out})/{self.shoppers}"


_MADE_BY = {
    "log": "ingest",
    "encoder": "pretrain",
    "shopper": "fit",
    "agent": "train",
    "evaluation": "evaluate",
    "bundle": "export",
}


def id_of(folder: Path, kind: str) -> str:
    """The id of a step's input.

    Raises:
        ArtefactError: the folder is no finished artefact of this kind; says which command writes one.
    """
    try:
        return artefact_id(folder, kind)
    except ArtefactError as error:
        partial = Path(f"{folder}.partial")
        why = str(error) if folder.exists() or partial.exists() else f"there is no folder {folder}"
        raise ArtefactError(f"{why}; give a folder that `slatewise {_MADE_BY[kind]}` wrote") from error


def catalogue_id(log_folder: Path) -> str:
    """What is recorded of a log's catalogue: a hash of its item ids in order, for parts know items by their number.

    Raises:
        ArtefactError: the folder is no finished log.
        LogFormatError: its catalogue cannot be read.
    """
    id_of(log_folder, "log")
    return fingerprint({"items": Catalogue.load(log_folder / "catalogue.parquet").item_ids.tolist()})


def check_same_items(log_folder: Path, *others: tuple[Path, str]) -> None:
    """See that artefacts (folder, kind) number the items as a log does.

    Raises:
        ArtefactError: one does not.
    """
    ours = catalogue_id(log_folder)
    for folder, kind in others:
        id_of(folder, kind)
        if read_config(folder, kind)["slatewise_artefact"]["inputs"].get("catalogue", ours) != ours:
            raise ArtefactError(
                f"{folder} knows other items than {log_folder}; give the log that it was made from, or run "
                f"`slatewise {_MADE_BY[kind]}` anew on this one"
            )


def check_items(n_items: int, **others: int) -> None:
    """See that parts whose catalogues are not known are at least of one size.

    Raises:
        ArtefactError: one is not.
    """
    for name, items in others.items():
        if items != n_items:
            raise ArtefactError(
                f"the log has {n_items} items and the {name} {items}; make both from one log, so that items match"
            )


def facts_of(folder: Path, kind: str) -> dict[str, Any]:
    """The facts of a finished artefact."""
    return read_config(folder, kind)["slatewise_artefact"]["facts"]


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


def pretrain_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    selection: Selection,
    settings: Mapping[str, Any] | None = None,
    text_model: str | None = None,
    force: bool = False,
    title: str = "pretraining the session encoder",
) -> dict[str, Any]:
    """Encode the item texts and pretrain a session encoder on a selection of a log."""
    inputs = {"log": selection.named(log_folder), "catalogue": catalogue_id(log_folder)}
    from ..encoders import TextEncoder
    from ..encoders.pretrain import PretrainConfig, pretrain

    with checked():
        config = PretrainConfig(**(settings or {}))
    with reporter.step(title) as progress:
        pretrain(
            selection.of(ShopLog.load(log_folder)),
            out,
            config=config,
            text=TextEncoder(text_model),
            inputs=inputs,
            force=force,
            progress=progress,
        )
    return facts_of(out, "encoder")


def learnt_from(log_folder: Path, encoder_folder: Path, held_out: float) -> Selection:
    """What an encoder learnt from; for an encoder of another log, what it would have.

    Raises:
        ArtefactError: it learnt from some of the latest `held_out` sessions of this log.
    """
    recorded = read_config(encoder_folder, "encoder")["slatewise_artefact"]["inputs"].get("log", "")
    found = _NAMED.fullmatch(recorded)
    if found is None or found["log"] != id_of(log_folder, "log"):
        return Selection(held_out)
    learnt = Selection(float(found["held_out"]), cast(Any, found["part"]), cast(Any, found["shoppers"]))
    if held_out > 0 and not (learnt.part == "train" and learnt.held_out >= held_out):
        raise ArtefactError(
            f"{encoder_folder} learnt from sessions among the latest {held_out:.0%} of {log_folder}, which are to be "
            f"held out; pass --held-out {learnt.held_out} or less, or pretrain with --held-out {held_out}"
        )
    return learnt


def next_item_step(reporter: Reporter, log_folder: Path, encoder_folder: Path, held_out: float) -> list[dict[str, Any]]:
    """Recall and MRR of the next item on held-out sessions, beside rivals; kept in the encoder's folder.

    The rivals count on the sessions that the encoder learnt from, so that none is better informed.

    Raises:
        ArtefactError: the encoder learnt from some of the sessions to be held out.
    """
    from ..encoders import load_encoder
    from ..encoders.next_item import next_item_report

    learnt = learnt_from(log_folder, encoder_folder, held_out)
    path = encoder_folder / f"next_item_{id_of(log_folder, 'log')}_{held_out}.json"
    if not path.is_file():
        if held_out <= 0:
            return []
        log = ShopLog.load(log_folder)
        with reporter.step("foretelling the next item on held-out sessions"):
            test = Selection(held_out, "test").of(log)
            table = next_item_report(load_encoder(encoder_folder), learnt.of(log), test)
        write_json(path, table.to_dict("records"))
    return json.loads(path.read_text(encoding="utf-8"))


def fit_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    selection: Selection,
    encoder_folder: Path | None,
    settings: Mapping[str, Any] | None = None,
    text_model: str | None = None,
    force: bool = False,
    title: str = "fitting shoppers",
) -> dict[str, Any]:
    """Fit simulated shoppers on a selection of a log, with the encoder named, or by plain means of text vectors.

    They are judged by the sessions held out of the selection, where it holds some out.
    """
    import torch

    inputs = {"log": selection.named(log_folder), "catalogue": catalogue_id(log_folder)}
    if encoder_folder is not None:
        inputs["encoder"] = id_of(encoder_folder, "encoder")
        check_same_items(log_folder, (encoder_folder, "encoder"))
    from ..encoders import MeanEncoder, TextEncoder, load_encoder
    from ..simulators.fit import FitConfig, fit

    with checked():
        config = FitConfig(**(settings or {}))
    log = ShopLog.load(log_folder)
    with reporter.step(title) as progress:
        if encoder_folder is None:
            vectors = TextEncoder(text_model).encode(log.catalogue.texts())
            encoder = MeanEncoder(torch.from_numpy(np.vstack([np.zeros_like(vectors[:1]), vectors])))
        else:
            encoder = load_encoder(encoder_folder)
        judged = selection.part == "train" and selection.held_out > 0
        fit(
            selection.of(log),
            encoder,
            out,
            encoder_path=encoder_folder,
            config=config,
            later=Selection(selection.held_out, "test").of(log) if judged else None,
            inputs=inputs,
            force=force,
            progress=progress,
        )
    return facts_of(out, "shopper")


def fit_command(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder: Path | None,
    text_model: str | None,
    held_out: float,
    seed: int,
    priors: Mapping[str, Any],
    force: bool = False,
) -> dict[str, Any]:
    """`fit`, with an encoder of the shopper's own pretrained first where none is named.

    That encoder learns from the simulator's half of the shoppers, and the choices are fitted on the other half, which
    it has not seen: on its own half it would look more certain of what comes next than it is.
    """
    from ..simulators.priors import Priors

    with checked():
        settings = {"seed": seed, "priors": Priors(**priors)}
    if encoder is None:
        encoder = out.with_name(out.name + "-encoder")
        pretrain_step(
            reporter,
            log_folder,
            encoder,
            selection=Selection(held_out, shoppers="simulator"),
            settings={"seed": seed + 1},
            text_model=text_model,
            force=force,
            title="pretraining the shopper's own encoder",
        )
    return fit_step(
        reporter,
        log_folder,
        out,
        selection=Selection(held_out, shoppers="agent"),
        encoder_folder=encoder,
        settings=settings,
        force=force,
    )


def train_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder_folder: Path,
    shopper_folder: Path,
    agent: str,
    k: int,
    steps: int,
    seeds: Sequence[int],
    reward: str = REWARD,
    force: bool = False,
) -> dict[str, Any]:
    """Train a slate agent, once for each seed, on simulated shoppers."""
    inputs = {"log": id_of(log_folder, "log"), "encoder": id_of(encoder_folder, "encoder")}
    inputs |= {"shopper": id_of(shopper_folder, "shopper"), "catalogue": catalogue_id(log_folder)}
    check_same_items(log_folder, (encoder_folder, "encoder"), (shopper_folder, "shopper"))
    from ..agents import DQNConfig, PPOConfig, train
    from ..encoders import load_encoder
    from ..envs.rewards import RewardMix
    from ..envs.sb3 import SB3Bridge
    from ..simulators.artefacts import load_shopper

    encoder, shopper = load_encoder(encoder_folder), load_shopper(shopper_folder)
    available = ShopLog.load(log_folder).catalogue.available
    check_items(len(available) - 1, encoder=encoder.n_items, shopper=shopper.n_items)
    with checked():
        RewardMix.of(reward)
        check_slate_size(k, available)
    parts = {"shopper": shopper, "encoder": encoder, "k": k, "reward": reward, "available": available}
    with reporter.step(f"training {agent}, {len(seeds)} seeds") as progress:
        train(
            lambda _seed: SB3Bridge.make(ENVS, **parts),
            out,
            config={"ppo": PPOConfig, "dqn": DQNConfig}[agent](),
            item_vectors=encoder.item_vectors,
            available=available,
            seeds=list(seeds),
            total_timesteps=steps,
            settings={"k": k, "reward": reward, "envs": ENVS},
            inputs=inputs,
            force=force,
            progress=progress,
        )
    return facts_of(out, "agent")


def check_slate_size(k: int, available: NDArray[np.bool_]) -> None:
    """Raise ValueError where a slate has more slots than there are items to fill them."""
    if k > int(available[1:].sum()):
        raise ValueError(f"a slate of {k} slots cannot be filled with the {int(available[1:].sum())} items available")
