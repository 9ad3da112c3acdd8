"""Where the parts of cfexp 0.1 lie now, for the configs in run folders and stages of then."""

from typing import Any

MOVED = {
    "cfexp.callbacks": "cfexp.run.callbacks",
    "cfexp.data.bdd100k": "cfexp.data.streets.bdd100k",
    "cfexp.data.celeba": "cfexp.data.faces.celeba",
    "cfexp.data.celebamask_hq": "cfexp.data.faces.celebamask_hq",
    "cfexp.data.own_images": "cfexp.data.own.images",
    "cfexp.data.vqa": "cfexp.data.questions.vqa",
    "cfexp.explainers.steex": "cfexp.explainers.steex.steex",
    "cfexp.models.lingunet": "cfexp.models.vqa.lingunet",
    "cfexp.models.mlb": "cfexp.models.vqa.mlb",
    "cfexp.models.own_classifier": "cfexp.models.own.classifier",
    "cfexp.models.perturbation": "cfexp.models.vqa.perturbation",
    "cfexp.models.pretrained": "cfexp.models.loading.pretrained",
    "cfexp.models.sean": "cfexp.models.sean.sean",
    "cfexp.pretraining.autoencoder": "cfexp.training.autoencoder",
    "cfexp.pretraining.classifier": "cfexp.training.classifier",
    "cfexp.pretraining.identity": "cfexp.training.identity",
    "cfexp.pretraining.segmenter": "cfexp.training.segmenter",
    "cfexp.pretraining.vqa_model": "cfexp.training.vqa_model",
}


def with_present_names(content: Any) -> Any:
    """A plain config whose `_target_`s are those of today."""
    if isinstance(content, dict):
        return {
            key: _present(value) if key == "_target_" else with_present_names(value) for key, value in content.items()
        }
    return [with_present_names(each) for each in content] if isinstance(content, list) else content


def _present(target: Any) -> Any:
    module, _, name = str(target).rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else target
