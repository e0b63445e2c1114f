"""Findings: outcomes with their summary and comparisons, as one thing that is written, read and reported."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pandas as pd

from ..datasets.artefact import package_versions, write_json
from ..errors import ArtefactError, EvidenceError
from .intervals import compare_all, summarise
from .outcomes import FIXED, Outcomes
from .words import rows_of


@dataclass(frozen=True, kw_only=True)
class Evaluation:
    """What was found.

    Attributes:
        outcomes: one row a session.
        summary: of `summarise`.
        comparisons: of `compare_all`.
        trained_in: policy -> name of the simulator that it was trained in.
        chosen_in: policy -> names of the simulators whose shoppers chose its version or settings, where any did.
        facts: `metric`, `level`, `resamples`, `references`, `versions`, and how each simulator judged (`simulators`).
    """

    outcomes: Outcomes
    summary: pd.DataFrame
    comparisons: pd.DataFrame
    trained_in: Mapping[str, str] = field(default_factory=dict)
    chosen_in: Mapping[str, Sequence[str]] = field(default_factory=dict)
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def trained(self) -> list[str]:
        """Policies that came out of a training."""
        frame = self.outcomes.frame
        return list(dict.fromkeys(frame.loc[frame["training_seed"] != FIXED, "policy"]))

    @property
    def primary(self) -> str:
        """The simulator whose verdict counts: the first that neither trained nor chose a policy.

        Where there is none, the first that trained none, or else the first.
        """
        judges, trained = self.outcomes.simulators, set(self.trained_in.values())
        apart = [name for name in judges if name not in trained]
        chose = {name for names in self.chosen_in.values() for name in names}
        return next((name for name in apart if name not in chose), (apart or judges)[0])

    @property
    def flattered(self) -> list[tuple[str, str]]:
        """(policy, simulator) where a policy is judged by the simulator it was trained in."""
        return [(policy, name) for policy, name in self.trained_in.items() if name in self.outcomes.simulators]

    def save(self, folder: Path) -> None:
        """Write `outcomes.parquet`, `places.parquet`, `items.parquet`, `summary.json` and `comparisons.json`."""
        folder = Path(folder)
        self.outcomes.save(folder)
        facts = {**self.facts, "trained_in": dict(self.trained_in), "chosen_in": self.chosen_in}
        write_json(folder / "comparisons.json", _records(self.comparisons))
        write_json(folder / "summary.json", {"facts": facts, "summary": _records(self.summary)})

    @classmethod
    def load(cls, folder: Path) -> "Evaluation":
        """Read what `save` wrote.

        Raises:
            ArtefactError: a file is missing or unreadable.
        """
        folder = Path(folder)
        try:
            held = json.loads((folder / "summary.json").read_text(encoding="utf-8"))
            comparisons = json.loads((folder / "comparisons.json").read_text(encoding="utf-8"))
            facts = held["facts"]
            trained_in, chosen_in = facts.pop("trained_in"), facts.pop("chosen_in", {})
            summary = _numeric(pd.DataFrame(held["summary"]))
        except (OSError, ValueError, KeyError) as error:
            raise ArtefactError(f"{folder} holds no readable evaluation: {error}; evaluate again") from error
        return cls(
            outcomes=Outcomes.load(folder),
            summary=summary,
            comparisons=_numeric(pd.DataFrame(comparisons)),
            trained_in=trained_in,
            chosen_in=chosen_in,
            facts=facts,
        )


def find(
    outcomes: Outcomes,
    *,
    metric: str = "reward",
    references: Sequence[str] | None = None,
    trained_in: Mapping[str, str] | None = None,
    chosen_in: Mapping[str, Sequence[str]] | None = None,
    level: float = 0.95,
    resamples: int = 2_000,
    seed: int = 0,
) -> Evaluation:
    """Summarise outcomes, and hold policies against references.

    Args:
        outcomes: as judged, in one simulator or several.
        metric: compared; a name out of `METRICS`.
        references: whom every other policy is held against. By default trained policies are held against fixed ones
            and each other; where either kind is missing, all against the first.
        trained_in: policy -> name of the simulator that it was trained in, where known.
        chosen_in: policy -> names of the simulators whose shoppers chose its version or settings, where any did.
        level: of the intervals, in (0, 1).
        resamples: replicates behind each interval.
        seed: of their draws.

    Raises:
        EvidenceError: a reference was not judged, or policies met different shoppers.
    """
    names = outcomes.policies
    trained = set(outcomes.frame.loc[outcomes.frame["training_seed"] != FIXED, "policy"])
    compared: list[str] | None = None
    if references is None:
        fixed = [name for name in names if name not in trained]
        learnt = [name for name in names if name in trained]
        references, compared = ([*fixed, *learnt], learnt) if fixed and learnt else (names[:1], None)
    lost = [name for name in references if name not in names]
    if lost:
        raise EvidenceError(f"reference {lost[0]!r} was not judged; there are {names}")
    how = {"level": level, "resamples": resamples, "seed": seed}
    return Evaluation(
        outcomes=outcomes,
        summary=summarise(outcomes, **how),
        comparisons=compare_all(outcomes, references, metric, policies=compared, **how),
        trained_in=dict(trained_in or {}),
        chosen_in={policy: list(names) for policy, names in (chosen_in or {}).items()},
        facts={
            "metric": metric,
            "references": list(references),
            **how,
            "simulators": dict(outcomes.facts),
            "versions": package_versions(),
        },
    )


def _records(frame: pd.DataFrame) -> list[dict[str, Any]]:
    """Rows as JSON values; what is not finite becomes null, since JSON has no nan."""
    return [
        {name: None if isinstance(value, float) and not math.isfinite(value) else value for name, value in row.items()}
        for row in rows_of(frame)
    ]


def _numeric(frame: pd.DataFrame) -> pd.DataFrame:
    """Columns of figures as floats again, null as nan."""
    words = {"simulator", "policy", "reference", "metric"}
    whole = {"seeds", "reference_seeds", "shoppers"}
    kinds = {name: "int64" if name in whole else "float64" for name in frame.columns if name not in words}
    return frame.astype(kinds)
