"""Small parts for tests of what is trained on VQA batches: a VQA model, and eight questions about
eight images.
"""

from functools import partial

import torch

from cfexp.data.batch import VQABatch
from cfexp.explainers.vqa_gan import VQACounterfactualGAN
from cfexp.losses import flip_hinge
from cfexp.models.discriminators import PatchDiscriminator
from cfexp.models.vqa.lingunet import CounterfactualGenerator
from cfexp.models.vqa.mlb import ConvBackbone, MLBAttention, QuestionEncoder, VQAModel

NUM_ANSWERS = 4


def vqa_model() -> VQAModel:
    backbone = ConvBackbone((8, 8, 8, 8))
    fusion = MLBAttention(backbone.feature_dim, 8, 8, NUM_ANSWERS, glimpses=2, dropout=0.0)
    return VQAModel(backbone, QuestionEncoder(9, 8, 8, dropout=0.0), fusion)


def batch(count: int = 8) -> VQABatch:
    """Images of one colour each; the answer is the colour's number."""
    generator = torch.Generator().manual_seed(0)
    answer = torch.arange(count) % NUM_ANSWERS
    colors = torch.tensor(
        [[0.8, -0.8, -0.8], [-0.8, 0.8, -0.8], [-0.8, -0.8, 0.8], [0.8, 0.8, -0.8]]
    )
    image = colors[answer][:, :, None, None] + 0.1 * torch.randn(
        count, 3, 32, 32, generator=generator
    )
    question = torch.randint(1, 9, (count, 5), generator=generator)
    ids = torch.arange(count)
    return VQABatch(image.clamp(-1, 1), question, torch.full((count,), 5), answer, ids, ids + 100)


def counterfactual_gan(model: VQAModel, **settings: object) -> VQACounterfactualGAN:
    parts: dict[str, object] = {
        "generator": partial(
            CounterfactualGenerator, mask=False, depth=2, channels=8, text_channels=4
        ),
        "discriminator": PatchDiscriminator((8, 8)),
        "counterfactual_loss": flip_hinge,
        "generator_optimizer": partial(torch.optim.Adam, lr=3e-3, betas=(0.5, 0.999)),
        "discriminator_optimizer": partial(torch.optim.Adam, lr=1e-3, betas=(0.5, 0.999)),
        "l2_weight": 1e-3,
        "warmup_epochs": 0.0,
    }
    return VQACounterfactualGAN(model, **{**parts, **settings})  # type: ignore[arg-type]
