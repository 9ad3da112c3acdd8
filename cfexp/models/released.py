"""`python -m cfexp.models.released KIND CHECKPOINT OUT`: convert a checkpoint that others released;
one that does not fit exactly is refused.

The command line writes a file that `cfexp.models.loading.pretrained.load_network` reads.
"""

import pickle
import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, NoReturn, cast

import numpy as np
import torch
from torch import Tensor, nn

from cfexp.command_parser import command_parser
from cfexp.errors import InputError
from cfexp.models.loading.pretrained import read_state_dict
from cfexp.models.loading.state_dicts import fill_places, parameters_of, shape_of
from cfexp.models.loading.weights import save_weights
from cfexp.models.released_dive import size_for, tcvae_from_released
from cfexp.models.released_pe import pe_from_released
from cfexp.models.released_steex import (
    decision_from_released,
    oracle_from_released,
    sean_from_released,
    segmenter_from_released,
)
from cfexp.models.vqa.mlb import MLBAttention, MLBNoAttention, QuestionEncoder

__all__ = [
    "ReleasedVocabulary",
    "decision_from_released",
    "mlb_from_released",
    "oracle_from_released",
    "pe_from_released",
    "question_encoder_from_released",
    "question_encoder_from_skipthoughts",
    "read_released_vocabulary",
    "read_vocabulary_pickle",
    "sean_from_released",
    "segmenter_from_released",
    "tcvae_from_released",
]


