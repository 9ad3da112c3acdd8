"""VQAv1 (Antol et al., ICCV 2015) or VQAv2 (Goyal et al., CVPR 2017), or the embedded scenes, as
batches.
"""

import contextlib
import logging
from collections.abc import Mapping, Sequence
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch.utils.data import DataLoader, Dataset

from cfexp.data.base import Palette, Part, QueryDataModule
from cfexp.data.batch import VQABatch
from cfexp.data.checks.content import FIRST, Seen, content_of, enlarged, first_look, say_first
from cfexp.data.questions.dataset import VQADataset, collate
from cfexp.data.questions.files import (
    SPLITS,
    Split,
    VQAQuestion,
    find_version,
    fingerprint_files,
    fit_square,
    read_split,
)
from cfexp.data.questions.selection import answerable, first_images, hold_out, of_types
from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.data.reading.images import read_rgb
from cfexp.data.reading.loaders import EpochSampler, ShareOf, make_loader
from cfexp.data.reading.settings import check_at_least
from cfexp.data.reading.skipping import OnBadSample, Replacing, check_on_bad_sample, log_skipped
from cfexp.errors import InputError
from cfexp.worlds.scenes import SceneParameters, cached_scenes, decode_mask

_PARTS: dict[str | None, tuple[Part, ...]] = {
    "fit": ("train", "val"),
    "validate": ("val",),
    "test": ("test",),
    "predict": ("test",),
    None: ("train", "val", "test"),
}
_log = logging.getLogger(__name__)


