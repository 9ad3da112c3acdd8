"""python experiments/real_clothes/limits.py STAGE: what limits a VQA model of vqa_clothes_model, on
its validation part (`--part test`: on the test part).

STAGE is the folder that the training left (`config.yaml`, `model.ckpt`). How often is the answer
found by somebody who knows where the garment is, and reads its pixels at 64, 96 and 128 of them a
side: by the converter's own rule, and by a small network on the histogram, trained on the training
part? How much of the model's attention is on the garment? What would it answer if all were?
"""

import argparse
from collections import Counter
from pathlib import Path
from typing import Any, NamedTuple, cast

import hydra
import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from omegaconf import OmegaConf
from torch import Tensor, nn

from cfexp.data.base import Part
from cfexp.data.questions.vqa import VQADataModule
from cfexp.models.loading.pretrained import load_network
from cfexp.models.vqa.attention import attention_inside, cells_inside, even_inside
from cfexp.models.vqa.mlb import MLBAttention, VQAModel

SIZES = (64, 96, 128)
QUANTILES = (0.1, 0.25, 0.4, 0.6, 0.75, 0.9)


class Questions(NamedTuple):
    """N questions of a part, and their P photographs."""

    images: Tensor  # (P, 3, S, S) in [-1, 1]
    picture: Tensor  # (N,) the photograph of each question
    words: Tensor  # (N, T)
    length: Tensor  # (N,)
    answer: Tensor  # (N,)
    mask: Tensor  # (N, S, S) bool


def questions(data: VQADataModule, part: Part) -> Questions:
    """All of a part."""
    dataset = data.dataset(part)
    (batch,) = dataset.__getitems__(list(range(len(dataset))))
    ids, picture = torch.unique(batch.image_id, return_inverse=True)
    first = [int((picture == number).nonzero()[0]) for number in range(len(ids))]
    masks = [data.truth_mask(key) for key in batch.question_id.tolist()]
    mask = torch.from_numpy(np.stack([each for each in masks if each is not None]))
    return Questions(
        batch.image[first], picture, batch.question, batch.question_length, batch.answer, mask
    )


def colors(asked: Questions, palette: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, 3 + 12 + 18) median, share of the pixels nearest to each colour, and quantiles, of RGB in
    0..255 inside the true masks.
    """
    rows = []
    for picture, mask in zip(asked.picture.tolist(), asked.mask, strict=True):
        pixels = (127.5 * (asked.images[picture][:, mask].T.numpy() + 1)).astype(float)
        nearest = np.linalg.norm(pixels[:, None] - palette, axis=2).argmin(1)
        shares = 255 * np.bincount(nearest, minlength=len(palette)) / len(pixels)
        quantiles = np.quantile(pixels, QUANTILES, axis=0).ravel()
        rows.append(np.concatenate([np.median(pixels, axis=0), shares, quantiles]))
    return np.stack(rows)


def by_histogram(
    of_training: NDArray[np.float64], answer: Tensor, of_part: NDArray[np.float64]
) -> Tensor:
    """(N,) answers of a small network that is shown nothing but colours inside the true masks."""
    torch.manual_seed(0)
    seen, shown = (torch.tensor(each / 128 - 1).float() for each in (of_training, of_part))
    network = nn.Sequential(nn.Linear(seen.shape[1], 64), nn.ReLU(), nn.Linear(64, 12))
    adam = torch.optim.AdamW(network.parameters(), 3e-3, weight_decay=1e-2)
    for _ in range(60):
        for rows in torch.randperm(len(seen)).split(64):
            adam.zero_grad()
            F.cross_entropy(network(seen[rows]), answer[rows]).backward()
            adam.step()
    return cast(Tensor, network(shown).argmax(1))


@torch.no_grad()
def attended(network: VQAModel, asked: Questions) -> tuple[Tensor, Tensor, Tensor]:
    """(N,) the answers, the share of attention on the garment, and the answers if all of it were
    there, evenly.
    """
    found: list[tuple[Tensor, Tensor, Tensor]] = []
    fusion = cast(MLBAttention, network.fusion)
    for rows in torch.arange(len(asked.answer)).split(64):
        pictures, picture = torch.unique(asked.picture[rows], return_inverse=True)
        features = network.backbone(asked.images[pictures])
        question = network.encode_question(asked.words[rows], asked.length[rows])
        attention = fusion.attention(features, question, picture)
        cells = cells_inside(asked.mask[rows].float(), features)
        inside = attention_inside(attention, cells).mean(1)
        own = fusion(features, question, picture).argmax(1)
        even = even_inside(cells).expand_as(attention)
        fusion.attention = lambda *_, even=even: even  # type: ignore[method-assign]
        told = fusion(features, question, picture).argmax(1)
        del fusion.attention
        found.append((own, inside, told))
    own, inside, told = (torch.cat(each) for each in zip(*found, strict=True))
    return own, inside, told


def main() -> None:
    """Print it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("stage", type=Path)
    parser.add_argument("--part", choices=["val", "test"], default="val")
    arguments = parser.parse_args()
    config: Any = OmegaConf.load(arguments.stage / "config.yaml")

    def data_of(size: int) -> VQADataModule:
        data: VQADataModule = hydra.utils.instantiate(config.data, image_size=size)
        data.prepare_data()
        data.setup(None)
        return data

    def say(what: str, right: Tensor) -> None:
        right = right.float()
        of_colors = [right[answer == color].mean() for color in answer.unique()]
        balanced = 100 * torch.stack(of_colors).mean()
        print(f"{what}: {100 * right.mean():.1f} % (mean over the colours {balanced:.1f} %)")

    for size in SIZES:
        data = data_of(size)
        palette = {name: data.palette[name] for name in data.class_names} if data.palette else {}
        training, asked = questions(data, "train"), questions(data, arguments.part)
        answer, rgb = asked.answer, np.array(list(palette.values()), dtype=float)
        of_training, of_part = colors(training, rgb), colors(asked, rgb)
        distances = np.linalg.norm(of_part[:, None, :3] - rgb, axis=2)
        print(f"{size} pixels, {len(answer)} questions")
        say("  the rule, inside the true mask", torch.from_numpy(distances.argmin(1)) == answer)
        told = by_histogram(of_training, training.answer, of_part)
        say("  a network on histograms inside the true mask", told == answer)
    data = data_of(config.data.image_size)
    asked = questions(data, arguments.part)
    answer, names = asked.answer, data.class_names
    network = hydra.utils.instantiate(config.network)
    network = load_network(network, arguments.stage / "model.ckpt")
    own, inside, told = attended(network, asked)
    say("the VQA model", own == answer)
    lost = inside < 0.5
    print(f"  less than half of its attention is on the garment: {100 * lost.float().mean():.1f} %")
    say_of = ((own == answer)[lost], (own == answer)[~lost])
    print("  right of these: {:.1f} %, of the others: {:.1f} %".format(
        *(100 * float(each.float().mean()) for each in say_of)
    ))  # fmt: skip
    say("  told where the garment is", told == answer)
    wrong = [
        f"{names[said]} for {names[true]}"
        for true, said in zip(answer.tolist(), own.tolist(), strict=True)
        if true != said
    ]
    print(f"  {len(wrong)} wrong, most often", dict(Counter(wrong).most_common(8)))


if __name__ == "__main__":
    main()
