"""Texts on pictures: in letters that the font has, as wide as there is room."""

import unicodedata
from collections.abc import Set
from functools import cache
from pathlib import Path

import matplotlib
from matplotlib.ft2font import FT2Font
from PIL import ImageFont

# Latin, Cyrillic, Greek and more; it comes with matplotlib.
DEJAVU = Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"
# DejaVu's letters are larger and wider than those of other fonts of their size.
SMALLER = 0.9


@cache
def font(size: int) -> ImageFont.ImageFont | ImageFont.FreeTypeFont:
    """DejaVu Sans; where it is not there Pillow's own, which has little more than ASCII."""
    try:
        return ImageFont.truetype(str(DEJAVU), size * SMALLER)
    except OSError:
        return ImageFont.load_default(size)


def in_letters(text: str) -> str:
    """The text as one line. Of a letter that the font lacks the one without accents, or else its
    number, as two names must not look alike: `U+732B`.
    """
    letters = unicodedata.normalize("NFC", " ".join(text.split()))
    return "".join(map(_letter, letters)).rstrip()


def fitted(text: str, size: int, room: float) -> str:
    """`in_letters`, cut where it is wider than `room` pixels."""
    text = in_letters(text)
    if font(size).getlength(text) <= room:
        return text
    while text and font(size).getlength(text + "...") > room:
        text = text[:-1]
    return text.rstrip() + "..."


def _letter(letter: str) -> str:
    if ord(letter) in _known() and letter.isprintable():
        return letter
    plain = "".join(
        each for each in unicodedata.normalize("NFKD", letter) if not unicodedata.combining(each)
    )
    known = plain and all(ord(each) in _known() and each.isprintable() for each in plain)
    return plain if known else f"U+{ord(letter):04X} "


@cache
def _known() -> Set[int]:
    """The letters that the font has."""
    try:
        return FT2Font(str(DEJAVU)).get_charmap().keys()
    except OSError:
        return {*range(0x20, 0x7F), ord("·")}
