"""The paper's own scale on this machine: full-size networks and pictures, two training batches,
time and memory.

`python -m pytest -m slow -s tests/test_paper_scale.py` prints what the README quotes.
"""

import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
from hydra import compose, initialize_config_module
from hydra.utils import instantiate
from lightning import Callback, LightningModule, Trainer
from PIL import Image
from torch import nn

from cfexp.explainers.vqa_gan import VQACounterfactualGAN
from cfexp.models.vqa.mlb import MLBAttention, QuestionEncoder, ResNetBackbone
from cfexp.run.configuration import register_resolvers
from tests.data.vqa_writer import Json, dump

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[1]
IMAGES = {"train2014": 702, "val2014": 4}
QUESTIONS = 3  # an image, as in VQAv1
HELD_OUT = 2
# Sizes of VQAv1's training questions: MLB's 2000 answers, about 14,000 words.
FACTS = {"num_answers": 2000, "num_words": 14000}
MEMORY = 24.0  # GB, of what the networks may be tried on at all


class Steps(Callback):
    """Prints the CPU seconds of each training step, and the highest resident memory of the training
    in GB.

    CPU time, of one thread, since that is hardly longer on a busy machine.
    """

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self.started = 0.0

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        Path("/proc/self/clear_refs").write_text("5")  # Linux: forget the peak of loading

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        self.started = time.process_time()

    def on_train_batch_end(self, trainer: Trainer, *_: Any) -> None:
        self.seconds.append(round(time.process_time() - self.started, 2))

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024 / 1e9
        print("STEPS " + json.dumps({"seconds": self.seconds, "peak": peak}))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """VQAv1's layout: 640 x 480 pictures with three questions each, every answer another, 14,000
    words.
    """
    folder = tmp_path_factory.mktemp("vqa")
    generator = np.random.default_rng(0)
    words = iter(range(10**6))
    for first, (split, count) in enumerate(IMAGES.items()):
        (folder / split).mkdir()
        coarse = Image.fromarray(generator.integers(0, 256, (12, 16, 3), dtype=np.uint8))
        coarse.resize((640, 480), Image.Resampling.BICUBIC).save(folder / split / "one.jpg")
        questions: list[Json] = []
        annotations: list[Json] = []
        for image_id in range(first * 1000 + 1, first * 1000 + 1 + count):
            os.link(
                folder / split / "one.jpg", folder / split / f"COCO_{split}_{image_id:012d}.jpg"
            )
            for question_id in range(image_id * QUESTIONS, (image_id + 1) * QUESTIONS):
                keys = {"question_id": question_id, "image_id": image_id}
                unusual = " ".join(f"word{next(words)}" for _ in range(7))
                answer = f"answer {question_id}"
                answers = [
                    {"answer": answer, "answer_confidence": "yes", "answer_id": n}
                    for n in range(1, 11)
                ]
                kind = {
                    "question_type": "what is",
                    "answer_type": "other",
                    "multiple_choice_answer": answer,
                }
                questions.append({**keys, "question": f"What is {unusual}?"})
                annotations.append({**keys, **kind, "answers": answers})
        header = {"info": {}, "data_type": "mscoco", "data_subtype": split, "license": {}}
        dump(
            folder / f"OpenEnded_mscoco_{split}_questions.json", {**header, "questions": questions}
        )
        dump(folder / f"mscoco_{split}_annotations.json", {**header, "annotations": annotations})
    return folder


def two_steps(experiment: str, root: Path, folder: Path, *overrides: str) -> tuple[float, float]:
    """Run an experiment for two batches: CPU seconds of the second step (the first sets up), peak
    memory in GB.
    """
    command = [
        sys.executable,
        "-m",
        "cfexp.train",
        f"+experiment={experiment}",
        f"data.root={root}",
    ]
    command += [
        "num_threads=1",
        "trainer.precision=32-true",
        f"hydra.run.dir={folder}",
    ]
    command += ["data.num_workers=0", f"data.holdout_images={HELD_OUT}", "data.eval_batch_size=2"]
    command += [
        "trainer.max_epochs=1",
        "+trainer.limit_train_batches=2",
        "+trainer.limit_val_batches=1",
    ]
    command += ["+trainer.limit_test_batches=1", "+trainer.limit_predict_batches=1", "logger=csv"]
    command += [
        "callbacks.progress=null",
        "+callbacks.steps._target_=tests.test_paper_scale.Steps",
        *overrides,
    ]
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "CFEXP_CACHE": str(folder / "cache")}
    done = subprocess.run(
        command, env=environment, cwd=root, capture_output=True, text=True, timeout=1800
    )
    assert done.returncode == 0, done.stdout + done.stderr
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("STEPS ")]
    measured = json.loads(line.removeprefix("STEPS "))
    assert len(measured["seconds"]) == 2
    assert measured["peak"] < MEMORY
    return measured["seconds"][1], measured["peak"]


