import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
import torchvision
from torch import Tensor

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import load_network
from cfexp.models.released import (
    main,
    mlb_from_released,
    question_encoder_from_released,
    question_encoder_from_skipthoughts,
    read_released_vocabulary,
    read_vocabulary_pickle,
)
from cfexp.models.vqa.mlb import MLBAttention, MLBNoAttention, QuestionEncoder
from tests.golden_weights import fill
from tests.models.malicious import Malicious

WORDS, EMBEDDING, HIDDEN, FEATURE, FUSED, ANSWERS, GLIMPSES = 9, 5, 6, 7, 4, 8, 3


def released_attention() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {
        "conv_v_att.weight": (FUSED, FEATURE, 1, 1),
        "conv_v_att.bias": (FUSED,),
        "linear_q_att.weight": (FUSED, HIDDEN),
        "linear_q_att.bias": (FUSED,),
        "conv_att.weight": (GLIMPSES, FUSED, 1, 1),
        "conv_att.bias": (GLIMPSES,),
        "linear_q_fusion.weight": (GLIMPSES * FUSED, HIDDEN),
        "linear_q_fusion.bias": (GLIMPSES * FUSED,),
        "linear_classif.weight": (ANSWERS, GLIMPSES * FUSED),
        "linear_classif.bias": (ANSWERS,),
    }
    for glimpse in range(GLIMPSES):
        shapes |= {
            f"list_linear_v_fusion.{glimpse}.weight": (FUSED, FEATURE),
            f"list_linear_v_fusion.{glimpse}.bias": (FUSED,),
        }
    return fill(shapes)


def released_encoder() -> dict[str, Tensor]:
    shapes: dict[str, tuple[int, ...]] = {"seq2vec.embedding.weight": (WORDS, EMBEDDING)}
    for gate in "rin":
        shapes |= {
            f"seq2vec.rnn.gru_cell.weight_i{gate}.weight": (HIDDEN, EMBEDDING),
            f"seq2vec.rnn.gru_cell.weight_i{gate}.bias": (HIDDEN,),
            f"seq2vec.rnn.gru_cell.weight_h{gate}.weight": (HIDDEN, HIDDEN),
        }
    released = fill(shapes)
    released["seq2vec.embedding.weight"][0] = 0
    return released


def test_sizes_and_variant_are_read_off_the_tensors() -> None:
    network = mlb_from_released(released_attention() | released_encoder())
    assert isinstance(network, MLBAttention)
    assert network.attention(torch.randn(2, FEATURE, 3, 3), torch.randn(2, HIDDEN)).shape == (
        2,
        GLIMPSES,
        9,
    )
    assert network(torch.randn(2, FEATURE, 3, 3), torch.randn(2, HIDDEN)).shape == (2, ANSWERS)
    plain = mlb_from_released(
        fill(
            {
                "fusion.linear_v.weight": (FUSED, FEATURE),
                "fusion.linear_v.bias": (FUSED,),
                "fusion.linear_q.weight": (FUSED, HIDDEN),
                "fusion.linear_q.bias": (FUSED,),
                "linear_classif.weight": (ANSWERS, FUSED),
                "linear_classif.bias": (ANSWERS,),
            }
        )
    )
    assert isinstance(plain, MLBNoAttention)
    assert plain(torch.randn(2, FEATURE), torch.randn(2, HIDDEN)).shape == (2, ANSWERS)


def test_activations_can_be_switched_off() -> None:
    features, question = torch.randn(2, FEATURE, 3, 3), torch.randn(2, HIDDEN)
    settings = [{}, {"attention_activation": False}, {"classifier_activation": False}]
    one, two, three = (
        mlb_from_released(released_attention(), **setting)(features, question)
        for setting in settings
    )
    assert not torch.allclose(one, two)
    assert not torch.allclose(one, three)


