import pytest

from cfexp.benchmarks.latent_search import main

TINY = ["--size=32", "--code-dim=4", "--queries=2", "--copies=2", "--steps=1", "--repeats=1"]


def test_search_and_parts_are_printed(capsys: pytest.CaptureFixture[str]) -> None:
    code = main(TINY)
    first, decoder, classifier, search, verdict = capsys.readouterr().out.splitlines()
    assert first.startswith("32x32, 2 queries of 2 explanations, 1 steps, 1 threads")
    assert decoder.split()[0] == "decoder"
    assert classifier.split()[:2] == ["decision", "model"]
    assert search.endswith("times its parts")
    assert verdict.strip() == f"at most 1.2: {'no' if code else 'yes'}"


def test_numbers_out_of_range_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([*TINY, "--copies=0"]) == 2
    assert capsys.readouterr().err == "error: all numbers must be above 0\n"
