"""The step that trains agents on simulated shoppers, and what it trains them on."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from .console import Reporter, checked
from .inputs import catalogue_id, check_items, check_same_items, facts_of, id_of
from .learners import learner_config, preset_for
from .steps import REWARD, check_slate_size

ENVS = 64
"""Shoppers that an agent meets at a time while it trains."""
HISTORY_LEN = 40
"""Tokens of a history that a shopper's click model is told."""
TUNED_BY = "tuned_by"
"""Among an agent's inputs, the judge by whose shoppers its settings were found."""


@dataclass(frozen=True)
class JudgedBy:
    """Shoppers that value an agent while it trains, and when they stop it."""

    folder: Path
    shoppers: int = 500
    every: int = 10_000
    patience: int = 5


@dataclass(frozen=True)
class Ground:
    """What agents train on: artefacts that were checked against each other, and loaded."""

    log_folder: Path
    shopper_folder: Path
    encoder: Any
    shopper: Any
    catalogue: Catalogue
    k: int
    reward: str
    doubt: float | None
    inputs: Mapping[str, str]

    @classmethod
    def load(
        cls,
        log_folder: Path,
        encoder_folder: Path,
        shopper_folder: Path,
        *,
        k: int,
        reward: str = REWARD,
        doubt: float | None = None,
    ) -> "Ground":
        """Read and check.

        Raises:
            ArtefactError: a folder is missing or of another kind, or they do not fit each other.
            typer.BadParameter: slots, reward or doubt cannot be had with them.
        """
        inputs = {"log": id_of(log_folder, "log"), "encoder": id_of(encoder_folder, "encoder")}
        inputs |= {"shopper": id_of(shopper_folder, "shopper"), "catalogue": catalogue_id(log_folder)}
        check_same_items(log_folder, (encoder_folder, "encoder"), (shopper_folder, "shopper"))
        from ..encoders import load_encoder
        from ..envs.rewards import RewardMix
        from ..simulators import Expects, load_shopper

        encoder, shopper = load_encoder(encoder_folder), load_shopper(shopper_folder)
        catalogue = ShopLog.load(log_folder).catalogue  # whole, so that a damaged log is named
        check_items(catalogue.n_items, encoder=encoder.n_items, shopper=shopper.n_items)
        with checked():
            RewardMix.of(reward)
            check_slate_size(k, catalogue.available)
            if doubt is not None and (not isinstance(shopper, Expects) or shopper.members < 2):
                raise ValueError(
                    f"{shopper_folder} has no ensemble that can doubt; fit with --members, or leave --doubt out"
                )
        return cls(log_folder, shopper_folder, encoder, shopper, catalogue, k, reward, doubt, inputs)

    @property
    def available(self) -> NDArray[np.bool_]:
        """(N + 1,) items that may be shown."""
        return self.catalogue.available

    def settings(self) -> dict[str, Any]:
        """Plain values of what decides a training here, beside the learner's own settings."""
        told = {} if self.doubt is None else {"doubt": self.doubt}
        return {"k": self.k, "reward": self.reward, "envs": ENVS, **told}

    def parts(self, config: Any) -> dict[str, Any]:
        """What `agents.train` needs from here: how envs are made, items, and a click model where one is read.

        Raises:
            typer.BadParameter: the config wants the click chances of a shopper that tells none.
        """
        from ..agents import ShopperClicks
        from ..envs.sb3 import SB3Bridge
        from ..simulators import KnownTruthShopper

        clicks, seen = None, {}
        if getattr(config, "choice", "learned") == "shopper":
            with checked():
                if isinstance(self.shopper, KnownTruthShopper):
                    raise ValueError(f"{self.shopper_folder} tells no click chances; leave out --set choice=shopper")
            # The shopper's click model reads histories.
            clicks, seen = ShopperClicks(self.shopper), {"observation": "history", "history_len": HISTORY_LEN}
        shop: dict[str, Any] = {"shopper": self.shopper, "encoder": self.encoder, "k": self.k, "reward": self.reward}
        shop |= {"available": self.available, **seen, **({} if self.doubt is None else {"doubt": self.doubt})}
        make_env: Callable[[int], Any] = lambda _seed: SB3Bridge.make(ENVS, **shop)  # noqa: E731 - a field of a call
        items = {"item_vectors": self.encoder.item_vectors, "available": self.available}
        return {"make_env": make_env, "click_model": clicks, **items}

    def judge(self, folder: Path) -> tuple[Any, str]:
        """The shoppers in a folder that are to value agents trained here, all members of an ensemble, and their id.

        Raises:
            ArtefactError: the folder holds none, or ones of another catalogue.
            typer.BadParameter: they are the shoppers that agents train on.
        """
        found = id_of(folder, "shopper")
        check_same_items(self.log_folder, (folder, "shopper"))
        with checked():
            if found == self.inputs["shopper"]:
                raise ValueError(
                    f"--judge {folder} is what --shopper names, and an agent learns the faults of its teacher too; "
                    "give other ones, for instance of `slatewise fit --family boosted`"
                )
        from ..simulators import load_shopper

        shopper = load_shopper(folder)
        check_items(self.catalogue.n_items, judge=shopper.n_items)
        return all_members(shopper), found

    def valuer(self, shopper: Any, shoppers: int, seed: int) -> Any:
        """What values policies by so many shoppers of a judge."""
        from ..evaluation import Valuer

        with checked():
            return Valuer(
                shopper,
                self.encoder,
                self.k,
                shoppers=shoppers,
                seed=seed,
                reward=self.reward,
                available=self.available,
            )


def all_members(shopper: Any) -> Any:
    """A shopper as a judge: by all of its ensemble, if any, so that judgements tell what its log leaves open."""
    from ..simulators import BoostedShopper, FittedShopper

    return shopper.ensemble() if isinstance(shopper, FittedShopper | BoostedShopper) and shopper.members else shopper


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
    doubt: float | None = None,
    settings: Mapping[str, Any] | None = None,
    preset: str | None = None,
    tuned_by: str | None = None,
    judge: JudgedBy | None = None,
    tensorboard: Path | None = None,
    force: bool = False,
) -> dict[str, Any]:
    """Train a slate agent, once for each seed, on simulated shoppers.

    `settings` are those of its config, found by the shoppers whose id is `tuned_by`, if that is told; the others are
    those of a `preset` (a size, or "auto"), or the defaults.
    """
    ground = Ground.load(log_folder, encoder_folder, shopper_folder, k=k, reward=reward, doubt=doubt)
    from ..agents import Validation, train

    base, chose = preset_for(agent, preset, ground.catalogue.n_items, reporter)
    with checked():
        config = learner_config(agent, settings, base)
    parts, inputs, told, validation = ground.parts(config), dict(ground.inputs), ground.settings(), None
    if tuned_by is not None:
        inputs[TUNED_BY] = tuned_by
    if judge is not None:
        shopper, inputs["judge"] = ground.judge(judge.folder)
        value = ground.valuer(shopper, judge.shoppers, seeds[0])
        validation = Validation(value=value, every=judge.every, patience=judge.patience)
        told["judge_shoppers"] = judge.shoppers
    with reporter.step(f"training {agent}, {len(seeds)} seeds") as progress:
        train(
            out=out,
            config=config,
            **parts,
            seeds=list(seeds),
            total_timesteps=steps,
            settings=told,
            inputs=inputs,
            facts=chose if judge is None else {**chose, "judge": str(judge.folder)},
            validation=validation,
            tensorboard=None if tensorboard is None else tensorboard / out.name,
            force=force,
            progress=progress,
        )
    return facts_of(out, "agent")
