"""`python -m cfexp.doctor data=NAME data.root=PATH`: check a data set or a checkpoint for errors
before you train on it.
"""

import re
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, OmegaConf, open_dict

from cfexp.run.command_line import takes_paths
from cfexp.run.configuration import CONFIG_PATH, one_line_errors, register_resolvers
from cfexp.run.stage_networks import LOAD_NETWORK

if TYPE_CHECKING:
    from cfexp.data.checks.findings import Findings

_STAGE = re.compile(r"\$\{stage:(\w+)\}")
_GIVEN = re.compile(r"\$\{checkpoints\.(\w+)\}")
_BESIDE = re.compile(r"\$\{beside:\$\{checkpoints\.(\w+)\}")

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="doctor")
def main(config: DictConfig) -> None:
    """Check what is given, print the findings, and exit with 1 if any is an error."""
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.data.checks.findings import Findings

    findings = Findings()
    one_line_errors(lambda given: _check(given, findings))(config)
    if findings.has_errors:
        sys.exit(1)


def _check(config: DictConfig, findings: "Findings") -> None:
    from cfexp.errors import InputError

    checked = []
    if OmegaConf.select(config, "data._target_") is not None:
        checked.append(_check_data(config, findings))
    for name, network, path, prefix in _checkpoints(config):
        if network is None:
            _check_index(path, findings)
        else:
            _check_checkpoint(name, network, path, prefix, config.released, findings)
        checked.append(str(path))
    if OmegaConf.select(config, "decision.model") is not None:
        _fill_in_names(config, findings)
        _check_decision(config, findings)
        checked.append(f"decision, {config.decision.path}")
    if not checked:
        ways = "data=NAME data.root=PATH, or network=NAME checkpoint=PATH (--help)"
        raise InputError(f"nothing to check: give {ways}")
    _print(findings, ", ".join(checked))


def _check_data(config: DictConfig, findings: "Findings") -> str:
    """Check the data set of the config, and fill in the facts that it determines; returns what was
    checked.
    """
    from cfexp.data.checks.base import check_data
    from cfexp.data.checks.own import own_table
    from cfexp.data.own.data_set import OwnDataSet
    from cfexp.data.questions.vqa import VQADataModule
    from cfexp.errors import InputError
    from cfexp.run.building import build
    from cfexp.run.own_data import take_regions_to_make

    take_regions_to_make(config)
    # So that one bad image does not hide the others.
    OmegaConf.update(config, "data.on_bad_sample", "skip", force_add=True)
    data = build(config.data, "data")
    count = check_data(data, findings)
    if isinstance(data, OwnDataSet):
        _print_table(own_table(data))
    try:
        with open_dict(config):
            config.facts = {**data.facts, **config.facts}
    except InputError as error:  # a vocabulary that cannot be built
        findings.error(str(error))
    # Of questions there are two versions, which are told by what lies there.
    of = f" of {data.data_set}" if isinstance(data, VQADataModule) and data.root is not None else ""
    return f"{data.folder} ({count:,} images{of})"


def _checkpoints(config: DictConfig) -> Iterator[tuple[str, Any, Path, str]]:
    """What each given checkpoint is called, the config of its network, its path, and the prefix of
    its keys.

    The network is None where the file only names the folder of what is read: predicted label maps.
    """
    from cfexp.errors import InputError

    if config.checkpoint is not None:
        if config.get("network") is None:
            ways = "network=NAME, or an experiment that has one"
            raise InputError(f"checkpoint= is checked against a network: give {ways}")
        yield "checkpoint", config.network, Path(config.checkpoint), config.prefix
    given = {str(name): Path(path) for name, path in config.checkpoints.items() if path is not None}
    if OmegaConf.select(config, "decision.model") is not None:
        given.pop("decision", None)  # see `_check_decision`
    used = set()
    content = OmegaConf.to_container(config, resolve=False)
    for name, setting in _loaders(content):
        if name in given and name not in used:
            used.add(name)
            loader = OmegaConf.select(config, setting)
            yield f"checkpoints.{name}", loader.network, given[name], str(loader.get("prefix", ""))
    beside = {
        name
        for _, node in _mappings(content)
        for value in node.values()
        for name in _BESIDE.findall(str(value))
    }
    for name in sorted(given.keys() & beside - used):
        yield f"checkpoints.{name}", None, given[name], ""
    if unused := sorted(given.keys() - used - beside):
        raise InputError(f"checkpoints.{unused[0]}: no network of this config is loaded from it")