def test_the_released_gru_is_the_hand_written_recursion() -> None:
    released = {
        key.removeprefix("seq2vec."): tensor.double() for key, tensor in released_encoder().items()
    }
    question, length = torch.tensor([[3, 1, 4, 1, 5], [8, 2, 0, 0, 0]]), torch.tensor([5, 2])

    def linear(name: str, vector: Tensor) -> Tensor:
        bias = released.get(f"rnn.gru_cell.weight_{name}.bias", torch.zeros(HIDDEN))
        return released[f"rnn.gru_cell.weight_{name}.weight"] @ vector + bias

    for row in range(2):
        hidden = torch.zeros(HIDDEN, dtype=torch.float64)
        for word in question[row, : length[row]]:
            vector = released["embedding.weight"][word]
            reset = torch.sigmoid(linear("ir", vector) + linear("hr", hidden))
            update = torch.sigmoid(linear("ii", vector) + linear("hi", hidden))
            candidate = torch.tanh(linear("in", vector) + reset * linear("hn", hidden))
            hidden = (1 - update) * candidate + update * hidden
        encoder = question_encoder_from_released(released_encoder())
        torch.testing.assert_close(encoder(question, length)[row], hidden.float())


@pytest.mark.parametrize(
    ("convert", "released", "key"),
    [
        (mlb_from_released, released_attention, "conv_v_att.weight"),
        (mlb_from_released, released_attention, "linear_classif.bias"),
        (mlb_from_released, released_attention, "list_linear_v_fusion.1.weight"),
        (question_encoder_from_released, released_encoder, "seq2vec.embedding.weight"),
        (question_encoder_from_released, released_encoder, "seq2vec.rnn.gru_cell.weight_hn.weight"),
    ],
)
def test_damaged_checkpoints_are_refused(
    convert: Callable[[dict[str, Tensor]], object],
    released: Callable[[], dict[str, Tensor]],
    key: str,
) -> None:
    whole = released()
    with pytest.raises(InputError, match=rf"1 missing \({key}\)"):
        convert({name: tensor for name, tensor in whole.items() if name != key})
    with pytest.raises(InputError, match=rf"misshaped \(.*{key} \[2, 2, 2\]"):
        convert(whole | {key: torch.zeros(2, 2, 2)})
    prefix = "seq2vec." if key.startswith("seq2vec.") else ""
    with pytest.raises(InputError, match=rf"1 left over \({prefix}optimizer\)"):
        convert(whole | {f"{prefix}optimizer": torch.zeros(2)})
    with pytest.raises(InputError, match="missing"):
        convert({})


def test_the_command_converts_a_released_file(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "best_model.pth.tar", tmp_path / "mlb.safetensors"
    torch.save(
        released_attention() | released_encoder(), source, _use_new_zipfile_serialization=False
    )
    assert main(["mlb", str(source), str(output)]) == 0
    assert "mlb.safetensors" in capsys.readouterr().out
    encoder = load_network(
        QuestionEncoder(WORDS, EMBEDDING, HIDDEN), output, prefix="question_encoder."
    )
    question, length = torch.tensor([[3, 1, 4]]), torch.tensor([3])
    expected = question_encoder_from_released(released_encoder())(question, length)
    assert torch.allclose(encoder(question, length), expected)
    fusion = load_network(
        MLBAttention(FEATURE, HIDDEN, FUSED, ANSWERS, GLIMPSES), output, prefix="fusion."
    )
    features = torch.randn(1, FEATURE, 2, 2)
    assert torch.allclose(
        fusion(features, expected), mlb_from_released(released_attention())(features, expected)
    )


@pytest.mark.parametrize("wrong", ["absent", "damaged", "output"])
def test_the_command_says_in_one_line_what_is_wrong(
    wrong: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, output = tmp_path / "best_model.pth.tar", tmp_path / "mlb.safetensors"
    if wrong != "absent":
        torch.save(released_attention(), source)
    if wrong == "output":
        output = tmp_path / "absent" / "mlb.safetensors"
    assert main(["mlb", str(source), str(output)]) == 2
    message = capsys.readouterr().err
    assert message.startswith("error: ")
    assert message.count("\n") == 1
    assert not output.exists()


def skip_thoughts(folder: Path) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.float32]]]:
    """Small files in the released formats: three known words and UNK."""
    random = np.random.default_rng(0)
    shapes = {
        "encoder_W": (EMBEDDING, 2 * HIDDEN),
        "encoder_U": (HIDDEN, 2 * HIDDEN),
        "encoder_b": (2 * HIDDEN,),
        "encoder_Wx": (EMBEDDING, HIDDEN),
        "encoder_Ux": (HIDDEN, HIDDEN),
        "encoder_bx": (HIDDEN,),
        "decoder_W": (2, 2),
    }
    arrays = {
        name: random.standard_normal(shape).astype(np.float32) for name, shape in shapes.items()
    }
    arrays["table"] = random.standard_normal((4, EMBEDDING)).astype(np.float32)
    np.savez(folder / "uni_skip.npz", **{name: arrays[name] for name in shapes})  # type: ignore[arg-type]
    np.save(folder / "utable.npy", arrays["table"])
    (folder / "dictionary.txt").write_text("UNK\nred\ncafé\ncar\n", encoding="utf-8")
    return arrays


