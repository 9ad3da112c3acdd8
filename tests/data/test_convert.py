from pathlib import Path

import pytest

from cfexp.data.convert import CONVERTERS, main


def test_an_unknown_data_set_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main(["hard_vqa", "out"])
    assert stop.value.code == 2
    assert "easy_vqa" in capsys.readouterr().err


@pytest.mark.parametrize("name", CONVERTERS)
def test_a_source_that_is_not_there_is_one_line(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main([name, str(tmp_path / "absent"), str(tmp_path / "out")]) == 2
    message = capsys.readouterr().err.strip()
    assert "\n" not in message
    assert str(tmp_path / "absent") in message
    assert not list(tmp_path.iterdir())


def test_help_shows_three_examples(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    assert capsys.readouterr().out.count("\n  python -m cfexp.data.convert ") == 3
