#!/usr/bin/env bash
# Hydra 1.3: `+key=[...]` for a key that is there replaces its list without a word; `+key=value` is refused.
#
# Versions: hydra-core 1.3.2, omegaconf 2.3.0.
# Valid input: a config with a number and a list, and overrides that begin with `+`, which adds a key.
# Expected: an error for both, as the key is there ("Could not append to config. An item is already
# at ..."); or for the list that what is given is added to what is there.
# Behaviour: for a number the error; for a list no error, and the old elements are gone. Where a list
# holds what a program relies on (settings of a job, a seed), they are lost to whoever "adds" one.
# Output seen:
#   +steps=2: ConfigCompositionException
#   +settings=['lr=1']: ['lr=1']
# Exit code: 0 where it behaves so; 1 where that has changed.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet "hydra-core==1.3.2" "omegaconf==2.3.0"
mkdir conf
printf 'steps: 1\nsettings: ["seed=1", "steps=400"]\n' > conf/main.yaml
cat > compose.py <<'PY'
from hydra import compose, initialize_config_dir
from hydra.errors import ConfigCompositionException
from pathlib import Path

found = []
with initialize_config_dir(str(Path("conf").resolve()), version_base=None):
    for override, key in (("+steps=2", "steps"), ("+settings=['lr=1']", "settings")):
        try:
            found.append(str(compose("main", [override])[key]))
        except ConfigCompositionException as error:
            found.append(type(error).__name__)
        print(f"{override}: {found[-1]}")
raise SystemExit(0 if found == ["ConfigCompositionException", "['lr=1']"] else 1)
PY
venv/bin/python compose.py
