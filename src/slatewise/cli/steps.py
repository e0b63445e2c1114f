"""The steps of the loop, folder to folder: what the commands and the demo both call.

Every step returns plain facts, leaves a finished folder of the same settings as it is, and resumes an unfinished one.
Sessions are split by time: the earlier part is learnt from, the latest `held_out` share only judges. Shoppers are split
in two halves: the agent's encoder learns from one, the simulated shopper's encoder from the other.
"""

import json
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pandas as pd

from ..datasets.artefact import artefact_id, read_config, write_json
from ..datasets.log import ShopLog
from ..errors import ArtefactError
from .console import Reporter

HELD_OUT = 0.2
"""Share of the sessions, the latest, that nothing learns from unless told to."""
SLATE_SIZE = 8
REWARD = "clicks_and_purchases"
TRAINED_IN = "fitted shopper"
"""What reports call the simulator that agents are trained in."""
ENVS = 64
"""Shoppers that an agent meets at a time while it trains."""
AGENT_HALF, SIMULATOR_HALF = 0, 1

Shoppers = Literal["agent", "simulator", "all"]


@dataclass(frozen=True)
class Selection:
    """Which sessions of a log a step reads: a part by time, and a half of the shoppers."""

    held_out: float = HELD_OUT
    part: Literal["train", "test", "all"] = "train"
    shoppers: Shoppers = "all"

    def of(self, log: ShopLog) -> ShopLog:
        """The sessions selected."""
        if self.part != "all" and self.held_out > 0:
            train, test = log.split_at(1 - self.held_out)
            log = train if self.part == "train" else test
        if self.shoppers == "all":
            return log
        return log.shopper_half(AGENT_HALF if self.shoppers == "agent" else SIMULATOR_HALF)

    def named(self, log_folder: Path) -> str:
        """The id recorded among a step's inputs: of the log, and of what was selected."""
        return f"{artefact_id(log_folder, 'log')}/{self.part}({self.held_out})/{self.shoppers}"


def facts_of(folder: Path, kind: str) -> dict[str, Any]:
    """The facts of a finished artefact."""
    return read_config(folder, kind)["slatewise_artefact"]["facts"]


def with_interval(row: Mapping[str, Any], digits: int = 3) -> str:
    """`0.123 [0.110, 0.136]`."""
    return f"{row['value']:.{digits}f} [{row['low']:.{digits}f}, {row['high']:.{digits}f}]"


def ingest_step(
    reporter: Reporter,
    paths: Sequence[Path],
    out: Path,
    *,
    source: str,
    catalogue: Path | None = None,
    mapping: Mapping[str, str] | None = None,
    settings: Mapping[str, Any] | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Read a log; `store` is the server's own database, exported to the event schema first."""
    from ..datasets.cleaning import IngestConfig
    from ..datasets.ingest import write_log

    config = IngestConfig(**(settings or {}))
    with tempfile.TemporaryDirectory() as scratch, reporter.step(f"reading {source}") as progress:
        if source == "store":
            from ..serving.store import EventStore

            if len(paths) != 1 or not paths[0].is_file():
                raise ArtefactError(f"source store takes one SQLite file, got {[str(path) for path in paths]}")
            exported = Path(scratch) / f"{paths[0].stem}.parquet"
            with EventStore(paths[0]) as store:
                store.export(exported)
            paths, source = [exported], "events"
        return write_log(
            paths,
            out,
            source=source,
            config=config,
            catalogue=catalogue,
            mapping=mapping,
            force=force,
            progress=progress,
        )


def pretrain_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    selection: Selection,
    settings: Mapping[str, Any] | None = None,
    text_model: str | None = None,
    force: bool = False,
    title: str = "pretraining the session encoder",
) -> dict[str, Any]:
    """Encode the item texts and pretrain a session encoder on a selection of a log."""
    from ..encoders import TextEncoder
    from ..encoders.pretrain import PretrainConfig, pretrain

    with reporter.step(title) as progress:
        pretrain(
            selection.of(ShopLog.load(log_folder)),
            out,
            config=PretrainConfig(**(settings or {})),
            text=TextEncoder(text_model),
            inputs={"log": selection.named(log_folder)},
            force=force,
            progress=progress,
        )
    return facts_of(out, "encoder")


def next_item_step(reporter: Reporter, log_folder: Path, encoder_folder: Path, held_out: float) -> list[dict[str, Any]]:
    """Recall and MRR of the next item on held-out sessions, beside rivals; kept in the encoder's folder."""
    from ..encoders import load_encoder
    from ..encoders.next_item import next_item_report

    path = encoder_folder / f"next_item_{held_out}.json"
    if not path.is_file():
        if held_out <= 0:
            return []
        log = ShopLog.load(log_folder)
        with reporter.step("foretelling the next item on held-out sessions"):
            train, test = Selection(held_out).of(log), Selection(held_out, "test").of(log)
            table = next_item_report(load_encoder(encoder_folder), train, test)
        write_json(path, table.to_dict("records"))
    return json.loads(path.read_text(encoding="utf-8"))


