"""The steps that judge agents and ship them: `evaluate` and `export`."""

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pandas as pd

from ..datasets.artefact import fingerprint, read_config
from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from ..datasets.rules import SlateRules
from ..errors import ArtefactError, EvidenceError
from .console import Reporter, checked
from .encoding import next_item_step
from .inputs import HELD_OUT, Selection, check_items, check_same_items, facts_of, id_of
from .learners import OFFLINE, rules_of
from .showing import chosen_training
from .steps import REWARD, SLATE_SIZE, TRAINED_IN, check_slate_size
from .training import TUNED_BY, all_members

FROM_LOG = "the log alone"
"""What reports say of agents that were trained in no simulator."""
BASELINES = (
    *("random", "popular", "item-kNN", "next item", "last item", "logged slates", "contextual bandit"),
    *("myopic click", "myopic purchase"),
)
"""Names of the policies that `baselines` makes."""


def baselines(log: ShopLog, encoder: Any, shopper: Any, k: int, seed: int) -> dict[str, Any]:
    """The policies that every agent is held against, made from the training part of a log and a fitted shopper.

    The contextual bandit has learnt clicks from the log's slates, and no longer tries what it does not know.
    """
    from ..agents import (
        ItemKNNPolicy,
        LastItemPolicy,
        LinUCBPolicy,
        LoggedPolicy,
        LoggedSlates,
        MyopicPolicy,
        NextItemPolicy,
        PopularPolicy,
        RandomPolicy,
    )

    tokens, available, n = log.tokens, log.catalogue.available, log.catalogue.n_items
    policies = {
        "random": RandomPolicy(available, k, seed=seed),
        "popular": PopularPolicy.from_tokens(tokens, n, k, available),
        "item-kNN": ItemKNNPolicy.from_tokens(tokens, n, k, available),
        "next item": NextItemPolicy(encoder.item_vectors, k, available),
        "last item": LastItemPolicy(encoder.item_vectors, k, available),
    }
    if len(log.slates):
        with suppress(EvidenceError):  # shorter slates than asked for, or none whose items are still there
            policies["logged slates"] = LoggedPolicy.from_slates(log.slates, k, available, seed=seed)
        bandit, shown = LinUCBPolicy(encoder.item_vectors, k, available, alpha=0.0), LoggedSlates.from_log(log, encoder)
        bandit.update(shown.states, shown.slates, shown.clicked)
        policies["contextual bandit"] = bandit
    if hasattr(shopper, "choice_scores"):
        policies["myopic click"] = MyopicPolicy(shopper, k, "click", available)
        policies["myopic purchase"] = MyopicPolicy(shopper, k, "purchase", available)
    return policies


def name_of(folder: Path) -> str:
    """What reports call the agent in a folder: the folder's own name."""
    return Path(os.path.abspath(folder)).name


def _named_once(agents: Sequence[Path], judges: Mapping[str, Path]) -> dict[str, Path]:
    """Agents by name.

    Raises:
        typer.BadParameter: a name means two things.
    """
    with checked():
        named: dict[str, Path] = {}
        for folder in agents:
            name = name_of(folder)
            if name in named or name in BASELINES:
                what = named.get(name, "a baseline")
                raise ValueError(f"{folder} and {what} would both be called {name!r}; rename the folder")
            named[name] = folder
        if TRAINED_IN in judges:
            raise ValueError(f"--judge {TRAINED_IN!r} is the name of what --shopper gives; choose another name")
    return named


def _check_learnt_with(agent: Path, encoder: Path, shopper: Path) -> None:
    """See that an agent is judged with what it learnt with.

    Raises:
        ArtefactError: it learnt with another encoder, or on other shoppers.
    """
    learnt_with = read_config(agent, "agent")["slatewise_artefact"]["inputs"]
    ours, theirs = id_of(encoder, "encoder"), id_of(shopper, "shopper")
    if learnt_with.get("encoder", ours) != ours:
        raise ArtefactError(f"{agent} learnt with another encoder than {encoder}; give that one as --encoder")
    if learnt_with.get("shopper", theirs) != theirs:
        raise ArtefactError(
            f"{agent} learnt on other shoppers than {shopper}; give those as --shopper, and {shopper} as a --judge"
        )


def _ruled(policies: Mapping[str, Any], rules: SlateRules, catalogue: Catalogue, encoder: Any) -> dict[str, Any]:
    """Policies whose slates keep rules; those that give no scores are left out.

    Raises:
        typer.BadParameter: the rules name what the catalogue lacks, or leave too few items.
    """
    from ..agents import RuledPolicy

    def one(policy: Any) -> Any:
        return RuledPolicy(policy, rules, catalogue, encoder.item_vectors.detach().cpu())

    with checked():
        return {
            name: [one(training) for training in policy] if isinstance(policy, list) else one(policy)
            for name, policy in policies.items()
            if isinstance(policy, list) or hasattr(policy, "scores")
        }


def _told(rules: SlateRules) -> str:
    return ", ".join(f"{name} {value}" for name, value in rules.to_dict().items())