def _check_decision(config: DictConfig, findings: "Findings") -> None:
    """Load a model of a user's own, and ask it about noise of the size of the images, and about
    labelled ones.
    """
    from cfexp.models.own.classifier import OwnClassifier
    from cfexp.run.building import build
    from cfexp.run.output_names import told_of_outputs

    model: Any = findings.attempt(lambda: build(config.decision.model, "decision"))
    if model is None:
        return
    for note in model.notes:
        findings.note(note)
    # Without a data set there is nothing to compare the names with that a user gives.
    if isinstance(model, OwnClassifier) and OmegaConf.select(config, "data._target_") is not None:
        for line in told_of_outputs(config, model):
            kind, _, told = line.partition(": ")
            if kind == "decision":
                print(line)
            else:
                findings.note(told)


def _fill_in_names(config: DictConfig, findings: "Findings") -> None:
    """Let a data set of one's own say what the outputs are called, as it does of every run; what is
    wrong with it is found already.
    """
    from cfexp.data.checks.findings import Findings
    from cfexp.run.own_data import fill_in_from_data

    found = Findings() if findings.has_errors else findings
    found.attempt(lambda: fill_in_from_data(config, say=False))


def _loaders(content: Any) -> Iterator[tuple[str, str]]:
    """Where in a plain config a network is loaded from `checkpoints.NAME`: NAME, and the setting
    that loads it.
    """
    for where, node in _mappings(content):
        loads = node.get("_target_") == LOAD_NETWORK
        if loads and (match := _GIVEN.fullmatch(str(node.get("checkpoint")))):
            yield match[1], where
        for key, value in node.items():
            if match := _STAGE.fullmatch(str(value)):
                yield match[1], f"{where}.{key}" if where else str(key)


def _mappings(content: Any, where: str = "") -> Iterator[tuple[str, dict[Any, Any]]]:
    """Every mapping in plain mappings and lists, and its place as `OmegaConf.select` takes it."""
    if isinstance(content, dict):
        yield where, content
    children = (
        content.items()
        if isinstance(content, dict)
        else enumerate(content if isinstance(content, list) else ())
    )
    for key, child in children:
        yield from _mappings(child, f"{where}.{key}" if where else str(key))


def _check_index(path: Path, findings: "Findings") -> None:
    """The file that label maps lie beside: `check_data` reads them themselves."""
    from cfexp.data.reading.records import read_json

    findings.attempt(lambda: read_json(path, "give the label_maps.json that the stage wrote"))


def _check_checkpoint(
    name: str,
    network_config: Any,
    path: Path,
    prefix: str,
    released: str | None,
    findings: "Findings",
) -> None:
    """Load a checkpoint into its network: every tensor must be there, have its shape, and hold
    finite numbers.
    """
    from cfexp.errors import InputError
    from cfexp.models.loading.pretrained import check_fit, load_network, read_state_dict
    from cfexp.models.released import CONVERSIONS
    from cfexp.run.building import build

    own = OmegaConf.to_container(network_config, resolve=True)
    for _, node in _mappings(own):
        if "weights" in node:  # which would be downloaded, to be overwritten
            node["weights"] = None
    network = build(DictConfig(own), name)
    if released is None:
        loaded = findings.attempt(lambda: load_network(network, path, prefix=prefix))
        state = None if loaded is None else loaded.state_dict()
    elif released not in CONVERSIONS:
        raise InputError(f"released must be one of {', '.join(CONVERSIONS)}, got {released!r}")
    else:
        state = findings.attempt(lambda: CONVERSIONS[released](read_state_dict(path, prefix)))
        if state is not None:
            shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
            findings.attempt(lambda: check_fit(shapes, state, str(path), type(network).__name__))
    if state is not None:
        broken = [
            key
            for key, tensor in state.items()
            if tensor.is_floating_point() and not tensor.isfinite().all()
        ]
        if broken:
            findings.error(f"{path}: {broken[0]} holds NaN or infinity", len(broken))


def _print_table(rows: Sequence[tuple[str, str, str]]) -> None:
    """What was found in a data set of one's own, and what it was taken for."""
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    for name in ("", "found", "taken for"):
        table.add_column(name, overflow="fold")
    for row in rows:
        table.add_row(*row)
    Console(markup=False, highlight=False).print(table)


def _print(findings: "Findings", checked: str) -> None:
    """A table of one line a finding, however long."""
    from rich.console import Console

    rows = list(findings)
    errors = sum(finding.severity == "error" for finding in rows)
    kinds = "kind" if errors == 1 else "kinds"
    console = Console(soft_wrap=True, markup=False, highlight=False)
    console.print(f"checked {checked}: errors of {errors} {kinds}, notes of {len(rows) - errors}")
    for finding in rows:
        line = f"{finding.severity:<6}{finding.times:>8,}  {finding.first}"
        console.print(line, style="bold red" if finding.severity == "error" else None)


if __name__ == "__main__":
    main()
