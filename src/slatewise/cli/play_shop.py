"""What a game is played with: shoppers, what they may be shown, and who fills the slates."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..datasets.artefact import read_config
from ..datasets.catalogue import Catalogue
from ..datasets.log import ShopLog
from ..envs import ShopEnv
from ..envs.defaults import DEFAULT_K, parts
from ..errors import ArtefactError
from ..simulators import KnownTruthShopper
from .console import checked
from .inputs import check_items, check_same_items, id_of
from .judging import name_of
from .options import Player
from .steps import check_slate_size

Slate = NDArray[np.int64]
HISTORY_LEN = 20


@dataclass(frozen=True)
class PlayShop:
    """A shop to play in.

    Attributes:
        env: with the observation "history".
        catalogue: of the items.
        player: name of who fills the slates.
        fill: observation -> (k,) that player's slate for the shopper who is there.
        best: observation -> (k,) the slate likeliest to be clicked, as far as is known; None where nobody knows.
    """

    env: ShopEnv
    catalogue: Catalogue
    player: str
    fill: Callable[[Any], Slate]
    best: Callable[[Any], Slate] | None

    @property
    def k(self) -> int:
        """Slots of a slate."""
        return self.env.batch.k


def open_shop(
    log_folder: Path | None,
    encoder_folder: Path | None,
    shopper_folder: Path | None,
    agent_folder: Path | None,
    player: Player | None,
    k: int | None,
    reward: str,
    seed: int,
) -> PlayShop:
    """The shop of the folders given; without any, the small known-truth shop.

    Raises:
        ArtefactError: a folder is missing or of another kind, or parts do not fit each other.
        ValueError: a setting is out of range, or settings contradict each other.
    """
    _check_given(log_folder, encoder_folder, shopper_folder, agent_folder, player)
    log = None if log_folder is None else ShopLog.load(log_folder)
    shopper, encoder, catalogue = parts(_shopper(shopper_folder), None, None if log is None else log.catalogue)
    if catalogue is None:
        raise ValueError(f"{shopper_folder} does not name its items; give the LOG that it was fitted on")
    if encoder_folder is not None:
        from ..encoders import load_encoder

        encoder = load_encoder(encoder_folder)
    check_items(catalogue.n_items, encoder=encoder.n_items, shopper=shopper.n_items)
    agent = None if agent_folder is None else _agent(agent_folder, k)
    slots = int(agent.k if agent is not None else k or min(DEFAULT_K, catalogue.n_items))
    check_slate_size(slots, catalogue.available)
    env = ShopEnv(
        shopper,
        encoder,
        slots,
        reward,
        observation="history",
        history_len=HISTORY_LEN,
        available=catalogue.available,
        catalogue=catalogue,
    )
    best = _best(env, catalogue)
    if agent is not None and agent_folder is not None:
        return PlayShop(env, catalogue, name_of(agent_folder), _asked(agent), best)
    player = player or Player.next_item
    return PlayShop(env, catalogue, player.value, _fill(player, env, log, seed), best)


def _check_given(
    log: Path | None, encoder: Path | None, shopper: Path | None, agent: Path | None, player: Player | None
) -> None:
    """See that the folders given are finished, and go together."""
    if agent is not None and player is not None:
        raise ValueError(f"either --agent {agent} or --policy {player.value} fills the slates, not both")
    if agent is not None and encoder is None:
        raise ValueError("an agent reads the states of the encoder that it learnt with; give that one as --encoder")
    if log is not None and shopper is None:
        raise ValueError("a log alone has nobody to play with; give --shopper, a folder that `fit` wrote on it")
    given = [(folder, kind) for folder, kind in ((encoder, "encoder"), (shopper, "shopper")) if folder is not None]
    for folder, kind in [*given, *([(agent, "agent")] if agent is not None else [])]:
        id_of(folder, kind)
    if log is not None:
        check_same_items(log, *given)
    if agent is not None and encoder is not None:
        ours = id_of(encoder, "encoder")
        if read_config(agent, "agent")["slatewise_artefact"]["inputs"].get("encoder", ours) != ours:
            raise ArtefactError(f"{agent} learnt with another encoder than {encoder}; give that one as --encoder")


def _shopper(folder: Path | None) -> Any:
    if folder is None:
        return None
    from ..simulators import load_shopper

    return load_shopper(folder)


def _agent(folder: Path, k: int | None) -> Any:
    from ..agents import load_agent

    agent = load_agent(folder)
    if k is not None and k != agent.k:
        raise ValueError(f"{folder} fills slates of {agent.k} slots, not {k}; leave --slate-size out")
    return agent


def _asked(policy: Any) -> Callable[[Any], Slate]:
    """A policy over batches, asked for one shopper."""

    def fill(observation: Any) -> Slate:
        return policy.predict({name: values[None] for name, values in observation.items()})[0][0]

    return fill


def _oracle(env: ShopEnv, shopper: KnownTruthShopper, available: NDArray[np.bool_]) -> Callable[[Any], Slate]:
    import torch

    may = torch.from_numpy(available)

    def fill(_observation: Any) -> Slate:
        return shopper.oracle_slates(env.batch.here.state, env.batch.k, available=may)[0].cpu().numpy()

    return fill


def _best(env: ShopEnv, catalogue: Catalogue) -> Callable[[Any], Slate] | None:
    shopper = env.batch.shopper
    if isinstance(shopper, KnownTruthShopper):
        return _oracle(env, shopper, catalogue.available)
    if hasattr(shopper, "choice_scores"):
        return _myopic(env, catalogue)
    return None


def _myopic(env: ShopEnv, catalogue: Catalogue) -> Callable[[Any], Slate]:
    from ..agents import MyopicPolicy

    shopper: Any = env.batch.shopper
    return _asked(MyopicPolicy(shopper, env.batch.k, "click", catalogue.available))


def _fill(player: Player, env: ShopEnv, log: ShopLog | None, seed: int) -> Callable[[Any], Slate]:
    """Slates by a policy that needs no training.

    Raises:
        ValueError: it needs what is not there.
    """
    from ..agents import NextItemPolicy, PopularPolicy, RandomPolicy

    shopper, k, available = env.batch.shopper, env.batch.k, env.batch.available
    assert available is not None
    assert env.catalogue is not None
    if player is Player.random:
        return _asked(RandomPolicy(available, k, seed=seed))
    if player is Player.next_item:
        return _asked(NextItemPolicy(env.batch.encoder.item_vectors, k, available))
    if player is Player.popular:
        if log is not None:
            return _asked(PopularPolicy.from_tokens(log.tokens, shopper.n_items, k, available))
        if isinstance(shopper, KnownTruthShopper):
            return _asked(PopularPolicy(shopper.shop.popularity, k, available))
        raise ValueError("--policy popular counts what a LOG holds; give one")
    if player is Player.myopic:
        if not hasattr(shopper, "choice_scores"):
            raise ValueError("--policy myopic asks a fitted shopper; of the known-truth shop, watch --policy oracle")
        return _myopic(env, env.catalogue)
    if not isinstance(shopper, KnownTruthShopper):
        raise ValueError("--policy oracle knows the known-truth shop alone; of fitted shoppers, watch --policy myopic")
    return _oracle(env, shopper, available)


def opened(*given: Any) -> PlayShop:
    """`open_shop`, whose `ValueError` is wrong usage."""
    with checked():
        return open_shop(*given)