def fit_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    selection: Selection,
    encoder_folder: Path | None,
    settings: Mapping[str, Any] | None = None,
    text_model: str | None = None,
    force: bool = False,
    title: str = "fitting shoppers",
) -> dict[str, Any]:
    """Fit simulated shoppers on a selection of a log, with the encoder named, or by plain means of text vectors."""
    import torch

    from ..encoders import MeanEncoder, TextEncoder, load_encoder
    from ..simulators.fit import FitConfig, fit

    log = ShopLog.load(log_folder)
    inputs = {"log": selection.named(log_folder)}
    with reporter.step(title) as progress:
        if encoder_folder is None:
            vectors = TextEncoder(text_model).encode(log.catalogue.texts())
            encoder = MeanEncoder(torch.from_numpy(np.vstack([np.zeros_like(vectors[:1]), vectors])))
        else:
            encoder, inputs["encoder"] = load_encoder(encoder_folder), artefact_id(encoder_folder, "encoder")
        fit(
            selection.of(log),
            encoder,
            out,
            encoder_path=encoder_folder,
            config=FitConfig(**(settings or {})),
            inputs=inputs,
            force=force,
            progress=progress,
        )
    return facts_of(out, "shopper")


def fit_command(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder: Path | None,
    text_model: str | None,
    held_out: float,
    seed: int,
    priors: Mapping[str, Any],
    force: bool = False,
) -> dict[str, Any]:
    """`fit`, with an encoder of the shopper's own pretrained first where none is named.

    That encoder learns from the simulator's half of the shoppers, and the choices are fitted on the other half, which it
    has not seen: on its own half it would look more certain of what comes next than it is.
    """
    from ..simulators.priors import Priors

    if encoder is None:
        encoder = out.with_name(out.name + "-encoder")
        pretrain_step(
            reporter,
            log_folder,
            encoder,
            selection=Selection(held_out, shoppers="simulator"),
            settings={"seed": seed + 1},
            text_model=text_model,
            force=force,
            title="pretraining the shopper's own encoder",
        )
    return fit_step(
        reporter,
        log_folder,
        out,
        selection=Selection(held_out, shoppers="agent"),
        encoder_folder=encoder,
        settings={"seed": seed, "priors": Priors(**priors)},
        force=force,
    )


def train_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder_folder: Path,
    shopper_folder: Path,
    agent: str,
    k: int,
    steps: int,
    seeds: Sequence[int],
    reward: str = REWARD,
    force: bool = False,
) -> dict[str, Any]:
    """Train a slate agent, once for each seed, on simulated shoppers."""
    from ..agents import DQNConfig, PPOConfig, train
    from ..encoders import load_encoder
    from ..envs.sb3 import SB3Bridge
    from ..simulators.artefacts import load_shopper

    encoder, shopper = load_encoder(encoder_folder), load_shopper(shopper_folder)
    available = ShopLog.load(log_folder).catalogue.available
    parts = {"shopper": shopper, "encoder": encoder, "k": k, "reward": reward, "available": available}
    with reporter.step(f"training {agent}, {len(seeds)} seeds") as progress:
        train(
            lambda _seed: SB3Bridge.make(ENVS, **parts),
            out,
            config={"ppo": PPOConfig, "dqn": DQNConfig}[agent](),
            item_vectors=encoder.item_vectors,
            available=available,
            seeds=list(seeds),
            total_timesteps=steps,
            settings={"k": k, "reward": reward, "envs": ENVS},
            inputs={
                "log": artefact_id(log_folder, "log"),
                "encoder": artefact_id(encoder_folder, "encoder"),
                "shopper": artefact_id(shopper_folder, "shopper"),
            },
            force=force,
            progress=progress,
        )
    return facts_of(out, "agent")


def baselines(log: ShopLog, encoder: Any, shopper: Any, k: int, seed: int) -> dict[str, Any]:
    """The policies that every agent is held against, made from the training part of a log and a fitted shopper."""
    from ..agents import ItemKNNPolicy, MyopicPolicy, NextItemPolicy, PopularPolicy, RandomPolicy

    tokens, available, n = log.tokens, log.catalogue.available, log.catalogue.n_items
    policies = {
        "random": RandomPolicy(available, k, seed=seed),
        "popular": PopularPolicy.from_tokens(tokens, n, k, available),
        "item-kNN": ItemKNNPolicy.from_tokens(tokens, n, k, available),
        "next item": NextItemPolicy(encoder.item_vectors, k, available),
    }
    if hasattr(shopper, "choice_scores"):
        policies["myopic click"] = MyopicPolicy(shopper, k, "click", available)
        policies["myopic purchase"] = MyopicPolicy(shopper, k, "purchase", available)
    return policies


