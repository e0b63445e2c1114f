"""What `through_the_loop.py` found, as lines for people."""

from collections.abc import Sequence
from typing import Any

from survival import told


def survival_table(
    rows: Sequence[dict[str, Any]], judges: Sequence[str], doubts: dict[str, float] | None = None
) -> str:
    """What every policy earns by each judge, what survives of its gains, and what the ensemble disagrees by.

    Args:
        rows: of `Survival.rows`.
        judges: the teacher first.
        doubts: policy -> disagreement a slate, if it was watched.
    """
    others = judges[1:]
    lines = [f"{'reward a session':<32}" + "".join(f"{one:>20}" for one in judges)]
    lines[0] += "".join(f"{'survives, ' + one:>24}" for one in others)
    lines[0] += "".join(f"{'kept, ' + one:>20}" for one in others) + (f"{'disagree':>10}" if doubts else "")
    for row in rows:
        line = f"{row['policy']:<32}" + "".join(f"{told(row[one]):>20}" for one in judges)
        line += "".join(f"{told(row[f'{one}_share'], '.0%'):>24}" for one in others)
        line += "".join(f"{told(row[f'{one}_kept']):>20}" for one in others)
        lines.append(line + (f"{doubts[row['policy']]:>10.3f}" if doubts else ""))
    return "\n".join(lines)


def differences(compared: Sequence[dict[str, Any]]) -> str:
    """A line a comparison: who, by how much more it earns, and by what share."""
    lines = []
    for one in compared:
        ends = f"{one['difference']:+.2f} [{one['low']:+.2f}, {one['high']:+.2f}]"
        lines.append(
            f"  {one['policy']:<32}{ends:>24}  {one['share']:+.0%} [{one['share_low']:+.0%}, {one['share_high']:+.0%}]"
        )
    return "\n".join(lines or ["  none"]) + "\n"


def case_told(case: dict[str, Any], judges: Sequence[str], logged: str) -> str:
    """The training that exploits its teacher, and what shows it."""
    lines = [f"the most flattered training, on fresh shoppers: {case['policy']}, training {case['training']}"]
    for one in judges:
        found = case[one]
        lines.append(
            f"  {one:<9} {found['it']:.2f}, logged slates {found[logged]:.2f}: gain {told(tuple(found['gain']))}"
        )
    lines.append(
        "  disagreement a slate: " + ", ".join(f"{name} {value:.3f}" for name, value in case["disagreement"].items())
    )
    lines.append("  what it shows most, clicks a slot shown")
    lines.append(
        f"  {'item':<12}{'of its slots':>14}{'times in the log':>18}" + "".join(f"{one:>10}" for one in judges)
    )
    for item in case["items"]:
        rates = "".join(f"{item['clicks_a_slot'][one]:>10.3f}" for one in judges)
        lines.append(
            f"  {item['item']:<12}{item['share_of_slots']:>14.0%}{item['shown_to_the_teachers_half']:>18}{rates}"
        )
    return "\n".join(lines)
