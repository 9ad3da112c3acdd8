"""`python -m cfexp.gallery run=PATH`: show a run as one HTML page that needs no server."""

from pathlib import Path

import hydra
from omegaconf import DictConfig

from cfexp.run.command_line import takes_paths, typed
from cfexp.run.configuration import CONFIG_PATH, one_line_errors, register_resolvers

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="gallery")
@one_line_errors
def main(config: DictConfig) -> None:
    """Write the page, and say where it is and how large."""
    # Imported late: --help and a mistyped override answer at once.
    import torch

    from cfexp.errors import InputError
    from cfexp.evaluate import experiment_of
    from cfexp.evaluation.report.gallery import write_page
    from cfexp.evaluation.report.verdict import write_verdict_page
    from cfexp.evaluation.run_folder import RunFolder

    folder = Path(config.run)
    if type(config.verdict) is not bool:
        raise InputError(f"verdict must be true or false, got {config.verdict!r}")
    write, page = (write_verdict_page, "verdict") if config.verdict else (write_page, "gallery")
    path = folder / f"{page}.html" if config.output is None else Path(config.output)
    if config.output is not None and not path.parent.is_dir():
        raise InputError(f"output={path}: there is no folder {path.parent}")
    for name in ("max_explanations", "max_width"):
        if type(config[name]) is not int or config[name] < 1:
            raise InputError(f"{name} must be a whole number of at least 1, got {config[name]!r}")
    torch.set_num_threads(1)  # on single pictures further threads only wait, at full load
    count = write(
        RunFolder(folder),
        path,
        title=experiment_of(folder),
        max_explanations=config.max_explanations,
        max_width=config.max_width,
    )
    print(f"{count} explanations, {path.stat().st_size / 1e6:.1f} MB: {typed(path)}")


if __name__ == "__main__":
    main()
