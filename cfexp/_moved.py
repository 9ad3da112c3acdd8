"""Where the modules of cfexp 0.1 lie now: they can be imported by their old names, and configs may
name them so.
"""

import importlib
import importlib.abc
import importlib.machinery
import sys
import warnings
from collections.abc import Sequence
from types import ModuleType
from typing import Any

MOVED = {
    "cfexp.callbacks": "cfexp.run.callbacks",
    "cfexp.command_line": "cfexp.run.command_line",
    "cfexp.configuration": "cfexp.run.configuration",
    "cfexp.data.archives": "cfexp.data.reading.archives",
    "cfexp.data.bdd100k": "cfexp.data.streets.bdd100k",
    "cfexp.data.bdd_oia": "cfexp.data.streets.bdd_oia",
    "cfexp.data.celeba": "cfexp.data.faces.celeba",
    "cfexp.data.celeba_files": "cfexp.data.faces.celeba_files",
    "cfexp.data.celebamask_hq": "cfexp.data.faces.celebamask_hq",
    "cfexp.data.check_faces": "cfexp.data.checks.faces",
    "cfexp.data.check_labels": "cfexp.data.checks.labels",
    "cfexp.data.check_predicted": "cfexp.data.checks.predicted",
    "cfexp.data.check_streets": "cfexp.data.checks.streets",
    "cfexp.data.check_vqa": "cfexp.data.checks.vqa",
    "cfexp.data.content": "cfexp.data.checks.content",
    "cfexp.data.face_module": "cfexp.data.faces.module",
    "cfexp.data.findings": "cfexp.data.checks.findings",
    "cfexp.data.images": "cfexp.data.reading.images",
    "cfexp.data.inspection": "cfexp.data.checks.inspection",
    "cfexp.data.label_map_cache": "cfexp.data.label_maps.cache",
    "cfexp.data.layout_module": "cfexp.data.label_maps.module",
    "cfexp.data.layouts": "cfexp.data.label_maps.dataset",
    "cfexp.data.loaders": "cfexp.data.reading.loaders",
    "cfexp.data.own_images": "cfexp.data.own.images",
    "cfexp.data.part_masks": "cfexp.data.label_maps.part_masks",
    "cfexp.data.plausible": "cfexp.data.label_maps.plausible",
    "cfexp.data.records": "cfexp.data.reading.records",
    "cfexp.data.settings": "cfexp.data.reading.settings",
    "cfexp.data.skipping": "cfexp.data.reading.skipping",
    "cfexp.data.vqa": "cfexp.data.questions.vqa",
    "cfexp.data.vqa_dataset": "cfexp.data.questions.dataset",
    "cfexp.data.vqa_files": "cfexp.data.questions.files",
    "cfexp.data.vqa_scene_graph": "cfexp.data.questions.scene_graph",
    "cfexp.data.vqa_vocabulary": "cfexp.data.questions.vocabulary",
    "cfexp.evaluation.attack_table": "cfexp.evaluation.report.attack_table",
    "cfexp.evaluation.closeness_table": "cfexp.evaluation.report.closeness_table",
    "cfexp.evaluation.gallery": "cfexp.evaluation.report.sheet",
    "cfexp.evaluation.page": "cfexp.evaluation.report.gallery",
    "cfexp.evaluation.plot": "cfexp.evaluation.report.plot",
    "cfexp.evaluation.sweep_table": "cfexp.evaluation.report.sweep_table",
    "cfexp.evaluation.table": "cfexp.evaluation.report.table",
    "cfexp.explained": "cfexp.run.explained",
    "cfexp.explainers.region_sweep": "cfexp.explainers.steex.region_sweep",
    "cfexp.explainers.search": "cfexp.explainers.steex.search",
    "cfexp.feasibility": "cfexp.run.feasibility",
    "cfexp.folder_lock": "cfexp.run.folder_lock",
    "cfexp.folder_names": "cfexp.run.folder_names",
    "cfexp.judging": "cfexp.run.judging",
    "cfexp.label_maps": "cfexp.run.label_maps",
    "cfexp.loggers": "cfexp.run.loggers",
    "cfexp.memory": "cfexp.run.memory",
    "cfexp.models.classifier_files": "cfexp.models.loading.classifier_files",
    "cfexp.models.face_verification": "cfexp.models.judges.face_verification",
    "cfexp.models.layouts": "cfexp.models.neighbourhoods",
    "cfexp.models.lingunet": "cfexp.models.vqa.lingunet",
    "cfexp.models.lpips": "cfexp.models.judges.lpips",
    "cfexp.models.mlb": "cfexp.models.vqa.mlb",
    "cfexp.models.own_classifier": "cfexp.models.own.classifier",
    "cfexp.models.packed": "cfexp.models.loading.packed",
    "cfexp.models.perturbation": "cfexp.models.vqa.perturbation",
    "cfexp.models.pretrained": "cfexp.models.loading.pretrained",
    "cfexp.models.sean_fast": "cfexp.models.sean.fast",
    "cfexp.models.sean_layers": "cfexp.models.sean.layers",
    "cfexp.models.self_supervised": "cfexp.models.judges.self_supervised",
    "cfexp.models.state_dicts": "cfexp.models.loading.state_dicts",
    "cfexp.models.style_encoder": "cfexp.models.sean.style_encoder",
    "cfexp.optuna_storage": "cfexp.run.optuna_storage",
    "cfexp.own_queries": "cfexp.run.own_queries",
    "cfexp.pretraining": "cfexp.training",
    "cfexp.pretraining.autoencoder": "cfexp.training.autoencoder",
    "cfexp.pretraining.classifier": "cfexp.training.classifier",
    "cfexp.pretraining.identity": "cfexp.training.identity",
    "cfexp.pretraining.schedule": "cfexp.training.schedule",
    "cfexp.pretraining.segmenter": "cfexp.training.segmenter",
    "cfexp.pretraining.stage": "cfexp.training.stage",
    "cfexp.pretraining.vqa_model": "cfexp.training.vqa_model",
    "cfexp.processes": "cfexp.run.processes",
    "cfexp.run_checkpoints": "cfexp.run.checkpoints",
    "cfexp.same_run": "cfexp.run.same_run",
    "cfexp.stage_names": "cfexp.run.stage_names",
    "cfexp.stages": "cfexp.run.stages",
    "cfexp.stopping": "cfexp.run.stopping",
    "cfexp.without_effect": "cfexp.run.without_effect",
}


