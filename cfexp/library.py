"""cfexp as a library: an experiment's explainer, or a run's, for images that are at hand."""

import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose
from hydra.errors import HydraException
from numpy.typing import NDArray
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException
from PIL import Image
from torch import Tensor

from cfexp.callbacks import succeeded
from cfexp.configuration import one_line, register_resolvers
from cfexp.data.batch import ImageBatch
from cfexp.data.layout_module import LayoutDataModule
from cfexp.data.own_images import OwnImageReader, check_size, fit_image, fit_layout
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation
from cfexp.explainers.steex import STEEX
from cfexp.feasibility import refuse_sizes
from cfexp.own_queries import data_set_without_files, predict_layouts
from cfexp.run_checkpoints import with_its_checkpoints
from cfexp.stage_networks import composing
from cfexp.stages import build, provide_stages

Picture = Tensor | NDArray[Any] | Image.Image | str | Path
_KINDS = "a path, a PIL image, an array or a tensor"


class Explained(NamedTuple):
    """What became of B images, of the size of the networks: float tensors on the CPU."""

    query: Tensor  # (B, 3, H, W) in [-1, 1], the images as they were explained
    reconstruction: Tensor  # (B, 3, H, W), the query through encoder and generator with no edit
    counterfactual: Tensor  # (B, 3, H, W), on the 256 levels of a file
    success: Tensor  # (B,) bool, whether that is decided as was asked for
    query_logits: Tensor  # (B, K) of classes that exclude each other; of a binary output 0 and its logit
    logits: Tensor  # (B, K) on the counterfactual
    counter_class: Tensor  # (B,) int64, what was asked for
    label_map: Tensor  # (B, H, W) int64, the region of each pixel
    query_codes: Tensor  # (B, R, D)
    codes: Tensor  # (B, R, D) of the counterfactual
    curves: dict[str, Tensor]  # "decision" and "proximity", (B, steps): the two losses before each step


