"""Proof: policies judged on the same shoppers with the same luck, figures with intervals, and a report for people."""

from .intervals import Comparison, compare, compare_all, holm, summarise
from .judge import judge
from .metrics import METRICS, Metric
from .outcomes import Outcomes

__all__ = ["METRICS", "Comparison", "Metric", "Outcomes", "compare", "compare_all", "holm", "judge", "summarise"]