def _chosen_in(agents: Mapping[str, Path], judges: Mapping[str, Path]) -> dict[str, list[str]]:
    """Agent -> the judges whose shoppers chose its version as it trained, or its settings before, if any of these."""
    ids = {judge: id_of(place, "shopper") for judge, place in judges.items()}
    found: dict[str, list[str]] = {}
    for name, folder in agents.items():
        inputs = read_config(folder, "agent")["slatewise_artefact"]["inputs"]
        chose = {inputs.get("judge"), inputs.get(TUNED_BY)}
        its = [judge for judge, one in ids.items() if one in chose]
        found |= {name: its} if its else {}
    return found


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
    rules: Path | None = None,
    held_out: float = HELD_OUT,
    seed: int = 0,
    force: bool = False,
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """Judge agents and baselines in the shoppers they were trained on and in the others named; write the report."""
    folders = _named_once(agent_folders, judges)
    inputs = {name: id_of(folder, "shopper") for name, folder in judges.items()}
    inputs |= {name: id_of(folder, "agent") for name, folder in folders.items()}
    inputs |= {"shopper": id_of(shopper_folder, "shopper"), "log": id_of(log_folder, "log")}
    inputs["encoder"] = id_of(encoder_folder, "encoder")
    shoppers_of = [(folder, "shopper") for folder in (shopper_folder, *judges.values())]
    check_same_items(log_folder, (encoder_folder, "encoder"), *shoppers_of)
    for folder in agent_folders:
        _check_learnt_with(folder, encoder_folder, shopper_folder)
    from ..agents import load_agents
    from ..encoders import load_encoder
    from ..evaluation import EvaluationConfig, evaluate, gather_extras
    from ..simulators.artefacts import load_shopper

    log = Selection(held_out).of(ShopLog.load(log_folder))
    encoder, shopper = load_encoder(encoder_folder), load_shopper(shopper_folder)
    agents = {name: load_agents(folder) for name, folder in folders.items()}
    sizes = {one.k for agent in agents.values() for one in agent} | ({k} if k else set())
    with checked():
        if len(sizes) > 1:
            raise ValueError(f"slates of {sorted(sizes)} slots are asked for; judge agents of one size at a time")
        k = sizes.pop() if sizes else SLATE_SIZE
        check_slate_size(k, log.catalogue.available)
        config = EvaluationConfig(shoppers=shoppers, seed=seed + 10_000, k=k, reward=reward)
    policies: dict[str, Any] = {**baselines(log, encoder, shopper, k, seed), **agents}
    if rules is not None:
        kept = rules_of(rules)
        inputs["rules"] = fingerprint(kept.to_dict())
        policies = _ruled(policies, kept, log.catalogue, encoder)
        notes = [*notes, f"All policies kept rules: {_told(kept)}. No policy has learnt them."]
    judging = {TRAINED_IN: shopper, **{name: load_shopper(folder) for name, folder in judges.items()}}
    # A judge with an ensemble judges by all of it, so that intervals tell what its log leaves open.
    simulators = {name: all_members(one) for name, one in judging.items()}
    check_items(log.catalogue.n_items, encoder=encoder.n_items, **{n: one.n_items for n, one in simulators.items()})
    trained_in = {
        name: FROM_LOG if read_config(folder, "agent")["algorithm"] in OFFLINE else TRAINED_IN
        for name, folder in folders.items()
    }
    chosen_in = _chosen_in(folders, judges)
    for policy, chose in chosen_in.items():
        reporter.say(
            f"{policy}: shoppers of {' and '.join(map(repr, chose))} chose its version or its settings. Others of it "
            "judge now, but it is no independent judge; give one that neither trained nor chose as a further --judge"
        )
    next_item = next_item_step(reporter, log_folder, encoder_folder, held_out)
    extras = gather_extras(
        log=log_folder,
        shopper=shopper_folder if hasattr(shopper, "choice_scores") else None,
        agents=folders,
        next_item=pd.DataFrame(next_item) if next_item else None,
        shop=str(log_folder),
        notes=notes,
    )
    with reporter.step("judging every policy on the same shoppers") as progress:
        found = evaluate(
            policies,
            simulators,
            encoder,
            out,
            config=config,
            trained_in=trained_in,
            chosen_in=chosen_in,
            catalogue=log.catalogue,
            inputs=inputs,
            extras=extras,
            progress=progress,
            force=force,
        )
    summary = found.summary.to_dict("records")
    return {"summary": summary, "comparisons": found.comparisons.to_dict("records"), "judged_by": found.primary}


def export_step(
    reporter: Reporter,
    agent_folder: Path,
    out: Path,
    *,
    log_folder: Path,
    encoder_folder: Path,
    seed: int | None = None,
    evaluation_folder: Path | None = None,
    rules: Path | None = None,
    histories: int = 1_000,
    force: bool = False,
) -> dict[str, Any]:
    """Write the bundle of an agent and check its slates against the trained policy's.

    Without `seed`, the training that validation shoppers value highest or, where none valued it, whose last episodes
    earned most: a choice that looks at no simulator that judges.
    """
    check_same_items(log_folder, (agent_folder, "agent"), (encoder_folder, "encoder"))
    if evaluation_folder is not None:
        id_of(evaluation_folder, "evaluation")
    learning = facts_of(agent_folder, "agent")["learning"]
    if seed is None:
        seed = int(chosen_training(learning))
    with checked():
        if str(seed) not in learning:
            raise ValueError(f"{agent_folder} holds trainings with the seeds {', '.join(learning)}; got {seed}")
        kept = None if rules is None else rules_of(rules)
        if kept is not None:
            catalogue = Catalogue.load(log_folder / "catalogue.parquet")
            k = read_config(agent_folder, "agent")["k"]
            kept.check(catalogue, k, kept.allowed(catalogue) & catalogue.available)
    from ..serving.export import export_bundle

    with reporter.step("exporting the policy") as progress:
        export_bundle(
            agent_folder,
            encoder_folder,
            log_folder,
            out,
            seed=seed,
            evaluation_folder=evaluation_folder,
            judged_as=name_of(agent_folder),
            rules=kept,
            histories=histories,
            force=force,
            progress=progress,
        )
    return facts_of(out, "bundle")
