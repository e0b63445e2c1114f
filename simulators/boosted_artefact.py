"""A boosted shopper in a folder: tables as safetensors, trees as LightGBM's own text."""

from collections.abc import Mapping
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file
from torch import Tensor

from ..errors import ArtefactError
from .arrivals import Arrivals
from .boosted import BoostedShopper
from .boosted_choice import BoostedChoice
from .boosted_hazards import Hazard
from .boosted_model import BoostedModel, BoostedParts
from .hand_features import CHOICE_COLUMNS, LEAVING_COLUMNS, ItemTables
from .shopper import TokenBatch
from .trees import Trees

FAMILY = "boosted"
TENSORS = "shopper.safetensors"
TREES_FOLDER = "trees"
_HAZARDS = ("cart", "purchase", "leaving")
_NUMBERS = ("centre", "scale", "low", "high", "weights", "effects")


def write_boosted(model: BoostedModel, folder: Path) -> dict[str, Any]:
    """Write a model into a folder; returns what `read_boosted` has to know to read it back."""
    (folder / TREES_FOLDER).mkdir(exist_ok=True)
    tensors = {f"tables.{one.name}": getattr(model.own.tables, one.name) for one in fields(ItemTables)}
    tensors |= {f"arrivals.{one.name}": getattr(model.arrivals.tokens, one.name) for one in fields(TokenBatch)}
    tensors |= {"arrivals.gap": model.arrivals.gap, "dwell": model.own.dwell, "prices": model.prices}
    for part in _HAZARDS:
        hazard: Hazard = getattr(model.own, part)
        tensors |= {f"{part}.{name}": torch.from_numpy(getattr(hazard, name)) for name in _NUMBERS}
    choices = []
    for number, (name, choice) in enumerate({"": model.own.choice, **model.rivals}.items()):
        tensors[f"proceed.{number}"] = choice.proceed
        file = _write_trees(choice.trees, folder, f"choice-{number}")
        choices.append({"name": name, "nothing": choice.nothing, "columns": list(choice.columns), "trees": file})
    # safetensors refuses tensors that share memory
    save_file({name: one.detach().cpu().clone().contiguous() for name, one in tensors.items()}, folder / TENSORS)
    return {
        "family": FAMILY,
        "from_slates": model.from_slates,
        "leaving_known": model.leaving_known,
        "columns": {"choice": list(CHOICE_COLUMNS), "leaving": list(LEAVING_COLUMNS)},
        "choices": choices,
        "hazards": {part: _write_trees(getattr(model.own, part).trees, folder, part) for part in _HAZARDS},
    }


def _write_trees(trees: Trees | None, folder: Path, name: str) -> str | None:
    if trees is None:
        return None
    (folder / TREES_FOLDER / f"{name}.txt").write_text(trees.text, encoding="utf-8")
    return f"{name}.txt"


def read_boosted(folder: Path, facts: Mapping[str, Any], device: torch.device | str) -> BoostedShopper:
    """The shopper that `write_boosted` wrote.

    Args:
        folder: of the artefact.
        facts: of its record.
        device: where the shoppers live.

    Raises:
        ArtefactError: files are missing or broken, or columns were others when it was written.
    """
    if facts.get("columns") != {"choice": list(CHOICE_COLUMNS), "leaving": list(LEAVING_COLUMNS)}:
        raise ArtefactError(f"{folder} is a shopper that looks at other columns than this version; fit it anew")
    from lightgbm.basic import LightGBMError  # takes seconds, see `trees`

    try:
        tensors = load_file(folder / TENSORS)
        choices = {
            one["name"]: BoostedChoice(
                _read_trees(folder, one["trees"]),
                tuple(one["columns"]),
                float(one["nothing"]),
                tensors[f"proceed.{number}"],
            )
            for number, one in enumerate(facts["choices"])
        }
        hazards = {part: _hazard(part, tensors, _read_trees(folder, facts["hazards"][part])) for part in _HAZARDS}
        tables = _part(ItemTables, "tables", tensors)
        model = BoostedModel(
            own=BoostedParts(tables=tables, choice=choices.pop(""), dwell=tensors["dwell"], **hazards),
            rivals=choices,
            leaving_known=bool(facts["leaving_known"]),
            arrivals=Arrivals(_part(TokenBatch, "arrivals", tensors), tensors["arrivals.gap"]),
            prices=tensors["prices"],
            from_slates=bool(facts["from_slates"]),
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, LightGBMError) as error:
        raise ArtefactError(f"{folder} is not a readable shopper: {error}; fit it anew") from error
    return BoostedShopper(model, facts, device)


def _part(kind: Any, name: str, tensors: Mapping[str, Tensor]) -> Any:
    return kind(**{one.name: tensors[f"{name}.{one.name}"] for one in fields(kind)})


def _hazard(part: str, tensors: Mapping[str, Tensor], trees: Trees | None) -> Hazard:
    return Hazard(**{name: tensors[f"{part}.{name}"].numpy() for name in _NUMBERS}, trees=trees)


def _read_trees(folder: Path, file: str | None) -> Trees | None:
    if file is None:
        return None
    trees = Trees((folder / TREES_FOLDER / file).read_text(encoding="utf-8"))
    len(trees)  # parses it: a broken file is named now, not at the first slate
    return trees
