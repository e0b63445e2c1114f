"""What the steps read: finished artefacts, checked before anything long begins, and the sessions selected of a log."""

import re
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, cast

from ..datasets.artefact import artefact_id, fingerprint, read_config
from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from ..encoders.learnt_from import SessionSketch
from ..errors import ArtefactError

HELD_OUT = 0.2
"""Share of the sessions, the latest, that nothing learns from unless told to."""
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

    def other_half(self) -> "Selection | None":
        """The same of the other half of the shoppers; none where all are selected."""
        if self.shoppers == "all":
            return None
        return replace(self, shoppers="simulator" if self.shoppers == "agent" else "agent")

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


def half_not_learnt_from(log_folder: Path, encoder_folder: Path) -> Shoppers:
    """The half of the log's shoppers that an encoder did not learn from; the agent's where it does not tell.

    Raises:
        ArtefactError: one of the folders holds something else.
    """
    id_of(log_folder, "log")
    id_of(encoder_folder, "encoder")
    told = read_config(encoder_folder, "encoder").get("learnt_from")
    if not told:
        return "agent"
    sketch, log = SessionSketch.from_list(told), ShopLog.load(log_folder)
    agent, simulator = (sketch.shared(Selection(0.0, "all", who).of(log))[0] for who in ("agent", "simulator"))
    return "simulator" if agent > simulator else "agent"


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
