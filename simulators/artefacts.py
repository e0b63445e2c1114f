"""Shopper artefacts: a fitted shopper or a known-truth one in a folder, read back by the same call."""

import shutil
from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any, Protocol, get_type_hints, runtime_checkable

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..datasets.artefact import building, read_config
from ..datasets.known_shop import KnownShop
from ..encoders.mean import MeanEncoder
from ..encoders.state import StateEncoder
from ..errors import ArtefactError
from .arrivals import Arrivals
from .boosted import BoostedShopper
from .boosted_artefact import FAMILY, read_boosted
from .choice import ChoiceWeights
from .examination import FORMS, Examination
from .features import ItemFacts, Scaling
from .fitted import FittedShopper
from .known_truth import KnownTruthShopper
from .members import Parts
from .shopper_model import ShopperModel

KIND = "shopper"
WEIGHTS = "shopper.safetensors"
ENCODER_FOLDER = "encoder"
_RIVAL = "rival:"
_PARTS: dict[str, Any] = {"facts": ItemFacts, "scaling": Scaling, "own": Parts, "arrivals": Arrivals, "prices": Tensor}


@runtime_checkable
class _Savable(Protocol):
    """An encoder that writes itself, as transformers' models do."""

    def save_pretrained(self, save_directory: Path) -> None: ...


def model_tensors(model: ShopperModel) -> dict[str, Tensor]:
    """All tensors of a model by dotted name, on the CPU; numbers are tensors too."""
    parts: dict[str, Any] = {name: getattr(model, name) for name in _PARTS}
    parts |= {_RIVAL + name: weights for name, weights in model.rivals.items()}
    if model.members is not None:
        parts["members"] = model.members
    return {name: tensor for part, value in parts.items() for name, tensor in _flat(part, value).items()}


def _flat(name: str, part: Any) -> dict[str, Tensor]:
    """The tensors of a part, and of the parts it is made of."""
    if isinstance(part, Tensor):
        return {name: _storable(part)}
    if isinstance(part, float):
        return {name: torch.tensor(part, dtype=torch.float64)}
    inside = {f"{name}.{one}": getattr(part, one) for one in _stored(type(part))}
    return {name: tensor for one, value in inside.items() for name, tensor in _flat(one, value).items()}


def _known(form: str) -> Examination:
    """A form of examination.

    Raises:
        KeyError: there is none of this name.
    """
    if form not in FORMS:
        raise KeyError(f"form of examination {form!r}")
    return form


def _stored(kind: Any) -> list[str]:
    """Fields of a part but the form of examination, which all of a shopper's share."""
    return [one.name for one in fields(kind) if one.name != "form"]


def _storable(tensor: Tensor) -> Tensor:
    return tensor.detach().to("cpu", copy=True).contiguous()  # safetensors refuses tensors that share memory


def model_from_tensors(tensors: Mapping[str, Tensor], *, from_slates: bool, form: Examination) -> ShopperModel:
    """The model that `model_tensors` flattened; `form` is that of its examination.

    Raises:
        KeyError: a tensor is missing.
    """

    def part(kind: Any, name: str) -> Any:
        if kind is Tensor:
            return tensors[name]
        if kind is float:
            return float(tensors[name])
        kinds = get_type_hints(kind)
        shared = {"form": form} if "form" in kinds else {}
        return kind(**{one: part(kinds[one], f"{name}.{one}") for one in _stored(kind)}, **shared)

    rivals = {name.split(".")[0] for name in tensors if name.startswith(_RIVAL)}
    return ShopperModel(
        **{name: part(kind, name) for name, kind in _PARTS.items()},
        from_slates=from_slates,
        rivals={name.removeprefix(_RIVAL): part(ChoiceWeights, name) for name in sorted(rivals)},
        members=part(Parts, "members") if any(name.startswith("members.") for name in tensors) else None,
    )


def write_fitted(model: ShopperModel, encoder: StateEncoder, encoder_path: Path | None, folder: Path) -> dict[str, Any]:
    """Write a model and its encoder into a folder; returns what `load_shopper` has to know to read them back.

    Raises:
        ArtefactError: the encoder is of an unknown kind, and no `encoder_path` says where it can be copied from.
    """
    tensors = model_tensors(model)
    if encoder_path is not None:
        shutil.rmtree(folder / ENCODER_FOLDER, ignore_errors=True)
        shutil.copytree(
            encoder_path, folder / ENCODER_FOLDER, ignore=shutil.ignore_patterns("checkpoint*", "*.partial")
        )
        kept: dict[str, Any] = {"kind": "folder"}
    elif isinstance(encoder, MeanEncoder):
        tensors["encoder.item_vectors"] = _storable(encoder.item_vectors)
        kept = {"kind": "mean", "decay": encoder.decay}
    elif isinstance(encoder, _Savable):
        encoder.save_pretrained(folder / ENCODER_FOLDER)
        kept = {"kind": "folder"}
    else:
        raise ArtefactError(
            f"cannot store a {type(encoder).__name__} without encoder_path, the folder it was loaded from"
        )
    save_file(tensors, folder / WEIGHTS)
    return {"family": "fitted", "from_slates": model.from_slates, "examination": model.own.choice.form, "encoder": kept}


def save_known_truth(
    shop: KnownShop, folder: Path, *, inputs: Mapping[str, str] | None = None, force: bool = False
) -> Path:
    """Write a known-truth shopper as an artefact of kind "shopper"; returns the folder.

    Raises:
        ArtefactError: the folder is taken, and `force` is not set.
    """
    settings = {"family": "known truth", **{one.name: getattr(shop.config, one.name) for one in fields(shop.config)}}
    with building(Path(folder), KIND, settings, inputs, force=force) as draft:
        shop.save(draft.folder)
        draft.facts |= {"family": "known truth", "n_items": shop.n_items}
    return Path(folder)


def load_shopper(
    folder: Path | str, *, device: torch.device | str = "cpu"
) -> FittedShopper | BoostedShopper | KnownTruthShopper:
    """Read a shopper artefact, whichever family it is of.

    Args:
        folder: written by `fit` or `save_known_truth`.
        device: where the shoppers live.

    Raises:
        ArtefactError: the folder is no finished shopper, or its files cannot be read.
    """
    folder = Path(folder)
    facts = read_config(folder, KIND)["slatewise_artefact"]["facts"]
    if facts.get("family") == "known truth":
        return KnownTruthShopper(KnownShop.load(folder), device)
    if facts.get("family") == FAMILY:
        return read_boosted(folder, facts, device)
    try:
        tensors = load_file(folder / WEIGHTS)
        model = model_from_tensors(tensors, from_slates=bool(facts["from_slates"]), form=_known(facts["examination"]))
        kept = facts["encoder"]
        vectors = tensors["encoder.item_vectors"].to(device) if kept["kind"] == "mean" else None
    except (OSError, KeyError, TypeError, SafetensorError) as error:
        raise ArtefactError(f"{folder} is not a readable shopper: {error}; fit it anew") from error
    if vectors is not None:
        return FittedShopper(model, MeanEncoder(vectors, kept["decay"]), facts)
    from ..encoders.loading import load_encoder  # imports transformers, which takes seconds: only where it is needed

    return FittedShopper(model, load_encoder(folder / ENCODER_FOLDER, device=device), facts)
