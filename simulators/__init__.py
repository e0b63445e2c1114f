"""Simulated shoppers: the protocol, the known-truth shopper, and shoppers fitted on logs."""

from .artefacts import load_shopper, save_known_truth
from .calibration import calibration_table
from .collect import collect_log
from .fit import FitConfig, fit, fit_shopper
from .fitted import ChoiceScores, FittedShopper
from .known_truth import KnownTruthShopper
from .likelihood import SlateLikelihood, slate_likelihood
from .logging_policies import PlackettLucePolicy
from .oracle import BestSlates, best_slates, best_slates_by_trying, regrets, slate_values
from .priors import RANGES, Priors
from .shopper import Response, Shopper, ShopperState, TokenBatch, without_repeats

__all__ = [
    "RANGES",
    "BestSlates",
    "ChoiceScores",
    "FitConfig",
    "FittedShopper",
    "KnownTruthShopper",
    "PlackettLucePolicy",
    "Priors",
    "Response",
    "Shopper",
    "ShopperState",
    "SlateLikelihood",
    "TokenBatch",
    "best_slates",
    "best_slates_by_trying",
    "calibration_table",
    "collect_log",
    "fit",
    "fit_shopper",
    "load_shopper",
    "regrets",
    "save_known_truth",
    "slate_likelihood",
    "slate_values",
    "without_repeats",
]
