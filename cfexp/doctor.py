"""`python -m cfexp.doctor data=NAME data.root=PATH`: check a data set, and checkpoints, before a GPU hour is spent."""

import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from omegaconf import DictConfig, ListConfig, OmegaConf, open_dict

from cfexp.configuration import CONFIG_PATH, one_line_errors, register_resolvers

if TYPE_CHECKING:
    from cfexp.data.findings import Findings

_LOAD_NETWORK = "cfexp.models.pretrained.load_network"
_GIVEN = re.compile(r"\$\{checkpoints\.(\w+)\}")

register_resolvers()


@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="doctor")
@one_line_errors
def main(config: DictConfig) -> None:
    """Check what is given, print the findings, and exit with 1 if any is an error."""
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.data.findings import Findings
    from cfexp.errors import InputError

    findings = Findings()
    checked = []
    if config.data is not None:
        checked.append(_check_data(config, findings))
    for name, network, path, prefix in _checkpoints(config):
        _check_checkpoint(name, network, path, prefix, config.released, findings)
        checked.append(str(path))
    if not checked:
        raise InputError("nothing to check: give data=NAME data.root=PATH, or network=NAME checkpoint=PATH (--help)")
    _print(findings, ", ".join(checked))
    if findings.has_errors:
        sys.exit(1)


def _check_data(config: DictConfig, findings: "Findings") -> str:
    """Check the data set of the config, and fill in the facts that it determines; returns what was checked."""
    from cfexp.data.checks import check_data
    from cfexp.errors import InputError
    from cfexp.stages import build

    # So that one bad image does not hide the others.
    OmegaConf.update(config, "data.on_bad_sample", "skip", force_add=True)
    data = build(config.data, "data")
    count = check_data(data, findings)
    try:
        with open_dict(config):
            config.facts = {**data.facts, **config.facts}
    except InputError as error:  # a vocabulary that cannot be built
        findings.error(str(error))
    return f"{data.folder} ({count:,} images)"


def _checkpoints(config: DictConfig) -> Iterator[tuple[str, Any, Path, str]]:
    """What each given checkpoint is called, the config of its network, its path, and the prefix of its keys."""
    from cfexp.errors import InputError

    if config.checkpoint is not None:
        if config.network is None:
            raise InputError(
                "checkpoint= is checked against a network: give network=NAME, or an experiment that has one"
            )
        yield "checkpoint", config.network, Path(config.checkpoint), config.prefix
    given = {str(name): Path(path) for name, path in config.checkpoints.items() if path is not None}
    used = set()
    for node in _nodes(config):
        if "_target_" not in node or OmegaConf.to_container(node, resolve=False)["_target_"] != _LOAD_NETWORK:
            continue
        raw = OmegaConf.to_container(node, resolve=False)
        match = _GIVEN.fullmatch(str(raw.get("checkpoint")))
        if match is not None and match[1] in given and match[1] not in used:
            used.add(match[1])
            yield f"checkpoints.{match[1]}", node.network, given[match[1]], str(raw.get("prefix", ""))
    if unused := sorted(given.keys() - used):
        raise InputError(f"checkpoints.{unused[0]}: no network of this config is loaded from it")


def _nodes(config: Any) -> Iterator[DictConfig]:
    """Every mapping of a config whose keys are there; interpolations are not followed."""
    if isinstance(config, DictConfig):
        yield config
        keys = [key for key in config if not OmegaConf.is_missing(config, key)]
        children = [config._get_node(key) for key in keys]
    elif isinstance(config, ListConfig):
        children = list(config._iter_ex(resolve=False))
    else:
        return
    for child in children:
        if isinstance(child, DictConfig | ListConfig) and not child._is_interpolation() and not child._is_none():
            yield from _nodes(child)


def _check_checkpoint(
    name: str, network_config: Any, path: Path, prefix: str, released: str | None, findings: "Findings"
) -> None:
    """Load a checkpoint into its network: every tensor must be there, have its shape, and hold finite numbers."""
    from cfexp.errors import InputError
    from cfexp.models.pretrained import check_fit, load_network, read_state_dict
    from cfexp.models.released import CONVERSIONS
    from cfexp.stages import build

    own = OmegaConf.create(OmegaConf.to_container(network_config, resolve=True))
    for node in _nodes(own):
        if "weights" in node:  # which would be downloaded, to be overwritten
            node.weights = None
    network = build(own, name)
    if released is None:
        loaded = findings.attempt(lambda: load_network(network, path, prefix=prefix))
        state = None if loaded is None else loaded.state_dict()
    elif released not in CONVERSIONS:
        raise InputError(f"released must be one of {', '.join(CONVERSIONS)}, got {released!r}")
    else:
        state = findings.attempt(lambda: CONVERSIONS[released](read_state_dict(path)))
        if state is not None:
            shapes = {key: tensor.shape for key, tensor in network.state_dict().items()}
            findings.attempt(lambda: check_fit(shapes, state, str(path), type(network).__name__))
    if state is not None:
        broken = [key for key, tensor in state.items() if tensor.is_floating_point() and not tensor.isfinite().all()]
        if broken:
            findings.error(f"{path}: {broken[0]} holds NaN or infinity", len(broken))


def _print(findings: "Findings", checked: str) -> None:
    """One line a finding, as wide as it needs."""
    from rich.console import Console
    from rich.table import Table

    rows = list(findings)
    count = {severity: sum(finding.severity == severity for finding in rows) for severity in ("error", "note")}
    print(f"checked {checked}: {count['error']} kinds of error, {count['note']} kinds of note")
    if rows:
        table = Table("", "times", "the first", box=None, pad_edge=False)
        for finding in rows:
            style = "bold red" if finding.severity == "error" else None
            table.add_row(finding.severity, f"{finding.times:,}", finding.first, style=style)
        Console(width=max(80, *(len(finding.first) + 24 for finding in rows)), markup=False, highlight=False).print(
            table, soft_wrap=True
        )


if __name__ == "__main__":
    main()