class LoadedExplainer:
    """A search with its networks; made by `load_explainer`.

    region_names: R names. class_names: of the decision, None where they have none. image_size: (H, W) of the networks.
    """

    def __init__(self, config: DictConfig, data_set: LayoutDataModule, steex: STEEX) -> None:
        self._config, self._data_set, self._steex = config, data_set, steex
        self.region_names, self.image_size = data_set.region_names, data_set.image_size
        self.class_names = steex.class_names
        self._regions, self._counter_class = steex.regions, steex.counter_class
        self._segmenter = steex.segmenter

    def explain(
        self,
        images: Picture | Sequence[Picture],
        label_maps: Picture | Sequence[Picture] | None = None,
        regions: Sequence[str] | None = None,
        counter_class: str | int | None = None,
    ) -> Explained:
        """A counterfactual for each image.

        images: a float tensor (B, 3, H, W) or (3, H, W) in [-1, 1], a uint8 array (B, H, W, 3) or (H, W, 3), or one or
        several of PIL images, paths, tensors (3, H, W) and arrays (H, W, 3), of any size: they are resized to
        `image_size`. label_maps: for each the region of its pixels, as a tensor or array (B, H, W) or (H, W) of
        integers, PIL images or paths; None = predicted by the experiment's segmenter, which is trained first if it is
        not there. regions, counter_class: as in the config, which they replace.

        Warns of tensors without any value below 0, which are likely in [0, 1].

        Raises InputError for what cannot be used.
        """
        given = [_as_picture(image, f"images[{k}]") for k, image in enumerate(_each(images, "images", 3))]
        fitted = torch.stack([self._image(image, f"images[{k}]") for k, image in enumerate(given)])
        tensors = [image for image in given if isinstance(image, Tensor)]
        if tensors and all(image.min() >= 0 for image in tensors):
            warnings.warn(
                "images: no tensor has a value below 0; they are taken as in [-1, 1] (of [0, 1] give 2 * images - 1)",
                stacklevel=2,
            )
        self._steex.let_change(self._regions if regions is None else regions, self.region_names)
        self._steex.ask_for(self._counter_class if counter_class is None else counter_class)
        if label_maps is None:
            self._steex.segmenter = self._load_segmenter()
            label_map = torch.zeros(len(fitted), *self.image_size, dtype=torch.int64)
        else:
            self._steex.segmenter = None
            label_map = self._label_maps(_each(label_maps, "label_maps", 2), given)
        device, size = self._steex.device, self._data_set.eval_batch_size
        parts = []
        for rows in torch.split(torch.arange(len(fitted)), size):
            unknown = torch.full((len(rows),), -1)
            batch = ImageBatch(
                fitted[rows].to(device),
                label_map[rows].to(device),
                torch.full((len(rows), len(self._data_set.class_names)), torch.nan),
                unknown,
                rows.to(device),
                tuple(map(str, rows.tolist())),
            )
            parts.append(_told(self._steex.predict_step(batch, 0)))
        return _joined(parts)

    def _image(self, image: Picture, name: str) -> Tensor:
        """(3, H, W) in [-1, 1], of the networks' size."""
        if isinstance(image, Tensor):
            usable = image.ndim == 3 and len(image) == 3 and image.is_floating_point() and image.numel() > 0
            if not usable or not image.abs().amax() <= 1:  # nor is NaN
                raise InputError(f"{name}: a tensor must be float (3, H, W) in [-1, 1], got {_described(image)}")
            check_size(image.shape[2], image.shape[1], self.image_size, name)
            if tuple(image.shape[1:]) == self.image_size:
                return image.detach().float().cpu()
            image = image.detach().float().cpu()[None]
            return F.interpolate(image, self.image_size, mode="bicubic", antialias=True).clamp(-1, 1)[0]
        picture, name = self._opened(image, name)
        pixels = np.asarray(fit_image(picture, self.image_size, name)[0])
        return torch.from_numpy(pixels.transpose(2, 0, 1).copy()).float().div_(127.5).sub_(1)

    def _label_maps(self, label_maps: Sequence[Picture], images: Sequence[Picture]) -> Tensor:
        """(B, H, W) int64, of the networks' size."""
        if len(label_maps) != len(images):
            raise InputError(f"label_maps must be one for each image: {len(label_maps)} for {len(images)}")
        pairs = enumerate(zip(label_maps, images, strict=True))
        return torch.stack([self._label_map(layout, image, f"label_maps[{k}]") for k, (layout, image) in pairs])

    def _label_map(self, layout: Picture, image: Picture, name: str) -> Tensor:
        if isinstance(layout, np.ndarray) and layout.dtype.kind in "iu":
            layout = torch.from_numpy(layout.astype(np.int64))
        if isinstance(layout, np.ndarray):
            raise InputError(f"{name}: an array must be whole numbers (H, W) of 0..255, got {_described(layout)}")
        if isinstance(layout, Tensor):
            counts = not (layout.is_floating_point() or layout.is_complex() or layout.dtype == torch.bool)
            usable = counts and layout.ndim == 2 and layout.numel() > 0
            if not usable or not 0 <= int(layout.min()) <= int(layout.max()) <= 255:
                raise InputError(f"{name}: a tensor must be whole numbers (H, W) of 0..255, got {_described(layout)}")
            picture = Image.fromarray(layout.to(torch.uint8).cpu().numpy())
        else:
            picture, name = self._opened(layout, name)
        regions = self._reader.regions_of(picture, name)
        if isinstance(image, Tensor):
            upright = Image.new("L", (image.shape[2], image.shape[1]))
        else:
            upright = self._opened(image, name)[0]
        return torch.from_numpy(np.array(fit_layout(regions, upright, self.image_size, name))).long()

    @property
    def _reader(self) -> OwnImageReader:
        return OwnImageReader(self.region_names, self.image_size)

    def _opened(self, given: Picture, name: str) -> tuple[Image.Image, str]:
        """The picture, and what messages call it."""
        if isinstance(given, Image.Image):
            try:
                given.load()
            except Exception as error:  # a damaged file makes Pillow raise nearly anything
                raise InputError(f"{name}: the image cannot be read ({error or type(error).__name__})") from None
            return given, name
        if not isinstance(given, str | Path):
            raise InputError(f"{name}: expected {_KINDS}, got {type(given).__name__}")
        path = Path(given).expanduser()
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return self._reader.picture(path), str(path)

    def _load_segmenter(self) -> torch.nn.Module:
        if self._segmenter is None:
            with _hydra(), _input_errors():
                predict_layouts(self._config)
                refuse_sizes(self._config)
                provide_stages(self._config)
                segmenter: torch.nn.Module = build(self._config.explainer.segmenter, "explainer.segmenter")
            self._segmenter = segmenter.to(self._steex.device, torch.float32)
        return self._segmenter


def load_explainer(
    run_or_experiment: str | Path, overrides: Sequence[str] = (), device: str | torch.device = "cpu"
) -> LoadedExplainer:
    """The explainer of an experiment ("steex_driving") or of the run in a folder, with its networks loaded.

    overrides: of an experiment's settings, as on the command line: ["explainer.num_steps=50", "+decision=torchscript",
    "decision.path=model.pt", ...]. Stages whose weights are neither shipped nor in the cache are trained first.

    Warns of what `cfexp.doctor` notes about a classifier of a user's own.

    Raises InputError for an experiment that there is not or that has no search, for a device that is not there, and for
    whatever does not fit.
    """
    place = _device(device)
    with _hydra(), _input_errors():
        config = _config(run_or_experiment, overrides)
        if not str((config.get("explainer") or {}).get("_target_")).endswith(".STEEX"):
            raise InputError(f"{run_or_experiment}: only searches (steex_...) explain images by themselves")
        data_set: LayoutDataModule = build(OmegaConf.create(data_set_without_files(config)), "data")
        refuse_sizes(config)
        provide_stages(config)
        with open_dict(config):
            config.facts = data_set.facts
        steex: STEEX = build(config.explainer, "explainer")
    for note in getattr(steex.decision_model, "notes", ()):
        warnings.warn(note, stacklevel=2)
    # Whatever torch's default is: the images are of 32 bits.
    return LoadedExplainer(config, data_set, steex.to(place, torch.float32))


