"""The evaluation step: judge policies in one simulator or several, and write what was found as an artefact."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from ..datasets.artefact import building, is_finished
from ..datasets.catalogue import Catalogue
from ..encoders.state import StateEncoder
from ..envs.defaults import DEFAULT_K, DEFAULT_MAX_SLATES
from ..envs.rewards import RewardMix
from ..simulators.shopper import Shopper
from .findings import Evaluation, find
from .judge import Progress, SlatePolicy, judge, whole_session
from .metrics import metric_named
from .outcomes import Outcomes
from .report import Extras, write_report

KIND = "evaluation"
REPORT = "report.html"


@dataclass(frozen=True, kw_only=True)
class EvaluationConfig:
    """Settings of an evaluation."""

    shoppers: int = 2_000
    """Sessions for each policy in each simulator, at least 2."""
    seed: int = 0
    """Decides the shoppers and the resampling."""
    k: int = DEFAULT_K
    """Slots in a slate."""
    reward: RewardMix | str | Mapping[str, float] = "clicks_and_purchases"
    """What reward counts."""
    max_slates: int = DEFAULT_MAX_SLATES
    """Slates after which a session is cut."""
    batch: int = 512
    """Shoppers served at once; changes no result of a policy that draws nothing at random."""
    history_len: int | None = None
    """Tokens in the histories that policies see; by default enough for whole sessions."""
    deterministic: bool = True
    """Whether policies act greedily, or draw as in training."""
    metric: str = "reward"
    """What policies are compared by."""
    references: Sequence[str] | None = None
    """Whom the others are held against; see `find`."""
    level: float = 0.95
    """Of the intervals, in (0, 1)."""
    resamples: int = 2_000
    """Replicates behind each interval, at least 100."""

    def __post_init__(self) -> None:
        metric_named(self.metric)
        RewardMix.of(self.reward)
        if self.shoppers < 2:
            raise ValueError(f"an interval needs at least 2 shoppers, got shoppers={self.shoppers}")
        if not 0 < self.level < 1:
            raise ValueError(f"level must be in (0, 1), got {self.level}")
        if self.resamples < 100:
            raise ValueError(f"an interval needs at least 100 resamples, got {self.resamples}")

    def settings(self) -> dict[str, Any]:
        """Plain values of all that decides a result; `batch` does not."""
        tokens = whole_session(self.max_slates) if self.history_len is None else self.history_len
        values = asdict(replace(self, reward=RewardMix.of(self.reward), history_len=tokens))
        del values["batch"]
        return values


def evaluate(
    policies: Mapping[str, SlatePolicy | Sequence[SlatePolicy]],
    shoppers: Mapping[str, Shopper],
    encoder: StateEncoder,
    out: Path,
    *,
    config: EvaluationConfig | None = None,
    trained_in: Mapping[str, str] | None = None,
    chosen_in: Mapping[str, Sequence[str]] | None = None,
    catalogue: Catalogue | None = None,
    inputs: Mapping[str, str] | None = None,
    extras: Extras | None = None,
    progress: Progress | None = None,
    force: bool = False,
) -> Evaluation:
    """Judge policies and write the artefact: outcomes, summary, comparisons, and the report as a page.

    A killed run goes on where it was; a finished folder with the same settings, policies and inputs is read back.

    Args:
        policies: name -> a fixed policy, or a sequence of one learner's trainings; see `judge`.
        shoppers: name -> simulator that judges. Name one as in `trained_in` where a policy was trained in it.
        encoder: what the policies' observations are made with.
        out: folder of the artefact.
        config: settings.
        trained_in: policy -> name of the simulator that it was trained in.
        chosen_in: policy -> names of the simulators whose shoppers stopped its training, or chose its settings.
        catalogue: of the shop: which items may be shown, their categories and names.
        inputs: name -> id of the artefacts read; policies are told apart by these ids, not by their weights.
        extras: what else the report tells.
        progress: told (sessions ended, of all simulators, words).
        force: judge anew over a finished folder.

    Raises:
        ArtefactError: `out` holds something else, or other settings, and `force` is not set.
        EvidenceError: there is no policy or simulator, or a reference was not judged.
        ValueError: a policy fills slates of another length.
    """
    config, out = config or EvaluationConfig(), Path(out)
    trainings = {name: len(one) if isinstance(one, Sequence) else 0 for name, one in policies.items()}
    named = {"policies": trainings, "simulators": list(shoppers), "trained_in": dict(trained_in or {})}
    settings = {**config.settings(), **named, **({"chosen_in": dict(chosen_in)} if chosen_in else {})}
    if not force and is_finished(out, KIND, settings, dict(inputs or {})):
        return Evaluation.load(out)
    with building(out, KIND, settings, inputs, force=force) as draft:
        folder = draft.folder / "judged"
        parts = []
        for number, (name, shopper) in enumerate(shoppers.items()):
            told = _told(progress, number, len(shoppers))
            parts.append(_judged(policies, name, shopper, encoder, config, catalogue, told, folder))
        found = find(
            Outcomes.joined(parts),
            metric=config.metric,
            references=config.references,
            trained_in=trained_in,
            chosen_in=chosen_in,
            level=config.level,
            resamples=config.resamples,
            seed=config.seed,
        )
        found.save(draft.folder)
        extras = extras or Extras()
        if extras.catalogue is None and catalogue is not None:
            extras = replace(extras, catalogue=catalogue.frame)
        write_report(draft.folder / REPORT, found, extras)
        draft.facts.update({"primary": found.primary, "flattered": found.flattered, "report": REPORT})
        _clear(folder)
    return found


def _judged(
    policies: Mapping[str, SlatePolicy | Sequence[SlatePolicy]],
    name: str,
    shopper: Shopper,
    encoder: StateEncoder,
    config: EvaluationConfig,
    catalogue: Catalogue | None,
    progress: Progress | None,
    folder: Path,
) -> Outcomes:
    """Outcomes in one simulator; the seed is the same for all, so that simulators of one family see like shoppers."""
    categories = available = None
    if catalogue is not None:
        available = catalogue.available
        numbers, _ = catalogue.frame["category"].factorize()
        categories = np.concatenate([[0], numbers + 1]).astype(np.int64)
    return judge(
        policies,
        shopper,
        encoder,
        shoppers=config.shoppers,
        seed=config.seed,
        k=config.k,
        reward=config.reward,
        max_slates=config.max_slates,
        batch=config.batch,
        history_len=config.history_len,
        available=available,
        categories=categories,
        deterministic=config.deterministic,
        shopper_name=name,
        progress=progress,
        folder=folder,
    )


def _told(progress: Progress | None, number: int, simulators: int) -> Progress | None:
    if progress is None:
        return None
    return lambda done, total, words: progress(number * total + done, simulators * total, words)


def _clear(folder: Path) -> None:
    """Remove what only a resumed run would read."""
    for part in folder.iterdir():
        for path in part.iterdir():
            path.unlink()
        part.rmdir()
    folder.rmdir()
