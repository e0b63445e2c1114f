"""What a report tells beyond the evaluation, read from the folders that the steps before it wrote."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pandas as pd

from ..datasets.artefact import read_config
from ..datasets.catalogue import Catalogue
from ..errors import ArtefactError
from .report import Extras


def gather_extras(
    *,
    log: Path | None = None,
    shopper: Path | None = None,
    agents: Mapping[str, Path] | None = None,
    places: Mapping[str, str] | None = None,
    **told: Any,
) -> Extras:
    """Extras of a report, from the facts of artefacts.

    Args:
        log: a log's folder, for the catalogue and the currency.
        shopper: a fitted shopper's folder, for its evidence, its realism and its calibration.
        agents: policy -> an agent's folder, for its learning curves.
        places: artefact -> where it lies; the folders above are added.
        told: any field of `Extras`; goes before what the folders say.

    Raises:
        ArtefactError: a folder is no finished artefact of its kind.
    """
    found: dict[str, Any] = {}
    lie = {name: str(path) for name, path in (("log", log), ("shopper", shopper)) if path is not None}
    if log is not None:
        facts = read_config(log, "log")["slatewise_artefact"]["facts"]
        found["catalogue"] = Catalogue.load(Path(log) / "catalogue.parquet").frame
        found["currency"] = facts.get("currency") or ""
    if shopper is not None:
        facts = read_config(shopper, "shopper")["slatewise_artefact"]["facts"]
        kept = {"evidence": "evidence", "held_out": "realism", "calibration": "calibration"}
        found |= {field: pd.DataFrame(facts[name]) for name, field in kept.items() if facts.get(name)}
    if agents:
        curves = [curve for name, folder in agents.items() for curve in learning_curves(name, folder)]
        found["curves"] = pd.concat(curves, ignore_index=True) if curves else None
        lie |= {name: str(folder) for name, folder in agents.items()}
    return Extras(**{**found, "places": {**lie, **(places or {})}, **told})


def learning_curves(policy: str, folder: Path) -> list[pd.DataFrame]:
    """The learning curves of an agent's trainings: `policy`, `training_seed`, `steps`, `value`.

    Raises:
        ArtefactError: the folder is no finished agent, or a curve cannot be read.
    """
    seeds = read_config(folder, "agent").get("seeds", [])
    curves = []
    for seed in seeds:
        path = Path(folder) / f"seed-{seed}" / "curve.csv"
        if not path.is_file():  # an agent saved by hand has none
            continue
        try:
            rows = pd.read_csv(path)[["timesteps", "reward"]].dropna()
        except (ValueError, KeyError) as error:
            raise ArtefactError(f"{path} is not a readable learning curve: {error}; train the agent again") from error
        rows = rows.rename(columns={"timesteps": "steps", "reward": "value"})
        curves.append(rows.assign(policy=policy, training_seed=seed))
    return curves
