"""What runs, sweeps and their members are called: names that need no quoting in a shell or in
Hydra's grammar.
"""

import hashlib
import json
import re
import unicodedata
from collections.abc import Sequence

# File systems end at 255 bytes, and a longer name is not read anyway.
LONGEST_NAME = 100
_SAFE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*")
# A setting that can be read off its part of a name: nothing in it is left out, and `--` cannot be
# in it.
_PLAIN = re.compile(r"[A-Za-z0-9_.]+(=[A-Za-z0-9_.]+(-[A-Za-z0-9_.]+)*)?")
_BETWEEN = "--"


# A setting that can be given by two names is one in a folder's.
SYNONYMS = {"explainer.regions": "regions", "explainer.counter_class": "counter_class"}


def under_one_name(setting: str) -> str:
    """`KEY=VALUE` as typed, with the one name for its key."""
    key, given, value = setting.partition("=")
    return f"{SYNONYMS.get(key, key)}{given}{value}"


def folder_name(settings: Sequence[str]) -> str:
    """A name for what is set, `KEY=VALUE` each; two different lists never share one. "" for an
    empty list.

    It consists of letters, digits, `-`, `_` and `.`, and is at most `LONGEST_NAME` long. Whatever
    that leaves out is told apart by a hash at the end. Of a path the last part stays; of a long
    name the start, and of its keys the last part.
    """
    name = _BETWEEN.join(setting.replace("=", "-", 1) for setting in settings)
    if all(map(_PLAIN.fullmatch, settings)) and _SAFE.fullmatch(name) and len(name) <= LONGEST_NAME:
        return name
    if not settings:
        return ""
    shown = sorted(settings, key=lambda setting: "/" in setting)  # paths, which are long, last
    readable = _BETWEEN.join(map(_readable, shown))
    if len(readable) > LONGEST_NAME - 9:
        readable = _BETWEEN.join(_readable(_without_group(setting)) for setting in shown)
    return _with_hash(readable, json.dumps(list(settings)))


def folders(path: str) -> str:
    """A name that a user chose, in which a slash may make folders: each part that needs quoting is
    replaced.
    """
    return "/".join(_folder(part) for part in str(path).split("/") if part) or "unnamed"


def _folder(name: str) -> str:
    return (
        name
        if _SAFE.fullmatch(name) and len(name) <= LONGEST_NAME
        else _with_hash(_plain(name), name)
    )


def _with_hash(readable: str, all_of_it: str) -> str:
    digest = hashlib.sha256(all_of_it.encode(errors="surrogateescape")).hexdigest()[:8]
    return f"{readable[: LONGEST_NAME - 9]}-{digest}".lstrip("-.")


def _readable(setting: str) -> str:
    """A setting as far as it can be shown: of each path in it the last part."""
    key, _, value = setting.partition("=")
    value = re.sub(r"/+(?=$|[,\]}'\"])", "", value)  # at a path's end
    parts = (_plain(key), _plain(re.sub(r"[^,\[\]{}'\"=]*/", "", value)))
    return "-".join(part for part in parts if part)


def _without_group(setting: str) -> str:
    """num_steps=5 for explainer.num_steps=5."""
    key, given, value = setting.partition("=")
    return f"{key.rpartition('.')[2]}{given}{value}"


def _plain(text: str) -> str:
    known = (
        unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode()
    )  # é is shown as e
    return re.sub(r"[^A-Za-z0-9_.]+", "-", known).strip("-")
