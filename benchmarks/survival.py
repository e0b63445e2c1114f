"""How much of what a policy gains where it was trained is left where it was not.

Gains are over a reference, on the same shoppers; intervals are those of `slatewise.evaluation.intervals`, over shoppers
and training seeds. Replicates of two simulators are paired by row, so that a share's interval holds what both vary by.

Shapes: R replicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from slatewise.evaluation import Outcomes
from slatewise.evaluation.intervals import Resampled, resample

Floats = NDArray[np.float64]
Figure = tuple[float, float, float]
"""A figure with the ends of its 95 % interval; nan where it cannot be told."""
UNKNOWN: Figure = (float("nan"), float("nan"), float("nan"))


@dataclass(frozen=True)
class Survival:
    """Figures of every policy in several simulators.

    Attributes:
        found: simulator -> policy -> replicates of what it earns a session.
        teacher: the simulator that agents were trained in. reference: the policy that gains are over.
        cloned: the policy by whose drop drops are measured, which was trained in no simulator.
    """

    found: dict[str, dict[str, Resampled]]
    teacher: str
    reference: str
    cloned: str

    @classmethod
    def of(cls, outcomes: Outcomes, teacher: str, reference: str, cloned: str, metric: str = "reward") -> "Survival":
        """Resample outcomes."""
        found = {name: resample(outcomes.within(name), [metric])[0] for name in outcomes.simulators}
        return cls(found, teacher, reference, cloned)

    @property
    def policies(self) -> list[str]:
        """Judged in the simulator that trained."""
        return list(self.found[self.teacher])

    def _of(self, simulator: str, policy: str) -> tuple[float, Floats]:
        one = self.found[simulator][policy]
        return float(one.value[0]), one.draws[:, 0]

    def value(self, simulator: str, policy: str) -> Figure:
        """What the policy earns a session."""
        return _figure(*self._of(simulator, policy))

    def gain(self, simulator: str, policy: str) -> Figure:
        """What it earns more than the reference."""
        (mine, draws), (theirs, others) = self._of(simulator, policy), self._of(simulator, self.reference)
        return _figure(mine - theirs, draws - others)

    def share(self, simulator: str, policy: str) -> Figure:
        """The gain in a simulator over the gain where it was trained; unknown where that is not certainly a gain."""
        if policy == self.reference or not self.gain(self.teacher, policy)[1] > 0:
            return UNKNOWN
        parts = []
        for one in (simulator, self.teacher):
            (mine, draws), (theirs, others) = self._of(one, policy), self._of(one, self.reference)
            parts.append((mine - theirs, draws - others))
        (here, many), (there, most) = parts
        worth = most > 0
        return _figure(here / there, many[worth] / most[worth])

    def kept(self, simulator: str, policy: str) -> Figure:
        """Value here over value where it was trained, over the same of the cloned policy: 1 is a drop no larger."""
        (mine, draws), (theirs, others) = (self._level(simulator, name) for name in (policy, self.cloned))
        known = np.isfinite(draws) & np.isfinite(others)
        return _figure(mine / theirs, draws[known] / others[known]) if known.any() else UNKNOWN

    def _level(self, simulator: str, policy: str) -> tuple[float, Floats]:
        """Value here over value where it was trained; nan in replicates in which either is not positive."""
        (here, many), (there, most) = self._of(simulator, policy), self._of(self.teacher, policy)
        worth = (many > 0) & (most > 0)
        return here / there, np.divide(many, most, out=np.full_like(many, np.nan), where=worth)

    def rows(self, simulators: Sequence[str]) -> list[dict[str, Any]]:
        """All of it, a row a policy."""
        found = []
        for policy in self.policies:
            row: dict[str, Any] = {"policy": policy, "trainings": self.found[self.teacher][policy].seeds}
            for one in simulators:
                row[f"{one}"] = self.value(one, policy)
                row[f"{one}_gain"] = self.gain(one, policy)
                if one != self.teacher:
                    row[f"{one}_share"] = self.share(one, policy)
                    row[f"{one}_kept"] = self.kept(one, policy)
            found.append(row)
        return found


def _figure(value: float, draws: Floats) -> Figure:
    low, high = np.quantile(draws, [0.025, 0.975])
    return value, float(low), float(high)


def told(figure: Figure, form: str = ".2f") -> str:
    """For people: the figure, and its interval."""
    value, low, high = figure
    return "-" if not np.isfinite(value) else f"{value:{form}} [{low:{form}}, {high:{form}}]"


def by_training(outcomes: Outcomes, simulator: str) -> dict[tuple[str, int], float]:
    """(policy, training) -> mean reward a session."""
    keys = ["policy", "training_seed"]
    means = outcomes.within(simulator).groupby(keys, sort=False)["reward"].mean()
    return {(str(name), int(seed)): float(value) for (name, seed), value in means.items()}  # pyright: ignore[reportGeneralTypeIssues]


def plain(value: Any) -> Any:
    """The same for JSON, which has no nan: null in its place."""
    if isinstance(value, dict):
        return {name: plain(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [plain(one) for one in value]
    return None if isinstance(value, float) and not np.isfinite(value) else value
