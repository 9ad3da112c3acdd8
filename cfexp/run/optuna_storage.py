"""Sweeps by Optuna whose trials are kept in a storage (`hydra.sweeper.storage=sqlite:///FILE`)."""

from importlib.metadata import PackageNotFoundError, version
from typing import Any

from omegaconf import DictConfig

from cfexp.errors import InputError


def go_on_by_storage(sweeper: DictConfig, name: str) -> None:
    """Let a sweep go on after the trials that its storage has: `n_trials` is their number in all.

    sweeper: Hydra's config of Optuna's, changed in place. name: of the study, where the user gives
    none. A trial that was stopped is the next one again, by the same values and so in the same
    folder. A sampler's seed is moved on by the trials that are finished: from its first number on
    it would repeat them. One command at a time may run a study.

    Raises InputError for a version of SQLAlchemy that Optuna does not work with, and for a storage
    that cannot be used.
    """
    _refuse_newer_sqlalchemy(str(sweeper.storage))
    import optuna
    from optuna.trial import TrialState

    if sweeper.study_name is None:
        sweeper.study_name = name
    names = [
        each.study_name for each in _opened(optuna.get_all_study_summaries, str(sweeper.storage))
    ]
    if sweeper.study_name not in names:
        return
    study = optuna.load_study(sweeper.study_name, sweeper.storage)
    trials = study.get_trials(deepcopy=False)
    finished = sum(trial.state == TrialState.COMPLETE for trial in trials)
    for trial in trials:
        if trial.state == TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
            study.enqueue_trial(trial.params)
    print(f"goes on after {finished} trials: {sweeper.storage}, study {sweeper.study_name}")
    sweeper.n_trials = max(sweeper.n_trials - finished, 0)
    seed = sweeper.get("sampler", {}).get("seed")
    if seed is not None:
        sweeper.sampler.seed = seed + len(trials)


def _opened(function: Any, storage: str) -> Any:
    try:
        return function(storage)
    except Exception as error:  # whatever the database's driver says
        problem = " ".join(str(error).split())[:200]
        raise InputError(
            f"hydra.sweeper.storage={storage}: {type(error).__name__}: {problem}"
        ) from None


def _refuse_newer_sqlalchemy(storage: str) -> None:
    """Optuna 2.10, which Hydra's sweeper wants, ends in an assertion without a text there."""
    if storage.startswith("redis"):
        return
    try:
        optuna, found = version("optuna"), version("SQLAlchemy")
    except PackageNotFoundError:
        return
    if int(optuna.partition(".")[0]) < 3 and int(found.partition(".")[0]) >= 2:
        remedy = "pip install 'SQLAlchemy==1.4.54' 'alembic==1.16.5'"
        problem = f"Optuna {optuna} does not work with SQLAlchemy {found}"
        raise InputError(f"hydra.sweeper.storage: {problem}: {remedy}")
