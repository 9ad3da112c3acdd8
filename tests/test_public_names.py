"""What `from cfexp import` gives is documented by examples that run."""

import doctest
import importlib

import pytest

import cfexp


@pytest.mark.parametrize("name", cfexp.__all__)
def test_every_public_name_has_an_example_that_runs(name: str) -> None:
    public = getattr(cfexp, name)
    names = vars(importlib.import_module(public.__module__))
    (of_itself,) = (
        each for each in doctest.DocTestFinder(recurse=False).find(public, name, globs={**names})
    )
    assert of_itself.examples
    results = doctest.DocTestRunner().run(of_itself)
    assert results.attempted > 0
    assert results.failed == 0
