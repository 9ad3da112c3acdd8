"""`python -m cfexp.sweep FOLDER`: write the table and the plot of a sweep again, which is several
runs made by one command with `-m`.

Hydra runs the members, here or where its launcher says. A sweep's folder is named by what is swept,
a member's by its own values: the same command again, also with further values, runs what is missing
or has failed. A member that fails is reported, and the rest go on.
"""

import functools
import os
import re
import subprocess
import sys
import traceback
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path
from typing import Any

from hydra.core.hydra_config import HydraConfig
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from hydra.experimental.callback import Callback
from omegaconf import DictConfig
from omegaconf.errors import OmegaConfBaseException

from cfexp.command_parser import command_parser
from cfexp.errors import InputError
from cfexp.run.command_line import quoted, takes_paths, typed
from cfexp.run.configuration import StoppedBySigterm, is_member, one_line
from cfexp.run.folder_names import folder_name, under_one_name
from cfexp.run.optuna_storage import go_on_by_storage
from cfexp.run.same_run import refuse_other_run, why_neutral

# What chooses a launcher or sweeper of Hydra's: the plugin, and the extra of cfexp that installs
# it.
PLUGINS = {
    "hydra/launcher=joblib": ("hydra_plugins.hydra_joblib_launcher", "sweeps"),
    "hydra/launcher=submitit_local": ("hydra_plugins.hydra_submitit_launcher", "sweeps"),
    "hydra/launcher=submitit_slurm": ("hydra_plugins.hydra_submitit_launcher", "sweeps"),
    "hydra/launcher=ray": ("hydra_plugins.hydra_ray_launcher", "ray"),
    "hydra/launcher=ray_aws": ("hydra_plugins.hydra_ray_launcher", "ray"),
    "hydra/sweeper=optuna": ("hydra_plugins.hydra_optuna_sweeper", "sweeps"),
}
_begun: list[Path] = []  # the folder of this process's sweep, until it is concluded


class Sweep(Callback):
    """Before a sweep: its folder. After it: the table, the plot, and exit code 1 if a member
    failed.
    """

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        """Name the folder for all members, wherever they will run."""
        _begun.append(_or_exit(begin, config))

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        """Conclude."""
        if _or_exit(conclude, _begun.pop()):
            sys.exit(1)


def _or_exit(function: Callable[[Any], Any], argument: Any) -> Any:
    """Call it; an InputError ends the command in one line. Of a callback's exceptions Hydra makes
    warnings.
    """
    try:
        return function(argument)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(2)


def begin(config: DictConfig) -> Path:
    """Settle the sweep's folder and how its members are called; returns the folder.

    config: Hydra's of all members, changed in place. Raises InputError for an Optuna sweep that has
    nothing to optimise, and for a damaged member.json.
    """
    hydra = config.hydra
    if "optuna" in hydra.sweeper._target_ and not config.get("objective"):
        example = "'+objective={METRIC: WEIGHT}', a sum of the run's metrics"
        raise InputError(f"Optuna needs what to optimise: {example}")
    parser = OverridesParser.create()
    given = parser.parse_overrides([*hydra.overrides.task])
    swept = {override.key_or_group for override in given if override.is_sweep_override()}
    swept |= set(hydra.sweeper.get("params") or {})
    fixed = [override for override in given if override.key_or_group not in swept]
    left_out = ",".join(repr(each.key_or_group) for each in fixed)
    own = [f"hydra.job.config.override_dirname.exclude_keys=[{left_out}]"]
    if "optuna" in hydra.sweeper._target_ and hydra.sweeper.storage is not None:
        go_on_by_storage(hydra.sweeper, f"{config.name}/{_folder_name(swept, fixed)}")
    if not swept:
        own.append("hydra.sweep.subdir=only")
    if not any(override.startswith("hydra.sweep.dir=") for override in hydra.overrides.hydra):
        hydra.sweep.dir = f"{hydra.sweep.dir}/{_folder_name(swept, fixed)}"
        own.append(f"hydra.sweep.dir={quoted(hydra.sweep.dir)}")
    hydra.overrides.hydra.extend(own)  # of each member
    folder = Path(hydra.sweep.dir)
    from cfexp.evaluation.report.members import (
        forget_unfinished,  # late: a mistyped override answers at once
    )

    forget_unfinished(folder)
    return folder


