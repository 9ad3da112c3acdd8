#!/usr/bin/env bash
# Optuna 2.10 with SQLAlchemy 2: a study kept in SQLite cannot be created.
#
# Versions: optuna 2.10.1 (the newest that hydra-optuna-sweeper 1.3.0 admits: optuna<3, >=2.10),
# SQLAlchemy 2.0.36, alembic 1.16.5, numpy 1.26.4. optuna 2.10.1 asks for sqlalchemy>=1.1.0, so pip
# installs SQLAlchemy 2 beside it without a word.
# Valid input: optuna.create_study(storage="sqlite:///s.db"), as in Optuna's own tutorial.
# Expected: a study, or an error that says which version of SQLAlchemy is wanted.
# Behaviour: AssertionError without any text, from `assert version is not None`. What Optuna wrote
# in its own session was never committed, as SQLAlchemy 2 does not commit by itself.
# Output seen:
#   SQLAlchemy 2.0.36: AssertionError('')
#   SQLAlchemy 1.4.54: a study of 1 trial
# Exit code: 0 where it behaves so; 1 where that has changed.
set -eu
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
cd "$work"
python3 -m venv venv
venv/bin/pip install --quiet "optuna==2.10.1" "SQLAlchemy==2.0.36" "alembic==1.16.5" "numpy==1.26.4"
cat > study.py <<'PY'
import os
import warnings

warnings.simplefilter("ignore")
import optuna
import sqlalchemy

optuna.logging.set_verbosity(optuna.logging.ERROR)
if os.path.exists("s.db"):
    os.remove("s.db")
try:
    study = optuna.create_study(storage="sqlite:///s.db")
    study.optimize(lambda trial: trial.suggest_float("x", 0, 1), n_trials=1)
    found = f"a study of {len(study.trials)} trial"
except Exception as error:
    found = f"{type(error).__name__}({str(error)!r})"
print(f"SQLAlchemy {sqlalchemy.__version__}: {found}")
PY
venv/bin/python study.py | tee with_2.txt
venv/bin/pip install --quiet "SQLAlchemy==1.4.54"
venv/bin/python study.py | tee with_1.txt
grep -qx "SQLAlchemy 2.0.36: AssertionError('')" with_2.txt
grep -qx "SQLAlchemy 1.4.54: a study of 1 trial" with_1.txt
