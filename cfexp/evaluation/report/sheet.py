"""Pages of pictures: a run's counterfactuals as one sheet, and the small grid that a training
leaves each epoch.
"""

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from torch import Tensor

from cfexp.declaration import Declaration
from cfexp.evaluation.directions import NOTHING_SAID, is_kept, true_class
from cfexp.evaluation.groups import COLORS, EVERYTHING, is_counted_apart
from cfexp.evaluation.report.candidates import candidates_of, tile_size
from cfexp.evaluation.report.letters import fitted, font, in_letters
from cfexp.evaluation.report.table import Scores, counted_apart
from cfexp.evaluation.run_folder import Palette, Record, RunFolder, to_pixels

# A change of a third of the range, as a new colour makes it, is then just as bright as can be.
AMPLIFIED = 3
TILE, GAP, PAD, MARGIN = (
    160,
    6,
    16,
    44,
)  # pixels: a picture, between pictures, inside a card, round the sheet
INK, GREY, FRAME, PAPER = "#1b1f24", "#6a737d", "#d8dee4", "#ffffff"
FLIPPED, KEPT = "#1a7f37", "#afb8c1"
TITLE, TEXT, SMALL, TINY = 34, 19, 17, 12  # font sizes
DIFFERENCE = f"|difference| x{AMPLIFIED}"
PICTURES = ("query", "reconstruction", "counterfactual")


def difference(query: Tensor, counterfactual: Tensor) -> Tensor:
    """The amplified difference of images (..., H, W) in [-1, 1] as one: black = no change."""
    return AMPLIFIED * (counterfactual - query).abs() - 1


def explanation_grid(query: Tensor, counterfactual: Tensor) -> Image.Image:
    """Queries (B, 3, H, W) in [-1, 1] in a row, their counterfactuals below, the amplified
    differences last.
    """
    return picture_grid([query, counterfactual, difference(query, counterfactual)])


def picture_grid(rows: Sequence[Tensor | Sequence[Tensor]]) -> Image.Image:
    """Images (B, 3, H, W) in [-1, 1], those of each row beside each other."""
    pictures = [[_picture(image) for image in row] for row in rows]
    width, height = pictures[0][0].size
    grid = Image.new(
        "RGB", (len(rows[0]) * (width + GAP) + GAP, len(rows) * (height + GAP) + GAP), PAPER
    )
    for row, line in enumerate(pictures):
        for column, picture in enumerate(line):
            grid.paste(picture, (GAP + column * (width + GAP), GAP + row * (height + GAP)))
    return grid


def one_an_image(image_ids: Sequence[int | str], count: int) -> list[int]:
    """The first `count` rows of those given, ascending; the second of an image only after the first
    of every other.
    """
    seen: dict[int | str, int] = {}
    turns = []
    for row, image_id in enumerate(image_ids):
        turns.append((seen.get(image_id, 0), row))
        seen[image_id] = seen.get(image_id, 0) + 1
    return sorted(row for _, row in sorted(turns)[:count])


def counterfactual_sheet(
    run: RunFolder,
    path: Path,
    scores: Scores | None = None,
    *,
    title: str | None = None,
    count: int = 24,
    columns: int | None = None,
) -> None:
    """Write a PNG of the first `count` colour questions by key (of all, where none is about
    colour), one an image.

    columns: of cards; None = 3, or 2 of those that show the reconstruction, too. They are not
    selected, and the sheet says so. scores: of the same run, for the line of figures below the
    title; the title is the run's name if none is given. Raises InputError as `RunFolder.records`
    and `RunFolder.images`.
    """
    shown, total, kind = selected(run, count)
    palette, declaration = run.palette or {}, run.declaration
    names = pictures_of(declaration)
    cards = [_card(run, declaration, record, palette) for record in shown]
    order = "by number, of different images first: not selected"
    lines = [f"The first {len(shown)} of {total} {kind} {order}."]
    if scores is not None:
        lines[:0] = [_headline(scores), *filter(None, [counted_apart(scores)])]
    columns = columns or (2 if names == PICTURES else 3)
    _sheet(cards, title or run.name, lines, (*names, DIFFERENCE), min(columns, len(cards))).save(
        path
    )


