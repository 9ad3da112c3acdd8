"""The run folder: the one interface between explaining and everything after it.

    explanations/
        {query,reconstruction,counterfactual,truth_mask}/{key}.png    8 bit RGB; masks 1 bit
        label_map/{key}.png      if the explainer uses one: 8 bit grey, each pixel's region number
        candidate_{1,2,...}/{key}.png    further counterfactuals, where it looked for several
        records-{rank}.jsonl     one line an explanation, appended after its pictures are in place
    explanations.parquet         at the end instead of the lines: one row a key, in their order
    explainer.json               what the explainer declares: its columns, what its edits start from
    data.json                    what the data set says of all queries alike, such as its palette

Version 1 had no explainer.json: such a folder is read by `version_1`, as is one of somebody else's
images.

Whatever kills a writer leaves at most one torn last line a process: readers leave it out, the next
writer cuts it off.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from cfexp.declaration import Declaration
from cfexp.errors import InputError
from cfexp.evaluation.version_1 import declaration_of
from cfexp.whole_files import whole_file

Palette = Mapping[str, tuple[int, int, int]]  # colour name -> RGB in 0..255
Record = dict[
    str, Any
]  # what is known of one explanation; "key" is the id of its query, "image_id" its picture's

FORMAT_VERSION = 2
READABLE = {"1", "2"}
VERSION_KEY = b"cfexp.format_version"  # in the Parquet file's metadata


class RunFolder:
    """The explanations under `path`, which need not be there yet; every method that reads raises
    InputError.

    >>> run = RunFolder("runs/steex_driving/default")
    >>> run.name, run.keys()
    ('default', set())
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.explanations = self.path / "explanations"
        self.table = self.path / "explanations.parquet"
        self.declared = self.path / "explainer.json"

    @property
    def name(self) -> str:
        """The last part of the path."""
        return self.path.resolve().name

    @property
    def data(self) -> dict[str, Any]:
        """The content of data.json; empty if there is none."""
        path = self.path / "data.json"
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
        except FileNotFoundError:
            return {}
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: cannot be read ({error})") from None
        if not isinstance(content, dict):
            raise InputError(f"{path}: must hold a JSON object, got {type(content).__name__}")
        return content

    @property
    def palette(self) -> Palette | None:
        """The data set's colour names, from data.json; None if it has none."""
        palette = self.data.get("palette")
        return (
            None
            if palette is None
            else {name: (rgb[0], rgb[1], rgb[2]) for name, rgb in palette.items()}
        )

    def declare(self, declaration: Declaration) -> None:
        """Store what the explainer says of all explanations alike."""
        self.path.mkdir(parents=True, exist_ok=True)
        content = {"format": FORMAT_VERSION, **declaration.to_json()}
        with whole_file(self.declared, _part(self.declared)) as part:
            part.write_text(json.dumps(content, indent=2), encoding="utf-8")

    @property
    def declaration(self) -> Declaration:
        """What the explainer said of all explanations alike; of a folder of version 1, what its
        records tell.
        """
        if not self.declared.is_file():
            return declaration_of(self.path, self._rows().values())
        try:
            return Declaration.from_json(json.loads(self.declared.read_text(encoding="utf-8")))
        except (OSError, ValueError, TypeError, AttributeError) as error:
            raise InputError(f"{self.declared}: cannot be read ({error})") from None

    def keys(self) -> set[int]:
        """The keys of the explanations that are there: none of a run that has not begun."""
        return set(self._rows(["key"]))

    def records(self) -> list[Record]:
        """One record an explanation, in the order of the keys, of a finished run or of one that was
        stopped.

        Raises InputError if `path` is no run, if nothing was explained in it yet, and for a damaged
        file.
        """
        rows = self._rows()
        if not rows and not self._lines():
            expected = f"{self.explanations / 'records-0.jsonl'} or {self.table}"
            raise InputError(f"no explanations in {self.path}: expected {expected}")
        if not rows:
            raise InputError(
                f"{self.path}: the run was stopped before its first explanation; start it again"
            )
        return [rows[key] for key in sorted(rows)]

    def images(self, name: str, keys: Sequence[int]) -> Tensor:
        """The pictures `name` ("query", "reconstruction", "counterfactual") of B keys: (B, 3, H, W)
        in [-1, 1]; raises as `pixels`.
        """
        return from_pixels(self.pixels(name, keys))

    def pixels(self, name: str, keys: Sequence[int]) -> NDArray[np.uint8]:
        """The same as they are stored: (B, H, W, 3).

        Raises InputError for a missing or damaged file, and for one of another size than the first.
        """
        return self._pictures(name, keys, "RGB")

    def masks(self, keys: Sequence[int]) -> Tensor:
        """The truth masks of B keys whose record says has_truth_mask: (B, 1, H, W) bool; raises as
        `images`.
        """
        return torch.from_numpy(self._pictures("truth_mask", keys, "1"))[:, None]

    def label_map(self, key: int) -> NDArray[np.uint8] | None:
        """The region of each pixel (H, W), as in data.json's region_names; None where none is
        stored.

        Raises InputError for a damaged file.
        """
        return (
            self._pictures("label_map", [key], "L")[0]
            if self.picture("label_map", key).is_file()
            else None
        )

    def writer(self, rank: int = 0) -> "ExplanationStore":
        """What one process appends its explanations with."""
        return ExplanationStore(self, rank)

    def finish(self) -> None:
        """Merge the records of all processes, which must have closed their writers, into
        explanations.parquet.

        The lines go when the table is in place, so a kill in between loses nothing; without lines
        this is a no-op. Raises as `records`.
        """
        if not self._lines():
            return
        records = self.records()
        columns = dict.fromkeys(name for record in records for name in record)
        content = pa.table({name: [record.get(name) for record in records] for name in columns})
        content = content.replace_schema_metadata({VERSION_KEY: str(FORMAT_VERSION).encode()})
        with whole_file(self.table, _part(self.table)) as part:
            pq.write_table(content, part)
        for path in self._lines():
            path.unlink()

    def save_grid(self, epoch: int, grid: Image.Image) -> Path:
        """Store a page of pictures made during training as grids/epoch_{epoch}.png."""
        path = self.path / "grids" / f"epoch_{epoch:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grid.save(path)
        return path

    def picture(self, name: str, key: int) -> Path:
        """Where the picture `name` of an explanation lies."""
        folder = self.explanations / name
        if name == "label_map" and not folder.is_dir() and (self.explanations / "layout").is_dir():
            folder = self.explanations / "layout"  # as runs of cfexp 0.1 call it
        return folder / f"{key}.png"

    def _lines(self) -> list[Path]:
        return sorted(self.explanations.glob("records-*.jsonl"))

    def _rows(self, columns: list[str] | None = None) -> dict[int, Record]:
        """The records by key. columns: all that need be read of a finished run's."""
        rows = [*_read_table(self.table, columns)] if self.table.exists() else []
        for path in self._lines():
            rows += _read_lines(path)
        return {row["key"]: row for row in rows}

    def _pictures(self, name: str, keys: Sequence[int], mode: str) -> NDArray[Any]:
        pictures = [_read_png(self.picture(name, key), mode) for key in keys]
        for key, picture in zip(keys, pictures, strict=True):
            if picture.shape != pictures[0].shape:
                both = picture.shape[:2], pictures[0].shape[:2]
                size, first_size = (f"{width}x{height}" for height, width in both)
                problem = f"is {size} pixels, {self.picture(name, keys[0])} {first_size}"
                raise InputError(f"{self.picture(name, key)} {problem}; a run has one size")
        return np.stack(pictures)


