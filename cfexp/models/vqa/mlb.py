"""The VQA model that is explained: MLB (Kim et al. 2017, "Hadamard Product for Low-rank Bilinear
Pooling") end to end.

Image -> backbone -> fusion with the encoded question -> logits of the answers, differentiable down
to the pixels.
"""

from collections.abc import Sequence
from itertools import pairwise
from typing import cast

import torch
import torch.nn.functional as F
import torchvision
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from cfexp.errors import InputError
from cfexp.models.backbones import torchvision_network
from cfexp.models.own.vqa import Question


class QuestionEncoder(nn.Module):
    """A GRU over word embeddings, read at the last word (Kim et al. 2017; skip-thought GRU of Kiros
    et al. 2015).

    Row 0 of the embedding is the padding and stays zero. The hidden side has no bias, as published:
    nn.GRU's is held at zero and not trained.

    Deviation: the published code drops out the hidden state within the recursion, with one mask per
    gate. nn.GRU has no such place: here one mask per sequence drops word dimensions alike at every
    step, and a second one the final state.
    """

    def __init__(
        self,
        num_words: int,
        embedding_dim: int = 620,
        hidden_dim: int = 2400,
        dropout: float = 0.25,
    ) -> None:
        super().__init__()
        self.hidden_dim = hidden_dim
        self.embedding = nn.Embedding(num_words, embedding_dim, padding_idx=0)
        self.gru = nn.GRU(embedding_dim, hidden_dim, batch_first=True)
        self.dropout = nn.Dropout(dropout)
        hidden_bias = cast(nn.Parameter, self.gru.bias_hh_l0)
        nn.init.zeros_(hidden_bias)
        hidden_bias.requires_grad_(False)

    def forward(self, question: Tensor, question_length: Tensor) -> Tensor:
        """Question vectors (B, hidden_dim) in (-1, 1).

        question: (B, T) int64 word ids, right-padded with 0.
        question_length: (B,) int64 in 1..T; what follows the last word has no influence.
        """
        words = self.embedding(question)
        words = words * self.dropout(words.new_ones(len(words), 1, words.shape[-1]))
        states, _ = self.gru(words)
        last_word = (question_length - 1)[:, None, None].expand(-1, 1, self.hidden_dim)
        return cast(Tensor, self.dropout(states.gather(1, last_word).squeeze(1)))


class MLBNoAttention(nn.Module):
    """logits = Wc tanh(tanh(Wv v) * tanh(Wq q)): MLB on one feature vector (Kim et al. 2017).

    Dropout precedes every linear layer. Deviation: the tanh after the Hadamard product is the
    public PyTorch code's; the paper has none (`classifier_activation=False`).
    """

    def __init__(
        self,
        feature_dim: int = 2048,
        question_dim: int = 2400,
        hidden_dim: int = 1200,
        num_answers: int = 2000,
        dropout: float = 0.5,
        classifier_activation: bool = True,
    ) -> None:
        super().__init__()
        self.feature = nn.Linear(feature_dim, hidden_dim)
        self.question = nn.Linear(question_dim, hidden_dim)
        self.classifier = nn.Linear(hidden_dim, num_answers)
        self.classifier_activation = nn.Tanh() if classifier_activation else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def forward(
        self, features: Tensor, question_vectors: Tensor, picture: Tensor | None = None
    ) -> Tensor:
        """Logits (B, num_answers).

        features: (B, feature_dim), or a map (B, feature_dim, H, W) that is averaged over its
        positions. question_vectors: (B, question_dim). picture: as for `MLBAttention`.
        """
        if features.ndim == 4:
            features = features.mean((2, 3))
        visual = _for_each_question(self.feature(self.dropout(features)).tanh(), picture)
        product = visual * self.question(self.dropout(question_vectors)).tanh()
        return cast(Tensor, self.classifier(self.dropout(self.classifier_activation(product))))


