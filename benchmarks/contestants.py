"""Agents trained on simulated shoppers, kept as artefacts, and how sure the shoppers are of what policies show."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from gymnasium.vector import AutoresetMode
from numpy.typing import NDArray

from slatewise.agents import LearnedPolicy, ShopperClicks, Validation, train
from slatewise.envs import ShopVectorEnv
from slatewise.envs.defaults import DEFAULT_MAX_SLATES
from slatewise.envs.sb3 import SB3Bridge
from slatewise.evaluation.judge import whole_session

ROWS = 64
"""Shoppers that an agent meets at a time while it trains."""
_HISTORY_LEN = 40  # tokens of a history that a click model is told
_WATCHED = 256  # rows in which disagreement is watched


@dataclass(frozen=True)
class Ground:
    """What agents train on: shoppers, what the agents see of them, and what counts.

    Attributes:
        shopper: simulated. encoder: of the agents' states.
        k: slots. reward: by name.
        available: (N + 1,) items that may be shown; all by default.
        told: what else decides a training, kept with it: of which log the shoppers are, say.
    """

    shopper: Any
    encoder: Any
    k: int
    reward: str
    available: NDArray[np.bool_] | None = None
    told: Mapping[str, Any] | None = None

    def learnt(
        self,
        config: Any,
        folder: Path,
        *,
        seeds: Sequence[int],
        steps: int,
        doubt: float = 0.0,
        validation: Validation | None = None,
    ) -> list[LearnedPolicy]:
        """One learner's policies, a training a seed; finished trainings in the folder are read back.

        One that learns choices from its shoppers' click model is given it, and the histories that it reads.

        Args:
            config: of the learner.
            folder: of the artefact.
            seeds: of the trainings.
            steps: slates shown in each.
            doubt: price of the ensemble's disagreement about a slate.
            validation: by whom the best version of each training is kept, and the training stopped.
        """
        parts: dict[str, Any] = {"shopper": self.shopper, "encoder": self.encoder, "k": self.k, "reward": self.reward}
        parts |= {"available": self.available} | ({"doubt": doubt} if doubt else {})
        taught = getattr(config, "choice", "learned") == "shopper"
        parts |= {"observation": "history", "history_len": _HISTORY_LEN} if taught else {}
        return train(
            lambda _: SB3Bridge.make(ROWS, **parts),
            folder,
            config=config,
            item_vectors=self.encoder.item_vectors,
            available=self.available,
            seeds=list(seeds),
            total_timesteps=steps,
            settings={"k": self.k, "reward": self.reward, "doubt": doubt, **(self.told or {})},
            click_model=ShopperClicks(self.shopper) if taught else None,
            validation=validation,
        )

    def disagreement(self, policies: Mapping[str, Any], *, slates: int, seed: int) -> dict[str, list[float]]:
        """Policy -> how far the ensemble's members disagree by about what its slates earn, one for each training.

        The mean over slates of the standard deviation over members; shoppers come one after the other in every row.
        """
        env = ShopVectorEnv(
            _WATCHED,
            self.shopper,
            self.encoder,
            self.k,
            self.reward,
            observation="history",
            history_len=whole_session(DEFAULT_MAX_SLATES),
            available=self.available,
            doubt=0.0,
            autoreset_mode=AutoresetMode.SAME_STEP,
        )
        found: dict[str, list[float]] = {}
        for name, policy in policies.items():
            for one in policy if isinstance(policy, list) else [policy]:
                if hasattr(one, "reseed"):
                    one.reseed(seed)
                seen, doubts = env.reset(seed=seed)[0], []
                for _ in range(max(slates // _WATCHED, 1)):
                    seen = env.step(one.predict(seen)[0])[0]
                    assert env.batch.last is not None
                    doubts.append(env.batch.last.figures["doubt"].mean())
                found.setdefault(name, []).append(float(np.mean(doubts)))
        env.close()
        return found