class ExplanationStore:
    """Appends the explanations of one process to a run folder. `keys`: those that the folder holds,
    of all processes.

    What is left of a line that a killed process did not finish is cut off. Raises InputError as
    `RunFolder.keys`.
    """

    def __init__(self, run: RunFolder, rank: int) -> None:
        self.run = run
        self.keys = run.keys()
        run.explanations.mkdir(parents=True, exist_ok=True)
        path = run.explanations / f"records-{rank}.jsonl"
        self._file = path.open("ab")
        self._file.truncate(path.read_bytes().rfind(b"\n") + 1)

    def add(self, record: Record, images: Mapping[str, NDArray[Any]]) -> None:
        """Store an explanation: its pictures, (H, W, 3) or (H, W) uint8 or (H, W) bool by name, and
        then its record.

        Raises ValueError for a key that is there already, and for other pictures.
        """
        key = record["key"]
        if key in self.keys:
            raise ValueError(f"key {key} is stored already")
        for name, pixels in images.items():
            if (pixels.dtype.name, pixels.shape[2:]) not in (
                ("uint8", (3,)),
                ("uint8", ()),
                ("bool", ()),
            ):
                kinds = "(H, W, 3) uint8, (H, W) uint8 or (H, W) bool"
                raise ValueError(f"{name} must be {kinds}, got {pixels.shape} {pixels.dtype}")
            path = self.run.picture(name, key)
            path.parent.mkdir(exist_ok=True)
            with whole_file(path, _part(path)) as part:
                Image.fromarray(pixels).save(part, format="PNG")
        self._file.write(json.dumps(record).encode("ascii") + b"\n")
        self._file.flush()
        self.keys.add(key)

    def close(self) -> None:
        """Close the file of the records."""
        self._file.close()

    def __enter__(self) -> "ExplanationStore":
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.close()


