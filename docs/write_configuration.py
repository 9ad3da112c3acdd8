"""Writes docs/configuration.md, every setting of every group, from the config files and their own
comments: python docs/write_configuration.py
"""

import re
from pathlib import Path
from textwrap import fill

PAGE = Path(__file__).parent / "configuration.md"
CONF = Path(__file__).parents[1] / "conf"
# A top-level file belongs to a command; the others to a group, chosen as group=NAME or +group=NAME.
GROUPS = {
    "": "Commands, and what they share",
    "data": "Data sets (`data=`)",
    "explainer": "Explainers (`+explainer=`)",
    "decision": "The decision model (`+decision=`)",
    "network": "Networks of stages (`network=`)",
    "module": "Trainings of stages (`module=`)",
    "measure": "Measures (`+measure=`)",
    "attack": "Attacks (`attack=`)",
    "size": "Sizes of networks (`size=`)",
    "layouts": "Label maps (`+layouts=`)",
    "callbacks": "Callbacks (`callbacks=`)",
    "logger": "Loggers (`logger=`)",
    "trainer": "Trainers (`trainer=`)",
    "overlay": "Overlays (`+overlay=`)",
    "sweep": "Sweeps (`+sweep=`)",
    "attributes": "Attributes (`+attributes=`)",
}
HEAD = """# Configuration

Every setting of every group, as the config files say it; this page is made from them. A setting is
given on the command line as `KEY=VALUE`, with dots between levels:
`explainer.proximity_weight=0.1`. The resolved settings of an experiment:
`python -m cfexp.explain +experiment=NAME --cfg job`.

Experiments (`+experiment=NAME`) choose from these groups; `--help` lists them. Those of the papers'
scale are named `paper/NAME`.
"""


def page() -> str:
    """The page as the config files are now."""
    parts = [HEAD]
    for group, title in GROUPS.items():
        parts.append(f"## {title}\n")
        parts.extend(_file(path) for path in sorted((CONF / group).glob("*.yaml")))
    return "\n".join(parts).rstrip("\n") + "\n"


def _file(path: Path) -> str:
    """A file under its name: the comment that it begins with, then its lines."""
    lines = path.read_text(encoding="utf-8").splitlines()
    told = []
    while lines and (lines[0].startswith("#") or not lines[0].strip()):
        line = lines.pop(0).lstrip("# ").rstrip()
        if line and not line.startswith("@package"):
            told.append(line)
    # A line that is a command alone is shown as one.
    prose = (f"`{line}`" if re.match(r"python -m |\+\w+=", line) else line for line in told)
    wrapped = (fill(line, 100, break_long_words=False, break_on_hyphens=False) for line in prose)
    body = "\n".join(lines).strip("\n")
    shown = f"```yaml\n{body}\n```\n" if body else ""
    return "\n\n".join(each for each in (f"### {path.stem}", "\n".join(wrapped), shown) if each)


if __name__ == "__main__":
    PAGE.write_text(page(), encoding="utf-8")
