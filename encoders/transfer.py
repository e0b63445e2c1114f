"""What a session encoder passes on: to the same shop with other items (`grow`), and to another's first training.

Shapes: N items, E width of text vectors, D width of item vectors.
"""

import hashlib
from collections.abc import Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..datasets.artefact import artefact_id, building, fingerprint, is_finished, package_versions, read_config
from ..datasets.catalogue import Catalogue
from ..datasets.tokens import Floats, Ints
from ..errors import ArtefactError
from .card import write_card
from .loading import load_encoder
from .quiet import quiet_transformers
from .session import ShopSessionModel
from .settings import PretrainConfig
from .text import TextEncoder
from .tower import ItemTower, item_rows

CATALOGUE = "catalogue.parquet"
"""The items that an encoder knows, in the order of its rows, beside its weights."""
PER_ITEM = (*(f"tower.{name}" for name in ItemTower.PER_ITEM), "calibration.items")
"""Names of all weights that have a row an item."""
_SHAPE = ("width", "layers", "heads", "kv_heads", "feed_forward")


def grow(
    encoder_folder: Path,
    catalogue: Catalogue,
    out: Path,
    *,
    text: TextEncoder | NDArray[np.float32] | None = None,
    force: bool = False,
    device: str = "cpu",
) -> ShopSessionModel:
    """The encoder of a catalogue that has changed, without training: items added, gone, reordered or described anew.

    Items known by their id keep the embedding that they have learnt; new ones go by their text, category, brand and
    price alone, as an item does that no session of the training had. Vectors of items whose description is the same,
    and states of their histories, stay what they were.

    Args:
        encoder_folder: an artefact of kind "encoder" with its catalogue beside the weights.
        catalogue: the items to know, in the order of their new indices.
        out: folder of the artefact.
        text: encoder of the item texts, by the model that the encoder was pretrained with, or their vectors (N, E);
            the model that the encoder's record names when None.
        force: replace a finished artefact.
        device: where the model is put.

    Returns:
        The grown encoder, in eval mode, on `device`.

    Raises:
        ArtefactError: the encoder lacks its catalogue, was pretrained with another text model, or `out` holds
            something else.
        NotTrainedError: the encoder is not trained.
        ModelNotFoundError: the text model is not there.
    """
    record = read_config(encoder_folder, "encoder")["slatewise_artefact"]
    known = items_of(encoder_folder)
    model = load_encoder(encoder_folder)
    vectors = _vectors(model, record, catalogue, text)
    settings = {**record["settings"], "grown": True}
    inputs = {
        **record["inputs"],
        "encoder": artefact_id(encoder_folder, "encoder"),
        "catalogue": fingerprint({"items": catalogue.item_ids.tolist()}),
        "items": _content(catalogue, vectors),
    }
    if not force and is_finished(out, "encoder", settings, inputs):
        return load_encoder(out, device=device)
    with building(out, "encoder", settings, inputs, force=force) as draft:
        grown = _grown(model, known, catalogue, vectors)
        with quiet_transformers():
            grown.save_pretrained(draft.folder)
        catalogue.save(draft.folder / CATALOGUE)
        draft.facts |= record["facts"] | _counts(grown, known, catalogue)
        told = {"settings": settings, "inputs": inputs, "facts": draft.facts, "versions": package_versions()}
        write_card(draft.folder, Path(out).name, **told)
    return load_encoder(out, device=device)


def items_of(encoder_folder: Path) -> Catalogue:
    """The catalogue that an encoder was pretrained on.

    Raises:
        ArtefactError: it is not there, as in folders of older versions.
    """
    path = Path(encoder_folder) / CATALOGUE
    if not path.is_file():
        raise ArtefactError(f"{encoder_folder} does not say which items it knows (no {CATALOGUE}); pretrain it again")
    return Catalogue.load(path)


