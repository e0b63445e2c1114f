"""A boosted shopper in a folder: tables as safetensors, trees as LightGBM's own text."""

from collections.abc import Mapping
from dataclasses import fields, replace
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
from .pauses import Pauses
from .shopper import TokenBatch
from .trees import Trees

FAMILY = "boosted"
TENSORS = "shopper.safetensors"
TREES_FOLDER = "trees"
_HAZARDS = ("cart", "purchase", "leaving")
_COUNTED = ("popularity", "liked")  # tables that a member has of its own
_NUMBERS = ("centre", "scale", "low", "high", "weights", "effects")


def write_boosted(model: BoostedModel, folder: Path) -> dict[str, Any]:
    """Write a model into a folder; returns what `read_boosted` has to know to read it back."""
    (folder / TREES_FOLDER).mkdir(exist_ok=True)
    tensors = {f"tables.{one.name}": getattr(model.own.tables, one.name) for one in fields(ItemTables)}
    tensors |= {f"arrivals.{one.name}": getattr(model.arrivals.tokens, one.name) for one in fields(TokenBatch)}
    tensors |= {"arrivals.gap": model.arrivals.gap, "prices": model.prices}
    facts: dict[str, Any] = {"rivals": {}, "members": []}
    for number, (name, choice) in enumerate(model.rivals.items()):
        facts["rivals"][name] = _write_choice(choice, f"rival-{number}", folder, tensors)
    facts["own"] = _write_parts(model.own, "own", folder, tensors)
    for number, member in enumerate(model.members):
        tensors |= {f"member-{number}.{name}": getattr(member.tables, name) for name in _COUNTED}
        facts["members"].append(_write_parts(member, f"member-{number}", folder, tensors))
    # safetensors refuses tensors that share memory
    save_file({name: one.detach().cpu().clone().contiguous() for name, one in tensors.items()}, folder / TENSORS)
    return {
        "family": FAMILY,
        "from_slates": model.from_slates,
        "leaving_known": model.leaving_known,
        "usual_size": model.usual_size,
        "columns": {"choice": list(CHOICE_COLUMNS), "leaving": list(LEAVING_COLUMNS)},
        "parts": facts,
    }


def _write_parts(parts: BoostedParts, name: str, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    """Add a shopper's or a member's tensors but for the tables', and write its trees; returns what else it is."""
    tensors |= {f"{name}.dwell.{one.name}": getattr(parts.dwell, one.name) for one in fields(Pauses)}
    tensors[f"{name}.arrivals"] = parts.arrivals
    hazards: dict[str, str | None] = {}
    for step in _HAZARDS:
        hazard: Hazard = getattr(parts, step)
        tensors |= {f"{name}.{step}.{one}": torch.from_numpy(getattr(hazard, one)) for one in _NUMBERS}
        hazards[step] = _write_trees(hazard.trees, folder, f"{name}-{step}")
    return {"choice": _write_choice(parts.choice, name, folder, tensors), "hazards": hazards}


def _write_choice(choice: BoostedChoice, name: str, folder: Path, tensors: dict[str, Tensor]) -> dict[str, Any]:
    tensors[f"{name}.proceed"] = choice.proceed
    trees = _write_trees(choice.trees, folder, f"{name}-choice")
    return {"nothing": choice.nothing, "columns": list(choice.columns), "trees": trees}


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
        parts, tables = facts["parts"], _part(ItemTables, "tables", tensors)
        own = _read_parts(parts["own"], "own", tables, folder, tensors)
        members = []
        for number, kept in enumerate(parts["members"]):
            name = f"member-{number}"
            counted = replace(tables, **{one: tensors[f"{name}.{one}"] for one in _COUNTED})
            members.append(_read_parts(kept, name, counted, folder, tensors))
        model = BoostedModel(
            own=own,
            arrivals=Arrivals(_part(TokenBatch, "arrivals", tensors), tensors["arrivals.gap"]),
            prices=tensors["prices"],
            from_slates=bool(facts["from_slates"]),
            leaving_known=bool(facts["leaving_known"]),
            usual_size=float(facts["usual_size"]),
            rivals={
                name: _read_choice(kept, f"rival-{number}", folder, tensors)
                for number, (name, kept) in enumerate(parts["rivals"].items())
            },
            members=tuple(members),
        )
    except (OSError, KeyError, TypeError, ValueError, SafetensorError, LightGBMError) as error:
        raise ArtefactError(f"{folder} is not a readable shopper: {error}; fit it anew") from error
    return BoostedShopper(model, facts, device)


def _part(kind: Any, name: str, tensors: Mapping[str, Tensor]) -> Any:
    return kind(**{one.name: tensors[f"{name}.{one.name}"] for one in fields(kind)})


def _read_parts(
    kept: Mapping[str, Any], name: str, tables: ItemTables, folder: Path, tensors: Mapping[str, Tensor]
) -> BoostedParts:
    hazards = {
        step: Hazard(
            **{one: tensors[f"{name}.{step}.{one}"].numpy() for one in _NUMBERS},
            trees=_read_trees(folder, kept["hazards"][step]),
        )
        for step in _HAZARDS
    }
    return BoostedParts(
        tables=tables,
        choice=_read_choice(kept["choice"], name, folder, tensors),
        dwell=_part(Pauses, f"{name}.dwell", tensors),
        arrivals=tensors[f"{name}.arrivals"],
        **hazards,
    )


def _read_choice(kept: Mapping[str, Any], name: str, folder: Path, tensors: Mapping[str, Tensor]) -> BoostedChoice:
    trees = _read_trees(folder, kept["trees"])
    return BoostedChoice(trees, tuple(kept["columns"]), float(kept["nothing"]), tensors[f"{name}.proceed"])


def _read_trees(folder: Path, file: str | None) -> Trees | None:
    if file is None:
        return None
    trees = Trees((folder / TREES_FOLDER / file).read_text(encoding="utf-8"))
    len(trees)  # parses it: a broken file is named now, not at the first slate
    return trees
