"""The data configs named after the four data sets: the paper's splits and sizes, and no root but a
given one.
"""

from pathlib import Path
from typing import Any

import pytest
from hydra import compose, initialize_config_dir
from hydra.utils import instantiate
from omegaconf.errors import OmegaConfBaseException

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.streets.bdd100k import BDD100kDataModule
from cfexp.run.configuration import register_resolvers
from tests.data.damage import findings_of

CONF = Path(__file__).parents[2] / "conf"
REAL = CONF.parents[1] / "shared" / "real"


def composed(name: str, *overrides: str) -> Any:
    register_resolvers()
    with initialize_config_dir(str(CONF), version_base="1.3"):
        return compose("train", overrides=[f"data={name}", *overrides])


SETTINGS: dict[str, tuple[type[Any], dict[str, Any]]] = {
    "celeba": (
        CelebADataModule,
        {"image_size": (128, 128), "crop": 150, "class_names": ("Male", "Smiling", "Young")},
    ),
    "celebamask_hq": (
        CelebAMaskHQDataModule,
        {"image_size": (256, 256), "split": "paper", "first_test_id": 28_000, "layouts": None},
    ),
    "bdd100k": (
        BDD100kDataModule,
        {"image_size": (256, 512), "source": "segmentation", "layouts": "ground_truth"},
    ),
    "vqav1": (VQADataModule, {"image_size": 448, "num_answers": 2000}),
}


@pytest.mark.parametrize("name", SETTINGS)
def test_the_papers_sizes_are_the_defaults(name: str, tmp_path: Path) -> None:
    kind, settings = SETTINGS[name]
    data: Any = instantiate(
        composed(name, f"data.root={tmp_path}", "data.on_bad_sample=skip", "seed=3").data
    )
    assert isinstance(data, kind)
    assert {key: getattr(data, key) for key in settings} == settings
    assert (data.root, data.on_bad_sample, data.seed) == (tmp_path, "skip", 3)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_root_must_be_given(name: str) -> None:
    with pytest.raises(OmegaConfBaseException, match=r"data\.root must be given: data\.root=VALUE"):
        _ = composed(name).data.root


@pytest.mark.slow
@pytest.mark.skipif(not REAL.is_dir(), reason="../shared/real is not here")
def test_the_real_pieces_give_notes_only(tmp_path: Path) -> None:
    hq = CelebAMaskHQDataModule(
        str(REAL / "CelebAMask-HQ"),
        cache_dir=str(tmp_path),
        first_test_id=20_000,
        holdout_images=9,
        on_bad_sample="skip",
    )
    celeba = CelebADataModule(
        str(REAL / "CelebA"), attributes=["Smiling", "Young"], on_bad_sample="skip"
    )
    for data in (hq, celeba):
        findings = list(findings_of(data))
        assert findings
        assert all(finding.severity == "note" for finding in findings), findings
