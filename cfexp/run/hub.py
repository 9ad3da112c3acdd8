"""Files of the Hugging Face Hub where a config names a file: `hf://OWNER/NAME/FILE`.

A revision (branch, tag or commit) follows the name: `hf://OWNER/NAME@REVISION/FILE`; what has a
slash in it is written with %2F. huggingface_hub fetches each file once and keeps it in its cache.
"""

import re
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote

from omegaconf import DictConfig, OmegaConf

from cfexp.errors import InputError

SCHEME = "hf://"
_FORM = re.compile(r"hf://([\w.-]+/[\w.-]+)(?:@([^/@]+))?/([^@]+)")
_EXPECTED = "expected hf://OWNER/NAME/FILE or hf://OWNER/NAME@REVISION/FILE"
# Beside the `checkpoints`: a model of one's own (+decision=), and the doctor's.
_SETTINGS = ("decision.path", "checkpoint")
# A VQA model's words and answers, read beside its weights. A config.yaml is left where it is: it
# names the classes that are built, and what one calls is nothing to fetch unasked.
_BESIDE = "vocabulary.json"


def with_hub_files(config: DictConfig) -> DictConfig:
    """The config, changed in place: files of the Hub are their paths in huggingface_hub's cache.

    Raises InputError for one that is of no such form or cannot be had, and where huggingface_hub is
    not installed.
    """
    content: Any = OmegaConf.to_container(config, resolve=False)
    checkpoints = content.get("checkpoints")
    names = checkpoints if isinstance(checkpoints, dict) else ()
    for setting in (*(f"checkpoints.{name}" for name in names), *_SETTINGS):
        value = content
        for key in setting.split(".", 1):
            value = value.get(key) if isinstance(value, dict) else None
        if isinstance(value, str) and value.startswith(SCHEME):
            OmegaConf.update(config, setting, hub_file(value, setting))
    return config


def hub_file(address: str, setting: str) -> str:
    """Where a file of the Hub lies in the cache, fetched if it is not there yet, and beside it the
    vocabulary of a VQA model.

    setting: what named it, for the message. Raises as `with_hub_files`.
    """
    given = f"{setting}={address}"
    match = _FORM.fullmatch(address)
    if match is None or not {"", ".", ".."}.isdisjoint(match[3].split("/")):
        raise InputError(f"{given}: {_EXPECTED}")
    try:
        import huggingface_hub
        from huggingface_hub import constants, errors
    except ImportError:
        needs = "files of the Hugging Face Hub need huggingface_hub: pip install 'cfexp[hub]'"
        raise InputError(f"{given}: {needs}") from None
    repository, revision, file = match[1], unquote(match[2] or "") or None, match[3]

    def fetched(name: str) -> str:
        return str(huggingface_hub.hf_hub_download(repository, name, revision=revision))

    try:
        path = fetched(file)
    except errors.RepositoryNotFoundError:  # a private one is not told from one that there is not
        problem = f"no repository {repository} on the Hub, or none that you may read"
        raise InputError(f"{given}: {problem} (hf auth login)") from None
    except errors.RevisionNotFoundError:
        raise InputError(f"{given}: {repository} has no revision {revision}") from None
    except errors.LocalEntryNotFoundError:  # without the Hub it is not known whether it is there
        lacks = f"it is not in {constants.HF_HUB_CACHE}, and the Hub is not reached"
        raise InputError(f"{given}: {lacks} (HF_HUB_OFFLINE, or no network?)") from None
    except errors.EntryNotFoundError:
        raise InputError(f"{given}: {repository} has no file {file}") from None
    # Whatever a connection, a disk or a name of another form may bring.
    except (OSError, ValueError) as error:
        reason = " ".join(str(error).split())
        raise InputError(f"{given}: {reason}") from None
    with suppress(errors.EntryNotFoundError, OSError):  # other networks have none
        fetched(str(PurePosixPath(file).with_name(_BESIDE)))
    return path
