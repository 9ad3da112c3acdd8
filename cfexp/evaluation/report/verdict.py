"""The page on which a person says what counterfactuals show, by keys; it saves a CSV file that
`cfexp.repair` takes.
"""

from pathlib import Path

from cfexp.errors import InputError
from cfexp.evaluation.directions import is_success
from cfexp.evaluation.report.gallery import Album, page_template
from cfexp.evaluation.run_folder import RunFolder

UNUSABLE = "unusable"
FILE = "verdicts.csv"  # what a browser calls the file
MOST_CLASSES = 9  # one digit a class


def write_verdict_page(
    run: RunFolder,
    path: Path,
    *,
    title: str | None = None,
    max_explanations: int = 1000,
    max_width: int = 256,
) -> int:
    """Write the page of the first `max_explanations` counterfactuals that turned the model, by key;
    returns how many there are.

    The keys 1, 2, ... say the classes, 0 that a picture is unusable. What the model said is not
    shown: it would be repeated. The verdicts are kept in the browser, by the run's place and its
    data, and survive a reload.

    Raises InputError for a run whose classes have no names, or too many, and where no
    counterfactual turned the model; and as `RunFolder.records` and `RunFolder.images`.
    """
    names = list(run.declaration.class_names)
    if not 2 <= len(names) <= MOST_CLASSES or UNUSABLE in names:
        problem = f"needs 2 to {MOST_CLASSES} classes with names, none of them {UNUSABLE!r}"
        raise InputError(f"{run.path}: a page of verdicts {problem}; this run has {len(names)}")
    records = [each for each in run.records() if is_success(each)][:max_explanations]
    if not records:
        raise InputError(f"{run.path}: no counterfactual turned the model: nothing is to be judged")
    album = Album(run, max_width)
    cards = [
        {
            "key": record["key"],
            "image": str(record["image_id"]),
            "query": album.add("query", record["key"]),
            "counterfactual": album.add("counterfactual", record["key"]),
        }
        for record in records
    ]
    data = {
        "cards": cards,
        "pictures": album.pictures,
        "verdicts": [*names, UNUSABLE],
        "keys": [*map(str, range(1, len(names) + 1)), "0"],
        "run": f"{run.path.resolve()}:{run.data.get('fingerprint', '')}",
        "file": FILE,
    }
    page = page_template("verdict.html").render(
        title=title or run.name, asked=" or ".join(names), file=FILE, data=data
    )
    path.write_text(page, encoding="utf-8", errors="replace")
    return len(cards)
