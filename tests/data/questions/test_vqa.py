import json
import pickle
from collections.abc import Iterable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import pytest
import torch
from lightning import LightningModule, Trainer
from PIL import Image
from torch import Tensor
from torch.utils.data import DataLoader

from cfexp.data.batch import VQABatch
from cfexp.data.questions.dataset import collate
from cfexp.data.questions.files import image_path, read_image, read_split
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.data.questions.vqa import VQADataModule
from tests.data.vqa_writer import dump, load

REAL = Path(__file__).parents[4] / "shared" / "real" / "vqa_v1"


def data_module(root: Path | None, **settings: Any) -> VQADataModule:
    given = {
        "image_size": 32,
        "num_answers": 4,
        "batch_size": 4,
        "eval_batch_size": 5,
        "holdout_images": 2,
        **settings,
    }
    return VQADataModule(None if root is None else str(root), **given)


def question_ids(batches: Iterable[VQABatch]) -> list[int]:
    return [int(i) for batch in batches for i in batch.question_id]


# Images


def test_an_image_of_the_right_size_keeps_its_pixels_and_8_bits_survive_the_batch(
    vqa_root: Path,
) -> None:
    path = vqa_root / "train2014" / "COCO_train2014_000000000011.jpg"
    noise = np.random.default_rng(0).integers(0, 256, (32, 32, 3), dtype=np.uint8)
    noise[0, :2] = [[0] * 3, [255] * 3]
    Image.fromarray(noise).save(path, format="PNG")  # lossless, and read by its content
    batch = data_module(vqa_root).dataset("train")[0]
    assert batch.image.dtype == torch.float32
    assert [batch.image.min().item(), batch.image.max().item()] == [-1, 1]
    restored = ((batch.image[0] + 1) * 127.5).round().byte()
    assert np.array_equal(restored.permute(1, 2, 0).numpy(), noise)


@pytest.mark.parametrize("size", [(90, 30), (30, 90), (30, 30), (7, 5)])
def test_the_centred_square_is_taken(tmp_path: Path, size: tuple[int, int]) -> None:
    width, height = size
    side = min(size)
    pixels = np.zeros(
        (height, width, 3), dtype=np.uint8
    )  # black outside of the square, white inside
    top, left = (height - side) // 2, (width - side) // 2
    pixels[top : top + side, left : left + side] = 255
    Image.fromarray(pixels).save(tmp_path / "image.jpg", format="PNG")
    image = read_image(tmp_path / "image.jpg", 15)
    assert image.shape == (3, 15, 15)
    assert image[:, 1:-1, 1:-1].min() == 255


@pytest.mark.parametrize(
    ("mode", "kind"), [("L", "JPEG"), ("CMYK", "JPEG"), ("P", "PNG"), ("RGBA", "PNG")]
)
def test_every_image_mode_becomes_rgb(tmp_path: Path, mode: str, kind: str) -> None:
    grey = Image.new("RGB", (20, 20), (120, 120, 120))
    (grey.quantize(4) if mode == "P" else grey.convert(mode)).save(
        tmp_path / "image.jpg", format=kind
    )
    image = read_image(tmp_path / "image.jpg", 8).float()
    assert image.shape == (3, 8, 8)
    assert (image - 120).abs().max() <= 3


# Batches


def test_a_batch_is_its_questions(vqa_root: Path) -> None:
    module = data_module(vqa_root, max_question_length=6)
    module.setup("test")
    batches = list(module.test_dataloader())
    assert [len(batch.answer) for batch in batches] == [5, 5, 2]
    assert question_ids(batches) == [image * 10 + k for image in range(91, 95) for k in range(3)]
    first = batches[0]
    assert [first.image.shape, first.question.shape] == [(5, 3, 32, 32), (5, 6)]
    assert [column.dtype for column in first[:-1]] == [torch.float32] + [torch.int64] * 5
    assert first.question_length.tolist() == [5, 4, 6, 5, 4]
    assert first.image_id.tolist() == [91, 91, 91, 92, 92]
    vocabulary = module.vocabulary
    for row, question_id in enumerate(first.question_id.tolist()):
        question = module.question(question_id)
        ids = vocabulary.encode(question.question, 6)
        assert first.question[row].tolist() == ids + [0] * (6 - len(ids))
        assert first.answer[row] == vocabulary.answer_id(question.multiple_choice_answer)
        path = image_path(vqa_root, "val2014", question.image_id)
        assert torch.equal(first.image[row], read_image(path, 32).float() / 127.5 - 1)
    assert -1 in first.answer.tolist()  # kept for evaluation