def mlb_from_released(
    state_dict: Mapping[str, Tensor],
    *,
    attention_activation: bool = True,
    classifier_activation: bool = True,
) -> MLBAttention | MLBNoAttention:
    """The fusion network of a vqa.pytorch checkpoint (its MLBAtt or MLBNoAtt), in evaluation mode.

    state_dict: published names. Which of the two networks it is and every size are read off the
        tensors; the question encoder's (`seq2vec.*`) are passed over.
    attention_activation, classifier_activation: see `MLBAttention`. The tensors do not tell: a
        network trained in Torch7 has neither. Measure the accuracy before trusting either choice.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    state_dict = {
        key: tensor for key, tensor in state_dict.items() if not key.startswith("seq2vec.")
    }
    num_answers = shape_of(state_dict, "linear_classif.weight", (2000, 4800))[0]
    if any(key.startswith("fusion.") for key in state_dict):
        hidden_dim, feature_dim = shape_of(state_dict, "fusion.linear_v.weight", (1200, 2048))
        question_dim = shape_of(state_dict, "fusion.linear_q.weight", (1200, 2400))[1]
        plain = MLBNoAttention(
            feature_dim,
            question_dim,
            hidden_dim,
            num_answers,
            classifier_activation=classifier_activation,
        )
        layers = {
            "fusion.linear_v": plain.feature,
            "fusion.linear_q": plain.question,
            "linear_classif": plain.classifier,
        }
        fill_places(parameters_of(layers), state_dict, "MLBNoAtt")
        return plain.eval()

    hidden_dim, feature_dim, _, _ = shape_of(state_dict, "conv_v_att.weight", (1200, 2048, 1, 1))
    question_dim = shape_of(state_dict, "linear_q_att.weight", (1200, 2400))[1]
    glimpses = shape_of(state_dict, "conv_att.weight", (4, 1200, 1, 1))[0]
    network = MLBAttention(
        feature_dim,
        question_dim,
        hidden_dim,
        num_answers,
        glimpses,
        attention_activation=attention_activation,
        classifier_activation=classifier_activation,
    )
    places = parameters_of(
        {
            "conv_v_att": network.attention_feature,
            "linear_q_att": network.attention_question,
            "conv_att": network.attention_map,
            "linear_q_fusion": network.question,
            "linear_classif": network.classifier,
        }
    )
    for convolution in (
        "conv_v_att.weight",
        "conv_att.weight",
    ):  # 1x1: our linear layers over positions
        places[convolution] = places[convolution][..., None, None]
    for key, stacked in parameters_of({"": network.feature}).items():
        for glimpse, part in enumerate(stacked.chunk(glimpses)):
            places[f"list_linear_v_fusion.{glimpse}{key}"] = (
                part.flatten(1) if part.ndim > 1 else part
            )
    fill_places(places, state_dict, "MLBAtt")
    return network.eval()


def question_encoder_from_released(state_dict: Mapping[str, Tensor]) -> QuestionEncoder:
    """The question encoder (`seq2vec.*`) of a vqa.pytorch checkpoint, in evaluation mode; sizes are
    read off.

    The published GRU has a linear layer per gate and no bias on the hidden side; nn.GRU stacks the
    gates.

    Raises InputError naming the keys that are missing, left over or misshaped.
    """
    cell = "seq2vec.rnn.gru_cell.weight_"
    of_encoder = {key: tensor for key, tensor in state_dict.items() if key.startswith("seq2vec.")}
    state_dict = of_encoder or state_dict  # so that what is missing is looked for behind a prefix
    num_words, embedding_dim = shape_of(state_dict, "seq2vec.embedding.weight", (1, 620))
    hidden_dim = shape_of(state_dict, f"{cell}hr.weight", (2400, 2400))[0]
    encoder = QuestionEncoder(num_words, embedding_dim, hidden_dim)
    gru = parameters_of({"": encoder.gru})
    places = {"seq2vec.embedding.weight": encoder.embedding.weight.detach()}
    for gate, input_weight, input_bias, hidden_weight in zip(
        "rin",
        *(gru[f".{name}_l0"].chunk(3) for name in ("weight_ih", "bias_ih", "weight_hh")),
        strict=True,
    ):
        places[f"{cell}i{gate}.weight"] = input_weight
        places[f"{cell}i{gate}.bias"] = input_bias
        places[f"{cell}h{gate}.weight"] = hidden_weight
    fill_places(places, state_dict, "BayesianUniSkip")
    return encoder.eval()


def question_encoder_from_skipthoughts(
    table: str | Path, dictionary: str | Path, weights: str | Path, words: Sequence[str]
) -> QuestionEncoder:
    """A question encoder that starts from the released uni-skip vectors (Kiros et al. 2015), in
    evaluation mode.

    table: `utable.npy` (N, 620): row n is the embedding of line n of `dictionary`,
    `dictionary.txt`. weights: `uni_skip.npz`: encoder_W (620, 4800), encoder_U (2400, 4800) and
    encoder_b (4800,) of the two gates,
        encoder_Wx, encoder_Ux and encoder_bx of the candidate state.
    words: the vocabulary; word i becomes row i + 1 of the embedding. All that `dictionary` lacks
    get its row "UNK".

    Raises InputError for a file that is missing, holds Python objects or has other shapes, and
    where "UNK" is needed but lacking.
    """
    with _open(table, "array of numbers") as file:
        vectors = torch.from_numpy(np.load(file, allow_pickle=False))
    with _open(dictionary, "list of words in UTF-8") as file:
        row = {
            word: number
            for number, word in enumerate(file.read().decode().rstrip("\n").split("\n"))
        }
    if vectors.ndim != 2 or len(vectors) != len(row):
        shape = list(vectors.shape)
        raise InputError(
            f"{table} has shape {shape}, but {dictionary} has {len(row)} different lines"
        )
    if unknown := [word for word in words if word not in row and "UNK" not in row]:
        raise InputError(f"{dictionary} has neither {unknown[0]!r} nor UNK")
    with _open(weights, "archive of arrays of numbers") as file:
        archive = np.load(file, allow_pickle=False)
        names = [
            f"encoder_{name}"
            for name in ("W", "U", "b", "Wx", "Ux", "bx")
            if f"encoder_{name}" in archive
        ]
        arrays = {name: torch.from_numpy(archive[name]) for name in names}

    hidden_dim = shape_of(arrays, "encoder_Ux", (2400, 2400))[0]
    encoder = QuestionEncoder(len(words) + 1, vectors.shape[1], hidden_dim)
    gru, gates = parameters_of({"": encoder.gru}), 2 * hidden_dim
    places = {
        "encoder_W": gru[".weight_ih_l0"][:gates].T,
        "encoder_U": gru[".weight_hh_l0"][:gates].T,
        "encoder_b": gru[".bias_ih_l0"][:gates],
        "encoder_Wx": gru[".weight_ih_l0"][gates:].T,
        "encoder_Ux": gru[".weight_hh_l0"][gates:].T,
        "encoder_bx": gru[".bias_ih_l0"][gates:],
    }
    fill_places(places, arrays, "the uni-skip GRU", str(weights))
    rows = [row.get(word, row.get("UNK", 0)) for word in words]
    encoder.embedding.weight.detach()[1:] = vectors[rows]
    return encoder.eval()


class ReleasedVocabulary(NamedTuple):
    """The meaning of a released network's ids, which cannot be regenerated: their order is that of
    one run's dict.
    """

    words: tuple[str, ...]  # word id i is words[i - 1]; 0 is the padding
    answers: tuple[str, ...]  # answer id k is answers[k]


def read_released_vocabulary(folder: str | Path) -> ReleasedVocabulary:
    """The vocabulary in a processed-data folder of vqa.pytorch: `wid_to_word.pickle` and
    `aid_to_ans.pickle`.

    Raises InputError for a file that is missing, holds Python objects, or is no numbering of
    strings.
    """
    word_of = read_vocabulary_pickle(Path(folder) / "wid_to_word.pickle")
    answers = read_vocabulary_pickle(Path(folder) / "aid_to_ans.pickle")
    if not isinstance(word_of, dict) or set(word_of) != set(range(1, len(word_of) + 1)):
        raise InputError(
            f"{folder}/wid_to_word.pickle must hold a dict with the keys 1 to its length"
        )
    words = [word_of[number] for number in range(1, len(word_of) + 1)]
    if not isinstance(answers, list) or not all(isinstance(text, str) for text in words + answers):
        listed = "the answers (aid_to_ans.pickle) in a list"
        raise InputError(f"{folder} must hold words and answers as strings, {listed}")
    return ReleasedVocabulary(tuple(words), tuple(answers))


def read_vocabulary_pickle(path: str | Path) -> object:
    """The lists, dicts, strings and numbers of a pickle, Python 2's included; nothing in it is
    imported or called.

    Raises InputError for a missing file and for one that is damaged or names anything to import.
    """
    with _open(path, "pickle of plain lists and dicts") as file:
        return _BuiltinsOnly(file, encoding="utf-8").load()


class _BuiltinsOnly(pickle.Unpickler):
    def find_class(self, module_name: str, global_name: str) -> NoReturn:
        raise pickle.UnpicklingError(
            f"it would import {module_name}.{global_name}, which was refused"
        )


@contextmanager
def _open(path: str | Path, expected: str) -> Iterator[BinaryIO]:
    """Open a file to read what should be `expected` of it; raises InputError whatever goes wrong
    inside.
    """
    try:
        with Path(path).open("rb") as file:
            yield file
    except FileNotFoundError:
        raise InputError(f"no file at {path}: expected the {expected}") from None
    # A foreign, truncated or hostile file makes the readers raise nearly anything.
    except Exception as error:
        raise InputError(
            f"{path} is not the expected {expected}: {error or type(error).__name__}"
        ) from None


def _convert_mlb(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """A vqa.pytorch checkpoint, to load with the prefixes `question_encoder.` and `fusion.`."""
    network = nn.ModuleDict(
        {
            "question_encoder": question_encoder_from_released(state_dict),
            "fusion": mlb_from_released(state_dict),
        }
    )
    return cast(dict[str, Tensor], network.state_dict())


def _convert_sean(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """SEAN's or STEEX's latest_net_G.pth, to load into a `SEAN` of its sizes."""
    return cast(dict[str, Tensor], sean_from_released(state_dict).state_dict())


def _convert_decision(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """STEEX's decision_densenet/*/checkpoint.tar, to load into a `DecisionModel`."""
    return cast(dict[str, Tensor], decision_from_released(state_dict).state_dict())


