"""`python -m cfexp.publish STAGE FOLDER`: a stage's weights, config and model card, ready to upload
to the Hugging Face Hub.
"""

import sys
from pathlib import Path

import hydra
from omegaconf import DictConfig

from cfexp.run.command_line import quoted, takes_paths, typed
from cfexp.run.configuration import CONFIG_PATH, one_line_errors, register_resolvers

register_resolvers()


@takes_paths
@hydra.main(version_base="1.3", config_path=CONFIG_PATH, config_name="publish")
@one_line_errors
def _main(config: DictConfig) -> None:
    # Imported late: --help and a mistyped override answer at once.
    from cfexp.data.converters.folder import whole_folder
    from cfexp.embedded_weights import wanted_stages
    from cfexp.run.publishing import Card, find_stage, read_stage, write_stage

    license_ = None if config.license is None else str(config.license).lower()
    card = Card(license_, str(config.repository))
    cache = Path(config.cache_dir).expanduser()
    stage = read_stage(find_stage(str(config.stage), cache), wanted_stages)
    with whole_folder(Path(config.output)) as folder:
        write_stage(stage, card, folder)
    left = sorted(path.name for path in Path(config.output).expanduser().iterdir())
    print(f"{stage.name}: {', '.join(left)} in {typed(config.output)}")
    if config.license is None:
        print("note: the card says license: unknown; license=NAME says it")
    print(f"to upload: hf upload {card.repository} {typed(config.output)}")


def main() -> None:
    """Write the folder. Its first two arguments are the stage and the folder."""
    arguments = sys.argv[1:]
    named = [each for each in arguments if _is_named(each)]
    rest = [each for each in arguments if each not in named]
    keys = ("stage", "output")
    if len(named) > len(keys):
        print(f"error: {named[2]}: expected publish STAGE FOLDER [KEY=VALUE]", file=sys.stderr)
        sys.exit(2)
    given = [f"{key}={quoted(value)}" for key, value in zip(keys, named, strict=False)]
    known = {each.partition("=")[0] for each in (*given, *rest)}
    if not {*keys} <= known and not any(each.startswith("-") for each in rest):
        print("error: name stage and folder: publish STAGE FOLDER (see --help)", file=sys.stderr)
        sys.exit(2)
    sys.argv[1:] = [*given, *rest]
    _main()


def _is_named(argument: str) -> bool:
    """Whether it is no setting and no option; a folder that is there may have `=` in its name."""
    return Path(argument).is_dir() or not (argument.startswith(("-", "+")) or "=" in argument)


if __name__ == "__main__":
    main()
