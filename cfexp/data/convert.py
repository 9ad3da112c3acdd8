"""`python -m cfexp.data.convert DATA_SET [IN] OUT`: write other data sets in the layouts that cfexp
reads.
"""

import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from cfexp.command_parser import command_parser
from cfexp.data.converters.ccp import convert_ccp
from cfexp.data.converters.csv_vqa import convert_csv_vqa
from cfexp.data.converters.easy_vqa import convert_easy_vqa
from cfexp.data.converters.traffic_lights import convert_traffic_lights
from cfexp.errors import InputError

# Each with what reads its result: an override beside data.root.
CONVERTERS: dict[str, tuple[Callable[[Path, Path], None], str]] = {
    "csv_vqa": (convert_csv_vqa, "data=vqa"),
    "traffic_lights": (convert_traffic_lights, "data=own"),
    "ccp": (convert_ccp, "data=vqa"),
}


def main(arguments: Sequence[str] | None = None) -> int:
    """The command line; returns its exit code: 2 after one line about what was wrong with the
    input.
    """
    parser = command_parser(
        *("data.convert", __doc__),
        "easy_vqa easy",
        "csv_vqa questions.csv my_vqa",
        "traffic_lights cinTA_v2 lights",
    )
    commands = parser.add_subparsers(dest="data_set", required=True, metavar="DATA_SET")
    for name in ("easy_vqa", *CONVERTERS):
        convert = CONVERTERS[name][0] if name in CONVERTERS else convert_easy_vqa
        summary, _, more = (convert.__doc__ or "").partition("\n\n")
        summary = " ".join(summary.split())
        command = commands.add_parser(name, help=summary, description=f"{summary} {more}")
        if name in CONVERTERS:
            command.add_argument("source", type=Path, metavar="IN", help="what is converted")
        command.add_argument(
            "out", type=Path, metavar="OUT", help="the folder to write; must be absent or empty"
        )
    given = parser.parse_args(arguments)
    try:
        if given.data_set in CONVERTERS:
            convert, reader = CONVERTERS[given.data_set]
            convert(given.source, given.out)
        else:
            reader = "data=vqa"
            convert_easy_vqa(given.out)
    except (InputError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    print(f"wrote {given.out}; use it with {reader} data.root={given.out}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
