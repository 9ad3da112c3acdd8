"""A VQA model of Hugging Face's transformers, from a folder on disk, by the contract of `own_vqa`.

Its images are prepared as its preprocessor_config.json says, but in torch, so that a gradient
reaches the pixels.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from cfexp.errors import InputError
from cfexp.models.loading.pretrained import freeze

_RESAMPLE = {2: "bilinear", 3: "bicubic"}  # Pillow's numbers


class HuggingFaceVQA(nn.Module):
    """A classifier over answers, such as ViLT: square images (B, 3, S, S) in [-1, 1] and B strings
    -> logits (B, K).

    folder: what `save_pretrained` of model, tokenizer and image processor wrote; nothing is
    downloaded, and no code of it is run. Its config's id2label gives the answers. The question
    encoding is the mean of the word embeddings, the answers' vectors are the rows of the last
    linear layer.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, folder: str) -> None:
        """Raises InputError for a folder that holds no such model, and where transformers is not
        installed.
        """
        super().__init__()
        try:
            from transformers import AutoModelForVisualQuestionAnswering, AutoTokenizer
            from transformers.utils.logging import disable_progress_bar
        except ImportError:
            raise InputError(
                "+decision=hugging_face_vqa needs transformers: pip install 'cfexp[transformers]'"
            ) from None
        disable_progress_bar()  # for each reading of a file that takes a moment
        self.answers = hugging_face_answers(folder)
        self.preprocessing = _read(folder, "preprocessor_config.json")
        try:
            kept: Any = {"local_files_only": True, "trust_remote_code": False}
            self.model = freeze(AutoModelForVisualQuestionAnswering.from_pretrained(folder, **kept))
            self._tokenizer: Any = AutoTokenizer.from_pretrained(folder, **kept)
        except (
            Exception
        ) as error:  # a damaged or foreign folder makes the readers raise nearly anything
            reason = (str(error).strip() or type(error).__name__).splitlines()[0]
            raise InputError(
                f"decision.path={folder} holds no model that answers questions ({reason})"
            ) from None
        for name in ("mean", "std"):
            values = (
                self.preprocessing.get(f"image_{name}")
                if self.preprocessing.get("do_normalize", True)
                else None
            )
            default = [0.0] * 3 if name == "mean" else [1.0] * 3
            self.register_buffer(
                name, torch.tensor(values or default)[:, None, None], persistent=False
            )
        heads = [each for each in self.model.modules() if isinstance(each, nn.Linear)]
        last = next(
            (each for each in reversed(heads) if each.out_features == len(self.answers)), None
        )
        self.answer_vectors = None if last is None else last.weight.detach()

    def forward(self, images: Tensor, questions: Sequence[str]) -> Tensor:
        """Logits (B, K)."""
        pixels = self._prepared(images)
        ones = torch.ones(len(pixels), *pixels.shape[2:], dtype=torch.long, device=pixels.device)
        found = self.model(pixel_values=pixels, pixel_mask=ones, **self._tokens(questions))
        return cast(Tensor, found.logits)

    def encode_questions(self, questions: Sequence[str]) -> Tensor:
        """(B, D), the mean of the words' embeddings."""
        tokens = self._tokens(questions)
        mask = tokens["attention_mask"][..., None].float()
        embedded = self.model.get_input_embeddings()(tokens["input_ids"])
        return cast(Tensor, (embedded * mask).sum(1) / mask.sum(1))

    def _tokens(self, questions: Sequence[str]) -> dict[str, Tensor]:
        longest = getattr(self.model.config, "max_position_embeddings", None)
        tokens = self._tokenizer(
            list(questions),
            padding=True,
            truncation=longest is not None,
            max_length=longest,
            return_tensors="pt",
        )
        return {name: values.to(self.mean.device) for name, values in tokens.items()}

    def _prepared(self, images: Tensor) -> Tensor:
        settings = self.preprocessing
        if settings.get("do_resize", True) and (side := _side(settings)) != images.shape[2]:
            mode = _RESAMPLE.get(settings.get("resample", 3), "bicubic")
            images = F.interpolate(images, (side, side), mode=mode, antialias=True).clamp(-1, 1)
        if settings.get("do_center_crop") and (crop := settings.get("crop_size")):
            height, width = (
                (crop["height"], crop["width"]) if isinstance(crop, dict) else (crop, crop)
            )
            top, left = (images.shape[2] - height) // 2, (images.shape[3] - width) // 2
            images = images[:, :, top : top + height, left : left + width]
        return ((images + 1) / 2 - self.mean) / self.std


def hugging_face_answers(folder: str) -> list[str]:
    """The answers of the model in a folder, in the order of its outputs; raises InputError where it
    names none.
    """
    labels = _read(folder, "config.json").get("id2label") or {}
    try:
        return [str(labels[name]) for name in sorted(labels, key=int)]
    except (TypeError, ValueError):
        raise InputError(f"{folder}/config.json: id2label must map numbers to answers") from None


def _side(settings: dict[str, Any]) -> int:
    """To which side square images are resized."""
    size = settings.get("size", 384)
    if isinstance(size, dict):
        size = size.get("shortest_edge") or size.get("height") or 384
    divisor = settings.get("size_divisor") or 1
    return int(size) // divisor * divisor


def _read(folder: str, name: str) -> dict[str, Any]:
    path = Path(folder).expanduser() / name
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"{path} cannot be read ({error}): give decision.path=FOLDER, of save_pretrained"
        ) from None
    if not isinstance(content, dict):
        raise InputError(f"{path} must hold a JSON object")
    return content
