"""Agents: learners and recommenders that fill slates, all with the same `predict`. They know spaces, not envs."""

from .artefact import LearnedPolicy, load_agent, load_agents, save_agent, train
from .baselines import ItemKNNPolicy, MyopicPolicy, NextItemPolicy, PopularPolicy, RandomPolicy
from .click_model import ShopperClicks
from .dqn import SlateDQN
from .dqn_config import DQNConfig
from .learning import DivergedError
from .ppo import PPOConfig, SlatePPO
from .scorers import SlateScorer
from .slate_choice import best_slate

__all__ = [
    "DQNConfig",
    "DivergedError",
    "ItemKNNPolicy",
    "LearnedPolicy",
    "MyopicPolicy",
    "NextItemPolicy",
    "PPOConfig",
    "PopularPolicy",
    "RandomPolicy",
    "ShopperClicks",
    "SlateDQN",
    "SlatePPO",
    "SlateScorer",
    "best_slate",
    "load_agent",
    "load_agents",
    "save_agent",
    "train",
]
