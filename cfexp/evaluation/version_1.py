"""Run folders of version 1, and of somebody else's images: what such a folder declares, by its
records and its config.

Its explainers were the VQA generator, which edits the query, and STEEX, whose records have a
`code_distance`.
"""

from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

import yaml  # type: ignore[import-untyped]

from cfexp.declaration import Column, Declaration, Shown
from cfexp.errors import InputError

_DISTANCE = Column(
    "code_distance",
    "the l2 norm of the codes' change",
    summary="mean",
    counted="searches",
    shown=Shown("code\ndistance", 2, panel="distance of the codes"),
)
_STEP = Column(
    "flip_step",
    "after how many steps the decision is the one asked for; -1 = never, or by the last step",
    unit="steps",
    summary="mean",
    counted="successful searches",
    successes_only=True,
    known_from=0,
    shown=Shown("steps to\nflip"),
)
_OF_SEARCHES = (
    Column("reconstruction_class", "what the decision model says of the reconstruction"),
    _DISTANCE,
    _STEP,
    Column(
        "region_change",
        "the l2 norm of each region's code's change",
        ("R",),
        by_region="region_codes_",
    ),
    Column(
        "regions_absent", "the query has none of the regions that may change", counted_apart=True
    ),
    Column(
        "sweep_success",
        "of each region alone, and each group: flips; -1 = the query has none",
        ("U",),
    ),
    Column("sweep_distance", "`code_distance` of those searches", ("U",)),
    Column("sweep_flip_step", "`flip_step` of those searches", ("U",)),
    Column("sweep_smallest_set", "which regions together suffice; none where all do not", ("R",)),
)


def declaration_of(folder: Path, records: Iterable[Mapping[str, Any]]) -> Declaration:
    """The declaration of a run in `folder` that has none; raises InputError for a config.yaml that
    cannot be read.
    """
    if not any(record.get("code_distance") is not None for record in records):
        with suppress(InputError):  # somebody else's folder may hold any file of that name
            return Declaration(label=_config(folder / "config.yaml").get("label"))
        return Declaration()
    config = _config(folder / "config.yaml")
    explainer = config.get("explainer") or {}
    regions = explainer.get("regions")
    return Declaration(
        explainer="STEEX",
        starts_from="reconstruction",
        columns=_OF_SEARCHES,
        by_direction=True,
        class_names=tuple(map(str, explainer.get("class_names") or ())),
        label=config.get("label"),
        regions=None if regions is None else tuple(regions),
        region_groups=tuple(explainer.get("region_groups") or ()),
    )


def _config(path: Path) -> dict[str, Any]:
    if not path.is_file():
        return {}
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise InputError(f"{path}: cannot be read ({' '.join(str(error).split())})") from None
    return config if isinstance(config, dict) else {}
