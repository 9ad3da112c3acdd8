from collections.abc import Callable

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import freeze
from cfexp.models.released import mlb_from_released
from cfexp.models.vqa.mlb import (
    ConvBackbone,
    MLBAttention,
    MLBNoAttention,
    QuestionEncoder,
    ResNetBackbone,
    VQAModel,
)
from tests.golden_weights import GOLDEN, fill, read_shapes


def small_model() -> VQAModel:
    torch.manual_seed(0)
    fusion = MLBAttention(ConvBackbone().feature_dim, 12, 10, num_answers=7, glimpses=2)
    return VQAModel(ConvBackbone(), QuestionEncoder(20, 6, 12), fusion).eval()


def small_batch() -> tuple[Tensor, Tensor, Tensor]:
    """Five questions about three pictures of 64 pixels; rows 0 and 3, and rows 1 and 4, share
    theirs.
    """
    generator = torch.Generator().manual_seed(1)
    image = torch.rand(3, 3, 64, 64, generator=generator) * 2 - 1
    question = torch.randint(1, 20, (5, 6), generator=generator)
    question_length = torch.tensor([6, 1, 3, 4, 2])
    question[torch.arange(6) >= question_length[:, None]] = 0
    return image[[0, 1, 2, 0, 1]], question, question_length


def gradient(of: Tensor, to: Tensor) -> Tensor:
    return torch.autograd.grad(of, to)[0]


@pytest.fixture(scope="module")
def golden() -> dict[str, Tensor]:
    with np.load(GOLDEN / "mlb.npz") as arrays:
        tensors = {
            key: torch.from_numpy(arrays[key]) for key in arrays if key != "att_feature_seed"
        }
        noise = np.random.default_rng(int(arrays["att_feature_seed"])).standard_normal(
            (2, 2048, 14, 14)
        )
    return tensors | {"att_feature": torch.from_numpy(np.abs(noise).astype(np.float32) * 0.5)}


@pytest.mark.parametrize("kind", ["att", "noatt"])
def test_published_networks_give_the_published_numbers(
    kind: str, golden: dict[str, Tensor]
) -> None:
    network = mlb_from_released(fill(read_shapes(f"mlb_{kind}_keys.txt")))
    features, question = golden[f"{kind}_feature"].requires_grad_(), golden[f"{kind}_question"]
    logits = network(features, question)
    torch.testing.assert_close(logits, golden[f"{kind}_logits"], atol=1e-5, rtol=0)
    norms = gradient(logits[:, :10].sum(), features).flatten(1).norm(dim=1)
    torch.testing.assert_close(norms, golden[f"{kind}_feature_gradient_norm"], rtol=1e-5, atol=0)
    if isinstance(network, MLBAttention):
        torch.testing.assert_close(
            network.attention(features, question), golden["att_map"], atol=1e-7, rtol=0
        )


def test_parameter_counts_are_the_published_ones() -> None:
    with torch.device("meta"):
        encoder = QuestionEncoder(num_words=10)
        gru = sum(
            parameter.numel() for parameter in encoder.gru.parameters() if parameter.requires_grad
        )
        attention, plain = (
            sum(map(Tensor.numel, net.parameters())) for net in (MLBAttention(), MLBNoAttention())
        )
    assert (gru + attention, gru + plain) == (58_058_004, 29_493_200)


def test_the_question_vector_ignores_padding_and_the_rest_of_the_batch() -> None:
    encoder = QuestionEncoder(20, 6, 12).eval()
    _, question, length = small_batch()
    vectors = encoder(question, length)
    longer = torch.cat([question, torch.randint(0, 20, (5, 3))], dim=1)
    torch.testing.assert_close(encoder(longer, length), vectors)
    for row in range(5):
        alone = encoder(question[row : row + 1, : length[row]], length[row : row + 1])
        torch.testing.assert_close(alone, vectors[row : row + 1])