class MLBAttention(nn.Module):
    """MLB with G attention glimpses over a feature map (Kim et al. 2017).

        A_s = act(tanh(Wva v_s) * tanh(Wqa q))                    attention at position s
        alpha_g = softmax_s(Wg A_s),  u_g = sum_s alpha_gs v_s    glimpse g
        logits = Wc act([tanh(W1 u_1); ...; tanh(WG u_G)] * tanh(Wqf q))

    Deviation: the defaults are the public PyTorch code's, with tanh after both products, dropout
    before Wg, and four glimpses. The paper's own Torch7 code is `glimpses=2,
    attention_activation=False, attention_dropout=False, classifier_activation=False`. Both have
    dropout before the classifier and on every input of a linear layer.
    """

    def __init__(
        self,
        feature_dim: int = 2048,
        question_dim: int = 2400,
        hidden_dim: int = 1200,
        num_answers: int = 2000,
        glimpses: int = 4,
        dropout: float = 0.5,
        attention_activation: bool = True,
        attention_dropout: bool = True,
        classifier_activation: bool = True,
    ) -> None:
        super().__init__()
        self.attention_feature = nn.Linear(feature_dim, hidden_dim)
        self.attention_question = nn.Linear(question_dim, hidden_dim)
        self.attention_activation = nn.Tanh() if attention_activation else nn.Identity()
        self.attention_dropout = nn.Dropout(dropout if attention_dropout else 0.0)
        self.attention_map = nn.Linear(hidden_dim, glimpses)
        # One linear layer per glimpse, side by side: group g of the convolution sees glimpse g
        # only.
        self.feature = nn.Conv1d(glimpses * feature_dim, glimpses * hidden_dim, 1, groups=glimpses)
        self.question = nn.Linear(question_dim, glimpses * hidden_dim)
        self.classifier = nn.Linear(glimpses * hidden_dim, num_answers)
        self.classifier_activation = nn.Tanh() if classifier_activation else nn.Identity()
        self.dropout = nn.Dropout(dropout)

    def attention(
        self, features: Tensor, question_vectors: Tensor, picture: Tensor | None = None
    ) -> Tensor:
        """Attention (B, glimpses, H * W) over row-major positions, each row a distribution;
        arguments as for a call.
        """
        positions = features.flatten(2).transpose(1, 2)
        visual = _for_each_question(self.attention_feature(self.dropout(positions)).tanh(), picture)
        textual = self.attention_question(self.dropout(question_vectors)).tanh()
        product = self.attention_dropout(self.attention_activation(visual * textual[:, None]))
        return cast(Tensor, self.attention_map(product)).softmax(1).transpose(1, 2)

    def forward(
        self, features: Tensor, question_vectors: Tensor, picture: Tensor | None = None
    ) -> Tensor:
        """Logits (B, num_answers).

        features: (B, feature_dim, H, W). question_vectors: (B, question_dim). picture: (B,) int64,
        which row of `features` each question is about; None = row for row. What depends on the
            picture alone is then computed once a picture (and shares its dropout).
        """
        attention = self.attention(features, question_vectors, picture)
        positions = _for_each_question(features.flatten(2).transpose(1, 2), picture)
        glimpses = attention @ positions  # (B, glimpses, feature_dim)
        visual = self.feature(self.dropout(glimpses).flatten(1)[..., None]).squeeze(-1).tanh()
        textual = self.question(self.dropout(question_vectors)).tanh()
        return cast(
            Tensor, self.classifier(self.dropout(self.classifier_activation(visual * textual)))
        )


def _for_each_question(rows: Tensor, picture: Tensor | None) -> Tensor:
    return rows if picture is None else rows.index_select(0, picture)


