"""The networks that judge a run's pictures, built from what the config of `cfexp.evaluate` gives."""

from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from hydra import compose
from omegaconf import DictConfig, OmegaConf
from torch import Tensor, nn

from cfexp.command_line import quoted
from cfexp.configuration import run_setting
from cfexp.errors import InputError
from cfexp.evaluation import judges
from cfexp.evaluation.dlib_faces import descriptors
from cfexp.evaluation.judges import Judge
from cfexp.evaluation.run_folder import RunFolder, to_pixels
from cfexp.explained import attack_on, explained_model
from cfexp.models.face_verification import face_verification_from_released
from cfexp.models.lpips import lpips_from_released
from cfexp.models.pretrained import freeze, load_network, read_state_dict
from cfexp.models.self_supervised import simsiam_from_released
from cfexp.stages import build, provide_stages

BATCH = 64  # images that a network sees at once: most enlarge them to 224 pixels or more
IDENTITY, ORACLE, INCEPTION = "identity", "oracle", "inception"
FACE_VERIFICATION, SELF_SUPERVISED, LPIPS = "face_verification", "self_supervised", "lpips"
# The checkpoints that are no VQA models which judge whether a flip transfers.
JUDGES = (IDENTITY, ORACLE, INCEPTION, FACE_VERIFICATION, SELF_SUPERVISED, LPIPS, "explained", "second_model")
# What is not computed without a network, and for which of faces alone.
OF_ANYTHING = {INCEPTION: ("fid", "kid"), SELF_SUPERVISED: ("s3",), LPIPS: ("lpips",)}
OF_FACES = {
    IDENTITY: ("identity_similarity",),
    FACE_VERIFICATION: ("fva", "face_similarity"),
    ORACLE: ("mnac", "cd", "oracle_frechet"),
}
SKIN = "skin"  # a region that every layout of a face has


def load_judges(config: DictConfig) -> Callable[[Path], list[Judge]]:
    """All judges that the config gives, as a function of the folder of the run that they judge.

    Raises InputError for a checkpoint that is missing or does not fit, and for a network without its checkpoint.
    """
    given = config.checkpoints
    found: list[Judge] = []
    identity = identity_features(given.get(IDENTITY), config.identity_network)
    if identity is not None:
        found.append(judges.similarity_judge("identity_similarity", identity))
    if given.get(FACE_VERIFICATION) is not None:
        state_dict = read_state_dict(given.face_verification)
        network = freeze(face_verification_from_released(state_dict, config.face_verification_bgr))
        found.append(judges.face_judge(_in_batches(network, network.features)))
    if config.dlib:
        found.append(judges.dlib_judge(descriptors()))
    if given.get(INCEPTION) is not None:
        found.append(judges.inception_judge(inception_features(Path(given.inception))))
    if given.get(SELF_SUPERVISED) is not None:
        simsiam = freeze(simsiam_from_released(read_state_dict(given.self_supervised)))
        found.append(judges.similarity_judge("s3", _in_batches(simsiam, simsiam.features)))
    if given.get(LPIPS) is not None:
        found.append(judges.lpips_judge(freeze(lpips_from_released(read_state_dict(given.lpips), _lpips_heads()))))
    oracle_judges = _load_oracle(config)

    def judges_of(folder: Path) -> list[Judge]:
        of_run = [judges.transition_judge(explained_model(folder, config))] if config.cout else []
        return [*found, *oracle_judges(run_setting(folder, "label")), *of_run]

    return judges_of


def judges_asked_for(folder: Path, config: DictConfig) -> dict[str, Any]:
    """What `score_and_show` is to be given of the run in `folder` for `config.evaluate`, overrides of `cfexp.evaluate`.

    Raises as `load_judges`.
    """
    if not config.evaluate:
        return {}
    asked = compose("evaluate", overrides=[*config.evaluate, f"run={quoted(folder)}"])
    for shared in ("cache_dir", "num_threads", "use_shipped_weights"):
        asked[shared] = config[shared]
    provide_stages(asked)
    return {
        "era": asked.era,
        "judges": load_judges(asked)(folder),
        "missing": missing_judges(folder, asked),
        "predictors": predictors(asked),
        "attack": attack_on(folder, asked),
    }


def predictors(config: DictConfig) -> dict[str, Any]:
    """The other VQA models that a config of `cfexp.evaluate` gives, each as what `answerer` makes of it."""
    from cfexp.evaluate import answerer  # which imports this module

    given = {str(name): path for name, path in config.checkpoints.items() if name not in JUDGES}
    return {name: answerer(Path(path)) for name, path in given.items() if path is not None}