def pictures_of(declaration: Declaration) -> tuple[str, ...]:
    """A card's pictures: the last was made of the one before it, which is what the explainer's edit
    starts from.
    """
    return PICTURES if declaration.starts_from == "reconstruction" else ("query", "counterfactual")


def selected(run: RunFolder, count: int) -> tuple[list[Record], int, str]:
    """The first `count` records by key, of different images first, of how many, and what those are.

    They are the colour questions; of a run without, all queries.
    """
    records = run.records()
    colors = [
        record for record in records if (record.get("question_type") or "").startswith(COLORS)
    ]
    queries, kind = (colors, "colour questions") if colors else (records, "queries")
    rows = one_an_image([record["image_id"] for record in queries], count)
    return [queries[row] for row in rows], len(queries), kind


def card_pictures(run: RunFolder, count: int = 24) -> tuple[list[Image.Image], list[str]]:
    """The same explanations as a picture each, its images and their difference side by side, and
    what is said of it.
    """
    records, _, _ = selected(run, count)
    declaration = run.declaration
    names = pictures_of(declaration)
    pictures, captions = [], []
    for record in records:
        images = [run.images(name, [record["key"]])[0] for name in names]
        pictures.append(picture_grid([[*images, difference(*images[-2:])]]))
        changed = " -> ".join(answers_of(record))
        caption, outcome = caption_of(run, declaration, record), outcome_of(declaration, record)
        captions.append(f"{caption} {changed} ({outcome}; image {record['image_id']})")
    return pictures, captions


def _headline(scores: Scores) -> str:
    """The headline group's figures in words, as far as there are any."""
    group = scores.groups[0]
    found = {row.metric: row.value for row in scores.rows if row.group == group}
    phrases = {
        ("accuracy_before", "accuracy_after"): "VQA accuracy {:.1f} % before, {:.1f} % after",
        (
            "success_kept",
        ): "{:.1f} % decided otherwise, of those whose reconstruction keeps the decision",
        ("causal_region",): "{:.0f} % of them through a cause",
        ("lamps_turned",): "lights: {:.0f} % turned wholly",
        ("color_changed",): "{:.0f} % of the flipped objects have another colour",
    }
    if (
        "success_kept" not in found
    ):  # those of a search are from the query: mostly what the reconstruction loses
        phrases |= {
            (
                "edit_locality",
                "mask_area",
            ): "{:.0f} % of the edit inside the object ({:.0f} % of the area)",
            ("rms_change",): "RMS change {:.1f} of 255",
        }
    parts = [
        phrase.format(*(found[metric] for metric in metrics))
        for metrics, phrase in phrases.items()
        if found.keys() >= set(metrics)
    ]
    return f"{'All queries' if group == EVERYTHING else group.capitalize()}: " + " · ".join(parts)


