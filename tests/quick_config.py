"""Reads each YAML file of cfexp's own configuration once a process, for tests alone.

A command composes some fifteen to forty of these files anew, two or three times; reading them is a
third of that. What Hydra makes of them is composed as ever.
"""

import pickle
from typing import Any

import pytest
from hydra._internal.sources_registry import SourcesRegistry
from hydra.core.plugins import Plugins
from hydra.plugins.config_source import ConfigResult


def read_once(patch: pytest.MonkeyPatch) -> None:
    """Let Hydra's source of a package's files remember, of each version of a file, what it read."""
    Plugins.instance()  # which imports the source anew
    kind: Any = SourcesRegistry.instance().resolve("pkg")
    read = kind._read_config
    known: dict[tuple[object, ...], bytes] = {}

    def remembering(source: Any, file: Any) -> ConfigResult:
        state = file.stat()
        key = (source.path, source.provider, str(file), state.st_mtime_ns, state.st_size)
        if key not in known:
            known[key] = pickle.dumps(read(source, file))
        found: ConfigResult = pickle.loads(known[key])  # a new one, which may be changed
        return found

    patch.setattr(kind, "_read_config", remembering)
