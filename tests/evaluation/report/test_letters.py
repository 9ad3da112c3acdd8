"""Texts on pictures, in whatever letters a user's classes are written."""

from pathlib import Path

import pytest
from PIL import Image, ImageDraw

from cfexp.evaluation.report import letters
from cfexp.evaluation.report.letters import fitted, font, in_letters


def test_latin_cyrillic_and_greek_are_written_as_they_are() -> None:
    for text in ("größe", "Ж и щ", "λόγος", "Łódź", "naïve · ½"):
        assert in_letters(text) == text
    assert in_letters("gro\u0308ße") == "größe"  # a letter in two codes
    assert in_letters("a\n b\t") == "a b"


def test_what_the_font_lacks_is_told_by_its_number() -> None:
    assert in_letters("猫") == "U+732B"
    assert in_letters("犬猫") == "U+72AC U+732B"
    assert in_letters("\x07") == "U+0007"


def test_it_is_drawn_and_cut_to_the_room() -> None:
    drawn = [Image.new("L", (200, 40)) for _ in range(2)]
    for picture, text in zip(drawn, ("größe", "Größe"), strict=True):
        ImageDraw.Draw(picture).text((2, 2), fitted(text, 19, 190), 255, font(19))
    assert drawn[0].tobytes() != drawn[1].tobytes()
    cut = fitted("ж" * 99, 19, 100)
    assert cut.endswith("...")
    assert font(19).getlength(cut) <= 100


def test_without_the_file_of_the_font_pillows_is_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(letters, "DEJAVU", Path("none.ttf"))
    for cached in (letters.font, letters._known):
        cached.cache_clear()
    try:
        assert font(19).getlength("abc") > 0
        assert in_letters("größe Ж") == "groU+00DF e U+0416"
    finally:
        for cached in (letters.font, letters._known):
            cached.cache_clear()
