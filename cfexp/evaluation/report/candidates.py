"""The candidates of one explanation, side by side: what is decided about each stands below it."""

from typing import NamedTuple

from PIL import Image

from cfexp.evaluation.directions import has_something_to_explain
from cfexp.evaluation.run_folder import Record


class Candidate(NamedTuple):
    """One of the images that an explainer found for a query."""

    picture: str  # its name in the run folder
    answer: str  # what the model decides about it as stored
    probability: float  # of that
    # whether that is what was asked for, of a query that there is something to explain of
    success: bool


def candidates_of(record: Record) -> list[Candidate]:
    """Those of a record, in their order; none where it tells of none."""
    told = [
        record.get(name) or []
        for name in (
            "candidate_answers",
            "candidate_stored_probability",
            "candidate_stored_success",
        )
    ]
    rows = enumerate(zip(*told, strict=True), 1)
    return [
        Candidate(
            f"candidate_{number}",
            answer,
            chance,
            bool(success) and has_something_to_explain(record),
        )
        for number, (answer, chance, success) in rows
    ]


def tile_size(picture: Image.Image, count: int, room: int, gap: int, most: int) -> tuple[int, int]:
    """Width and height of each of so many pictures side by side, at most `most` wide."""
    width = max(1, min(most, (room + gap) // count - gap))
    return width, max(1, round(width * picture.height / picture.width))