def _folder_name(swept: set[str], fixed: Sequence[Override]) -> str:
    from cfexp.evaluation.report.members import FOLDER

    count = [
        str(each.input_line) for each in fixed if why_neutral(each.key_or_group, "folder") is None
    ]
    return FOLDER + (
        folder_name([*sorted(map(under_one_name, swept)), *sorted(map(under_one_name, count))])
        or "default"
    )


def conclude(folder: Path) -> bool:
    """Write and print what the members have come to; whether one of them has not finished.

    Raises InputError for a folder without members, and for a damaged file in it.
    """
    from cfexp.evaluation.report.members import FINISHED, NOTE, read_members
    from cfexp.evaluation.report.sweep_table import save_and_show

    members = read_members(folder)
    if not members:
        hint = ""
        if any(folder.glob("explanations*")) or any(folder.glob("*/explanations*")):
            hint = "; runs of their own are set side by side by python -m cfexp.evaluate run=[A,B]"
        raise InputError(f"no sweep in {folder}: expected {folder}/*/{NOTE}{hint}")
    save_and_show(folder, members)
    open_ones = sum(member.state != FINISHED for member in members)
    if open_ones:
        said = f"{open_ones} of {len(members)} members did not finish"
        print(f"error: {said}; the same command runs what is missing", file=sys.stderr)
    return bool(open_ones)


def as_member(main: Callable[[DictConfig], None]) -> Callable[[DictConfig], float | None]:
    """Let a member of a sweep return its objective, and not end it by an error; any other run is as
    it was.
    """

    @functools.wraps(main)
    def wrapped(config: DictConfig) -> float | None:
        if is_member():
            return run_member(main, config)
        main(config)
        return None

    return wrapped


def run_member(main: Callable[[DictConfig], None], config: DictConfig) -> float | None:
    """Run one member, unless it has finished before; returns its objective, None if it has none or
    failed.
    """
    from cfexp.evaluation.report.members import write_note

    folder = Path(HydraConfig.get().runtime.output_dir)
    parameters = _parameters()
    write_note(folder, parameters)
    if "ckpt_path" in config and config.ckpt_path is None:
        config.ckpt_path = "last"  # of this folder
    try:
        if _has_finished(config, folder):
            print(f"has finished before: {typed(folder)}")
        elif str(config.trainer.devices) != "1" or config.trainer.get("num_nodes", 1) != 1:
            _run_apart(folder)
        else:
            main(config)
        objective = _objective(config, folder)
    except Exception as error:
        expected = isinstance(error, InputError | OmegaConfBaseException)
        if not expected or os.environ.get("HYDRA_FULL_ERROR") == "1":
            traceback.print_exc()
        line = (
            one_line(error)
            if expected
            else f"{type(error).__name__}: {' '.join(str(error).split())}"
        )
        print(f"error: {folder.name}: {line}", file=sys.stderr)
        write_note(folder, parameters, error=line)
        if (
            "wandb" in sys.modules
        ):  # else the next member, in this process, would go on with this one's run
            sys.modules["wandb"].finish(exit_code=1)
        return None
    write_note(folder, parameters, objective=objective)
    return objective


def _parameters() -> dict[str, str]:
    """What this member does not share with the others."""
    hydra = HydraConfig.get()
    shared = set(hydra.job.config.override_dirname.exclude_keys)
    overrides = OverridesParser.create().parse_overrides([*hydra.overrides.task])
    own = (
        under_one_name(str(each.input_line))
        for each in overrides
        if each.key_or_group not in shared
    )
    return {
        key.lstrip("+"): value.strip("'\"")
        for key, _, value in (each.partition("=") for each in own)
    }


def _has_finished(config: DictConfig, folder: Path) -> bool:
    """Whether the run is there already; raises InputError where it is one of another config."""
    if not (folder / "metrics.json").is_file() or any(
        config.get(name) is not None for name in ("image", "questions")
    ):
        return False
    from cfexp.run.explainer_stage import require_explainer
    from cfexp.run.stages import provide_stages

    if HydraConfig.get().job.config_name == "explain":
        require_explainer(config)
    provide_stages(config)
    refuse_other_run(config, folder)
    return True