class _OldNames(importlib.abc.MetaPathFinder, importlib.abc.Loader):
    """Imports a module by its name of before."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """What is found under an old name; nothing under any other."""
        return importlib.machinery.ModuleSpec(fullname, self) if fullname in MOVED else None

    def create_module(self, spec: importlib.machinery.ModuleSpec) -> ModuleType:
        """The module as it is."""
        warnings.warn(f"{spec.name} is {MOVED[spec.name]} now", DeprecationWarning, stacklevel=2)
        module = importlib.import_module(MOVED[spec.name])
        spec.loader_state = module.__spec__
        return module

    def exec_module(self, module: ModuleType) -> None:
        """Nothing but to let the module have its own spec again: it has been executed."""
        assert module.__spec__ is not None  # importlib has put that of the old name there
        module.__spec__ = module.__spec__.loader_state


def let_old_names_be_imported() -> None:
    """Once a process; to be called first."""
    if not any(isinstance(finder, _OldNames) for finder in sys.meta_path):
        sys.meta_path.insert(0, _OldNames())


def with_present_names(content: Any) -> Any:
    """A plain config whose `_target_`s are those of today."""
    if isinstance(content, dict):
        return {
            key: _present(value) if key == "_target_" else with_present_names(value)
            for key, value in content.items()
        }
    return [with_present_names(each) for each in content] if isinstance(content, list) else content


def _present(target: Any) -> Any:
    module, _, name = str(target).rpartition(".")
    return f"{MOVED[module]}.{name}" if module in MOVED else target