def test_caching_grouping_workers_and_pickling_change_no_row(vqa_root: Path) -> None:
    plain = data_module(vqa_root).dataset("val")
    rows = collate([plain[i] for i in range(len(plain))])
    assert len(plain) == 6
    loaders = [
        DataLoader(pickle.loads(pickle.dumps(plain)), batch_size=4, collate_fn=collate),
        data_module(vqa_root, cache_images=True).val_dataloader(),
        data_module(vqa_root, num_workers=1).val_dataloader(),
    ]
    for loader in loaders:
        for expected, given in zip(cast(Any, rows), collate(list(cast(Any, loader))), strict=True):
            if isinstance(expected, torch.Tensor) and isinstance(given, torch.Tensor):
                assert torch.equal(expected, given)
            else:
                assert expected == given
    assert question_ids([rows]) == [170, 171, 172, 180, 181, 182]


def test_a_grouped_batch_holds_all_questions_of_its_images(vqa_root: Path) -> None:
    module = data_module(vqa_root, group_by_image=True, images_per_batch=2, num_answers=100)
    batches = list(module.train_dataloader())
    assert [len(batch.answer) for batch in batches] == [6, 6, 6]
    assert all(len(batch.image_id.unique()) == 2 for batch in batches)
    assert sorted(question_ids(batches)) == [
        image * 10 + k for image in range(11, 17) for k in range(3)
    ]


# Parts


def test_the_parts_share_no_image_and_test_is_all_of_val2014(vqa_root: Path) -> None:
    module = data_module(vqa_root)
    module.prepare_data()
    module.setup()
    images = {
        part: set(module.dataset(part).image_id.tolist()) for part in ("train", "val", "test")
    }
    assert images == {"train": set(range(11, 17)), "val": {17, 18}, "test": {91, 92, 93, 94}}
    # Vocabulary of 4: no, the three colours; the 6 numbers are dropped from training only.
    assert module.facts["num_answers"] == 4
    assert len(module.dataset("train")) == 12
    assert module.dropped_questions == 6
    assert module.dataset("train").answer.min() == 0
    assert len(module.dataset("val")) == 6
    assert module.question_types == ("how many", "is there a", "what color is the")
    assert module.predict_dataloader().dataset is module.test_dataloader().dataset


def test_setup_reads_what_its_stage_needs_once(vqa_root: Path) -> None:
    module = data_module(vqa_root)
    module.setup("fit")
    (vqa_root / "mscoco_train2014_annotations.json").unlink()
    module.setup("fit")
    module.setup("validate")
    vocabulary_path = vqa_root / "vocabulary.json"
    module.vocabulary.save(vocabulary_path)
    explaining = data_module(vqa_root, vocabulary_path=str(vocabulary_path))
    explaining.setup("predict")  # needs nothing of train2014
    assert explaining.vocabulary == module.vocabulary


def test_no_validation_without_held_out_images(vqa_root: Path) -> None:
    module = data_module(vqa_root, holdout_images=0)
    module.setup("fit")
    assert module.val_dataloader() == []
    assert set(module.dataset("train").image_id.tolist()) == set(range(11, 19))


def test_training_on_some_question_types_keeps_the_vocabulary(vqa_root: Path) -> None:
    module = data_module(vqa_root, train_question_types=["what color", "why"], num_answers=100)
    assert [i % 10 for i in module.dataset("train").question_id.tolist()] == [0] * 6
    assert module.vocabulary == data_module(vqa_root, num_answers=100).vocabulary


@pytest.mark.parametrize(("limit", "count"), [(1, 3), (3, 3), (4, 6), (12, 12), (1000, 12)])
def test_a_limited_test_keeps_whole_images(vqa_root: Path, limit: int, count: int) -> None:
    assert len(data_module(vqa_root, max_test_questions=limit).dataset("test")) == count