def _run_apart(folder: Path) -> None:
    """Run a member that makes processes of its own in one: those repeat its command, which here is
    the whole sweep's.

    Lightning kills the process whose child dies: that must not be the sweep's. Raises InputError
    with what a member that fails said last.
    """
    hydra = HydraConfig.get()
    overrides = [*hydra.overrides.task, f"hydra.run.dir={quoted(folder)}", "hydra.mode=RUN"]
    if hydra.job.config_name == "train" and not any(
        each.startswith("ckpt_path=") for each in overrides
    ):
        overrides.append("ckpt_path=last")
    command = [sys.executable, "-m", f"cfexp.{hydra.job.config_name}", *overrides]
    said = ""
    with (
        StoppedBySigterm(),
        subprocess.Popen(command, stderr=subprocess.PIPE, text=True) as process,
    ):
        assert process.stderr is not None
        try:
            for line in process.stderr:
                sys.stderr.write(line)
                if line.strip() and not said.startswith("error: "):
                    said = line.strip()
        except BaseException:
            process.terminate()
            raise
    if process.returncode:
        raise InputError(
            said.removeprefix("error: ") or f"ended with exit code {process.returncode}"
        )


def _objective(config: DictConfig, folder: Path) -> float | None:
    """The sum of the run's metrics that config.objective asks for; raises InputError for one that
    it does not have.
    """
    from cfexp.evaluation.report.members import measured

    if not config.get("objective"):
        return None
    found = measured(folder)
    if missing := [name for name in config.objective if name not in found]:
        raise InputError(
            f"objective: no {missing[0]!r} in {folder}/metrics.json; there are {', '.join(found)}"
        )
    return sum(float(weight) * found[str(name)].value for name, weight in config.objective.items())


def sweepable(main: Callable[[], None]) -> Callable[[], None]:
    """Say in one line what a launcher or sweeper wants installed, and conclude a sweep that its
    launcher gave up.
    """

    @functools.wraps(main)
    def wrapped() -> None:
        _or_exit(refuse_missing_plugins, sys.argv[1:])
        _or_exit(refuse_several_experiments, sys.argv[1:])
        try:
            takes_paths(main)()
        except SystemExit as stop:
            if _begun and stop.code == 1:
                with suppress(InputError):  # of a sweep without members yet
                    conclude(_begun[-1])
            raise
        finally:
            _begun.clear()

    return wrapped


def refuse_missing_plugins(arguments: Sequence[str]) -> None:
    """Raise InputError for a launcher or sweeper whose plugin is not installed."""
    for choice in [*arguments, *(each for argument in arguments for each in _chosen_by(argument))]:
        module, extra = PLUGINS.get(choice, ("hydra", ""))
        # The namespace that holds the plugins is there with the first of them only.
        if find_spec(module.partition(".")[0]) is None or find_spec(module) is None:
            raise InputError(
                f"{choice} is not installed: pip install 'cfexp[{extra}]' (see docs/sweeps.md)"
            )


def refuse_several_experiments(arguments: Sequence[str]) -> None:
    """Raise InputError for a sweep over experiments: their settings differ, and so do their
    stages.
    """
    for argument in arguments:
        if re.match(r"\+{0,2}experiment=", argument) is None:
            continue
        try:
            is_several = OverridesParser.create().parse_override(argument).is_sweep_override()
        except HydraException:  # which is said elsewhere
            continue
        if is_several:
            methods = "-m +experiment=ONE +explainer=A,B sweeps methods"
            beside = "python -m cfexp.evaluate run=[A,B] sets runs side by side"
            raise InputError(f"{argument}: a sweep is of one experiment; {methods}, and {beside}")


def _chosen_by(argument: str) -> list[str]:
    """What +sweep=NAME chooses of Hydra's."""
    if not argument.startswith("+sweep="):
        return []
    file = files("cfexp.conf") / "sweep" / f"{argument.partition('=')[2]}.yaml"
    content = file.read_text(encoding="utf-8") if file.is_file() else ""
    return [
        f"{group}={name}" for group, name in re.findall(r"override /(hydra/\w+): (\w+)", content)
    ]


def main() -> None:
    """Print and write the table and the plot of a sweep again, finished or not."""
    parser = command_parser(
        *("sweep", __doc__),
        "runs/steex_driving/sweep_explainer.proximity_weight",
        "runs/steex_driving/sweep_seed",
        "runs/vqa_color/sweep_explainer.l2_weight",
    )
    parser.add_argument("folder", type=Path, help="of the sweep: runs/NAME/sweep_...")
    if _or_exit(conclude, parser.parse_args().folder):
        sys.exit(1)


if __name__ == "__main__":
    main()
