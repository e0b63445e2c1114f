"""`slatewise demo`: every step of the loop, one after the other, on the known-truth shop or on a real log."""

import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ..datasets.artefact import artefact_id, building, is_finished
from . import steps
from .console import Reporter
from .encoding import Transfer, next_item_step, pretrain_step
from .inputs import HELD_OUT, Selection
from .judging import evaluate_step, export_step
from .showing import show_evidence, show_next_item, show_values
from .training import train_step

if TYPE_CHECKING:
    from ..evaluation import Evaluation

AGAIN = 0.5
"""Chance that the made-up shop shows the slate before once more: without it the log tells little of how shoppers tire,
and fitted shoppers flatter policies that show the same again and again."""
TRUTH, LATER = "truth", "boosted later shoppers"
"""What reports call the simulators that no agent was trained in."""


@dataclass(frozen=True, kw_only=True)
class DemoSize:
    """How much the demo does."""

    n_items: int = 1_000
    sessions: int = 12_000
    epochs: int = 10
    train_steps: int = 50_000
    trainings: int = 5
    shoppers: int = 2_000
    histories: int = 1_000


QUICK = DemoSize(n_items=200, sessions=2_000, epochs=3, train_steps=8_192, trainings=3, shoppers=200, histories=100)


def run_demo(
    reporter: Reporter,
    out: Path,
    *,
    source: str | None,
    path: Path | None,
    quick: bool,
    text_model: str | None,
    seed: int,
    force: bool,
) -> dict[str, Any]:
    """Run the loop into `out`; finished steps are kept, an unfinished one is resumed.

    Returns:
        What was found, as plain values: values and comparisons of every policy, next-item figures, the fitted shopper's
        held-out likelihood, where report and bundle lie, seconds by step.
    """
    size = QUICK if quick else DemoSize()
    clock = _Clock()
    log, shopper, encoder = out / "log", out / "shopper", out / "encoder"
    if source is None:
        known_log_step(reporter, log, out / "truth", size, seed, force)
        judges = {TRUTH: out / "truth"}
    else:
        assert path is not None
        steps.ingest_step(reporter, [path], log, source=source, force=force)
        judges = {LATER: out / "later-shopper"}
    clock.lap("log")
    pretrain_step(
        reporter,
        log,
        encoder,
        selection=Selection(shoppers="agent"),
        settings={"epochs": size.epochs, "seed": seed},
        transfer=Transfer(text_model=text_model),
        force=force,
        title="pretraining the agent's session encoder",
    )
    clock.lap("agent's encoder")
    pretrain_step(
        reporter,
        log,
        out / "shopper-encoder",
        selection=Selection(shoppers="simulator"),
        settings={"epochs": size.epochs, "seed": seed + 1},
        transfer=Transfer(text_model=text_model),
        force=force,
        title="pretraining the shopper's own encoder",
    )
    clock.lap("shopper's encoder")
    fitted = steps.fit_step(
        reporter,
        log,
        shopper,
        selection=Selection(shoppers="agent"),
        encoder_folder=out / "shopper-encoder",
        settings={"seed": seed},
        force=force,
    )
    if source is not None:
        steps.fit_step(
            reporter,
            log,
            judges[LATER],
            selection=Selection(part="test"),
            encoder_folder=None,
            family="boosted",
            settings={"seed": seed, "held_out": 0.0},
            force=force,
            title="fitting boosted shoppers, who judge, on the later sessions",
        )
    show_evidence(reporter, fitted)
    clock.lap("fit")
    for agent in ("ppo", "dqn"):
        train_step(
            reporter,
            log,
            out / agent,
            encoder_folder=encoder,
            shopper_folder=shopper,
            agent=agent,
            k=steps.SLATE_SIZE,
            steps=size.train_steps,
            seeds=range(seed, seed + size.trainings),
            force=force,
        )
        clock.lap(agent)
    found = evaluate_step(
        reporter,
        log,
        out / "evaluation",
        encoder_folder=encoder,
        shopper_folder=shopper,
        agent_folders=[out / "ppo", out / "dqn"],
        judges=judges,
        shoppers=size.shoppers,
        seed=seed,
        force=force,
        notes=_notes(source),
    )
    clock.lap("evaluation")
    best = best_agent(found["summary"], ("ppo", "dqn"))
    bundle = export_step(
        reporter,
        out / best,
        out / "bundle",
        log_folder=log,
        encoder_folder=encoder,
        evaluation_folder=out / "evaluation",
        histories=size.histories,
        force=force,
    )
    clock.lap("export")
    next_item = next_item_step(reporter, log, encoder, HELD_OUT)
    _tell(reporter, out, next_item, best, bundle)
    return {
        "out": str(out),
        "report": str(out / "evaluation" / "report.html"),
        "bundle": str(out / "bundle"),
        "exported": best,
        "seed": seed,
        "size": asdict(size),
        "next_item": next_item,
        "held_out": fitted.get("held_out"),
        "evidence": fitted.get("evidence"),
        **found,
        "parity": bundle["parity"],
        "seconds": clock.laps,
    }