def test_one_dropout_mask_per_sequence_and_none_in_evaluation() -> None:
    encoder = QuestionEncoder(20, 50, 12, dropout=0.5)
    seen: list[Tensor] = []
    encoder.gru.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    question = torch.randint(1, 20, (4, 6))
    for mode in (True, False):
        encoder.train(mode)(question, torch.full((4,), 6))
    ratio = (seen[0] / seen[1]).round(decimals=3)
    assert (ratio == ratio[:, :1]).all(), "a word dimension is dropped at every step or at none"
    assert set(ratio.flatten().tolist()) == {0.0, 2.0}
    assert not torch.equal(ratio[0], ratio[1])


def test_the_padding_row_and_the_hidden_bias_are_not_trained() -> None:
    encoder = QuestionEncoder(20, 6, 12)
    _, question, length = small_batch()
    encoder(question, length).sum().backward()
    assert encoder.embedding.weight.grad is not None
    assert encoder.embedding.weight.grad[0].count_nonzero() == 0
    hidden_bias = encoder.gru.bias_hh_l0
    assert isinstance(hidden_bias, Tensor)
    assert hidden_bias.grad is None
    assert hidden_bias.count_nonzero() == 0


def test_attention_is_a_distribution_and_the_plain_network_averages_a_map() -> None:
    features, question = torch.randn(3, 5, 4, 2), torch.randn(3, 6)
    attention = MLBAttention(5, 6, 4, 9, glimpses=2).eval().attention(features, question)
    assert attention.shape == (3, 2, 8)
    torch.testing.assert_close(attention.sum(-1), torch.ones(3, 2))
    plain = MLBNoAttention(5, 6, 4, 9).eval()
    torch.testing.assert_close(plain(features, question), plain(features.mean((2, 3)), question))


def test_torch7_variant_is_low_rank_bilinear_in_its_activations() -> None:
    network = MLBAttention(
        5,
        6,
        4,
        9,
        glimpses=2,
        attention_activation=False,
        attention_dropout=False,
        classifier_activation=False,
    ).eval()
    features, question = torch.randn(3, 5, 4, 2), torch.randn(3, 6)
    cells = features.flatten(2).transpose(1, 2)
    product = (
        torch.tanh(network.attention_feature(cells))
        * torch.tanh(network.attention_question(question))[:, None]
    )
    glimpses = network.attention_map(product).softmax(1).transpose(1, 2) @ cells
    parameters = dict(network.feature.named_parameters())
    weight, bias = parameters["weight"].reshape(2, 4, 5), parameters["bias"].reshape(2, 4)
    visual = torch.tanh(torch.einsum("bgf,gdf->bgd", glimpses, weight) + bias).flatten(1)
    expected = network.classifier(visual * torch.tanh(network.question(question)))
    torch.testing.assert_close(network(features, question), expected)
    assert network.attention_dropout.p == 0


def test_each_picture_passes_the_backbone_once_with_the_same_logits_and_gradients() -> None:
    model, (image, question, length) = small_model(), small_batch()
    image_id = torch.tensor([42, 7, 19, 42, 7])
    batch_sizes: list[int] = []
    model.backbone.register_forward_hook(lambda _, inputs, __: batch_sizes.append(len(inputs[0])))
    image.requires_grad_()
    one_by_one, shared = model(image, question, length), model(image, question, length, image_id)
    assert batch_sizes == [5, 3]
    torch.testing.assert_close(shared, one_by_one)
    direction = torch.randn_like(shared)
    expected, got = (gradient((logits * direction).sum(), image) for logits in (one_by_one, shared))
    expected = torch.stack([expected[0] + expected[3], expected[1] + expected[4], expected[2]])
    torch.testing.assert_close(got[:3], expected)
    assert got[3:].count_nonzero() == 0
    weight = model.backbone.get_parameter("layers.0.0.weight")
    logits = (model(image, question, length), model(image, question, length, image_id))
    torch.testing.assert_close(*(gradient((each * direction).sum(), weight) for each in logits))