def _grown(model: ShopSessionModel, known: Catalogue, catalogue: Catalogue, vectors: Floats) -> ShopSessionModel:
    """The model with rows for the items of another catalogue; all else is as it was."""
    config = deepcopy(model.config)
    config.n_items = catalogue.n_items
    place = torch.from_numpy(known.index_of(catalogue.item_ids[1:], unknown="zero"))  # (N,) old row, 0 for new items
    state = model.state_dict()
    for name in (name for name in PER_ITEM if name in state):
        old = state[name]
        state[name] = torch.cat([old[:1], old[place]])  # row 0 is what a new item begins with
    with torch.random.fork_rng(devices=[]):
        grown = ShopSessionModel(config)
    grown.load_state_dict(state)
    rows = _rows(grown, catalogue, vectors, grown.tower.item_seen[1:].numpy() > 0)
    for name, values in rows.items():
        grown.tower.get_buffer(name)[1:] = values
    return grown.eval()


def _rows(model: ShopSessionModel, catalogue: Catalogue, vectors: Floats, seen: NDArray[np.bool_]) -> dict[str, Tensor]:
    categories, brands = (catalogue.frame[name].fillna("").tolist() for name in ("category", "brand"))
    return item_rows(model.config, vectors, catalogue.known_prices[1:], seen, categories, brands)


def _counts(grown: ShopSessionModel, known: Catalogue, catalogue: Catalogue) -> dict[str, Any]:
    """What became of the items, for the artefact's record."""
    kept = int((known.index_of(catalogue.item_ids[1:], unknown="zero") > 0).sum())
    return {
        "items": catalogue.n_items,
        "items_seen": int(grown.tower.item_seen.sum()),
        "items_kept": kept,
        "items_new": catalogue.n_items - kept,
        "items_gone": known.n_items - kept,
    }


def _vectors(
    model: ShopSessionModel, record: Mapping[str, Any], catalogue: Catalogue, text: TextEncoder | Floats | None
) -> Floats:
    """(N, E) vectors of the items' texts, by the text model that an encoder was pretrained with."""
    wide = model.config.text_dim
    if not wide:
        return np.zeros((catalogue.n_items, 0), np.float32)
    if isinstance(text, np.ndarray):
        if text.shape != (catalogue.n_items, wide):
            raise ValueError(f"text must be ({catalogue.n_items}, {wide}), got {text.shape}")
        return text
    told = record["facts"].get("text_model", {})
    text = TextEncoder(told.get("name")) if text is None else text
    if text.fingerprint != record["settings"]["text"]:
        raise ArtefactError(
            f"the encoder was pretrained with the text model {told.get('name', 'of another fingerprint')} "
            f"({record['settings']['text']}), not with {text.name} ({text.fingerprint}); give that one"
        )
    return text.encode(catalogue.texts())


def _content(catalogue: Catalogue, vectors: Floats) -> str:
    """A hash of all that growing reads of a catalogue."""
    digest = hashlib.sha256(np.ascontiguousarray(vectors).tobytes())
    digest.update(np.ascontiguousarray(catalogue.known_prices).tobytes())
    digest.update("\0".join([*catalogue.item_ids[1:], *catalogue.texts()]).encode())
    return digest.hexdigest()[:16]


