"""From a trained encoder and scorer to a bundle: what it needs, checked against what was trained.

Shapes: B histories, N items, D width of the state, K places.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Literal

import pyarrow.parquet as pq
import torch
from torch import Tensor, nn

from ..agents.artefact import load_agent
from ..agents.rules import RuledPolicy
from ..datasets.artefact import artefact_id, building, fingerprint, is_finished, read_config
from ..datasets.log import ShopLog
from ..datasets.rules import SlateRules
from ..datasets.tokens import Floats
from ..encoders.loading import load_encoder
from ..encoders.state import StateEncoder
from ..errors import ArtefactError, BundleError, EvidenceError
from .bundle import POLICY, Bundle, seal, write_parts
from .card import model_card
from .graph import OPSET, export_policy
from .parity import Predict, compare, held_out_histories
from .runtime import Runtime

Progress = Callable[[int, int, str], None]


def write_bundle(
    out: str | Path,
    encoder: StateEncoder,
    scorer: nn.Module,
    log: ShopLog,
    *,
    k: int,
    predict: Predict | None = None,
    rules: SlateRules | None = None,
    settings: Mapping[str, Any],
    inputs: Mapping[str, str],
    training: Mapping[str, Any] | None = None,
    evaluation: Mapping[str, Any] | None = None,
    histories: int = 1_000,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """Write a bundle of an encoder and a scorer at hand, and check that it shows the slates that they show.

    A bundle already finished with the same settings and inputs is read back.

    Args:
        out: folder of the bundle.
        encoder: history -> state, on the CPU.
        scorer: (B, D) state -> (B, N + 1) scores whose top `k` is the greedy slate.
        log: whose catalogue is served, and whose latest sessions are the histories to check.
        k: places of a slate.
        predict: the trained policy; the scorer's top `k` by default.
        rules: kept by the runtime as it fills slots by the scores. Scorer and policy must be those of a `RuledPolicy`.
        settings: of the artefact.
        inputs: name -> id of the artefacts that it was made from.
        training: facts for `bundle.json` and the model card.
        evaluation: facts for the same.
        histories: how many to check.
        force: replace a finished bundle.
        progress: told what is done.

    Raises:
        ArtefactError: `out` holds something else, or other settings, and `force` is not set.
        BundleError: encoder, scorer and catalogue do not fit, or the bundle's slates are not the trained policy's.
    """
    told = progress or (lambda *_: None)
    catalogue, limit = log.catalogue, getattr(encoder, "reach", 50)
    if encoder.n_items != catalogue.n_items:
        raise BundleError(
            f"the encoder knows {encoder.n_items} items, the log {catalogue.n_items}; use the log it learnt from"
        )
    if not force and is_finished(Path(out), "bundle", settings, inputs):
        return Bundle.load(out)
    sizes = {"k": k, "history_limit": limit, "n_items": catalogue.n_items, "dim": encoder.dim}
    with building(Path(out), "bundle", settings, inputs, force=force) as draft:
        told(0, 3, "exporting the policy")
        difference = export_policy(encoder, scorer, draft.folder / POLICY, history_limit=limit)
        vectors = encoder.item_vectors.detach().numpy()
        write_parts(draft.folder, catalogue, vectors)
        told(1, 3, "comparing slates with the trained policy's")
        kept = {} if rules is None else {"rules": rules.to_dict()}
        runtime = Runtime(Bundle(draft.folder, "", {"policy": sizes, **kept}, catalogue, vectors))
        sample, held_out = held_out_histories(log, histories, last=limit)
        report = compare(
            runtime,
            encoder,
            lambda states: scored(scorer, states).numpy(),
            predict or (lambda states: scored(scorer, states).topk(k, dim=1).indices.numpy()),
            sample,
            held_out=held_out,
        )
        if report.different:
            raise BundleError(
                f"{report.different} of {report.histories} slates are not the trained policy's, first "
                f"{report.first_difference}; was the agent trained with this encoder and this log?"
            )
        told(2, 3, "sealing")
        facts = {
            **kept,
            "training": dict(training or {}),
            "evaluation": dict(evaluation) if evaluation else None,
            "parity": report.record(),
            "export": {"opset": OPSET, "max_abs_difference": difference},
        }
        card = model_card({"policy": sizes, **facts}, catalogue)
        (draft.folder / "README.md").write_text(card, encoding="utf-8")
        sealed = seal(draft.folder, **sizes, facts=facts)
        draft.facts |= {"bundle_sha256": sealed, "parity": report.record(), "max_abs_difference": difference}
    told(3, 3, "done")
    return Bundle.load(out)


@torch.no_grad()
def scored(scorer: nn.Module, states: Floats) -> Tensor:
    """(B, N + 1) scores of (B, D) states."""
    return scorer(torch.from_numpy(states))


def export_bundle(
    agent_folder: str | Path,
    encoder_folder: str | Path,
    log_folder: str | Path,
    out: str | Path,
    *,
    seed: int | Literal["best"] | None = None,
    evaluation_folder: str | Path | None = None,
    judged_as: str | None = None,
    rules: SlateRules | None = None,
    histories: int = 1_000,
    force: bool = False,
    progress: Progress | None = None,
) -> Bundle:
    """From artefacts to a bundle, checked to show the slates that the trained policy shows.

    A bundle already finished with the same settings and inputs is read back.

    Args:
        agent_folder: a trained agent.
        encoder_folder: the session encoder that it learnt with.
        log_folder: the log: its catalogue is served, its latest sessions are the histories to check.
        out: folder of the bundle.
        seed: training seed to export; `"best"` for the one that earned most in the evaluation; the first by default.
        evaluation_folder: an evaluation of the agent, whose figures go into the bundle.
        judged_as: name of the agent in the evaluation; the algorithm's by default.
        rules: of the shop, that every slate keeps; none by default.
        histories: how many to check.
        force: replace a finished bundle.
        progress: told (done, total, words).

    Raises:
        ArtefactError: a folder is missing or of another kind, or `out` holds something else, or other settings, and
            `force` is not set.
        BundleError: they do not fit together, the evaluation is of another agent or under other rules, or the bundle's
            slates are not the trained policy's.
        EvidenceError: the best seed is asked for, and the evaluation does not tell it.
        ValueError: the rules name what the catalogue lacks, or leave too few items.
    """
    agent_record = read_config(Path(agent_folder), "agent")
    trained, inputs = agent_record["slatewise_artefact"], {"agent": agent_record["slatewise_artefact"]["id"]}
    for name, folder in (("encoder", encoder_folder), ("log", log_folder), ("evaluation", evaluation_folder)):
        if folder is not None:
            inputs[name] = artefact_id(Path(folder), name)
    name = judged_as or agent_record["algorithm"]
    if evaluation_folder is not None:
        check_judged(Path(evaluation_folder), name, inputs["agent"], rules)
    if trained["inputs"].get("encoder", inputs["encoder"]) != inputs["encoder"]:
        raise BundleError(f"{agent_folder} learnt with another encoder than {encoder_folder}; export with that one")
    if seed == "best":
        if evaluation_folder is None:
            raise EvidenceError("the best seed is told by an evaluation; pass evaluation_folder, or a seed")
        seed = best_seed(Path(evaluation_folder), name, agent_record["seeds"])
    agent, encoder, log = load_agent(agent_folder, seed), load_encoder(encoder_folder), ShopLog.load(Path(log_folder))
    policy, scorer = agent, agent.scorer
    if rules is not None:
        policy = RuledPolicy(agent, rules, log.catalogue)
        assert policy.scorer is not None
        scorer = policy.scorer
    training = {
        "algorithm": agent.name,
        "seed": agent.seed,
        "of_seeds": agent_record["seeds"],
        "settings": trained["settings"],
        "facts": trained["facts"],
        "versions": trained["versions"],
        "created": trained["created"],
    }
    return write_bundle(
        out,
        encoder,
        scorer,
        log,
        k=agent.k,
        predict=lambda state: policy.predict(state)[0],
        rules=rules,
        settings={"seed": agent.seed, "judged_as": name, "histories": histories}
        | ({} if rules is None else {"rules": rules.to_dict()}),
        inputs=inputs,
        training=training,
        evaluation=judged_figures(Path(evaluation_folder), name) if evaluation_folder is not None else None,
        histories=histories,
        force=force,
        progress=progress,
    )


def best_seed(evaluation: Path, policy: str, seeds: Sequence[int]) -> int:
    """The training seed whose policy earned the largest mean reward in the simulator whose verdict counts.

    Raises:
        EvidenceError: the evaluation did not judge this policy with these seeds.
    """
    primary = read_config(evaluation, "evaluation")["slatewise_artefact"]["facts"]["primary"]
    columns = ["simulator", "policy", "training_seed", "reward"]
    frame = pq.read_table(evaluation / "outcomes.parquet", columns=columns).to_pandas()
    frame = frame[(frame["simulator"] == primary) & (frame["policy"] == policy)]
    means = frame.groupby("training_seed")["reward"].mean()  # by place in the order of training
    if sorted(means.index) != list(range(len(seeds))):
        raise EvidenceError(
            f"{evaluation} judged {len(means)} trainings of {policy!r} in {primary!r}, the agent has {len(seeds)}; "
            "evaluate this agent, or pass a seed"
        )
    return int(seeds[int(means.idxmax())])


def check_judged(evaluation: Path, policy: str, agent: str, rules: SlateRules | None) -> None:
    """See that an evaluation's figures are of what is exported.

    Raises:
        BundleError: it judged another agent of this name than the one of this id, or under other rules.
    """
    inputs = read_config(evaluation, "evaluation")["slatewise_artefact"]["inputs"]
    if inputs.get(policy, agent) != agent:
        raise BundleError(f"{evaluation} judged another agent called {policy!r}; evaluate this one, or leave it out")
    if inputs.get("rules") != (None if rules is None else fingerprint(rules.to_dict())):
        raise BundleError(
            f"{evaluation} judged policies {'under other rules' if 'rules' in inputs else 'without rules'}, so its "
            "figures are not those of this bundle; evaluate under the rules that are exported, or leave it out"
        )


def judged_figures(evaluation: Path, policy: str) -> dict[str, Any]:
    """What an evaluation found of one policy, over all its training seeds, as plain JSON values."""
    facts = read_config(evaluation, "evaluation")["slatewise_artefact"]["facts"]
    try:
        held = json.loads((evaluation / "summary.json").read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise ArtefactError(f"{evaluation} holds no readable summary: {error}; evaluate again") from error
    rows = [row for row in held["summary"] if row.get("policy") == policy]
    return {"policy": policy, "primary": facts.get("primary"), "flattered": facts.get("flattered"), "figures": rows}
