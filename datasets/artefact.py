"""Artefact folders: what one step writes and the next one reads.

A finished folder holds `config.json` with its kind, settings, inputs, versions and facts. A folder being built is
called `NAME.partial`, so that a kill leaves either the old artefact or a partial one to resume, never a broken one.
"""

import hashlib
import json
import os
import platform
import shutil
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from ..errors import ArtefactError

ARTEFACT_SCHEMA = 1
_RECORDED = (
    "slatewise",
    "numpy",
    "pandas",
    "pyarrow",
    "torch",
    "transformers",
    "gymnasium",
    "stable-baselines3",
    "lightgbm",
)


def package_versions() -> dict[str, str]:
    """Versions of Python and of the packages that results depend on."""
    found = {"python": platform.python_version()}
    for name in _RECORDED:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def fingerprint(settings: Mapping[str, Any]) -> str:
    """Short hash of settings; equal settings have equal fingerprints whatever the order of their keys."""
    text = json.dumps(settings, sort_keys=True, default=str)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


@dataclass
class Draft:
    """An artefact being built: write files under `folder`, put figures worth keeping into `facts`."""

    folder: Path
    facts: dict[str, Any] = field(default_factory=dict)


def read_config(folder: Path, kind: str) -> dict[str, Any]:
    """The `config.json` of a finished artefact.

    Raises:
        ArtefactError: the folder is missing, unfinished, unreadable, or of another kind.
    """
    folder = Path(folder)
    path = folder / "config.json"
    if not path.is_file():
        partial = Path(f"{folder}.partial")
        hint = f"; {partial} is unfinished, run its step again to resume it" if partial.is_dir() else ""
        raise ArtefactError(f"{folder} is no finished {kind} (it has no config.json){hint}")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ArtefactError(f"{path} is not valid JSON: {error}") from error
    record = config.get("slatewise_artefact", {}) if isinstance(config, dict) else {}
    record = record if isinstance(record, dict) else {}
    if record.get("kind") != kind:
        raise ArtefactError(f"{folder} holds {record.get('kind') or 'something else'!r}, not {kind!r}")
    if record.get("schema", 0) > ARTEFACT_SCHEMA:
        raise ArtefactError(f"{folder} was written by a newer slatewise (artefact schema {record['schema']})")
    return config


def artefact_id(folder: Path, kind: str) -> str:
    """The id that steps record of their inputs: a hash of kind, settings and inputs."""
    return read_config(folder, kind)["slatewise_artefact"]["id"]


def is_finished(folder: Path, kind: str, settings: Mapping[str, Any], inputs: Mapping[str, str]) -> bool:
    """Whether `folder` is a finished artefact built with exactly these settings and inputs.

    Raises:
        ArtefactError: the folder exists and holds something else, or other settings; names the first that differs.
    """
    folder = Path(folder)
    _tidy(folder)
    if not folder.exists() or not any(folder.iterdir()):
        return False
    try:
        record = read_config(folder, kind)["slatewise_artefact"]
    except ArtefactError as error:
        raise ArtefactError(f"{error}; choose another --out") from error
    wanted = json.loads(json.dumps({"settings": dict(settings), "inputs": dict(inputs)}, default=str))
    for part in ("settings", "inputs"):
        old, new = record.get(part, {}), wanted[part]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                raise ArtefactError(
                    f"{folder} was built with {name}={old.get(name)!r}, now {new.get(name)!r}; "
                    "choose another --out or pass --force to build it anew"
                )
    return True


@contextmanager
def building(
    folder: Path,
    kind: str,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str] | None = None,
    *,
    force: bool = False,
) -> Iterator[Draft]:
    """Build an artefact in `FOLDER.partial`, then seal it: config.json written, folder renamed in one step.

    A partial folder left by a kill is kept when its settings and inputs are the same, so that the step inside can
    resume from its own checkpoints; otherwise it is removed first. A folder that is replaced stays whole, under another
    name, until the new one is in its place.

    Args:
        folder: where the finished artefact goes; one of the same kind is replaced if `force` is set.
        kind: for instance `"log"`, `"encoder"`, `"shopper"`, `"agent"`, `"evaluation"`, `"bundle"`.
        settings: everything that decides the result, seeds included; plain JSON values.
        inputs: name -> id of the artefacts read.
        force: replace a finished folder.

    Raises:
        ArtefactError: `folder` exists, is not empty, and `force` is not set or what it holds is of another kind.
    """
    folder, inputs = Path(folder), dict(inputs or {})
    _tidy(folder)
    if folder.exists() and any(folder.iterdir()):
        if not force:
            raise ArtefactError(f"{folder} exists; choose another --out or pass --force")
        try:
            read_config(folder, kind)
        except ArtefactError as error:
            # A mistyped --out must not cost anyone a folder of something else.
            raise ArtefactError(f"{error}; --force replaces only that, so choose another --out") from error
    draft = Draft(folder.with_name(folder.name + ".partial"))
    plan = json.loads(json.dumps({"kind": kind, "settings": dict(settings), "inputs": inputs}, default=str))
    plan_path = draft.folder / "plan.json"
    if draft.folder.exists() and (not plan_path.is_file() or _read(plan_path) != plan):
        shutil.rmtree(draft.folder)
    draft.folder.mkdir(parents=True, exist_ok=True)
    write_json(plan_path, plan)
    yield draft
    record = {
        **plan,
        "schema": ARTEFACT_SCHEMA,
        "id": fingerprint(plan),
        "versions": package_versions(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "facts": draft.facts,
    }
    config_path = draft.folder / "config.json"
    model_config = json.loads(config_path.read_text(encoding="utf-8")) if config_path.is_file() else {}
    write_json(config_path, {**model_config, "slatewise_artefact": record})
    replaced = _replaced(folder)
    if folder.exists():
        folder.rename(replaced)
    draft.folder.rename(folder)
    shutil.rmtree(replaced, ignore_errors=True)
    # Last, so that a kill before the rename leaves a partial folder that still says what it is of.
    (folder / plan_path.name).unlink()


def _replaced(folder: Path) -> Path:
    """Where a finished folder waits while another takes its place."""
    return folder.with_name(folder.name + ".replaced")


def _tidy(folder: Path) -> None:
    """Undo what a kill left between two renames: the old artefact comes back, or goes if the new one is there."""
    replaced = _replaced(folder)
    if not replaced.is_dir():
        return
    if folder.exists():
        shutil.rmtree(replaced)
    else:
        replaced.rename(folder)


def _read(path: Path) -> Any:
    try:
        return json.loads(path.read_text(encoding="utf-8"))
    except ValueError:
        return None


def write_json(path: Path, value: Any) -> None:
    """Write JSON so that a kill leaves the old file or the new one, never half of it."""
    fresh = path.with_name(path.name + ".new")
    fresh.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")
    os.replace(fresh, path)