class VQAModel(nn.Module):
    """Image and question to the logits of the answers.

    backbone: (N, 3, H, W) in [-1, 1] -> feature maps (N, C, h, w).
    question_encoder: `QuestionEncoder`, or a module with its call and its `hidden_dim`.
    fusion: `MLBAttention`, `MLBNoAttention`, or a module with their call and their `classifier`.
    """

    def __init__(self, backbone: nn.Module, question_encoder: nn.Module, fusion: nn.Module) -> None:
        super().__init__()
        self.backbone = backbone
        self.question_encoder = question_encoder
        self.fusion = fusion

    @property
    def question_dim(self) -> int:
        """Size of a question vector."""
        return cast(int, self.question_encoder.hidden_dim)

    @property
    def answer_embeddings(self) -> Tensor:
        """The classifier's weights (K, D): row k is what answer k is compared with."""
        return cast(nn.Linear, self.fusion.classifier).weight

    def encode_question(self, question: Tensor, question_length: Tensor) -> Tensor:
        """Question vectors (B, question_dim) of word ids (B, T) and lengths (B,)."""
        return cast(Tensor, self.question_encoder(question, question_length))

    def ask(self, question: Tensor, question_length: Tensor, text: Sequence[str] = ()) -> Question:
        """The questions of a batch, by their word ids (B, T) and lengths (B,); their text is not
        read.
        """
        return Question(self.encode_question(question, question_length), tuple(text))

    def decide(self, image: Tensor, question: Question) -> Tensor:
        """Logits (B, K) of images (B, 3, H, W) in [-1, 1] for B questions."""
        return self.answer(self.backbone(image), question.vector)

    def answer(
        self, features: Tensor, question_vectors: Tensor, picture: Tensor | None = None
    ) -> Tensor:
        """Logits (B, K) from the backbone's feature maps (N, C, h, w) and question vectors (B,
        question_dim).

        picture: (B,) int64 in 0..N - 1, the feature map of each question; None = row for row, N =
        B.
        """
        return cast(Tensor, self.fusion(features, question_vectors, picture))

    def forward(
        self,
        image: Tensor,
        question: Tensor,
        question_length: Tensor,
        image_id: Tensor | None = None,
    ) -> Tensor:
        """Logits (B, K).

        image: (B, 3, H, W) in [-1, 1]. question: (B, T) int64, right-padded with 0.
        question_length: (B,) in 1..T. image_id: (B,) int64. If given, rows of equal id must hold
        the same picture: the backbone sees each once, and the gradient of its pixels arrives,
        summed, at the first row. Leave it out for edited images.
        """
        question_vectors = self.encode_question(question, question_length)
        features, picture = self.see(image, image_id)
        return self.answer(features, question_vectors, picture)

    def see(self, image: Tensor, image_id: Tensor | None = None) -> tuple[Tensor, Tensor | None]:
        """The backbone's feature maps (N, C, h, w), and (B,) int64, which of them is each row's;
        None = row for row. Arguments as for a call.
        """
        if image_id is None:
            return self.backbone(image), None
        distinct, picture = torch.unique(image_id, return_inverse=True)
        rows = torch.arange(len(image_id), device=image_id.device)
        first_row = torch.zeros_like(distinct).scatter_reduce(
            0, picture, rows, "amin", include_self=False
        )
        return self.backbone(image[first_row]), picture


class ConvBackbone(nn.Module):
    """A small CNN for the embedded world: 64-pixel images to 8x8 maps (stride 8: the first three
    layers halve).

    The last layer is 1x1: a cell then sees 31 pixels, about one object and its surroundings.

    `coordinates` appends each cell's x and y, both in [-1, 1], as two more channels: "what is left
    of" is unanswerable from a bag of cells, which is all that attention sees.
    """

    def __init__(
        self, widths: Sequence[int] = (24, 48, 64, 96, 64), coordinates: bool = True
    ) -> None:
        """Raises InputError for fewer than four widths."""
        super().__init__()
        if len(widths) < 4:
            needed = "at least 4 layers (three that halve, one 1x1)"
            raise InputError(f"widths must name {needed}, got {list(widths)}")
        last = len(widths) - 1
        self.coordinates = coordinates
        self.feature_dim = widths[-1] + 2 * coordinates
        self.layers = nn.Sequential(
            *(
                nn.Sequential(
                    nn.Conv2d(before, after, 1, bias=False)
                    if depth == last
                    else nn.Conv2d(
                        before, after, 3, stride=2 if depth < 3 else 1, padding=1, bias=False
                    ),
                    nn.BatchNorm2d(after),
                    nn.ReLU(),
                )
                for depth, (before, after) in enumerate(pairwise((3, *widths)))
            )
        )

    def forward(self, image: Tensor) -> Tensor:
        """Feature maps (B, feature_dim, H / 8, W / 8) of images (B, 3, H, W) in [-1, 1]."""
        # Channels last: a tenth faster on a CPU, and a row of positions is then one row of memory.
        features = cast(Tensor, self.layers(image.contiguous(memory_format=torch.channels_last)))
        if not self.coordinates:
            return features
        height, width = features.shape[2:]
        y = torch.linspace(-1, 1, height, device=features.device, dtype=features.dtype)[
            :, None
        ].expand(height, width)
        x = torch.linspace(-1, 1, width, device=features.device, dtype=features.dtype).expand(
            height, width
        )
        return torch.cat([features, torch.stack([x, y]).expand(len(features), -1, -1, -1)], dim=1)