class _Clock:
    """Seconds each step took."""

    def __init__(self) -> None:
        self.laps: dict[str, float] = {}
        self._last = time.monotonic()

    def lap(self, name: str) -> None:
        now = time.monotonic()
        self.laps[name], self._last = round(now - self._last, 1), now


def known_log_step(reporter: Reporter, log: Path, truth: Path, size: DemoSize, seed: int, force: bool) -> None:
    """Make the known-truth shop, and the log its shoppers left behind under a logging policy."""
    from ..datasets.known_shop import KnownShop, KnownShopConfig
    from ..simulators.artefacts import save_known_truth
    from ..simulators.collect import collect_log
    from ..simulators.known_truth import KnownTruthShopper

    config = KnownShopConfig(n_items=size.n_items, seed=seed)
    shown = {"sessions": size.sessions, "k": steps.SLATE_SIZE, "again": AGAIN}
    settings = {"shop": asdict(config), **shown, "seed": seed + 1}
    if not force and is_finished(log, "log", settings, {}) and artefact_id(truth, "shopper"):
        return
    with reporter.step("opening the known-truth shop and keeping its log") as progress:
        shop = KnownShop.make(config)
        save_known_truth(shop, truth, force=True)
        with building(log, "log", settings, force=force) as draft:
            kept = collect_log(
                KnownTruthShopper(shop),
                shop.catalogue,
                sessions=size.sessions,
                k=steps.SLATE_SIZE,
                again=AGAIN,
                seed=seed + 1,
                progress=progress,
            )
            kept.save(draft.folder)
            draft.facts |= {**kept.facts, "sessions": len(kept), "items": kept.catalogue.n_items}


def best_agent(summary: list[dict[str, Any]], agents: tuple[str, ...]) -> str:
    """The agent that earns most where it was trained: the choice must not look at the simulators that judge."""
    value = {
        row["policy"]: row["mean"]
        for row in summary
        if row["metric"] == "reward" and row["simulator"] == steps.TRAINED_IN and row["policy"] in agents
    }
    return max(value, key=lambda name: value[name])


def _notes(source: str | None) -> list[str]:
    if source is None:
        return [
            "The truth is the made-up shop itself; no agent, encoder or fitted shopper saw more of it than its log. "
            "The learners' default settings were tuned on shops of this kind, which favours them here."
        ]
    return [
        f"'{LATER}' are a simulator too, of another family than the one that taught: boosted trees over columns "
        "counted by hand, with no encoder, fitted on the later sessions of the same log. Intervals cover shoppers and "
        "trainings, not what a fit on few clicks gets wrong; above all, neither fit has seen slates unlike the shop's "
        "own, such as random ones."
    ]


def _warning(found: "Evaluation", best: str) -> str:
    """Whether a baseline earned more than the agent exported, where no agent was trained."""
    rows = found.summary[(found.summary["metric"] == "reward") & (found.summary["simulator"] == found.primary)]
    earned = {str(row["policy"]): float(row["mean"]) for row in rows.to_dict("records")}
    top = max((name for name in earned if name not in found.trained), key=lambda name: earned[name])
    if earned[top] <= earned[best]:
        return f"in the {found.primary}, {best} earned more than every baseline ({earned[best]:.2f} a session)"
    return (
        f"note: in the {found.primary}, the baseline '{top}' earned more than {best}, which is exported "
        f"({earned[top]:.2f} against {earned[best]:.2f} a session): do not put {best} live before it beats it"
    )


def _tell(
    reporter: Reporter,
    out: Path,
    next_item: list[dict[str, Any]],
    best: str,
    bundle: Mapping[str, Any],
) -> None:
    from ..evaluation import Evaluation, headline_figure

    show_next_item(reporter, next_item)
    show_values(reporter, out / "evaluation")
    found = Evaluation.load(out / "evaluation")
    headline_figure(out / "demo.png", found.summary)
    reporter.tell(_warning(found, best))
    parity = bundle["parity"]
    reporter.tell(
        f"\nreport:  {out / 'evaluation' / 'report.html'}\npicture: {out / 'demo.png'}\n"
        f"bundle:  {out / 'bundle'} ({best}; {parity['equal']:,} of {parity['histories']:,} served slates equal the "
        f"trained policy's)\nserve it: slatewise serve {out / 'bundle'} --store {out / 'events.db'}"
    )