class VQADataModule(QueryDataModule):
    """Training questions of train2014, validation on its last `holdout_images` images by id, test
    on all of val2014.

    `root`: a folder in VQAv1's layout or in VQAv2's; None = the embedded scenes of the parameters
    `world`, kept in `cache_dir`. `train_question_types`: prefixes of the question types to train
    on; None = all. Training questions whose consensus answer is not in the vocabulary are dropped
    (`dropped_questions` counts them); those to evaluate on keep answer -1. `group_by_image`: a
    training batch is all the questions of `images_per_batch` images, instead of `batch_size` single
    questions. `max_test_questions`: test on the first whole images (by id) that hold so many
    questions. `vocabulary_path`: what explains or goes on training a VQA model must number words
    and answers as that model does; None = built from the training part, whatever
    `train_question_types`. `answers`: those of a VQA model that reads questions itself, in place of
    a vocabulary. `on_bad_sample`: `raise` InputError at an image that is missing or cannot be read,
    or `skip` its questions and count it (in training the next ones come in their place, so that no
    batch is smaller). The order of training is a function of (`seed`, epoch). Raises InputError for
    settings out of range, and for whatever is wrong with the files.
    """

    asks_questions = True

    def __init__(
        self,
        root: str | None = None,
        world: SceneParameters | Mapping[str, Any] | None = None,
        cache_dir: str = "~/.cache/cfexp",
        image_size: int = 64,
        num_answers: int = 2000,
        max_question_length: int = 26,
        batch_size: int = 32,
        eval_batch_size: int = 64,
        num_workers: int = 0,
        cache_images: bool = False,
        holdout_images: int = 200,
        train_question_types: Sequence[str] | None = None,
        group_by_image: bool = False,
        images_per_batch: int = 32,
        max_test_questions: int | None = None,
        vocabulary_path: str | None = None,
        answers: Sequence[str] | None = None,
        on_bad_sample: OnBadSample = "raise",
        seed: int = 0,
    ) -> None:
        super().__init__()
        check_at_least(
            1,
            image_size=image_size,
            num_answers=num_answers,
            max_question_length=max_question_length,
            batch_size=batch_size,
            eval_batch_size=eval_batch_size,
            images_per_batch=images_per_batch,
        )
        check_at_least(0, num_workers=num_workers, holdout_images=holdout_images, seed=seed)
        if max_test_questions is not None:
            check_at_least(1, max_test_questions=max_test_questions)
        check_on_bad_sample(on_bad_sample)
        if isinstance(train_question_types, str):
            asked = "data.train_question_types must be a list of prefixes"
            raise InputError(f"{asked}, got {train_question_types!r}")
        self.root = None if root is None else Path(root).expanduser()
        self.world = _scene_parameters(world)
        self.cache_dir = Path(cache_dir).expanduser()
        self.image_size = image_size
        self.num_answers = num_answers
        self.max_question_length = max_question_length
        self.batch_size = batch_size
        self.eval_batch_size = eval_batch_size
        self.num_workers = num_workers
        self.cache_images = cache_images
        self.holdout_images = holdout_images
        types, vocabulary = train_question_types, vocabulary_path
        self.train_question_types = None if types is None else tuple(types)
        self.group_by_image = group_by_image
        self.images_per_batch = images_per_batch
        self.max_test_questions = max_test_questions
        self.seed = seed
        self.vocabulary_path = None if vocabulary is None else Path(vocabulary).expanduser()
        self.answers = None if answers is None else tuple(answers)
        self.on_bad_sample = on_bad_sample
        self.dropped_questions = 0
        self._questions: dict[Split, dict[int, VQAQuestion]] = {}
        self._palettes: dict[Split, Palette | None] = {}
        self._datasets: dict[Part, VQADataset] = {}
        self._looked = False
        self._said: dict[Part, int] = {}  # how many were skipped, when it was said

    @cached_property
    def folder(self) -> Path:
        """The folder in VQAv1's layout; of the embedded scenes, written now if it is not there."""
        return self.root if self.root is not None else cached_scenes(self.world, self.cache_dir)

    @cached_property
    def data_set(self) -> str:
        """What is read: VQAv1 or VQAv2, as the files are named and say; raises InputError for files
        of both.
        """
        return "embedded scenes" if self.root is None else find_version(self.root)

    def prepare_data(self) -> None:
        """Write the embedded scenes, in one process; a real root is checked by `setup`, which knows
        what it needs.
        """
        _ = self.folder

    def setup(self, stage: str | None = None) -> None:
        """Read and check what the stage needs, once; raises InputError."""
        if not self._datasets and self.root is not None:
            _log.info("%s in data.root=%s", self.data_set, self.root)
        for part in _PARTS[stage]:
            if part != "val" or self.holdout_images > 0:
                self.dataset(part)
        if self.root is not None and not self._looked:
            self._looked = True
            self._look_at_first(self.dataset(_PARTS[stage][0]))

    def size_problem(self, size: tuple[int, int]) -> str | None:
        """What is odd about an image of (W, H) pixels, whose centred square is shown; None =
        nothing.
        """
        return enlarged(min(size) / self.image_size)

    def _look_at_first(self, dataset: VQADataset) -> None:
        """Say what is odd about the first images: what is wrong with all images shows there."""
        sizes, seen = {}, []
        for path, content in dataset.first_files(FIRST):
            with contextlib.suppress(InputError):  # which is met when it is read
                image = read_rgb(Path(path), content)
                sizes[path] = image.size
                seen.append(Seen(path, path, content_of(image, None, 0)))
        say_first(sizes, self.size_problem, first_look(seen, None, ()))

    def teardown(self, stage: str) -> None:
        """Say how many images were skipped."""
        log_skipped(self._datasets, self._said)

    def dataset(self, part: Part) -> VQADataset:
        """The data set of one part, made on first use; raises InputError."""
        if part not in self._datasets:
            questions_of = {
                "train": self._train_questions,
                "val": self._held_out,
                "test": self._test_questions,
            }
            self._datasets[part] = VQADataset(
                self.folder,
                "val2014" if part == "test" else "train2014",
                questions_of[part](),
                self.vocabulary,
                self.image_size,
                self.max_question_length,
                group_by_image=self.group_by_image and part == "train",
                cache_images=self.cache_images,
                on_bad_sample=self.on_bad_sample,
            )
        return self._datasets[part]

    def train_dataloader(self) -> DataLoader[VQABatch]:
        """Shuffled; the last incomplete batch is dropped. Raises InputError if that leaves none."""
        dataset = self.dataset("train")
        trainer = self.trainer
        replicas, rank = (1, 0) if trainer is None else (trainer.world_size, trainer.global_rank)
        size = self.images_per_batch if self.group_by_image else self.batch_size
        sampler: EpochSampler[VQABatch] = EpochSampler(dataset, replicas, rank, self.seed)
        sampler.begin(trainer, self.batches_seen * size)
        if len(sampler) < size:
            setting = "images_per_batch" if self.group_by_image else "batch_size"
            things = f"{len(sampler)} {'images' if self.group_by_image else 'questions'}"
            problem = f"is more than the {things} that a process trains on"
            raise InputError(f"data.{setting}={size} {problem}")
        return self._loader(Replacing(dataset), batch_size=size, sampler=sampler, drop_last=True)

    def val_dataloader(self) -> DataLoader[VQABatch] | list[DataLoader[VQABatch]]:
        """The held-out images of train2014, in the order of their ids; none if `holdout_images` is
        0.
        """
        if self.holdout_images == 0:
            return []
        return self._loader(self.dataset("val"), batch_size=self.eval_batch_size)

    def test_dataloader(self) -> DataLoader[VQABatch]:
        """val2014 in the order of (image_id, question_id)."""
        dataset = self.dataset("test")
        # A process without any would not take part where the others gather their figures.
        share = ShareOf(range(len(dataset)), self.trainer, never_none=True)
        return self._loader(dataset, batch_size=self.eval_batch_size, sampler=share)

    def predict_dataloader(self) -> DataLoader[VQABatch]:
        """As the test loader, but each question once, however many processes there are, and none
        that is left out.
        """
        dataset = self.dataset("test")
        keys = dataset.question_id.tolist()
        left = [row for row, key in enumerate(keys) if key not in self._left_out]
        share = ShareOf(left, self.trainer)
        return self._loader(dataset, batch_size=self.eval_batch_size, sampler=share)

    @cached_property
    def vocabulary(self) -> Vocabulary:
        """The words and answers: of `vocabulary_path` if that is given, else of the training
        images, from the cache.
        """
        if self.answers is not None:
            return Vocabulary.of_answers(self.answers)
        if self.vocabulary_path is not None:
            return Vocabulary.load(self.vocabulary_path)
        # So that explaining val2014 need not read train2014. The questions decide, and which of
        # them train.
        kept = f"{self.fingerprint}-{self.holdout_images}-{self.num_answers}.json"
        return Vocabulary.cached(
            self.cache_dir / "vqa_vocabularies" / kept,
            lambda: Vocabulary.build(self._fit_parts[0], self.num_answers),
        )

    @property
    def facts(self) -> dict[str, int]:
        """What sizes the networks: num_words (with the padding) and num_answers."""
        return self.vocabulary.facts

    @cached_property
    def fingerprint(self) -> str:
        """Which data this is: a short hash over the JSON files, or the embedded scenes' own key."""
        return f"scenes-{self.world.key}" if self.root is None else fingerprint_files(self.root)

    @property
    def palette(self) -> Palette | None:
        """The embedded scenes' colour names, RGB in 0..255; None for photographs."""
        self._split("val2014")
        return self._palettes["val2014"]

    @property
    def question_types(self) -> tuple[str, ...]:
        """The question types of the splits that were read so far, sorted."""
        read = [each for split in self._questions.values() for each in split.values()]
        return tuple(sorted({each.question_type for each in read}))

    def question(self, question_id: int) -> VQAQuestion:
        """All that is known of a question of either split; raises InputError if there is none of
        this id.
        """
        # What was read already goes first.
        for split in sorted(SPLITS, key=lambda split: split not in self._questions):
            if question_id in self._split(split):
                return self._questions[split][question_id]
        neither = " nor ".join(SPLITS)
        raise InputError(f"question_id {question_id} is in neither {neither} of {self.folder}")

    def describe(self, question_id: int) -> dict[str, Any]:
        """What is stored beside an explanation of this question."""
        question = self.question(question_id)._asdict()
        del question["asked"], question["question_id"]
        return {**question, "answers": list(question["answers"])}

    @property
    def class_names(self) -> tuple[str, ...]:
        """The answers that a VQA model's outputs stand for."""
        return tuple(self.vocabulary.answers)

    @property
    def description(self) -> dict[str, Any]:
        """What is stored once beside the explanations of a run."""
        known = {
            "data": type(self).__name__,
            "data_set": self.data_set,
            "fingerprint": self.fingerprint,
        }
        return {**known, "palette": self.palette}

    def save_vocabulary(self, folder: Path) -> None:
        """Write `vocabulary.json`: who uses a network trained on this data must number words and
        answers alike.
        """
        self.vocabulary.save(folder / "vocabulary.json")

    def truth_mask(self, question_id: int) -> NDArray[np.bool_] | None:
        """(S, S) bool, where the objects asked about are in the batch's image; None if the files do
        not say.

        All False where a question asks about something that is not there. Raises InputError for an
        unknown id.
        """
        asked = self.question(question_id).asked
        if asked is None:
            return None
        union = np.zeros((self.image_size, self.image_size), dtype=bool)
        for thing in asked:
            mask = Image.fromarray(decode_mask(thing.mask).astype(np.uint8))
            union |= fit_square(mask, self.image_size, Image.Resampling.NEAREST) > 0
        return union

    def _loader(self, dataset: Dataset[VQABatch], **order: Any) -> DataLoader[VQABatch]:
        return make_loader(dataset, collate, self.num_workers, **order)

    def _split(self, split: Split) -> dict[int, VQAQuestion]:
        """The questions of a split by id, read on first use."""
        if split not in self._questions:
            questions, self._palettes[split] = read_split(self.folder, split)
            for other, known in self._questions.items():
                if common := questions.keys() & known.keys():
                    problem = f"question_id {min(common)} is in both {other} and {split}"
                    remedy = "question ids must differ (docs/data_sets.md)"
                    raise InputError(f"{self.folder}: {problem}; {remedy}")
            self._questions[split] = questions
        return self._questions[split]

    @cached_property
    def _fit_parts(self) -> tuple[list[VQAQuestion], list[VQAQuestion]]:
        """train2014's questions: those of the images to train on, those of the images held out."""
        return hold_out(self._split("train2014").values(), self.holdout_images)

    def _train_questions(self) -> list[VQAQuestion]:
        source = self.vocabulary_path if self.vocabulary_path is not None else "data.num_answers"
        questions = of_types(self._fit_parts[0], self.train_question_types)
        kept = answerable(questions, self.vocabulary, str(source))
        self.dropped_questions = len(questions) - len(kept)
        return kept

    def _held_out(self) -> list[VQAQuestion]:
        return self._fit_parts[1]

    def _test_questions(self) -> list[VQAQuestion]:
        return first_images(list(self._split("val2014").values()), self.max_test_questions)


def _scene_parameters(world: SceneParameters | Mapping[str, Any] | None) -> SceneParameters:
    if isinstance(world, SceneParameters):
        return world
    try:
        return SceneParameters(**(world or {}))
    except TypeError as error:
        raise InputError(f"data.world: {error}") from None