def _sheet(
    cards: list[Image.Image], title: str, lines: list[str], headings: Sequence[str], columns: int
) -> Image.Image:
    """The page: title, lines below it, headings over each column, and the cards row by row."""
    width, height = cards[0].size
    line_height = TEXT + 10
    top = MARGIN + TITLE + 16 + len(lines) * line_height + 2 * SMALL + 16
    down = -(-len(cards) // columns)
    size = 2 * MARGIN + columns * (width + PAD) - PAD, top + down * (height + PAD) - PAD + MARGIN
    sheet = Image.new("RGB", size, PAPER)
    draw = ImageDraw.Draw(sheet)
    draw.text((MARGIN, MARGIN), fitted(title, TITLE, size[0] - 2 * MARGIN), INK, font(TITLE))
    for number, line in enumerate(lines):
        place = MARGIN, MARGIN + TITLE + 16 + number * line_height
        draw.text(place, fitted(line, TEXT, size[0] - 2 * MARGIN), GREY, font(TEXT))
    for column in range(columns):
        for tile, heading in enumerate(headings):
            center = MARGIN + column * (width + PAD) + PAD + tile * (TILE + GAP) + TILE // 2
            draw.text((center, top - 10), heading, GREY, font(SMALL), anchor="ms")
    for number, card in enumerate(cards):
        row, column = divmod(number, columns)
        sheet.paste(card, (MARGIN + column * (width + PAD), top + row * (height + PAD)))
    return sheet


def _card(
    run: RunFolder, declaration: Declaration, record: Record, palette: Palette
) -> Image.Image:
    """One explanation: its pictures, the question, both answers, and whether the answer has
    flipped.
    """
    images = [run.images(name, [record["key"]])[0] for name in pictures_of(declaration)]
    pictures = [_picture(image) for image in (*images, difference(*images[-2:]))]
    height = pictures[0].height
    width = 2 * PAD + len(pictures) * (TILE + GAP) - GAP
    strip = _strip(run, record, width - 2 * PAD)
    bottom = 2 * PAD + height + 2 * (TEXT + 12) + 2
    card = Image.new("RGB", (width, bottom + (strip.height + PAD if strip else 0)), PAPER)
    if strip is not None:
        card.paste(strip, (PAD, bottom))
    draw = ImageDraw.Draw(card)
    draw.rounded_rectangle((0, 0, width - 1, card.height - 1), radius=8, outline=FRAME)
    for tile, picture in enumerate(pictures):
        left = PAD + tile * (TILE + GAP)
        card.paste(picture, (left, PAD))
        draw.rectangle((left, PAD, left + TILE - 1, PAD + height - 1), outline=FRAME)
    line = PAD + height + 14 + TEXT // 2
    draw.text(
        (PAD, line),
        fitted(
            caption_of(run, declaration, record) or image_of(declaration, record, run.data),
            TEXT,
            width - 2 * PAD,
        ),
        INK,
        font(TEXT),
        anchor="lm",
    )
    line += TEXT + 12
    label = outcome_of(declaration, record)
    flipped = label == "flipped"
    right = width - PAD - draw.textlength(label, font(SMALL))
    draw.text((right, line), label, FLIPPED if flipped else GREY, font(SMALL), anchor="lm")
    _paste(card, _mark(flipped), (right - 26, line))
    room = (right - 26 - PAD) / 2 - draw.textlength("before: ", font(SMALL)) - 50
    before, after = answers_of(record)
    # Each has what the other leaves, and the dots that no answer has.
    both = 2 * room + sum(_DOT for answer in (before, after) if answer not in palette)
    first, second = (
        max(room, both - font(TEXT).getlength(in_letters(other))) for other in (after, before)
    )
    x = _answer(card, PAD, line, "before:", before, first, palette)
    draw.line((x + 2, line, x + 18, line), GREY, 2)
    draw.polygon(((x + 22, line), (x + 15, line - 5), (x + 15, line + 5)), GREY)
    _answer(card, x + 34, line, "after:", after, second, palette)
    return card


def _strip(run: RunFolder, record: Record, width: int) -> Image.Image | None:
    """The candidates in a row, with the decision about each below it, in green where it is the one
    asked for; None where there are none.
    """
    candidates = candidates_of(record)
    if not candidates:
        return None
    images = [run.images(each.picture, [record["key"]])[0] for each in candidates]
    pictures = [Image.fromarray(to_pixels(image)) for image in images]
    size = tile_size(pictures[0], len(pictures), width, GAP, TILE)
    strip = Image.new("RGB", (width, size[1] + 2 * (TINY + 3)), PAPER)
    draw = ImageDraw.Draw(strip)
    for number, (each, picture) in enumerate(zip(candidates, pictures, strict=True)):
        left = number * (size[0] + GAP)
        strip.paste(picture.resize(size, Image.Resampling.LANCZOS), (left, 0))
        color = FLIPPED if each.success else GREY
        for line, text in enumerate((each.answer, f"{100 * each.probability:.0f} %")):
            place = left + size[0] // 2, size[1] + 2 + line * (TINY + 3)
            draw.text(place, fitted(text, TINY, size[0] + GAP), color, font(TINY), anchor="ma")
    return strip


def outcome_of(declaration: Declaration, record: Record) -> str:
    """What became of the decision, in words."""
    if is_counted_apart(declaration, record):
        return "nothing may change"
    if not is_kept(record):
        return "flipped by the reconstruction"  # which explains nothing
    return "flipped" if record["stored_class"] != record["query_class"] else "not flipped"


def answers_of(record: Record) -> tuple[str, str]:
    """What the model says before and after: the answers, or without names for them the numbers of
    the classes.
    """
    before, after = record.get("answer_before"), record.get("answer_after")
    classes = record["query_class"], record["stored_class"]
    return str(classes[0] if before is None else before), str(
        classes[1] if after is None else after
    )


def region_moves(declaration: Declaration, record: Record) -> list[float]:
    """How far each region moved, where the explainer says so; 0 also where that is no number."""
    column = declaration.region_column
    moves = None if column is None else record.get(column.name)
    return [moved if 0 < moved < math.inf else 0.0 for moved in moves or []]


def region_names(run: RunFolder, count: int) -> list[str]:
    """What the first `count` regions are called, and all that the run has a name for."""
    names = [str(name) for name in run.data.get("region_names") or []]
    return [*names, *(f"region {index}" for index in range(len(names), count))]


def caption_of(run: RunFolder, declaration: Declaration, record: Record) -> str:
    """The question, or the region that was moved most."""
    if moves := region_moves(declaration, record):
        if not any(moves):
            return "no region changed"
        most = region_names(run, len(moves))[moves.index(max(moves))]
        return f"changed most: {most.replace('_', ' ')}"
    return record.get("question") or ""


def image_of(
    declaration: Declaration, record: Record, data: Mapping[str, Any] = NOTHING_SAID
) -> str:
    """Which image it is, and what by the data set's label, where one is known; data: data.json."""
    known, names = true_class(record, declaration, data), declaration.class_names
    label = f", labelled {names[known]}" if known is not None and known < len(names) else ""
    return f"image {record['image_id']}{label}"


def _answer(
    card: Image.Image, x: float, line: float, label: str, answer: str, room: float, palette: Palette
) -> float:
    """Write an answer with a dot of its colour, if it names one; returns where it ends."""
    draw = ImageDraw.Draw(card)
    draw.text((x, line), label, GREY, font(SMALL), anchor="lm")
    x += draw.textlength(f"{label} ", font(SMALL)) + 2
    if answer in palette:
        _paste(card, _disc(palette[answer]), (x, line))
        x += _DOT
    text = fitted(answer, TEXT, room)
    draw.text((x, line), text, INK, font(TEXT), anchor="lm")
    return x + draw.textlength(text, font(TEXT)) + 10


def _picture(image: Tensor) -> Image.Image:
    """An image (3, H, W) in [-1, 1], `TILE` wide: if small in crisp pixels, if large reduced."""
    picture = Image.fromarray(to_pixels(image))
    size = TILE, max(1, round(TILE * picture.height / picture.width))
    if picture.width >= TILE:
        return picture.resize(size, Image.Resampling.LANCZOS)
    # Enlarged in whole steps first: 160 is no multiple of 64, and pixels of unlike sizes look like
    # an artefact.
    whole = TILE // picture.width + 1
    enlarged = picture.resize(
        (picture.width * 4 * whole, picture.height * 4 * whole), Image.Resampling.NEAREST
    )
    return enlarged.resize(size, Image.Resampling.BOX)


_DOT = 20  # the width of the dot before an answer, in pixels
# Dots and ticks are drawn four times as large, and reduced: Pillow's ellipses have no soft edges.
_FINE = 4


def _disc(color: tuple[int, int, int] | str, size: int = 14) -> Image.Image:
    fine = Image.new("RGBA", (size * _FINE, size * _FINE))
    ImageDraw.Draw(fine).ellipse((0, 0, size * _FINE - 1, size * _FINE - 1), color)
    return fine.reduce(_FINE)


def _mark(flipped: bool) -> Image.Image:
    """A green disc with a tick, or a grey one with a bar."""
    fine = _disc(FLIPPED if flipped else KEPT, size=18 * _FINE)
    stroke = [(18, 37), (31, 50), (54, 24)] if flipped else [(20, 36), (52, 36)]
    ImageDraw.Draw(fine).line(stroke, PAPER, width=8, joint="curve")
    return fine.reduce(_FINE)


def _paste(card: Image.Image, mark: Image.Image, place: tuple[float, float]) -> None:
    """Put a mark on the card, its left edge and its middle at `place`."""
    card.paste(mark, (round(place[0]), round(place[1] - mark.height / 2)), mark)
