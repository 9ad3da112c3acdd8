"""The full check of a data set, whichever it is."""

from collections.abc import Callable
from functools import partial
from typing import Any

from cfexp.data.checks.faces import check_celeba, check_celebamask_hq
from cfexp.data.checks.findings import Findings
from cfexp.data.checks.inspection import Inspection, inspect_all, inspect_records
from cfexp.data.checks.labels import check_labels
from cfexp.data.checks.own import check_own
from cfexp.data.checks.predicted import check_predicted
from cfexp.data.checks.streets import check_bdd100k
from cfexp.data.checks.vqa import check_vqa
from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.data.label_maps.module import PARTS, LabelMapDataModule
from cfexp.data.own.data_set import OwnDataSet
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.errors import InputError

CHECKS: dict[type, Callable[[Any, Findings], list[Inspection]]] = {
    BDD100kDataModule: check_bdd100k,
    CelebADataModule: check_celeba,
    CelebAMaskHQDataModule: check_celebamask_hq,
    VQADataModule: check_vqa,
}


def check_data(data: Any, findings: Findings, show: bool = True) -> int:
    """Check all the files of a data module's root; returns how many images were opened.

    data: made with `on_bad_sample="skip"`, so that no bad image hides the others. show: a progress
    bar on stderr. Raises InputError for a data module of another kind, and for a root that is not
    there.
    """
    check = next((check for kind, check in CHECKS.items() if isinstance(data, kind)), None)
    if check is None and isinstance(data, LabelMapDataModule):
        check = _check_records
    if check is None:
        raise InputError(f"{type(data).__name__} is none of the data modules that can be checked")
    if data.root is not None and not data.root.is_dir():
        raise InputError(
            f"data.root={data.root} is no folder; give the one that the data set was unpacked into"
        )
    if isinstance(data, OwnDataSet):
        return _check_own(data, findings, show)
    inspections = check(data, findings)
    given = data.root is not None
    about_maps: dict[str, Any] = {}
    if isinstance(data, LabelMapDataModule):
        about_maps = {"looks": data.looks if given else None, "region_names": data.region_names}
        records = {part: Findings().attempt(partial(data.records, part)) or [] for part in PARTS}
        if given:
            check_labels(data, records, findings)
        if check_predicted(data, [record for part in PARTS for record in records[part]], findings):
            about_maps["looks"] = None  # it is said already
    size_problem = data.size_problem if given else _none
    inspect_all(
        inspections,
        findings,
        one_size=bool(about_maps),
        size_problem=size_problem,
        show=show,
        **about_maps,
    )
    return len(inspections)


def _check_own(data: OwnDataSet, findings: Findings, show: bool) -> int:
    """A data set whose regions and labels its own files say, which may be wrong themselves."""
    inspections = check_own(data, findings)
    names = Findings().attempt(lambda: data.region_names) or ()
    inspect_all(
        inspections,
        findings,
        one_size=False,
        size_problem=data.size_problem,
        region_names=names,
        show=show,
    )
    return len(inspections)


def _check_records(data: LabelMapDataModule, findings: Findings) -> list[Inspection]:
    """What opens the images of a data set whose files have no checks of their own."""
    return inspect_records(
        data, {part: findings.attempt(partial(data.records, part)) or [] for part in PARTS}
    )


def _none(size: tuple[int, int]) -> None:
    """Nothing is odd about the images of an embedded world."""
