"""Proof: policies judged on the same shoppers with the same luck, figures with intervals, and a report for people."""

from .evaluate import EvaluationConfig, evaluate
from .figures import headline_figure
from .findings import Evaluation, find
from .gather import gather_extras
from .intervals import Comparison, compare, compare_all, holm, summarise
from .judge import SlatePolicy, judge
from .metrics import METRICS, Metric
from .outcomes import Outcomes
from .realism_page import write_realism
from .report import Extras, write_report
from .valuing import Valuer
from .words import as_rows, sentence

__all__ = [
    "METRICS",
    "Comparison",
    "Evaluation",
    "EvaluationConfig",
    "Extras",
    "Metric",
    "Outcomes",
    "SlatePolicy",
    "Valuer",
    "as_rows",
    "compare",
    "compare_all",
    "evaluate",
    "find",
    "gather_extras",
    "headline_figure",
    "holm",
    "judge",
    "sentence",
    "summarise",
    "write_realism",
    "write_report",
]