def tell(name: str, settings: str, first: tuple[float, float], second: tuple[float, float]) -> None:
    """One line of what one and two samples cost, and so one more."""
    one, two = (f"{seconds:5.1f} s {peak:5.2f} GB" for seconds, peak in (first, second))
    more = f"+{second[0] - first[0]:.1f} s +{second[1] - first[1]:.2f} GB"
    print(f"{name:<10} {settings:<42} {one}  {two}  {more} a sample")


@pytest.fixture(scope="module")
def vqa_model(root: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The checkpoint of `+experiment=paper/vqa_model` after two steps of one image's questions,
    then of two images'.
    """
    measured = {}
    folder = tmp_path_factory.mktemp("vqa_model")
    for images in (1, 2):
        overrides = [f"data.images_per_batch={images}", "resnet_weights=null"]
        measured[images] = two_steps("paper/vqa_model", root, folder / str(images), *overrides)
    print("\na step on one CPU thread, float32: of batch 1, of batch 2")
    tell("vqa_model", "an image with its 3 questions is a sample", measured[1], measured[2])
    return folder / "1" / "model.ckpt"


def parameters(module: nn.Module) -> float:
    """In millions."""
    return sum(parameter.numel() for parameter in module.parameters()) / 1e6


def test_the_sizes_are_the_papers() -> None:
    register_resolvers()
    with initialize_config_module("cfexp.conf", version_base="1.3"):
        config = compose("train", overrides=["+experiment=paper/vqa_color", "data.root=/data/vqa"])
        stage = compose("train", overrides=["+experiment=paper/vqa_model", "data.root=/data/vqa"])
    assert config.data.num_answers == stage.data.num_answers == FACTS["num_answers"]
    assert config.data.image_size == stage.data.image_size == 448
    config.facts = FACTS
    explainer: VQACounterfactualGAN = instantiate(config.explainer)
    model = explainer.decision_model
    backbone, fusion = cast(ResNetBackbone, model.backbone), cast(MLBAttention, model.fusion)
    encoder = cast(QuestionEncoder, model.question_encoder)
    assert (backbone.image_size, backbone.feature_dim, backbone.checkpointing) == (448, 2048, True)
    # ResNet-152 of torchvision has 60,192,808, 2,049,000 of them in the classifier that is left
    # out.
    assert sum(parameter.numel() for parameter in backbone.parameters()) == 58_143_808
    assert (encoder.embedding.num_embeddings, encoder.hidden_dim) == (FACTS["num_words"], 2400)
    assert (fusion.attention_map.in_features, fusion.attention_map.out_features) == (1200, 2)
    assert fusion.classifier.weight.shape == (2000, 2 * 1200)
    assert not any(parameter.requires_grad for parameter in model.parameters())
    parts = {"backbone": backbone, "question encoder": encoder, "fusion": fusion}
    print(
        "\nmillions of parameters:",
        ", ".join(f"{name} {parameters(part):.1f}" for name, part in parts.items()),
    )
    discriminator = parameters(cast(nn.Module, explainer.discriminator))
    print(f"generator {parameters(explainer.generator):.1f}, discriminator {discriminator:.2f}")
    print(f"in all {parameters(explainer):.1f}")


@pytest.mark.parametrize("checkpointing", [True, False])
def test_two_steps_of_the_gan(
    checkpointing: bool, root: Path, vqa_model: Path, tmp_path: Path
) -> None:
    vocabulary = json.loads((vqa_model.parent / "vocabulary.json").read_text())
    assert len(vocabulary["answers"]) == FACTS["num_answers"]
    assert len(vocabulary["words"]) >= FACTS["num_words"]
    measured = {}
    for batch in (1, 2):
        measured[batch] = two_steps(
            "paper/vqa_color",
            root,
            tmp_path / str(batch),
            f"checkpoints.vqa_model={vqa_model}",
            f"+requires.vqa_model.overrides=['network.backbone.network.checkpointing={str(checkpointing).lower()}']",
            f"data.batch_size={batch}",
            "explainer.warmup_epochs=0",  # whose steps do without the VQA model
            "callbacks.grid=null",
        )
        with Image.open(
            next((tmp_path / str(batch) / "explanations" / "counterfactual").iterdir())
        ) as picture:
            assert picture.size == (448, 448)
    tell("vqa_color", f"float32, checkpointing={checkpointing}", measured[1], measured[2])
