"""The steps that make encoders: pretraining, a change of the catalogue, and what is told of them."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

from ..datasets.artefact import read_config, write_json
from ..datasets.log import ShopLog
from .console import Reporter, checked
from .inputs import Selection, catalogue_id, facts_of, id_of, learnt_from

_NO_SETTINGS = ("text", "queries", "grown")  # recorded among an encoder's settings, and decided elsewhere


@dataclass(frozen=True, kw_only=True)
class Transfer:
    """What a pretraining begins with, besides the log.

    Attributes:
        text_model: hub id or folder of the text model; the default one when None.
        warm_start: folder of an encoder to begin with.
        fine_tune: settings of a fine-tuning of the text model, which comes first; none when None.
    """

    text_model: str | None = None
    warm_start: Path | None = None
    fine_tune: Mapping[str, Any] | None = None


def pretrain_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    selection: Selection,
    settings: Mapping[str, Any] | None = None,
    transfer: Transfer | None = None,
    device: str = "cpu",
    log_to: Sequence[str] = (),
    force: bool = False,
    title: str = "pretraining the session encoder",
) -> dict[str, Any]:
    """Encode the item texts and pretrain a session encoder on a selection of a log."""
    transfer = transfer or Transfer()
    inputs = {"log": selection.named(log_folder), "catalogue": catalogue_id(log_folder)}
    if transfer.warm_start is not None:
        id_of(transfer.warm_start, "encoder")
    from ..encoders import TextEncoder
    from ..encoders.pretrain import PretrainConfig, pretrain
    from ..encoders.tracking import check_formats

    with checked():
        config = PretrainConfig(**(settings or {}))
        check_formats(log_to)
    text = TextEncoder(transfer.text_model, device=device)
    log = selection.of(ShopLog.load(log_folder))
    if transfer.fine_tune is not None:
        tuning = {"seed": config.seed, **transfer.fine_tune}
        text = _fine_tuned(reporter, log, out, text, tuning, inputs, device=device, force=force)
    with reporter.step(title) as progress:
        pretrain(
            log,
            out,
            config=config,
            text=text,
            inputs=inputs,
            warm_start=transfer.warm_start,
            log_to=log_to,
            force=force,
            device=device,
            progress=progress,
        )
    return facts_of(out, "encoder")


def _fine_tuned(
    reporter: Reporter,
    log: ShopLog,
    out: Path,
    text: Any,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    *,
    device: str,
    force: bool,
) -> Any:
    """The text model, fine-tuned on the sessions that the encoder will learn from, into OUT-text."""
    from ..encoders.lora import KIND, FineTuneConfig, fine_tune_text

    folder = out.with_name(out.name + "-text")
    with checked():
        config = FineTuneConfig(**settings)
    with reporter.step("fine-tuning the text model") as progress:
        tuned = fine_tune_text(
            log, folder, model=text, config=config, inputs=inputs, force=force, device=device, progress=progress
        )
    found = facts_of(folder, KIND)
    gain = found["recall@20"]
    low, high = gain["gain_interval"]
    reporter.tell(
        f"text model {'fine-tuned' if found['kept'] else 'left as it was, for it got no better'}: {folder}; next item "
        f"among the 20 nearest texts, later sessions: {gain['before']:.3f} before, {gain['after']:.3f} after, gain "
        f"[{low:+.3f}, {high:+.3f}]"
    )
    return tuned


def settings_in(path: Path) -> dict[str, Any]:
    """Settings of a pretraining in a JSON file, or those of an encoder in its folder.

    Raises:
        ValueError: it is no readable JSON object, or names a setting that there is none of.
    """
    from ..encoders.settings import PretrainConfig

    if path.is_dir():
        settings = read_config(path, "encoder")["slatewise_artefact"]["settings"]
        return {name: value for name, value in settings.items() if name not in _NO_SETTINGS}
    try:
        settings = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ValueError(f'{path} holds no settings ({error}); give JSON, such as {{"width": 96}}') from error
    known = [one.name for one in fields(PretrainConfig)]
    strange = [name for name in settings if name not in known] if isinstance(settings, dict) else [settings]
    if strange:
        raise ValueError(f"{path} sets {strange[0]!r}; there are {', '.join(known)}")
    return settings


def grow_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder_folder: Path,
    text_model: str | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """The encoder of a log's catalogue, made from the encoder of another one without training."""
    id_of(log_folder, "log")
    id_of(encoder_folder, "encoder")
    from ..datasets.catalogue import Catalogue
    from ..encoders import TextEncoder
    from ..encoders.transfer import grow

    catalogue = Catalogue.load(log_folder / "catalogue.parquet")
    with reporter.step("taking in the items"):
        text = TextEncoder(text_model) if text_model else None
        grow(encoder_folder, catalogue, out, text=text, force=force)
    return facts_of(out, "encoder")


def next_item_step(reporter: Reporter, log_folder: Path, encoder_folder: Path, held_out: float) -> list[dict[str, Any]]:
    """Recall and MRR of the next item on held-out sessions, beside rivals; kept in the encoder's folder and its card.

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
        _tell_in_card(encoder_folder, log_folder, json.loads(path.read_text(encoding="utf-8")))
    return json.loads(path.read_text(encoding="utf-8"))


def _tell_in_card(encoder_folder: Path, log_folder: Path, held_out: Sequence[Mapping[str, Any]]) -> None:
    """Put figures into the card of an encoder, where they are of the log that it learnt from."""
    from ..encoders.card import write_card

    record = read_config(encoder_folder, "encoder")["slatewise_artefact"]
    if record["inputs"].get("log", "").startswith(f"{id_of(log_folder, 'log')}/"):
        parts = {name: record[name] for name in ("settings", "facts", "inputs", "versions")}
        write_card(encoder_folder, encoder_folder.name, held_out=held_out, **parts)