def to_pixels(images: Tensor) -> NDArray[np.uint8]:
    """Images (..., 3, H, W) in [-1, 1] as they are stored: (..., H, W, 3) uint8."""
    levels = ((images.detach().float().clamp(-1, 1) + 1) * 127.5).round().to(torch.uint8)
    pixels: NDArray[np.uint8] = levels.movedim(-3, -1).contiguous().cpu().numpy()
    return pixels


def from_pixels(pixels: NDArray[np.uint8]) -> Tensor:
    """What `to_pixels` made, or files hold: (..., H, W, 3) uint8 to (..., 3, H, W) in [-1, 1]."""
    return torch.from_numpy(pixels).movedim(-1, -3).float().div_(127.5).sub_(1)


def _part(path: Path) -> Path:
    """Where a file of a run is written: by one process, over what a killed one left there."""
    return path.with_suffix(".part")


def _read_lines(path: Path) -> list[Record]:
    """A records file's whole lines; raises InputError for a damaged one that is not the last."""
    *lines, _ = path.read_bytes().split(
        b"\n"
    )  # what follows the last line feed is nothing, or a torn line
    rows = []
    for number, line in enumerate(lines, 1):
        try:
            row = json.loads(line)
        except ValueError as error:
            raise InputError(
                f"{path}: line {number} is damaged ({error}); delete that line, and start again"
            ) from None
        if not isinstance(row, dict) or type(row.get("key")) is not int:
            raise InputError(
                f"{path}: line {number} is no record with an integer key; delete that line"
            )
        rows.append(row)
    return rows


def _read_table(path: Path, columns: list[str] | None) -> list[Record]:
    try:
        content = pq.read_table(path, columns=columns)
    except (OSError, pa.ArrowException) as error:
        raise InputError(f"{path}: damaged Parquet ({str(error).splitlines()[0]})") from None
    version = (content.schema.metadata or {}).get(VERSION_KEY, b"").decode()
    if version not in READABLE:
        found = f"format version {version!r}, this cfexp reads {' and '.join(sorted(READABLE))}"
        raise InputError(f"{path}: {found}; explain again, or use the cfexp that wrote it")
    rows: list[Record] = content.to_pylist()
    return rows


def _read_png(path: Path, mode: str) -> NDArray[Any]:
    try:
        with Image.open(path) as image:
            return np.asarray(image.convert(mode))
    except FileNotFoundError:
        raise InputError(f"{path} is missing, though the run's records name it") from None
    except (
        OSError,
        SyntaxError,
        ValueError,
    ) as error:  # SyntaxError is Pillow's for a broken chunk
        raise InputError(f"{path}: damaged PNG ({error})") from None
