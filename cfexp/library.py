"""cfexp as a library: an experiment's explainer, or a run's, for images that are at hand."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from omegaconf import DictConfig, OmegaConf, open_dict
from torch import Tensor

from cfexp.data.batch import ImageBatch, VQABatch
from cfexp.data.own.pictures import GivenPictures, Picture, as_picture, each_of
from cfexp.data.questions.dataset import words_of
from cfexp.errors import InputError
from cfexp.explainers.base import Explainer, Explanation
from cfexp.run.building import build
from cfexp.run.callbacks import succeeded
from cfexp.run.explainer_stage import NAME, explainer_class, load_trained
from cfexp.run.feasibility import refuse_sizes
from cfexp.run.library_config import composing_for_user, config_of, name_weights
from cfexp.run.own_data import fill_in_from_data
from cfexp.run.own_queries import data_set_without_files, has_root, predict_label_maps
from cfexp.run.stages import provide_stages
from cfexp.run.without_effect import names_of, without_effect

__all__ = ["Explained", "LoadedExplainer", "Picture", "load_explainer"]
_OF_THE_RUN_FOLDER = (
    "key",
    "seconds",
    "stored_logits",
)  # extras that the result has under other names, or not


class Explained(NamedTuple):
    """What became of B queries, of the size of the networks: float tensors on the CPU.

    >>> explained = load_explainer("pe_smile").explain(torch.full((2, 3, 64, 64), -0.1))
    >>> explained.counterfactual.shape, len(explained.after), explained.success.dtype
    (torch.Size([2, 3, 64, 64]), 2, torch.bool)

    `extras` are what the explainer tells beside that, each (B, ...), by the names of the run
    folder's columns (docs/run_folder.md). Those of a search have names of their own here, too:
    `label_map`, `codes` ...
    """

    query: Tensor  # (B, 3, H, W) in [-1, 1], the images as they were explained
    reconstruction: Tensor  # (B, 3, H, W), the query through the explainer with no edit
    counterfactual: Tensor  # (B, 3, H, W), on the 256 levels of a file
    success: Tensor  # (B,) bool, whether that is decided as was asked for
    # (B, K) of classes that exclude each other; of a binary output 0 and its logit
    query_logits: Tensor
    logits: Tensor  # (B, K) on the counterfactual
    counter_class: Tensor  # (B,) int64, what was asked for; -1 = any class but the query's
    before: tuple[str, ...]  # B names of what is decided of the query: its class, or the answer
    after: tuple[str, ...]  # and of the counterfactual
    extras: dict[str, Tensor]

    @property
    def label_map(self) -> Tensor:
        """(B, H, W) int64, the region of each pixel; raises InputError where the explainer has no
        label maps.
        """
        return self._told("label_map")

    @property
    def query_codes(self) -> Tensor:
        """(B, R, D); raises InputError where the explainer has no style codes."""
        return self._told("query_codes")

    @property
    def codes(self) -> Tensor:
        """(B, R, D) of the counterfactual; raises as `query_codes`."""
        return self._told("style_codes")

    @property
    def curves(self) -> dict[str, Tensor]:
        """The two losses before each step, "decision" and "proximity", (B, steps); raises where
        there are none.
        """
        return {name: self._told(f"{name}_curve") for name in ("decision", "proximity")}

    def _told(self, name: str) -> Tensor:
        if name not in self.extras:
            raise InputError(
                f"this explainer tells no {name}; its extras are {', '.join(self.extras) or 'none'}"
            )
        return self.extras[name]


class LoadedExplainer:
    """An explainer with its networks; made by `load_explainer`.

    region_names: R names, of data sets that have label maps. class_names: of the decision, None
    where they have none; of a VQA model its answers. image_size: (H, W) of the networks.
    asks_questions: whether a query has a question.

    >>> explainer = load_explainer("pe_smile")
    >>> explainer.image_size, explainer.asks_questions
    ((64, 64), False)
    >>> len(explainer.explain(torch.full((3, 64, 64), -0.1)).after)
    1
    """

    def __init__(self, config: DictConfig, data_set: Any, explainer: Explainer) -> None:
        self._config, self._data_set, self._explainer = config, data_set, explainer
        self.asks_questions: bool = data_set.asks_questions
        side = data_set.image_size
        self.image_size: tuple[int, int] = (side, side) if isinstance(side, int) else tuple(side)
        self.region_names: Sequence[str] = getattr(data_set, "region_names", ())
        self.class_names = (
            data_set.vocabulary.answers
            if self.asks_questions
            else getattr(explainer, "class_names", None)
        )
        self._asked = explainer.regions, explainer.counter_class
        self._segmenter: torch.nn.Module | None = getattr(explainer, "segmenter", None)
        self._pictures = GivenPictures(
            self.region_names, self.image_size, square=self.asks_questions
        )

    def explain(
        self,
        images: Picture | Sequence[Picture],
        label_maps: Picture | Sequence[Picture] | None = None,
        regions: Sequence[str] | None = None,
        counter_class: str | int | None = None,
        questions: str | Sequence[str] | None = None,
    ) -> Explained:
        """A counterfactual for each image, or for each question about one.

        Warns of tensors without any value below 0, which are likely in [0, 1], and of words that
        the model lacks.

        Args:
            images: A float tensor (B, 3, H, W) or (3, H, W) in [-1, 1], a uint8 array (B, H, W, 3)
                or (H, W, 3), or one or several of PIL images, paths, tensors (3, H, W) and arrays
                (H, W, 3), of any size: they are resized to `image_size`; of a VQA model the centred
                square.
            label_maps: For each image the region of its pixels, as a tensor or array (B, H, W) or
                (H, W) of integers, PIL images or paths; None = predicted by the experiment's
                segmenter, which is trained first if it is not there, where the explainer needs any.
            regions: The names of those that may change, in place of the config's; of an explainer
                that can be told.
            counter_class: What to ask for, by name or number, in place of the config's; likewise.
            questions: One for each image, or one for all of them, or several about a single image;
                only of a model that is asked some.

        Returns:
            What became of the B queries.

        Raises:
            InputError: For what cannot be used.
        """
        given = [
            as_picture(image, f"images[{k}]")
            for k, image in enumerate(each_of(images, "images", 3))
        ]
        asked = self._questions(questions, len(given))
        given = given * len(asked) if len(given) == 1 < len(asked) else given
        fitted = torch.stack(
            [self._pictures.image(image, f"images[{k}]") for k, image in enumerate(given)]
        )
        tensors = [image for image in given if isinstance(image, Tensor)]
        if tensors and all(image.min() >= 0 for image in tensors):
            taken = "they are taken as in [-1, 1] (of [0, 1] give 2 * images - 1)"
            warnings.warn(f"images: no tensor has a value below 0; {taken}", stacklevel=2)
        explainer, (own_regions, own_class) = self._explainer, self._asked
        explainer.let_change(own_regions if regions is None else regions, self.region_names)
        explainer.ask_for(own_class if counter_class is None else counter_class)
        label_map = self._label_maps(label_maps, given)
        parts = []
        for rows in torch.split(torch.arange(len(fitted)), self._data_set.eval_batch_size):
            # A search takes gradients, which inference mode forbids, also of tensors made in it:
            # the batch is made outside.
            with torch.inference_mode(False), torch.no_grad():
                batch = (
                    self._vqa_batch(fitted, asked, rows)
                    if asked
                    else self._image_batch(fitted, label_map, rows)
                )
                parts.append(self._told(explainer.predict_step(batch, 0)))
        return _joined(parts)

    def _questions(self, given: str | Sequence[str] | None, images: int) -> list[str]:
        """One for each query; none of a model that is asked none."""
        if not self.asks_questions:
            if given is not None:
                raise InputError(
                    "questions: this experiment's model decides about images alone; leave them out"
                )
            return []
        asked = [given] if isinstance(given, str) else list(given or ())
        if not asked or not all(isinstance(each, str) and each.strip() for each in asked):
            raise InputError(f"questions must be a text, or one for each image, got {given!r}")
        asked = asked * images if len(asked) == 1 else asked
        if images not in (1, len(asked)):
            raise InputError(f"questions must be one for each image: {len(asked)} for {images}")
        for question in dict.fromkeys(asked):
            known, unknown = self._data_set.vocabulary.split(question)
            if not known:
                raise InputError(f"questions: the model knows no word of {question!r}")
            if unknown:
                warnings.warn(
                    f"questions: the model does not know {', '.join(unknown)} of {question!r}",
                    stacklevel=3,
                )
        return asked

    def _label_maps(self, label_maps: Any, images: Sequence[Picture]) -> Tensor:
        """(B, H, W), as they are given, or where they are predicted or not needed zeros."""
        explainer: Any = self._explainer
        if label_maps is not None:
            if not explainer.needs_label_map:
                raise InputError("label_maps: this explainer takes images alone; leave them out")
            explainer.segmenter = None
            return self._pictures.label_maps(each_of(label_maps, "label_maps", 2), images)
        if explainer.needs_label_map:
            explainer.segmenter = self._load_segmenter()
        return torch.zeros(len(images), *self.image_size, dtype=torch.int64)

    def _image_batch(self, images: Tensor, label_map: Tensor, rows: Tensor) -> ImageBatch:
        device = self._explainer.device
        return ImageBatch(
            images[rows].to(device),
            label_map[rows].to(device),
            torch.full((len(rows), len(self._data_set.class_names)), torch.nan),
            torch.full((len(rows),), -1),
            rows.to(device),
            tuple(map(str, rows.tolist())),
        )

    def _vqa_batch(self, images: Tensor, questions: Sequence[str], rows: Tensor) -> VQABatch:
        data, text = self._data_set, tuple(questions[row] for row in rows.tolist())
        words, length = words_of(text, data.vocabulary, data.max_question_length)
        columns = (images[rows], words, length, torch.full((len(rows),), -1), rows, rows)
        image, words, length, answer, image_id, key = (
            column.to(self._explainer.device) for column in columns
        )
        return VQABatch(image, words, length, answer, image_id, key, text)

    def _told(self, explanation: Explanation) -> Explained:
        extras, stored = dict(explanation.extras), explanation.extras["stored_logits"]
        before, after = (logits.argmax(1) for logits in (explanation.query_logits, stored))
        name = self._explainer.class_name
        return Explained(
            query=explanation.query,
            reconstruction=explanation.reconstruction,
            counterfactual=explanation.counterfactual,
            success=succeeded(after, before, explanation.counter_class),
            query_logits=explanation.query_logits,
            logits=stored,
            counter_class=explanation.counter_class,
            before=tuple(map(name, before.tolist())),
            after=tuple(map(name, after.tolist())),
            extras={key: values for key, values in extras.items() if key not in _OF_THE_RUN_FOLDER},
        )

    def _load_segmenter(self) -> torch.nn.Module:
        if self._segmenter is None:
            with composing_for_user():
                predict_label_maps(self._config)
                refuse_sizes(self._config)
                provide_stages(self._config)
                segmenter: torch.nn.Module = build(
                    self._config.explainer.segmenter, "explainer.segmenter"
                )
            self._segmenter = segmenter.to(self._explainer.device, torch.float32)
        return self._segmenter


def load_explainer(
    run_or_experiment: str | Path, overrides: Sequence[str] = (), device: str | torch.device = "cpu"
) -> LoadedExplainer:
    """The explainer of an experiment or of a run, with its networks loaded.

    Stages whose weights are neither shipped nor in the cache are trained first; so is an explainer
    that is trained ("vqa_color"), unless it is shipped, its run is given, or its weights
    (checkpoints.explainer=). Warns of settings that have no effect, and of what `cfexp.doctor`
    notes about a model of a user's own.

    Args:
        run_or_experiment: An experiment's name, such as "steex_driving", or the folder of a run.
        overrides: Of an experiment's settings, as on the command line: ["explainer.num_steps=50",
            "+decision=torchscript", "decision.path=model.pt"].
        device: Where it computes, such as "cuda".

    Returns:
        The explainer, whose `explain` takes images.

    Raises:
        InputError: For an experiment that there is not or that has no explainer, for a device that
            is not there, and for whatever does not fit.

    >>> explainer = load_explainer("steex_driving")
    >>> explainer.image_size, explainer.class_names
    ((64, 128), ['stop', 'go'])
    """
    place = _device(device)
    with composing_for_user():
        config = config_of(run_or_experiment, overrides)
        fill_in_from_data(config)
        explainer_class(config)
        for line in without_effect(config, names_of(overrides), "explain"):
            warnings.warn(line, stacklevel=2)
        name_weights(config, run_or_experiment, overrides)
        refuse_sizes(config)
        provide_stages(config)
        data_set = build(OmegaConf.create(data_set_without_files(config)), "data")
        data_set.has_root = has_root(config)
        with open_dict(config):
            config.facts = data_set.facts
        explainer: Explainer = build(config.explainer, "explainer")
        if (weights := config.checkpoints.get(NAME)) is not None:
            load_trained(explainer, weights)
    explainer.settle(data_set)
    for note in getattr(getattr(explainer, "decision_model", None), "notes", ()):
        warnings.warn(note, stacklevel=2)
    # Whatever torch's default is: the images are of 32 bits.
    return LoadedExplainer(config, data_set, explainer.eval().to(place, torch.float32))


def _device(given: str | torch.device) -> torch.device:
    """A device that is there."""
    try:
        device = torch.device(given)
        if device.type == "meta":
            raise RuntimeError("it holds no numbers")
        torch.zeros(1, device=device)
    except (RuntimeError, AssertionError, NotImplementedError, TypeError) as error:
        reason = str(error).strip().splitlines()[0].split(". ")[0]
        raise InputError(
            f"device={given!r} cannot be used ({reason}): cpu can, and cuda where there is one"
        ) from None
    return device


def _joined(parts: list[Explained]) -> Explained:
    def join(values: Sequence[Tensor]) -> Tensor:
        return torch.cat([value.detach().cpu() for value in values])

    columns: dict[str, Any] = {}
    for name in Explained._fields:
        of_parts: list[Any] = [getattr(part, name) for part in parts]
        if isinstance(of_parts[0], Tensor):
            columns[name] = join(of_parts)
        elif isinstance(of_parts[0], tuple):
            columns[name] = tuple(each for values in of_parts for each in values)
        else:
            columns[name] = {key: join([values[key] for values in of_parts]) for key in of_parts[0]}
    return Explained(**columns)