def _device(given: str | torch.device) -> torch.device:
    """A device that is there."""
    try:
        device = torch.device(given)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise InputError(f"device={given!r} cannot be used ({reason}): cpu can, and cuda where there is one") from None
    return device


@contextmanager
def _input_errors() -> Iterator[None]:
    """What OmegaConf says of a config is the user's to mend, too."""
    try:
        yield
    except OmegaConfBaseException as error:
        raise InputError(one_line(error)) from None


def _hydra() -> Any:
    """Where configs are composed: within a command, its own."""
    register_resolvers()
    return composing()


def _config(run_or_experiment: str | Path, overrides: Sequence[str]) -> DictConfig:
    if not isinstance(run_or_experiment, str | Path) or not str(run_or_experiment):
        raise InputError(f"give the name of an experiment or the folder of a run, got {run_or_experiment!r}")
    if isinstance(overrides, str) or not all(isinstance(each, str) for each in overrides):
        raise InputError(f'overrides must be a list of settings, such as ["explainer.num_steps=50"], got {overrides!r}')
    path = Path(run_or_experiment).expanduser()
    if (path / "config.yaml").is_file():
        if overrides:
            raise InputError(f"overrides are for experiments; {path} is a run, whose config is what it is")
        try:
            config = OmegaConf.load(path / "config.yaml")
        except Exception as error:  # a damaged file makes the reader raise nearly anything
            reason = " ".join(str(error).split())
            raise InputError(f"{path / 'config.yaml'} cannot be read ({reason})") from None
        if not isinstance(config, DictConfig):
            raise InputError(f"{path / 'config.yaml'} holds no config of a run")
        return with_its_checkpoints(config, path)
    try:
        return compose("explain", overrides=[f"+experiment={run_or_experiment}", *overrides])
    except (HydraException, OmegaConfBaseException, ValueError) as error:  # the last: data=1 for a choice
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{run_or_experiment} is no run (a folder with config.yaml), and as an experiment: {reason}"
        ) from None


def _each(given: Picture | Sequence[Picture], name: str, ndim: int) -> list[Any]:
    """One or several pictures as several. ndim: of a tensor or an array that is one."""
    if isinstance(given, Tensor | np.ndarray):
        several = list(given if given.ndim == ndim + 1 else given[None])
    elif isinstance(given, Sequence) and not isinstance(given, str | bytes):
        several = list(given)
    else:
        several = [given]
    if not several:
        raise InputError("there is no image to explain" if name == "images" else f"{name} is empty")
    return several


def _as_picture(image: Any, name: str) -> Any:
    """An array as Pillow has it; anything else as it is."""
    if not isinstance(image, np.ndarray):
        return image
    if image.dtype != np.uint8 or image.ndim != 3 or image.shape[2] != 3 or image.size == 0:
        problem = f"an array must be uint8 (H, W, 3), as of a PIL image, got {_described(image)}"
        raise InputError(f"{name}: {problem}; floats are taken as a tensor (3, H, W) in [-1, 1]")
    return Image.fromarray(image)


def _described(values: Tensor | NDArray[Any]) -> str:
    """Type, shape and range, or that it has none."""
    found = f"{values.dtype} {tuple(values.shape)}"
    numbers = torch.as_tensor(values) if isinstance(values, Tensor) or values.dtype.kind in "fiub" else None
    if numbers is None or numbers.numel() == 0 or numbers.is_complex():
        return found
    if not numbers.isfinite().all():
        return f"{found} with NaN or infinity"
    return f"{found}, {numbers.min():.3g}..{numbers.max():.3g}"


def _told(explanation: Explanation) -> Explained:
    extras, asked = explanation.extras, explanation.counter_class
    stored = extras["stored_logits"]
    return Explained(
        query=explanation.query,
        reconstruction=explanation.reconstruction,
        counterfactual=explanation.counterfactual,
        success=succeeded(stored.argmax(1), explanation.query_logits.argmax(1), asked),
        query_logits=explanation.query_logits,
        logits=stored,
        counter_class=asked,
        label_map=extras["label_map"],
        query_codes=extras["query_codes"],
        codes=extras["style_codes"],
        curves={name: extras[f"{name}_curve"] for name in ("decision", "proximity")},
    )


def _joined(parts: list[Explained]) -> Explained:
    def join(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([value.detach().cpu() for value in values])

    columns = {name: join([getattr(part, name) for part in parts]) for name in Explained._fields if name != "curves"}
    curves = {name: join([part.curves[name] for part in parts]) for name in parts[0].curves}
    return Explained(**columns, curves=curves)
