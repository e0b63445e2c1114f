"""A policy bundle: everything serving needs, in a folder, with no torch and no pickle.

| file | what it holds |
|---|---|
| `policy.onnx` | one graph from history to scores |
| `item_vectors.safetensors` | `item_vectors`, (N + 1, D) float32 |
| `catalogue.parquet` | the items by dense index |
| `bundle.json` | schema version, hashes, rules that slates keep, how the policy was trained, judged and checked |
| `README.md` | the model card |
| `config.json` | the artefact's settings and inputs, and the hash of `bundle.json` |

Hashes find files that were altered or mixed up. They are no signature: whoever can rewrite the folder can rewrite them.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load_file, save

from ..datasets.artefact import read_config, write_json
from ..datasets.catalogue import Catalogue
from ..datasets.rules import SlateRules
from ..datasets.tokens import Floats
from ..errors import ArtefactError, BundleError, SlatewiseError

BUNDLE_SCHEMA = 1
RULED_SCHEMA = 2
"""Of bundles with rules, which a server that knows none would not keep."""
POLICY, VECTORS, CATALOGUE, RECORD = "policy.onnx", "item_vectors.safetensors", "catalogue.parquet", "bundle.json"
HASHED = (POLICY, VECTORS, CATALOGUE)


def file_hash(path: Path) -> str:
    """The sha256 of a file, in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_parts(folder: Path, catalogue: Catalogue, item_vectors: Floats) -> None:
    """Write the parts of a bundle that are data; the policy's graph comes from `graph.export_policy`."""
    # By way of bytes: the library's own files can be read by their owner alone, and a server may run as another user.
    (folder / VECTORS).write_bytes(save({"item_vectors": np.ascontiguousarray(item_vectors, np.float32)}))
    catalogue.save(folder / CATALOGUE)


def seal(folder: Path, *, k: int, history_limit: int, n_items: int, dim: int, facts: Mapping[str, Any]) -> str:
    """Write `bundle.json` over the parts already in `folder`; returns its sha256, for the artefact's facts.

    Args:
        folder: holds the policy, the vectors and the catalogue.
        k: places of the slates the policy was trained for.
        history_limit: tokens of a history that the policy reads.
        n_items: items of the catalogue.
        dim: width of the item vectors.
        facts: further entries, for instance `rules`, `training`, `evaluation`, `parity`, `export`.
    """
    files = {name: {"sha256": file_hash(folder / name), "bytes": (folder / name).stat().st_size} for name in HASHED}
    policy = {"k": k, "history_limit": history_limit, "n_items": n_items, "dim": dim}
    schema = RULED_SCHEMA if facts.get("rules") else BUNDLE_SCHEMA
    write_json(folder / RECORD, {"schema": schema, "policy": policy, "files": files, **facts})
    return file_hash(folder / RECORD)


@dataclass(frozen=True)
class Bundle:
    """A verified bundle.

    Attributes:
        folder: where it lies.
        id: hash of its settings and inputs, and of what its files hold.
        record: `bundle.json`.
        catalogue: the shop's items.
        item_vectors: (N + 1, D) float32, unit rows by dense index; row 0 is zero.
    """

    folder: Path
    id: str
    record: Mapping[str, Any]
    catalogue: Catalogue
    item_vectors: Floats

    @property
    def k(self) -> int:
        """Places of the slates the policy was trained for."""
        return self.record["policy"]["k"]

    @property
    def history_limit(self) -> int:
        """Tokens of a history that the policy reads; earlier ones do not matter to it."""
        return self.record["policy"]["history_limit"]

    @property
    def rules(self) -> SlateRules | None:
        """What every slate keeps, if anything."""
        given = self.record.get("rules")
        return SlateRules.of(given) if given else None

    @property
    def policy_path(self) -> Path:
        """Where the graph lies."""
        return self.folder / POLICY

    @classmethod
    def load(cls, folder: str | Path) -> "Bundle":
        """Read a bundle and check that it is whole.

        Raises:
            BundleError: a file is missing, altered, unreadable, or does not fit the others; says which and what to do.
        """
        folder = Path(folder)
        try:
            artefact = read_config(folder, "bundle")["slatewise_artefact"]
        except ArtefactError as error:
            raise BundleError(f"{error}; export a bundle first") from error
        record = _read_record(folder, artefact["facts"].get("bundle_sha256"))
        for name in HASHED:
            _check_file(folder / name, record["files"].get(name, {}).get("sha256"))
        try:
            catalogue = Catalogue.load(folder / CATALOGUE)
            vectors = load_file(folder / VECTORS)["item_vectors"]
        except (SlatewiseError, SafetensorError, KeyError) as error:
            raise BundleError(f"{folder} cannot be read: {error}; export the bundle again") from error
        policy = record["policy"]
        if vectors.shape != (catalogue.n_items + 1, policy["dim"]) or catalogue.n_items != policy["n_items"]:
            raise BundleError(
                f"{folder} does not fit together: {catalogue.n_items} items in {CATALOGUE}, vectors of shape "
                f"{vectors.shape}, a policy for {policy['n_items']} items; export the bundle again"
            )
        name = hashlib.sha256(f"{artefact['id']}{artefact['facts']['bundle_sha256']}".encode()).hexdigest()[:16]
        return cls(folder, name, record, catalogue, vectors)


def _read_record(folder: Path, expected: str | None) -> dict[str, Any]:
    path = folder / RECORD
    _check_file(path, expected)
    try:
        record = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} is not valid JSON: {error}; export the bundle again") from error
    schema = record.get("schema") if isinstance(record, dict) else None
    if schema not in (BUNDLE_SCHEMA, RULED_SCHEMA):
        raise BundleError(
            f"{path} has schema {schema!r}, this version reads {BUNDLE_SCHEMA} and {RULED_SCHEMA}; "
            "serve it with the version that wrote it, or export the bundle again"
        )
    return record


def _check_file(path: Path, expected: str | None) -> None:
    if not path.is_file():
        raise BundleError(f"{path} is missing; copy the bundle folder whole, or export it again")
    if expected is None:
        raise BundleError(f"{path.parent} records no hash of {path.name}; export the bundle again")
    found = file_hash(path)
    if found != expected:
        raise BundleError(
            f"{path} was altered: its sha256 begins {found[:12]}, {expected[:12]} was recorded; "
            "restore the file, or export the bundle again"
        )