def from_skip_thoughts(folder: Path, words: list[str]) -> QuestionEncoder:
    return question_encoder_from_skipthoughts(
        folder / "utable.npy", folder / "dictionary.txt", folder / "uni_skip.npz", words
    )


def test_skip_thoughts_become_the_question_encoder(tmp_path: Path) -> None:
    arrays = skip_thoughts(tmp_path)
    encoder = from_skip_thoughts(tmp_path, ["car", "zebra", "café"])
    rows = arrays["table"][[3, 0, 2]]
    np.testing.assert_array_equal(
        encoder.embedding.weight.detach().numpy(), np.vstack([np.zeros((1, EMBEDDING)), rows])
    )

    def sigmoid(
        x: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    ) -> np.ndarray[tuple[int, ...], np.dtype[np.float32]]:
        return np.asarray(1 / (1 + np.exp(-x)), dtype=np.float32)

    hidden = np.zeros(HIDDEN, dtype=np.float32)
    for vector in rows:
        gates = sigmoid(
            vector @ arrays["encoder_W"] + hidden @ arrays["encoder_U"] + arrays["encoder_b"]
        )
        reset, update = np.split(gates, 2)
        recurrent = reset * (hidden @ arrays["encoder_Ux"])
        candidate = np.tanh(vector @ arrays["encoder_Wx"] + arrays["encoder_bx"] + recurrent)
        hidden = update * hidden + (1 - update) * candidate
    got = encoder(torch.tensor([[1, 2, 3]]), torch.tensor([3]))
    np.testing.assert_allclose(got[0].detach().numpy(), hidden, atol=1e-6)


def test_damaged_skip_thoughts_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file at .*utable\.npy"):
        from_skip_thoughts(tmp_path, ["red"])
    skip_thoughts(tmp_path)
    (tmp_path / "dictionary.txt").write_text("red\ncar\nbus\ndog\n")
    with pytest.raises(InputError, match="neither 'zebra' nor UNK"):
        from_skip_thoughts(tmp_path, ["red", "zebra"])
    (tmp_path / "dictionary.txt").write_text("red\ncar\n")
    with pytest.raises(InputError, match=r"shape \[4, 5\], but .*dictionary.txt has 2"):
        from_skip_thoughts(tmp_path, ["red"])
    arrays = skip_thoughts(tmp_path)
    np.savez(
        tmp_path / "uni_skip.npz", encoder_W=arrays["encoder_W"], encoder_Ux=arrays["encoder_Ux"]
    )
    with pytest.raises(InputError, match="4 missing"):
        from_skip_thoughts(tmp_path, ["red"])
    np.save(
        tmp_path / "utable.npy",
        np.array([Malicious(tmp_path / "it_ran")], dtype=object),
        allow_pickle=True,
    )
    with pytest.raises(InputError, match=r"utable\.npy is not the expected array of numbers"):
        from_skip_thoughts(tmp_path, ["red"])
    assert not (tmp_path / "it_ran").exists()


