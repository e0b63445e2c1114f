"""Agents: learners and recommenders that fill slates, all with the same `predict`. They know spaces, not envs."""

from .artefact import LearnedPolicy, load_agent, load_agents, save_agent, train
from .bandits import LinUCBPolicy, ThompsonPolicy
from .baselines import ItemKNNPolicy, MyopicPolicy, NextItemPolicy, PopularPolicy, RandomPolicy
from .click_model import ShopperClicks
from .dqn import SlateDQN
from .dqn_config import DQNConfig
from .learning import DivergedError
from .logged import LoggedPolicy
from .offline import OfflineAgent
from .offline_data import LoggedSlates
from .offline_losses import BCConfig, ReinforceConfig
from .offline_train import train_offline
from .oracle import OraclePolicy
from .ppo import PPOConfig, SlatePPO
from .presets import PRESETS, preset
from .rules import RuledPolicy, SlateRules
from .scorers import SlateScorer
from .search_spaces import SPACES, Choices, Range
from .similar import LastItemPolicy
from .slate_choice import best_slate
from .tuning import Search, Tuned, tune
from .validation import Validation

__all__ = [
    "PRESETS",
    "SPACES",
    "BCConfig",
    "Choices",
    "DQNConfig",
    "DivergedError",
    "ItemKNNPolicy",
    "LastItemPolicy",
    "LearnedPolicy",
    "LinUCBPolicy",
    "LoggedPolicy",
    "LoggedSlates",
    "MyopicPolicy",
    "NextItemPolicy",
    "OfflineAgent",
    "OraclePolicy",
    "PPOConfig",
    "PopularPolicy",
    "RandomPolicy",
    "Range",
    "ReinforceConfig",
    "RuledPolicy",
    "Search",
    "ShopperClicks",
    "SlateDQN",
    "SlatePPO",
    "SlateRules",
    "SlateScorer",
    "ThompsonPolicy",
    "Tuned",
    "Validation",
    "best_slate",
    "load_agent",
    "load_agents",
    "preset",
    "save_agent",
    "train",
    "train_offline",
    "tune",
]