def test_a_frozen_model_passes_gradients_to_the_pixels_only() -> None:
    model, (image, question, length) = freeze(small_model()), small_batch()
    model(image.requires_grad_(), question, length).sum().backward()
    assert image.grad is not None
    assert (image.grad.flatten(1).norm(dim=1) > 0).all()
    assert all(parameter.grad is None for parameter in model.parameters())


def test_a_batch_of_one_and_the_model_s_parts() -> None:
    model, (image, question, length) = small_model(), small_batch()
    logits = model(image, question, length)
    assert logits.shape == (5, 7)
    torch.testing.assert_close(
        model(image[:1], question[:1], length[:1], torch.tensor([3])), logits[:1]
    )
    vectors = model.encode_question(question, length)
    assert vectors.shape == (5, model.question_dim)
    torch.testing.assert_close(model.answer(model.backbone(image), vectors), logits)
    assert model.answer_embeddings.shape == (7, 20)


def test_conv_backbone_ends_at_eight_by_eight_with_coordinates() -> None:
    image, _, _ = small_batch()
    backbone = ConvBackbone(widths=(8, 8, 8, 16)).eval()
    features = backbone(image)
    assert features.shape == (5, backbone.feature_dim, 8, 8)
    x, y = features[0, -2:]
    torch.testing.assert_close(x, torch.linspace(-1, 1, 8).expand(8, 8))
    torch.testing.assert_close(y, x.T)
    assert ConvBackbone(widths=(8, 8, 8, 16), coordinates=False)(image).shape == (5, 16, 8, 8)
    with pytest.raises(InputError, match="at least 4 layers"):
        ConvBackbone(widths=(8, 8, 8))


@pytest.fixture
def make_resnet() -> Callable[..., ResNetBackbone]:
    def make(
        arch: str = "resnet18", final_relu: bool = True, checkpointing: bool = False
    ) -> ResNetBackbone:
        torch.manual_seed(0)
        return freeze(ResNetBackbone(arch, None, 64, final_relu, checkpointing))

    return make


@pytest.mark.parametrize("arch", ["resnet18", "resnet50"])
def test_resnet_is_torchvision_s_up_to_the_last_map(
    arch: str, make_resnet: Callable[..., ResNetBackbone]
) -> None:
    backbone = make_resnet(arch)
    reference = torchvision.models.get_model(arch).eval()
    reference.load_state_dict(backbone.state_dict(), strict=False)
    image, _, _ = small_batch()
    normalise = torchvision.transforms.Normalize([0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    expected = nn.Sequential(*list(reference.children())[:-2])(normalise((image + 1) / 2))
    features = backbone(image)
    assert features.shape == (5, backbone.feature_dim, 2, 2)
    torch.testing.assert_close(features, expected)

    before_relu = make_resnet(arch, final_relu=False)(image)
    assert before_relu.min() < 0
    torch.testing.assert_close(before_relu.relu(), features)


def test_resnet_checkpointing_changes_nothing_but_memory(
    make_resnet: Callable[..., ResNetBackbone],
) -> None:
    image = small_batch()[0].requires_grad_()
    plain, checkpointed = (make_resnet(checkpointing=flag)(image) for flag in (False, True))
    torch.testing.assert_close(checkpointed, plain)
    torch.testing.assert_close(gradient(checkpointed.sum(), image), gradient(plain.sum(), image))


def test_resnet_resizes_and_refuses_what_torchvision_lacks(
    make_resnet: Callable[..., ResNetBackbone],
) -> None:
    grey = torch.full((1, 3, 100, 80), 0.5)
    torch.testing.assert_close(make_resnet()(grey), make_resnet()(grey[..., :64, :64]))
    with pytest.raises(InputError, match="arch=resnet19 with weights=None"):
        ResNetBackbone("resnet19")
    with pytest.raises(InputError, match="weights=IMAGENET22K"):
        ResNetBackbone("resnet18", weights="IMAGENET22K")
    with pytest.raises(InputError, match="must be a ResNet"):
        ResNetBackbone("squeezenet1_1")