def evaluate_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder_folder: Path,
    shopper_folder: Path,
    agent_folders: Sequence[Path],
    judges: Mapping[str, Path],
    shoppers: int,
    k: int | None = None,
    reward: str = REWARD,
    held_out: float = HELD_OUT,
    seed: int = 0,
    force: bool = False,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Judge agents and baselines in the shoppers they were trained on and in the others named; write the report."""
    from ..agents import load_agents
    from ..encoders import load_encoder
    from ..evaluation import EvaluationConfig, evaluate, gather_extras
    from ..simulators.artefacts import load_shopper

    log = Selection(held_out).of(ShopLog.load(log_folder))
    encoder, shopper = load_encoder(encoder_folder), load_shopper(shopper_folder)
    agents = {folder.name: load_agents(folder) for folder in agent_folders}
    sizes = {one.k for agent in agents.values() for one in agent} | ({k} if k else set())
    if len(sizes) > 1:
        raise ArtefactError(f"agents fill slates of {sorted(sizes)} slots; judge those of one size at a time")
    k = sizes.pop() if sizes else SLATE_SIZE
    simulators = {TRAINED_IN: shopper, **{name: load_shopper(folder) for name, folder in judges.items()}}
    inputs = {name: artefact_id(folder, "shopper") for name, folder in judges.items()}
    inputs |= {folder.name: artefact_id(folder, "agent") for folder in agent_folders}
    inputs |= {"shopper": artefact_id(shopper_folder, "shopper"), "log": artefact_id(log_folder, "log")}
    trained_in = dict.fromkeys(agents, TRAINED_IN)
    next_item = next_item_step(reporter, log_folder, encoder_folder, held_out)
    extras = gather_extras(
        log=log_folder,
        shopper=shopper_folder if hasattr(shopper, "choice_scores") else None,
        agents={folder.name: folder for folder in agent_folders},
        next_item=pd.DataFrame(next_item) if next_item else None,
        shop=str(log_folder),
        notes=notes,
    )
    with reporter.step("judging every policy on the same shoppers") as progress:
        found = evaluate(
            {**baselines(log, encoder, shopper, k, seed), **agents},
            simulators,
            encoder,
            out,
            config=EvaluationConfig(shoppers=shoppers, seed=seed + 10_000, k=k, reward=reward),
            trained_in=trained_in,
            catalogue=log.catalogue,
            inputs={**inputs, "encoder": artefact_id(encoder_folder, "encoder")},
            extras=extras,
            progress=progress,
            force=force,
        )
    summary = found.summary.to_dict("records")
    return {"summary": summary, "comparisons": found.comparisons.to_dict("records"), "judged_by": found.primary}


def show_values(reporter: Reporter, out: Path) -> None:
    """The table of every policy's figures, and what the comparisons say."""
    from ..evaluation import Evaluation, as_rows, sentence

    found = Evaluation.load(out)
    for simulator in found.outcomes.simulators:
        said = " (agents were trained in it)" if simulator in found.trained_in.values() else ""
        columns, rows = as_rows(found.summary[found.summary["simulator"] == simulator])
        reporter.table(f"In the {simulator}{said}: mean [95 % interval]", columns, rows)
    primary = found.comparisons[found.comparisons["simulator"] == found.primary]
    for row in primary.to_dict("records"):
        reporter.tell(f"- {sentence({str(name): value for name, value in row.items()}, family=len(primary))}")


def show_evidence(reporter: Reporter, facts: Mapping[str, Any]) -> None:
    """What a fitted shopper learned from its log, what it assumes, and how well it foretells held-out slates."""
    rows = []
    for row in facts.get("evidence", []):
        value = f"{row['value']:.3g} [{row['low']:.3g}, {row['high']:.3g}]"
        rows.append((row["quantity"], f"{row['source']} ({row['evidence']})", value))
    reporter.table("What is known of the shoppers", ["quantity", "whence", "value [range]"], rows)
    held_out = facts.get("held_out") or []
    if held_out:
        reporter.table("On held-out slates", list(held_out[0]), [_cells(row) for row in held_out])


def _cells(row: Mapping[str, Any]) -> list[str]:
    return [f"{value:.4g}" if isinstance(value, float) else str(value) for value in row.values()]


def export_step(
    reporter: Reporter,
    agent_folder: Path,
    out: Path,
    *,
    log_folder: Path,
    encoder_folder: Path,
    seed: int | None = None,
    evaluation_folder: Path | None = None,
    histories: int = 1_000,
    force: bool = False,
) -> dict[str, Any]:
    """Write the bundle of an agent and check its slates against the trained policy's.

    Without `seed`, the training whose last episodes earned most: a choice that looks at no simulator that judges.
    """
    from ..serving.export import export_bundle

    if seed is None:
        learning = facts_of(agent_folder, "agent")["learning"]
        seed = int(max(learning, key=lambda one: learning[one]["reward"]))

    with reporter.step("exporting the policy") as progress:
        export_bundle(
            agent_folder,
            encoder_folder,
            log_folder,
            out,
            seed=seed,
            evaluation_folder=evaluation_folder,
            judged_as=agent_folder.name,
            histories=histories,
            force=force,
            progress=progress,
        )
    return facts_of(out, "bundle")
