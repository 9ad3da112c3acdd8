"""The data sets as they are downloaded: zips left packed, folders as they unpack, and what is kept
in the cache.
"""

import pickle
import shutil
import zipfile
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest
import torch

from cfexp.data.faces.celeba import CelebADataModule
from cfexp.data.faces.celebamask_hq import CelebAMaskHQDataModule
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.data.questions.vqa import VQADataModule
from cfexp.data.reading.archives import Archive, ImageFiles
from cfexp.data.streets.bdd_oia import find_actions
from cfexp.errors import InputError
from cfexp.worlds.faces import FaceParameters, cached_aligned_faces, cached_faces


def pack(path: Path, files: Iterable[Path], folder: str = "") -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for file in files:
            archive.write(file, f"{folder}{file.name}")


def vqa(root: Path, cache: Path, **settings: Any) -> VQADataModule:
    given = {
        "image_size": 16,
        "holdout_images": 2,
        "batch_size": 4,
        "eval_batch_size": 4,
        **settings,
    }
    return VQADataModule(str(root), cache_dir=str(cache), **given)


def test_vqa_is_read_from_the_zips_it_is_shipped_in(vqa_root: Path, tmp_path: Path) -> None:
    folder, packed = vqa(vqa_root, tmp_path / "a"), tmp_path / "packed"
    packed.mkdir()
    for split, name in (("train2014", "Train"), ("val2014", "Val")):
        pack(packed / f"{split}.zip", sorted((vqa_root / split).iterdir()), f"{split}/")
        questions = vqa_root / f"OpenEnded_mscoco_{split}_questions.json"
        # Beside it, the shipped zip holds the multiple-choice questions.
        choice = Path(
            shutil.copy(questions, tmp_path / questions.name.replace("OpenEnded", "MultipleChoice"))
        )
        pack(packed / f"Questions_{name}_mscoco.zip", [choice, questions])
        pack(
            packed / f"Annotations_{name}_mscoco.zip",
            [vqa_root / f"mscoco_{split}_annotations.json"],
        )
    zipped = vqa(packed, tmp_path / "b", num_workers=2)
    for one, other in zip(folder.test_dataloader(), zipped.test_dataloader(), strict=True):
        pairs = [pair for pair in zip(one, other, strict=True) if isinstance(pair[0], torch.Tensor)]
        assert all(torch.equal(*pair) for pair in pairs)
    assert folder.question(910) == zipped.question(910)._replace(asked=folder.question(910).asked)
    pack(packed / "val2014.zip", sorted((vqa_root / "val2014").iterdir())[1:])
    with pytest.raises(
        InputError,
        match=r"val2014\.zip: holds no COCO_val2014_000000000091\.jpg, the image of a question",
    ):
        vqa(packed, tmp_path / "b").setup("test")
    (packed / "Questions_Val_mscoco.zip").write_bytes(b"<html>404</html>")
    with pytest.raises(InputError, match=r"Questions_Val_mscoco\.zip: not a readable zip"):
        vqa(packed, tmp_path / "c").setup("test")


def test_celeba_is_read_from_the_folders_it_is_shipped_in(tmp_path: Path) -> None:
    world = cached_aligned_faces(FaceParameters(faces=40), tmp_path / "cache")
    root = tmp_path / "root"
    for name in ("Anno", "Eval", "Img"):
        (root / name).mkdir(parents=True)
    for name in ("list_attr_celeba.txt", "identity_CelebA.txt"):
        shutil.copy(world / name, root / "Anno")
    shutil.copy(world / "list_eval_partition.txt", root / "Eval")
    pack(
        root / "Img" / "img_align_celeba.zip",
        sorted((world / "img_align_celeba").iterdir()),
        "img_align_celeba/",
    )
    flat, shipped = (CelebADataModule(str(each), batch_size=4) for each in (world, root))
    for one, other in zip(flat.test_dataloader(), shipped.test_dataloader(), strict=True):
        assert all(torch.equal(*pair) for pair in zip(one[:5], other[:5], strict=True))
    assert flat.fingerprint == shipped.fingerprint


def test_celebamask_hq_is_found_in_the_folder_that_its_zip_makes(tmp_path: Path) -> None:
    world = cached_faces(FaceParameters(faces=48), tmp_path / "cache")
    (tmp_path / "root").mkdir()
    (tmp_path / "root" / "CelebAMask-HQ").symlink_to(world)
    data = CelebAMaskHQDataModule(
        str(tmp_path / "root"), cache_dir=str(tmp_path), first_test_id=40, holdout_images=8
    )
    data.setup()
    assert len(data.dataset("test")[0].label_map) == 1


@pytest.mark.parametrize(
    "folder", [".", "annotations", "lastframe", "lastframe/labels", "lastframe/data"]
)
def test_actions_lie_in_any_of_the_usual_folders(tmp_path: Path, folder: str) -> None:
    assert find_actions(tmp_path, "val") is None
    path = tmp_path / folder / "val_25k_images_actions.json"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    found = find_actions(tmp_path, "val")
    assert found is not None
    assert found.samefile(path)


def test_a_zip_made_on_a_mac_and_a_copy_for_another_process(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as file:
        file.writestr("a/1.jpg", b"one")
        file.writestr("__MACOSX/a/1.jpg", b"shadow")
    archive = Archive(tmp_path / "a.zip")
    assert archive.read("1.jpg") == b"one"
    assert pickle.loads(pickle.dumps(archive)).read("1.jpg") == b"one"
    with pytest.raises(InputError, match=r"a\.zip: holds no 2\.jpg"):
        archive.read("2.jpg")
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "1.jpg").write_bytes(b"unpacked")
    assert ImageFiles.find(tmp_path / "a").content("1.jpg") == b"unpacked"


def test_the_vocabulary_is_kept_by_the_content_of_the_questions(
    vqa_root: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = sorted(vqa_root.rglob("*"))
    first = vqa(vqa_root, tmp_path / "cache").vocabulary
    (kept,) = (tmp_path / "cache" / "vqa_vocabularies").iterdir()
    assert sorted(vqa_root.rglob("*")) == before
    assert Vocabulary.load(kept) == first
    monkeypatch.setattr(Vocabulary, "build", None)
    data = vqa(vqa_root, tmp_path / "cache")
    assert data.vocabulary == first
    assert data.question_types == ()  # no question was read for it
    monkeypatch.undo()
    monkeypatch.setenv("HOME", str(tmp_path))
    kept.write_bytes(kept.read_bytes()[:99])
    assert vqa(vqa_root, tmp_path / "cache").vocabulary == first == Vocabulary.load(kept)
    assert len(vqa(vqa_root, tmp_path / "cache", num_answers=2).vocabulary.answers) == 2
    assert vqa(vqa_root, tmp_path / "cache", holdout_images=4).vocabulary != first
    path = vqa_root / "mscoco_train2014_annotations.json"
    path.write_text(path.read_text().replace('"red"', '"pink"'))
    assert "pink" in vqa(vqa_root, tmp_path / "cache").vocabulary.answers
    assert len(list(kept.parent.iterdir())) == 4
    (tmp_path / "file").touch()
    assert len(vqa(vqa_root, tmp_path / "file").vocabulary.answers) == 10  # nowhere to keep it
