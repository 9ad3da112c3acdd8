"""The numbers of the columns that an explainer declares."""

from collections.abc import Iterator
from functools import partial

import numpy as np

from cfexp.declaration import Column
from cfexp.evaluation.directions import has_something_to_explain, is_success
from cfexp.evaluation.measure.base import Chunk, Facts, Measure, Values


def measures(facts: Facts) -> Iterator[Measure]:
    """One of each column with a summary; and of each by which queries are counted apart, how many
    those are.
    """
    for column in facts.declaration.columns:
        values = partial(column_values, column=column)
        if column.counted_apart and facts.some_have(column.name):
            yield Measure(column.name, values, "%", kind="rate", of_everyone=True)
        elif not column.by_region and column.summary != "none":
            unit = "%" if column.summary == "rate" else column.unit
            about = column.name, values, unit, column.counted, column.summary
            if column.shown is not None:
                yield Measure(*about, shown=column.shown)
            elif facts.some_have(column.name):
                yield Measure(*about, is_telling=column.summary == "rate")


def column_values(chunk: Chunk, column: Column) -> Values:
    """(B,) what the records say in that column, which is one number a query; NaN where they say
    nothing.
    """
    told = [record.get(column.name) for record in chunk.records]
    values = np.array([np.nan if each is None else each for each in told], dtype=np.float64)
    if column.known_from is not None:
        values = np.where(values < column.known_from, np.nan, values)
    if column.successes_only:
        values = np.where([is_success(record) for record in chunk.records], values, np.nan)
    if column.explained_only:
        explained = [has_something_to_explain(record) for record in chunk.records]
        values = np.where(explained, values, np.nan)
    return 100 * values if column.summary == "rate" or column.counted_apart else values