def test_a_byte_order_mark_crlf_and_multiple_choice_files_are_accepted(vqa_root: Path) -> None:
    expected = data_module(vqa_root).dataset("test").question
    path = vqa_root / "OpenEnded_mscoco_val2014_questions.json"
    text = json.dumps(load(path), indent=1).replace("\n", "\r\n")
    path.write_bytes(b"\xef\xbb\xbf" + text.encode())
    path.rename(vqa_root / "MultipleChoice_mscoco_val2014_questions.json")
    assert torch.equal(data_module(vqa_root).dataset("test").question, expected)


def test_the_order_of_the_files_does_not_matter(vqa_root: Path) -> None:
    expected = data_module(vqa_root).dataset("test").question_id
    for name, key in (
        ("OpenEnded_mscoco_val2014_questions", "questions"),
        ("mscoco_val2014_annotations", "annotations"),
    ):
        content = load(vqa_root / f"{name}.json")
        content[key].reverse()
        dump(vqa_root / f"{name}.json", content)
    assert torch.equal(data_module(vqa_root).dataset("test").question_id, expected)


# The order of training


class Recorder(LightningModule):
    """Trains one number and notes what it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(()))
        self.seen: dict[int, list[int]] = {}

    def training_step(self, batch: VQABatch) -> Tensor:
        self.seen.setdefault(self.current_epoch, []).extend(batch.question_id.tolist())
        return self.weight * batch.image.mean()

    def configure_optimizers(self) -> torch.optim.Optimizer:
        return torch.optim.SGD(self.parameters(), lr=0.1)


def fit(
    module: VQADataModule, folder: Path, epochs: int, checkpoint: str | None = None
) -> dict[int, list[int]]:
    recorder = Recorder()
    quiet: dict[str, Any] = dict.fromkeys(
        ("logger", "enable_progress_bar", "enable_model_summary"), False
    )
    trainer = Trainer(
        max_epochs=epochs,
        accelerator="cpu",
        devices=1,
        default_root_dir=folder,
        enable_checkpointing=False,
        **quiet,
    )
    trainer.fit(recorder, datamodule=module, ckpt_path=checkpoint)
    if checkpoint is None:
        trainer.save_checkpoint(folder / "last.ckpt")
    return recorder.seen


@pytest.mark.parametrize(
    "settings", [{}, {"group_by_image": True, "images_per_batch": 2}, {"num_workers": 1}]
)
@pytest.mark.filterwarnings("ignore")
def test_a_resumed_run_sees_what_an_undisturbed_one_does(
    vqa_root: Path, tmp_path: Path, settings: dict[str, Any]
) -> None:
    whole = fit(data_module(vqa_root, **settings), tmp_path, epochs=4)
    assert len({tuple(ids) for ids in whole.values()}) == 4  # another order each epoch
    assert {len(set(ids)) for ids in whole.values()} == {12}
    assert fit(data_module(vqa_root, **settings), tmp_path, epochs=2) == {
        k: whole[k] for k in (0, 1)
    }
    resumed = fit(
        data_module(vqa_root, **settings),
        tmp_path,
        epochs=4,
        checkpoint=str(tmp_path / "last.ckpt"),
    )
    assert resumed == {k: whole[k] for k in (2, 3)}


def test_another_seed_is_another_order(vqa_root: Path) -> None:
    first, again, other = (
        question_ids(data_module(vqa_root, seed=s).train_dataloader()) for s in (0, 0, 1)
    )
    assert first == again != other


def test_ddp_processes_share_the_images_out(vqa_root: Path) -> None:
    seen: list[set[int]] = []
    for rank in range(2):
        module = data_module(vqa_root, group_by_image=True, images_per_batch=3)
        module.trainer = cast(Any, SimpleNamespace(world_size=2, global_rank=rank, current_epoch=0))
        seen.append({i for batch in module.train_dataloader() for i in batch.image_id.tolist()})
    assert seen[0] | seen[1] == set(range(11, 17))
    assert not seen[0] & seen[1]


# What is known beside the batch


def test_the_truth_mask_follows_the_image(vqa_root: Path) -> None:
    for size in (32, 16, 64):
        module = data_module(vqa_root, image_size=size)
        mask = module.truth_mask(910)
        assert mask is not None
        assert mask.shape == (size, size)
        assert mask.dtype == np.bool_
        batch = module.dataset("test")[0]
        coloured = (
            batch.image[0].max(0).values - batch.image[0].min(0).values
        ) > 0.3  # the rest is grey
        overlap = (mask & coloured.numpy()).sum() / (mask | coloured.numpy()).sum()
        assert overlap > 0.8
    expected = np.zeros((32, 32), dtype=bool)
    expected[4:12, 4:12] = True  # 8 columns are cropped on the left
    assert np.array_equal(cast(Any, data_module(vqa_root).truth_mask(910)), expected)


def test_the_truth_may_be_empty_or_unknown(vqa_root: Path) -> None:
    module = data_module(vqa_root)
    nothing = module.truth_mask(911)
    assert nothing is not None
    assert not nothing.any()
    assert module.truth_mask(912) is None
    assert module.palette == {"red": (200, 40, 40), "green": (40, 180, 60), "blue": (40, 60, 200)}
    asked = module.question(110).asked
    assert asked is not None
    assert (asked[0].shape, asked[0].color, asked[0].box) == ("square", "blue", (12, 4, 8, 8))
    for split in ("train2014", "val2014"):
        (vqa_root / f"scene_graphs_{split}.json").unlink()
    photographs = data_module(vqa_root)
    assert photographs.palette is None
    assert photographs.truth_mask(910) is None


def test_the_fingerprint_is_of_the_content(vqa_root: Path) -> None:
    before = data_module(vqa_root).fingerprint
    assert data_module(vqa_root, image_size=64).fingerprint == before
    assert len(before) == 12
    path = vqa_root / "mscoco_val2014_annotations.json"
    path.write_text(path.read_text().replace("yes", "YES", 1))
    assert data_module(vqa_root).fingerprint != before


def test_the_embedded_scenes_need_no_root(tmp_path: Path) -> None:
    world = {"train_scenes": 10, "val_scenes": 3}
    module = data_module(
        None, world=world, cache_dir=str(tmp_path), image_size=64, cache_images=True, num_answers=50
    )
    module.prepare_data()
    module.setup()
    batch = next(iter(module.train_dataloader()))
    assert batch.image.shape == (4, 3, 64, 64)
    assert module.palette is not None
    assert module.fingerprint.startswith("scenes-")
    color_question = next(
        module.question(i)
        for i in module.dataset("test").question_id.tolist()
        if module.question(i).question_type == "what color is the"
    )
    mask = module.truth_mask(color_question.question_id)
    assert mask is not None
    assert 20 < mask.sum() < 1000


@pytest.mark.skipif(not REAL.is_dir(), reason="the real pieces of VQAv1 are not here")
def test_real_questions_about_real_images(tmp_path: Path) -> None:
    questions = load(REAL / "OpenEnded_mscoco_val2014_questions.json")["questions"]
    people = [{"answer": "yes", "answer_id": n} for n in range(1, 11)]
    rest = {
        "question_type": "what",
        "answer_type": "other",
        "multiple_choice_answer": "yes",
        "answers": people,
    }
    annotations = [
        {"question_id": q["question_id"], "image_id": q["image_id"], **rest} for q in questions
    ]
    dump(tmp_path / "mscoco_val2014_annotations.json", {"annotations": annotations})
    (tmp_path / "OpenEnded_mscoco_val2014_questions.json").symlink_to(
        REAL / "OpenEnded_mscoco_val2014_questions.json"
    )
    (tmp_path / "val2014").symlink_to(REAL)
    Vocabulary.build(read_split(tmp_path, "val2014")[0].values(), 10).save(
        tmp_path / "vocabulary.json"
    )
    module = data_module(tmp_path, vocabulary_path=str(tmp_path / "vocabulary.json"), image_size=96)
    batches = list(module.test_dataloader())
    assert sorted(question_ids(batches)) == sorted(q["question_id"] for q in questions)
    assert batches[0].image.shape == (5, 3, 96, 96)
    assert all(batch.question_length.min() >= 2 for batch in batches)