@pytest.mark.parametrize("protocol", [0, 1, 2, 4])
def test_the_released_vocabulary_is_read(protocol: int, tmp_path: Path) -> None:
    (tmp_path / "wid_to_word.pickle").write_bytes(pickle.dumps({2: "UNK", 1: "café"}, protocol))
    (tmp_path / "aid_to_ans.pickle").write_bytes(pickle.dumps(["yes", "2"], protocol))
    vocabulary = read_released_vocabulary(tmp_path)
    assert vocabulary == (("café", "UNK"), ("yes", "2"))


def test_a_python_2_pickle_is_read(tmp_path: Path) -> None:
    # What Python 2's pickle.dumps({1: 'caf\xc3\xa9', 2: u'red'}, 2) writes: byte strings and
    # unicode side by side.
    data = b"\x80\x02}q\x00(K\x01U\x05caf\xc3\xa9q\x01K\x02X\x03\x00\x00\x00redq\x02u."
    (tmp_path / "wid_to_word.pickle").write_bytes(data)
    assert read_vocabulary_pickle(tmp_path / "wid_to_word.pickle") == {1: "café", 2: "red"}


@pytest.mark.parametrize("protocol", [0, 2, 4])
def test_code_in_a_vocabulary_is_not_executed(protocol: int, tmp_path: Path) -> None:
    path, proof = tmp_path / "wid_to_word.pickle", tmp_path / "it_ran"
    path.write_bytes(pickle.dumps({1: Malicious(proof)}, protocol))
    with pytest.raises(InputError, match=r"wid_to_word\.pickle .*would import (posix|nt)\.mkdir"):
        read_vocabulary_pickle(path)
    assert not proof.exists()


@pytest.mark.parametrize(
    ("words", "answers", "complaint"),
    [
        ({0: "a", 1: "b"}, ["yes"], "keys 1 to its length"),
        (["a"], ["yes"], "keys 1 to its length"),
        ({1: "a"}, {0: "yes"}, "in a list"),
        ({1: 5}, ["yes"], "as strings"),
    ],
)
def test_what_is_no_vocabulary_is_refused(
    words: object, answers: object, complaint: str, tmp_path: Path
) -> None:
    (tmp_path / "wid_to_word.pickle").write_bytes(pickle.dumps(words))
    (tmp_path / "aid_to_ans.pickle").write_bytes(pickle.dumps(answers))
    with pytest.raises(InputError, match=complaint):
        read_released_vocabulary(tmp_path)


def test_missing_and_cut_vocabularies_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"no file at .*wid_to_word\.pickle"):
        read_released_vocabulary(tmp_path)
    (tmp_path / "cut.pickle").write_bytes(pickle.dumps(["yes"])[:-3])
    with pytest.raises(InputError, match=r"cut\.pickle is not the expected pickle"):
        read_vocabulary_pickle(tmp_path / "cut.pickle")


@pytest.mark.parametrize("wrapper", ["module.", "_orig_mod."])
def test_the_converter_takes_wrapped_names_and_a_prefix(
    wrapper: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    network = torchvision.models.densenet121(num_classes=3)
    names = {
        key if key.startswith("classifier.") else f"feat_extract.feat_extract.{key}": tensor
        for key, tensor in network.state_dict().items()
    }
    path, output = tmp_path / "checkpoint.tar", tmp_path / "decision.safetensors"
    torch.save(
        {"model_state_dict": {f"{wrapper}{key}": tensor for key, tensor in names.items()}}, path
    )
    assert main(["decision", str(path), str(output)]) == 0
    torch.save({"weights": {f"net.{key}": tensor for key, tensor in names.items()}}, path)
    assert main(["decision", str(path), str(output)]) == 2
    assert "the converter's --prefix net.," in capsys.readouterr().err
    assert main(["decision", str(path), str(output), "--prefix", "net."]) == 0
