"""cfexp as a library: an experiment's explainer, or a run's, for images that are at hand."""

from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from hydra import compose, initialize_config_module
from hydra.core.global_hydra import GlobalHydra
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, open_dict
from PIL import Image
from torch import Tensor

from cfexp.callbacks import succeeded
from cfexp.configuration import register_resolvers
from cfexp.data.batch import ImageBatch
from cfexp.data.layout_module import LayoutDataModule
from cfexp.data.own_images import OwnImageReader, fit_image, fit_layout
from cfexp.errors import InputError
from cfexp.explainers.base import Explanation
from cfexp.explainers.steex import STEEX
from cfexp.feasibility import refuse_sizes
from cfexp.own_queries import data_set_without_files, predict_layouts
from cfexp.stages import build, provide_stages

Picture = Tensor | Image.Image | str | Path


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

        images: a tensor (B, 3, H, W) or (3, H, W) in [-1, 1], or one or several of PIL images, paths, and tensors
        (3, H, W), of any size: they are resized to `image_size`. label_maps: for each the region of its pixels, as a
        tensor (B, H, W) or (H, W) of integers, PIL images or paths; None = predicted by the experiment's segmenter,
        which is trained first if it is not there. regions, counter_class: as in the config, which they replace.

        Raises InputError for what cannot be used.
        """
        fitted = torch.stack([self._image(image, f"images[{k}]") for k, image in enumerate(_each(images, 3))])
        self._steex.let_change(self._regions if regions is None else regions, self.region_names)
        self._steex.ask_for(self._counter_class if counter_class is None else counter_class)
        if label_maps is None:
            self._steex.segmenter = self._load_segmenter()
            label_map = torch.zeros(len(fitted), *self.image_size, dtype=torch.int64)
        else:
            self._steex.segmenter = None
            label_map = self._label_maps(_each(label_maps, 2), _each(images, 3))
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
            if image.ndim != 3 or len(image) != 3 or not image.is_floating_point() or image.abs().amax() > 1:
                found = f"{image.dtype} {tuple(image.shape)}, {image.min():.3g}..{image.max():.3g}"
                raise InputError(f"{name}: a tensor must be float (3, H, W) in [-1, 1], got {found}")
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
        if isinstance(layout, Tensor):
            if layout.ndim != 2 or layout.is_floating_point() or not 0 <= int(layout.min()) <= int(layout.max()) <= 255:
                raise InputError(f"{name}: a tensor must be whole numbers (H, W) of 0..255, got {tuple(layout.shape)}")
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

    def _opened(self, given: Image.Image | str | Path, name: str) -> tuple[Image.Image, str]:
        """The picture, and what messages call it."""
        if isinstance(given, Image.Image):
            return given, name
        path = Path(given).expanduser()
        if not path.is_file():
            raise InputError(f"{path}: no such file")
        return self._reader.picture(path), str(path)

    def _load_segmenter(self) -> torch.nn.Module:
        if self._segmenter is None:
            with _hydra():
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

    Raises InputError for an experiment that there is not or that has no search, and for whatever does not fit.
    """
    with _hydra():
        config = _config(run_or_experiment, overrides)
        if not str((config.get("explainer") or {}).get("_target_")).endswith(".STEEX"):
            raise InputError(f"{run_or_experiment}: only searches (steex_...) explain images by themselves")
        data_set: LayoutDataModule = build(OmegaConf.create(data_set_without_files(config)), "data")
        refuse_sizes(config)
        provide_stages(config)
        with open_dict(config):
            config.facts = data_set.facts
        steex: STEEX = build(config.explainer, "explainer")
    # Whatever torch's default is: the images are of 32 bits.
    return LoadedExplainer(config, data_set, steex.to(device, torch.float32))


def _hydra() -> Any:
    """Where configs are composed: within a command, its own."""
    register_resolvers()
    if GlobalHydra.instance().is_initialized():
        return nullcontext()
    return initialize_config_module("cfexp.conf", version_base="1.3")


def _config(run_or_experiment: str | Path, overrides: Sequence[str]) -> DictConfig:
    path = Path(run_or_experiment).expanduser()
    if (path / "config.yaml").is_file():
        if overrides:
            raise InputError(f"overrides are for experiments; {path} is a run, whose config is what it is")
        config = OmegaConf.load(path / "config.yaml")
        assert isinstance(config, DictConfig)
        return config
    try:
        return compose("explain", overrides=[f"+experiment={run_or_experiment}", *overrides])
    except HydraException as error:
        reason = str(error).strip().split("\n")[0]
        raise InputError(
            f"{run_or_experiment} is no run (a folder with config.yaml), and as an experiment: {reason}"
        ) from None


def _each(given: Picture | Sequence[Picture], ndim: int) -> Sequence[Any]:
    """One or several pictures as several. ndim: of a tensor that is one."""
    if isinstance(given, Tensor):
        return list(given[None] if given.ndim == ndim else given)
    several: Sequence[Any] = [given] if isinstance(given, Image.Image | str | Path) else given
    if len(several) == 0:
        raise InputError("there is no image to explain")
    return several


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
