"""The step that trains agents on the log itself, without simulated shoppers."""

from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ..datasets.log import ShopLog
from .console import Reporter, checked
from .inputs import HELD_OUT, Selection, catalogue_id, check_items, check_same_items, facts_of, id_of
from .learners import learner_config
from .steps import REWARD, check_slate_size


def train_offline_step(
    reporter: Reporter,
    log_folder: Path,
    out: Path,
    *,
    encoder_folder: Path,
    agent: str,
    k: int,
    steps: int,
    seeds: Sequence[int],
    reward: str = REWARD,
    held_out: float = HELD_OUT,
    settings: Mapping[str, Any] | None = None,
    tensorboard: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train an offline agent, once for each seed, on the slates of the log's earlier sessions."""
    selection = Selection(held_out)
    inputs = {"log": selection.named(log_folder), "encoder": id_of(encoder_folder, "encoder")}
    inputs["catalogue"] = catalogue_id(log_folder)
    check_same_items(log_folder, (encoder_folder, "encoder"))
    from ..agents import LoggedSlates, train_offline
    from ..encoders import load_encoder
    from ..envs.rewards import RewardMix

    log, encoder = ShopLog.load(log_folder), load_encoder(encoder_folder)
    available = log.catalogue.available
    check_items(len(available) - 1, encoder=encoder.n_items)
    with checked():
        mix = asdict(RewardMix.of(reward))
        del mix["returned"]  # slates of single visits, as in `Shop-v0`: none is followed by another
        config = learner_config(agent, settings)
        check_slate_size(k, available)
    with reporter.step(f"training {agent} on the log, {len(seeds)} seeds") as progress:
        data = LoggedSlates.from_log(selection.of(log), encoder, **mix)
        rest = Selection(held_out, "test").of(log) if held_out > 0 else None
        later = None if rest is None or not len(rest.slates) else LoggedSlates.from_log(rest, encoder, **mix)
        train_offline(
            data,
            out,
            config=config,
            item_vectors=encoder.item_vectors,
            available=available,
            k=k,
            later=later,
            seeds=list(seeds),
            total_timesteps=steps,
            settings={"k": k, "reward": reward},
            inputs=inputs,
            tensorboard=None if tensorboard is None else tensorboard / out.name,
            facts={"slates": len(data), "clicked": int((data.clicked >= 0).sum())},
            force=force,
            progress=progress,
        )
    return facts_of(out, "agent")