def _convert_segmenter(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """STEEX's DeepLabV3, to load into a `Segmenter`."""
    return cast(dict[str, Tensor], segmenter_from_released(state_dict).state_dict())


def _convert_oracle(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """STEEX's oracle_attribute/*/checkpoint.tar, or VGGFace2's resnet50_ft_dag.pth, to load into an
    `Oracle`.
    """
    return cast(dict[str, Tensor], oracle_from_released(state_dict).state_dict())


def _convert_pe(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The variables of Progressive Exaggeration's TensorFlow checkpoint, as numpy's .npz, for
    `checkpoints.explainer=`.
    """
    networks = zip(("generator", "discriminator"), pe_from_released(state_dict), strict=True)
    return cast(dict[str, Tensor], nn.ModuleDict(dict(networks)).state_dict())


def _convert_tcvae(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """DiVE's or xGEM+'s checkpoint.pth, to load into a `TCVAE` of its sizes."""
    network = tcvae_from_released(state_dict, size_for(state_dict))
    return cast(dict[str, Tensor], network.state_dict())


CONVERSIONS: dict[str, Callable[[Mapping[str, Tensor]], dict[str, Tensor]]] = {
    "mlb": _convert_mlb,
    "sean": _convert_sean,
    "decision": _convert_decision,
    "segmenter": _convert_segmenter,
    "oracle": _convert_oracle,
    "pe": _convert_pe,
    "tcvae": _convert_tcvae,
}


def _read(path: Path, prefix: str) -> dict[str, Tensor]:
    """A checkpoint of torch's, or the variables of one of TensorFlow's as numpy's .npz."""
    if path.suffix != ".npz":
        return read_state_dict(path, prefix)
    with _open(path, "archive of arrays of numbers") as file:
        arrays = np.load(file, allow_pickle=False)
        return {name: torch.from_numpy(arrays[name]) for name in arrays.files}


def main(arguments: Sequence[str] | None = None) -> int:
    """Convert a released checkpoint into a .safetensors file; returns the exit code, 2 where the
    input is wrong.
    """
    parser = command_parser(
        *("models.released", __doc__),
        "mlb best_model.pth.tar mlb.safetensors",
        "sean latest_net_G.pth sean.safetensors",
        "tcvae checkpoint.pth tcvae.safetensors",
    )
    kinds = parser.add_subparsers(dest="kind", required=True)
    for kind, conversion in CONVERSIONS.items():
        arguments_of_kind = kinds.add_parser(kind, help=conversion.__doc__)
        arguments_of_kind.add_argument("checkpoint", type=Path)
        arguments_of_kind.add_argument("output", type=Path, help="ends in .safetensors")
        arguments_of_kind.add_argument(
            "--prefix",
            default="",
            help="of the file's names, as in `model.NAME`; module. and _orig_mod. need none",
        )
    given = parser.parse_args(arguments)
    try:
        if given.output.suffix != ".safetensors" or not given.output.parent.is_dir():
            raise InputError(
                f"output must be a .safetensors file in an existing folder, got {given.output}"
            )
        converted = CONVERSIONS[given.kind](_read(given.checkpoint, given.prefix))
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    save_weights(converted, given.output)
    numbers = sum(t.numel() for t in converted.values())
    print(f"wrote {given.output}: {len(converted)} tensors, {numbers:,} numbers")
    return 0


if __name__ == "__main__":
    sys.exit(main())
