"""Simulated shoppers: the protocol, the known-truth shopper, and shoppers fitted on logs."""

from .artefacts import load_shopper, save_known_truth
from .boosted import BoostedShopper
from .boosted_fit import BoostedConfig, fit_boosted
from .calibration import calibration_errors, calibration_table
from .choice_scores import ChoiceScores
from .collect import collect_log
from .fit import FitConfig, fit_shopper
from .fit_family import fit
from .fitted import FittedShopper
from .foretold import Foretold
from .known_truth import KnownTruthShopper
from .likelihood import SlateLikelihood, slate_likelihood
from .logging_policies import PlackettLucePolicy
from .members import Expected, Expects
from .oracle import BestSlates, best_slates, best_slates_by_trying, regrets, slate_values
from .priors import RANGES, Priors
from .realism import Realism, realism
from .reasons import Reasons, reasons
from .shopper import ComesAgain, Response, Searches, Shopper, ShopperState, TokenBatch, without_repeats
from .trees import TreeConfig

__all__ = [
    "RANGES",
    "BestSlates",
    "BoostedConfig",
    "BoostedShopper",
    "ChoiceScores",
    "ComesAgain",
    "Expected",
    "Expects",
    "FitConfig",
    "FittedShopper",
    "Foretold",
    "KnownTruthShopper",
    "PlackettLucePolicy",
    "Priors",
    "Realism",
    "Reasons",
    "Response",
    "Searches",
    "Shopper",
    "ShopperState",
    "SlateLikelihood",
    "TokenBatch",
    "TreeConfig",
    "best_slates",
    "best_slates_by_trying",
    "calibration_errors",
    "calibration_table",
    "collect_log",
    "fit",
    "fit_boosted",
    "fit_shopper",
    "load_shopper",
    "realism",
    "reasons",
    "regrets",
    "save_known_truth",
    "slate_likelihood",
    "slate_values",
    "without_repeats",
]