@dataclass(frozen=True)
class WarmStart:
    """An encoder that another one begins with.

    Attributes:
        model: the trained encoder. catalogue: the items that it knows.
        id: of its artefact. name: of its folder.
        text: fingerprints of its text model, and of the one that was fine-tuned into it, if it was.
    """

    model: ShopSessionModel
    catalogue: Catalogue
    id: str
    name: str
    text: frozenset[str]

    @classmethod
    def load(cls, folder: Path) -> "WarmStart":
        """Read an encoder to begin with.

        Raises:
            ArtefactError: the folder holds no encoder, or none that says which items it knows.
            NotTrainedError: the encoder is not trained.
        """
        folder = Path(folder)
        record = read_config(folder, "encoder")["slatewise_artefact"]
        text = _origins({"fingerprint": record["settings"]["text"], **record["facts"].get("text_model", {})})
        return cls(load_encoder(folder), items_of(folder), artefact_id(folder, "encoder"), folder.name, text)

    def check(self, config: PretrainConfig, text_dim: int, text: Mapping[str, Any] | None) -> PretrainConfig:
        """See that an encoder can begin with this one.

        Args:
            config: settings of the one to begin.
            text_dim: width of its text vectors.
            text: what is recorded of its text model, `TextEncoder.about`; None for vectors of unknown origin.

        Returns:
            The settings, with the widths of this encoder where they name none.

        Raises:
            ArtefactError: it has another shape, or another text model.
        """
        theirs = self.model.config
        widths = {"width": config.width or theirs.width, "feed_forward": config.feed_forward or theirs.feed_forward}
        config = replace(config, **widths)
        other = [name for name in _SHAPE if getattr(config, name) != getattr(theirs, name)]
        if other:
            wanted = ", ".join(f"{name}={getattr(theirs, name)}" for name in other)
            got = ", ".join(f"{name}={getattr(config, name)}" for name in other)
            raise ArtefactError(
                f"{self.name} can begin only an encoder of its own shape: it has {wanted}, and {got} is asked for"
            )
        if "text" not in config.parts or not theirs.text_dim:
            return config
        if text_dim != theirs.text_dim or (text is not None and not _origins(text) & self.text):
            raise ArtefactError(
                f"{self.name} reads texts by another model ({', '.join(sorted(self.text))}), so what it learnt of them "
                "means nothing here; give that text model, or one fine-tuned from it"
            )
        return config

    @torch.no_grad()
    def into(self, model: ShopSessionModel, catalogue: Catalogue) -> dict[str, int | str]:
        """Put what has been learnt into a model that is to be trained; say how much found a place.

        All that belongs to no single item is taken over, categories and brands by their names. Items of the same id
        and the same description keep their embedding; where no shop describes its items, the same id is enough.

        Args:
            model: an untrained model that has passed `check`; changed in place.
            catalogue: the items that it knows.
        """
        theirs, ours = self.model.state_dict(), model.state_dict()  # they share memory with the weights
        own = {*PER_ITEM, "tower.text_mean", "tower.categories.weight", "tower.brands.weight"}
        for name in ours.keys() & theirs.keys() - own:
            if ours[name].shape == theirs[name].shape:  # what reads searches may be as wide as other vectors
                ours[name].copy_(theirs[name])
        tower, other = model.tower, self.model.tower
        new, old = model.config, self.model.config
        return {
            "from": self.name,
            "items": self._items_into(tower, catalogue),
            "categories": _named(other.categories, tower.categories, old.categories, new.categories),
            "brands": _named(other.brands, tower.brands, old.brands, new.brands),
        }

    def _items_into(self, tower: ItemTower, catalogue: Catalogue) -> int:
        source = self.model.tower
        if tower.ids is None or source.ids is None:
            return 0
        place = torch.from_numpy(_same_items(self.catalogue, catalogue))  # (N + 1,)
        kept = (place > 0) & (source.item_seen[place] > 0)
        tower.ids.weight[kept] = source.ids.weight[place[kept]]
        tower.item_seen[kept] = 1.0
        return int(kept.sum())


def _origins(text: Mapping[str, Any]) -> frozenset[str]:
    return frozenset(text[name] for name in ("fingerprint", "base_fingerprint") if text.get(name))


def _named(source: nn.Embedding | None, target: nn.Embedding | None, old: Sequence[str], new: Sequence[str]) -> int:
    """Take over the rows of labels that both vocabularies have; returns how many."""
    if source is None or target is None:
        return 0
    place = {label: row for row, label in enumerate(old, start=1)}
    both = [(row, place[label]) for row, label in enumerate(new, start=1) if label in place]
    for row, of in both:
        target.weight[row] = source.weight[of]
    return len(both)


def _same_items(old: Catalogue, new: Catalogue) -> Ints:
    """(N + 1,) index in `old` of each item of `new`, 0 where it lacks the item or describes it otherwise."""
    place = old.index_of(new.item_ids[1:], unknown="zero")
    before, now = (np.array(["", *catalogue.texts()], dtype=object) for catalogue in (old, new))
    place[before[place] != now[1:]] = 0
    # An item that nothing describes has its id for a text, and two shops may well count from 1.
    if _described(old) or _described(new):
        place[now[1:] == new.item_ids[1:]] = 0
    return np.concatenate([[0], place]).astype(np.int64)


def _described(catalogue: Catalogue) -> bool:
    return catalogue.texts() != catalogue.item_ids[1:].tolist()
