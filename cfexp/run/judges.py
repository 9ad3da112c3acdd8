"""The networks that judge a run's pictures, from files; conf/evaluate.yaml says which measures may
ask for which.
"""

from collections.abc import Callable, Mapping, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from cfexp.data.questions.vocabulary import Vocabulary
from cfexp.errors import InputError
from cfexp.evaluation.measure import vqa
from cfexp.evaluation.measure.base import Measure, See
from cfexp.evaluation.measure.oracle import Oracle
from cfexp.evaluation.run_folder import to_pixels
from cfexp.models.judges.face_verification import face_verification_from_released
from cfexp.models.judges.lpips import lpips_from_released
from cfexp.models.judges.self_supervised import simsiam_from_released
from cfexp.models.loading.pretrained import freeze, load_network, read_state_dict
from cfexp.run.building import build
from cfexp.run.configuration import run_config

BATCH = 64  # images that a network sees at once: most enlarge them to 224 pixels or more


def identity(checkpoint: str, network: nn.Module | None = None) -> See:
    """A network that tells people apart, as a function: images (B, 3, H, W) in [-1, 1] -> features
    (B, D).

    network: with the checkpoint's weights; None = built by the config.yaml beside the checkpoint,
    as a stage's folder has it. Raises InputError where that is missing or does not fit, and for a
    network that has no `features`.
    """
    loaded = _network(checkpoint, network)
    return _in_batches(loaded, _features(loaded, "identity"))


def oracle(
    checkpoint: str, network: nn.Module | None = None, attributes: Sequence[str] | None = None
) -> Oracle:
    """A network of attributes; attributes: their names; None = by the config.yaml beside the
    checkpoint.

    The rest as `identity`.
    """
    loaded = _network(checkpoint, network)
    names = list(attributes or config_beside(Path(checkpoint)).data.attributes)
    features = _features(loaded, "oracle")

    def see(images: Tensor) -> Tensor:
        return torch.cat([loaded(images), features(images)], dim=1)

    return Oracle(_in_batches(loaded, see), names, with_batch_statistics(loaded))


def face_verification(checkpoint: str, bgr: bool = False) -> See:
    """VGGFace2's features, from resnet50_ft_dag.pth."""
    network = freeze(face_verification_from_released(read_state_dict(checkpoint), bgr))
    return _in_batches(network, network.features)


def self_supervised(checkpoint: str) -> See:
    """SimSiam's features, from its released checkpoint."""
    network = freeze(simsiam_from_released(read_state_dict(checkpoint)))
    return _in_batches(network, network.features)


def lpips(checkpoint: str) -> Callable[[Tensor, Tensor], Tensor]:
    """LPIPS of pairs of images, from torchvision's AlexNet."""
    return freeze(lpips_from_released(read_state_dict(checkpoint), _lpips_heads()))


def inception(checkpoint: str | Path) -> See:
    """torch-fidelity's Inception: images -> its 2048 features, of the 8-bit images.

    checkpoint, errors: see `inception_from_file`.
    """
    from cfexp.models.judges.inception import inception_from_file  # late: it takes a second

    network = inception_from_file(checkpoint)

    def features(images: Tensor) -> Tensor:
        (seen,) = network(torch.from_numpy(to_pixels(images)).movedim(-1, -3).to(images.device))
        return torch.as_tensor(seen)

    return _in_batches(network, features)


def config_beside(checkpoint: Path) -> Any:
    """The config of the stage whose folder a checkpoint lies in; raises InputError where there is
    none.
    """
    path = checkpoint.parent / "config.yaml"
    if not path.is_file():
        raise InputError(
            f"{checkpoint} has no config.yaml beside it: give the model.ckpt of a stage's folder"
        )
    return run_config(checkpoint.parent)


def transfers(
    checkpoints: Mapping[str, str | None], judging: Sequence[str], besides: Sequence[str]
) -> list[Measure]:
    """Whether further VQA models are convinced, of the checkpoints that no other measure needs.

    judging: the names of those that one does. besides: of those that are none of a judge.
    """
    given = {
        name: path
        for name, path in checkpoints.items()
        if path is not None and name not in (*judging, *besides)
    }
    return [
        each for name, path in given.items() for each in vqa.transfer(name, answerer(Path(path)))
    ]


def answerer(checkpoint: Path) -> vqa.Predictor:
    """Another VQA model as a function (images (B, 3, H, W) in [-1, 1], records) -> answers.

    checkpoint: `model.ckpt` of a stage's folder, with its config.yaml and vocabulary.json beside
    it. Raises InputError where one of them is missing or does not fit.
    """
    config = config_beside(checkpoint)
    vocabulary = Vocabulary.load(checkpoint.parent / "vocabulary.json")
    network = load_network(build(config.network, "network"), checkpoint)

    @torch.no_grad()
    def answer(images: torch.Tensor, records: Sequence[Mapping[str, Any]]) -> list[str]:
        asked = vocabulary.encode_all(
            [record["question"] for record in records], config.data.max_question_length
        )
        logits = network(images, *map(torch.from_numpy, asked))
        return [vocabulary.answers[index] for index in logits.argmax(1).tolist()]

    return answer


def with_batch_statistics(network: nn.Module) -> See:
    """The network as if it were in training mode, without what that changes of it."""
    norms = [layer for layer in network.modules() if isinstance(layer, nn.BatchNorm2d)]

    def logits(images: Tensor) -> Tensor:
        images = images.to(next(network.parameters()).device)
        kept = [(norm.running_mean, norm.running_var) for norm in norms]
        for norm in norms:
            norm.running_mean = norm.running_var = None  # so it normalises by the batch
        try:
            found: Tensor = network(images)
        finally:
            for norm, (mean, variance) in zip(norms, kept, strict=True):
                norm.running_mean, norm.running_var = mean, variance
        return found.cpu()

    return logits


def _network(checkpoint: str, network: nn.Module | None) -> nn.Module:
    if network is not None:
        return network
    of_stage: nn.Module = build(config_beside(Path(checkpoint)).network, "network")
    return load_network(of_stage, checkpoint)


def _features(network: nn.Module, name: str) -> See:
    features: Callable[[Tensor], Tensor] | None = getattr(network, "features", None)
    if features is None:
        raise InputError(f"checkpoints.{name}: a {type(network).__name__} has no features(images)")
    return features


def _in_batches(network: nn.Module, see: See) -> See:
    """`see`, which asks the network, a batch at a time, on a GPU where there is one."""
    device = "cuda" if torch.cuda.is_available() else "cpu"
    network.to(device)

    @torch.no_grad()
    def seen(images: Tensor) -> Tensor:
        return torch.cat([see(batch.to(device)).cpu() for batch in torch.split(images, BATCH)])

    return seen


def _lpips_heads() -> dict[str, Tensor]:
    """The weights of LPIPS's channels, which torchmetrics ships."""
    package = find_spec("torchmetrics")
    assert package is not None
    assert package.origin is not None
    return read_state_dict(
        Path(package.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth"
    )
