"""`python -m cfexp.report run=PATH`: summarise what a model relies on, by all explanations of a
run, as one HTML page.
"""

from pathlib import Path

import hydra
from omegaconf import DictConfig, ListConfig

from cfexp.run.command_line import takes_paths, typed
from cfexp.run.configuration import CONFIG_PATH, one_line_errors, register_resolvers

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="report")
@one_line_errors
def main(config: DictConfig) -> None:
    """Write the page; say where it is, and what is suspected."""
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.errors import InputError
    from cfexp.evaluate import experiment_of
    from cfexp.evaluation.report.reliance import report_of, write_report
    from cfexp.evaluation.run_folder import RunFolder

    folder = Path(config.run)
    path = folder / "report.html" if config.output is None else Path(config.output)
    if config.output is not None and not path.parent.is_dir():
        raise InputError(f"output={path}: there is no folder {path.parent}")
    if type(config.max_width) is not int or config.max_width < 1:
        problem = f"must be a whole number of at least 1, got {config.max_width!r}"
        raise InputError(f"max_width {problem}")
    if type(config.seed) is not int or config.seed < 0:
        raise InputError(f"seed must be a whole number of at least 0, got {config.seed!r}")
    if type(config.tolerated) not in (int, float) or not 0 < config.tolerated < 100:
        raise InputError(f"tolerated must be percent between 0 and 100, got {config.tolerated!r}")
    if not (config.expected is None or isinstance(config.expected, ListConfig)):
        raise InputError(
            f"expected must be a list of regions, as expected=[car,road], got {config.expected!r}"
        )
    expected = None if config.expected is None else [str(name) for name in config.expected]
    report = report_of(
        RunFolder(folder), expected=expected, tolerated=config.tolerated, seed=config.seed
    )
    write_report(report, path, title=experiment_of(folder), max_width=config.max_width)
    for test in report.suspected:
        low, high = test.score.low, test.score.high
        print(
            f"suspected: {test.name}: {test.said} (95 % interval {low:.1f} to {high:.1f}, "
            f"n {test.score.n}; p {test.p_corrected:.1g} after Bonferroni, "
            f"tests made: {len(report.tests)})"
        )
    if not report.suspected:
        print(
            f"no shortcut is suspected; tests made: {len(report.tests)}"
            if report.tests
            else "nothing could be tested: give expected=[REGION,...], the regions that may decide"
        )
    count = int(report.edits.turned.sum())
    print(f"{count} explanations, {path.stat().st_size / 1e6:.1f} MB: {typed(path)}")


if __name__ == "__main__":
    main()
