"""The attack block for the terminal: counterfactuals, a pixel-space attack, and the untouched
queries, side by side.
"""

from rich.console import Console

from cfexp.evaluation.measure.attack import KINDS, PGD, TABLE
from cfexp.evaluation.report.table import Row, Scores, table_of

HEADINGS = ("counterfactual", "PGD", "query itself")
LABELS = {
    "success": "succeeds, in 8 bit",
    "rounding": "... of those in float",
    "transfer": "convinces a second model",
    "non_adversarial_rate": "flips its student, too",
    "inside": "change inside the cause",
    "mostly_inside": "... more than half of it",
}


def print_attack(scores: Scores, console: Console | None = None) -> None:
    """Print the headline group's attack block, if it was asked for; see
    `cfexp.evaluation.measure.attack`.
    """
    group = scores.groups[0]
    rows = scores.rows_of(group, TABLE)
    epsilon = rows.pop("epsilon", {}).get(PGD)
    if epsilon is None:
        return
    beside = f"beside PGD of {epsilon.value:g} of 255 a pixel"
    title = f"{group}: explanation or attack? % of the successes, {beside}"
    table = table_of(title, "", *HEADINGS)
    for what, found in rows.items():
        table.add_row(
            LABELS.get(what, f"survives {what.replace('_', ' ')}"),
            *(_cell(found.get(kind)) for kind in KINDS),
        )
    (console or Console()).print(table)


def _cell(row: Row | None) -> str:
    return "—" if row is None else f"{' '.join(row.texts)} n {row.n}"