def missing_judges(folder: Path, config: DictConfig) -> dict[str, str]:
    """The metrics that are not computed for want of a network, and what to give."""
    of_faces = SKIN in RunFolder(folder).data.get("region_names", [])
    wanted = OF_FACES | OF_ANYTHING if of_faces else OF_ANYTHING
    missing = {
        metric: f"no checkpoints.{name}=PATH"
        for name, metrics in wanted.items()
        if config.checkpoints.get(name) is None
        for metric in metrics
    }
    if config.checkpoints.get(ORACLE) is not None:
        label, names = run_setting(folder, "label"), _oracle_attributes(config)
        if label not in names:
            missing["cd"] = f"the decision's label, {label}, is none of the oracle's attributes"
    if not config.cout:
        missing["cout"] = "needs cout=true"
    if of_faces and not config.dlib:
        missing["dlib_verification"] = "needs dlib=true"
    return missing


def identity_features(checkpoint: str | None, network: DictConfig | None = None) -> judges.See | None:
    """A network that tells people apart, as a function: images (B, 3, H, W) in [-1, 1] -> features (B, D).

    checkpoint: None = there is none, and None is returned. network: what loads it; None = built by the config.yaml
    beside the checkpoint, as a stage's folder has it. Raises InputError where that is missing or does not fit, and for
    a network that has no `features`.
    """
    loaded = _network(IDENTITY, checkpoint, network)
    return None if loaded is None else _in_batches(loaded, _features(loaded, IDENTITY))


def inception_features(weights: Path) -> judges.See:
    """torch-fidelity's Inception: images -> its 2048 features, of the 8-bit images.

    weights: its file, weights-inception-2015-12-05-6726825d.pth. Raises InputError for one that is missing, holds
    anything but numbers or does not fit.
    """
    from torch_fidelity.feature_extractor_inceptionv3 import FeatureExtractorInceptionV3

    read_state_dict(weights)  # torch-fidelity would run whatever code is in the file
    try:
        network = FeatureExtractorInceptionV3("inception", ["2048"], feature_extractor_weights_path=str(weights))
    except RuntimeError as error:
        problem = str(error).splitlines()[0]
        raise InputError(f"{weights} does not fit torch-fidelity's Inception ({problem})") from None

    def features(images: Tensor) -> Tensor:
        (seen,) = network(torch.from_numpy(to_pixels(images)).movedim(-1, -3).to(images.device))
        return torch.as_tensor(seen)

    return _in_batches(network, features)


def config_beside(checkpoint: Path) -> Any:
    """The config of the stage whose folder a checkpoint lies in; raises InputError where there is none."""
    path = checkpoint.parent / "config.yaml"
    if not path.is_file():
        raise InputError(f"{checkpoint} has no config.yaml beside it: give the model.ckpt of a stage's folder")
    return OmegaConf.load(path)


def _load_oracle(config: DictConfig) -> Callable[[str | None], list[Judge]]:
    """The oracle's judges, as a function of the attribute that is decided."""
    checkpoint = config.checkpoints.get(ORACLE)
    network = _network(ORACLE, checkpoint, config.oracle_network)
    if network is None:
        return lambda label: []
    names = _oracle_attributes(config)
    features = _features(network, ORACLE)

    def see(images: Tensor) -> Tensor:
        return torch.cat([network(images), features(images)], dim=1)

    seen = _in_batches(network, see)
    published = [judges.published_mnac_judge(with_batch_statistics(network), len(names))]

    def oracle_judges(label: str | None) -> list[Judge]:
        attribute = names.index(label) if label in names else None
        found = [judges.oracle_judge(seen, len(names), attribute)]
        return found + published if config.mnac_published else found

    return oracle_judges


def _oracle_attributes(config: DictConfig) -> list[str]:
    """What the outputs of checkpoints.oracle are called."""
    return list(config.oracle_attributes or config_beside(Path(config.checkpoints.oracle)).data.attributes)


def with_batch_statistics(network: nn.Module) -> judges.See:
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


def _network(name: str, checkpoint: str | None, network: DictConfig | None) -> nn.Module | None:
    """What `network` loads, or the config.yaml beside the checkpoint describes; None if neither is given."""
    if checkpoint is None:
        if network is not None:
            raise InputError(f"{name}_network is given, its weights are not: checkpoints.{name}=PATH")
        return None
    if network is not None:
        loaded: nn.Module = build(network, f"{name}_network")
        return loaded
    of_stage: nn.Module = build(config_beside(Path(checkpoint)).network, "network")
    return load_network(of_stage, checkpoint)


def _features(network: nn.Module, name: str) -> judges.See:
    features: Callable[[Tensor], Tensor] | None = getattr(network, "features", None)
    if features is None:
        raise InputError(f"checkpoints.{name}: a {type(network).__name__} has no features(images)")
    return features


def _in_batches(network: nn.Module, see: judges.See) -> judges.See:
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
    return read_state_dict(Path(package.origin).parent / "functional" / "image" / "lpips_models" / "alex.pth")