class ResNetBackbone(nn.Module):
    """A torchvision ResNet up to its last feature map, from pixels (He et al. 2016; the
    normalisation is inside).

    Its parameters bear torchvision's names, so torchvision's files load into it; their classifier
    `fc` is ignored.

    arch: a name in torchvision.models ("resnet18" ... "resnet152").
    weights: see `torchvision_network`; None for a random start or a file loaded later
        (`cfexp.models.loading.pretrained.load_network`).
    image_size: the side to which other images are resized (bilinear, antialiased). final_relu:
    False gives the map before the last ReLU, as the Torch7 extractor of MLB's features did.
    checkpointing: recompute the four stages' activations in the backward pass instead of storing
    them.
    """

    mean: Tensor
    std: Tensor

    def __init__(
        self,
        arch: str = "resnet152",
        weights: str | None = None,
        image_size: int = 448,
        final_relu: bool = True,
        checkpointing: bool = False,
    ) -> None:
        """Raises InputError as `torchvision_network`, and for an arch that is no ResNet."""
        super().__init__()
        network = torchvision_network(arch, weights)
        if not isinstance(network, torchvision.models.ResNet):
            raise InputError(f"arch must be a ResNet of torchvision.models, got {arch}")
        self.image_size = image_size
        self.final_relu = final_relu
        self.checkpointing = checkpointing
        self.feature_dim: int = network.fc.in_features
        self.conv1, self.bn1 = network.conv1, network.bn1
        self.layer1, self.layer2 = network.layer1, network.layer2
        self.layer3, self.layer4 = network.layer3, network.layer4
        # ImageNet's statistics of RGB in [0, 1]; not persistent, so that the state dict is
        # torchvision's.
        self.register_buffer(
            "mean", torch.tensor([0.485, 0.456, 0.406])[:, None, None], persistent=False
        )
        self.register_buffer(
            "std", torch.tensor([0.229, 0.224, 0.225])[:, None, None], persistent=False
        )
        # torch leaves this method untyped.
        self.register_load_state_dict_pre_hook(_ignore_classifier)  # type: ignore[no-untyped-call]

    def forward(self, image: Tensor) -> Tensor:
        """Feature maps (B, feature_dim, image_size / 32, image_size / 32) of images (B, 3, H, W) in
        [-1, 1].
        """
        size = (self.image_size, self.image_size)
        if image.shape[2:] != size:
            image = F.interpolate(image, size, mode="bilinear", antialias=True)
        features = ((image + 1) / 2 - self.mean) / self.std
        features = F.max_pool2d(
            F.relu(self.bn1(self.conv1(features))), kernel_size=3, stride=2, padding=1
        )
        for stage in (self.layer1, self.layer2, self.layer3, self._last_stage):
            if self.checkpointing:
                features = cast(Tensor, checkpoint(stage, features, use_reentrant=False))
            else:
                features = stage(features)
        return features

    def _last_stage(self, features: Tensor) -> Tensor:
        features = _residual_sum(self.layer4[-1], self.layer4[:-1](features))
        return F.relu(features) if self.final_relu else features


def _residual_sum(block: nn.Module, features: Tensor) -> Tensor:
    """A torchvision residual block (basic or bottleneck) without its last ReLU, which its own call
    always applies.
    """
    layers = dict(block.named_children())
    branch = layers["bn1"](layers["conv1"](features))
    for index in (2, 3):
        if f"conv{index}" in layers:
            branch = layers[f"bn{index}"](layers[f"conv{index}"](F.relu(branch)))
    return cast(
        Tensor, branch + (layers["downsample"](features) if "downsample" in layers else features)
    )


def _ignore_classifier(
    _module: nn.Module, state_dict: dict[str, Tensor], prefix: str, *_: object
) -> None:
    for name in ("fc.weight", "fc.bias"):
        state_dict.pop(prefix + name, None)
