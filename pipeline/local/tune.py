"""Searches for better parameters of training with Optuna, judged by the validation split alone.

Writes `<model volume>/tune/<id>/`: Optuna's journal and a plot. Each trial is a network in the store, which a later run
with the same parameters finds. The test split is not looked at, and `params.yaml` is not changed.
"""

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import matplotlib
import optuna
import yaml
from filelock import FileLock, Timeout
from matplotlib.figure import Figure
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import FixedTrial, FrozenTrial, Trial, TrialState
from rich.console import Console
from rich.table import Table

from contract.errors import ProjectError
from pipeline.local.display import EventLog, RunDisplay
from pipeline.settings import Params
from steps.common.digest import digest
from steps.common.errors import DivergedError
from steps.common.images.dataset import KIND, open_split
from steps.common.images.format import format_of, images_of
from steps.common.parameters import Tuned
from steps.common.statistics.interval import wilson
from steps.common.store import find
from steps.common.volumes import data_volume, model_volume
from steps.preprocess.preprocess import prepare
from steps.train.auto import numbers
from steps.train.parameters import Train
from steps.train.train import train

_SHOWN = 5  # trials in the table
_DIGITS = 3  # significant ones of a value that is tried
# What a trial keeps beside its accuracy.
_NETWORK, _INTERVAL, _DIVERGED = "network", "interval", "diverged"


@dataclass(frozen=True)
class Search:
    """One search: the splits it trains and judges on, and the parameters that it starts from."""

    train: str
    validation: str
    base: Train
    weights: str

    @property
    def id(self) -> str:
        """The digest of what decides which trials belong together."""
        fixed = {name: value for name, value in self.base.deciding().items() if name not in tuned_fields()}
        ranges = {name: [field.low, field.high, field.log] for name, field in tuned_fields().items()}
        return digest([self.train, self.validation, self.weights, fixed, ranges])


def tuned_fields() -> dict[str, Tuned]:
    """The parameters of train that are varied, with their ranges, as `steps/train/parameters.py` declares them."""
    marks = {name: field.metadata for name, field in Train.model_fields.items()}
    return {name: mark for name, all_marks in marks.items() for mark in all_marks if isinstance(mark, Tuned)}


def tune(params: Params, volumes: Path, console: Console, *, trials: int, minutes: float) -> None:
    """Try parameters, and print the best ones.

    The first trial has the values of `params.yaml`. A search that was ended goes on where it was, its last trial with
    the epoch that it had reached.

    Args:
        params: `params.yaml`.
        volumes: The folder of the volumes.
        console: Where progress and the table are printed.
        trials: Trials in all, those of earlier calls included.
        minutes: No trial begins later than this.

    Raises:
        StepError: The source cannot be read, or training fails for another reason than a value that was tried.
        ProjectError: Another process tunes the same parameters on the same data.
    """
    os.environ["VOLUMES"] = str(volumes.absolute())
    with RunDisplay(console) as display, open(os.devnull, "w") as nowhere:
        output = EventLog(nowhere, display.on_event)
        with contextlib.redirect_stdout(output):
            splits, weights = prepare(params.data, params.train)
        base = params.train.resolved(weights.id)
        chosen = numbers(base, images_of(splits["train"]), format_of(splits["train"]))
        # The first trial has numbers where `auto` is tuned.
        tuned = tuned_fields()
        base = base.model_copy(update={name: value for name, value in chosen.deciding().items() if name in tuned})
        search = Search(splits["train"], splits["validation"], base, weights.id)
        folder = model_volume() / "tune" / search.id
        folder.mkdir(parents=True, exist_ok=True)
        with _alone(folder):
            study = _study(folder, search)
            left = trials - len(_tried(study))
            try:
                if left > 0:
                    with contextlib.redirect_stdout(output):
                        study.optimize(
                            lambda trial: _accuracy(trial, search, console),
                            n_trials=left,
                            timeout=60 * minutes,
                            catch=DivergedError,
                        )
            finally:  # a search that is interrupted has its table, too
                _close(study, search, folder, console)


def _study(folder: Path, search: Search) -> optuna.Study:
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    storage = JournalStorage(JournalFileBackend(str(folder / "journal.log")))
    study = optuna.create_study(storage=storage, study_name=search.id, direction="maximize", load_if_exists=True)
    # The number of trials, too, since a later call would draw once more what the first one drew.
    study.sampler = optuna.samplers.TPESampler(seed=search.base.seed + len(study.trials))
    _try_interrupted_again(study)
    study.enqueue_trial({name: getattr(search.base, name) for name in tuned_fields()}, skip_if_exists=True)
    return study


def _tried(study: optuna.Study) -> list[FrozenTrial]:
    """The trials that came to an end of their own: with an accuracy, or by a training that diverged."""
    trials = study.get_trials(deepcopy=False)
    return [trial for trial in trials if trial.state is TrialState.COMPLETE or _DIVERGED in trial.user_attrs]


def _try_interrupted_again(study: optuna.Study) -> None:
    """Queue the trials that were interrupted or killed: their networks resume from their checkpoints."""
    ended = {trial.number for trial in _tried(study)}
    trials = study.get_trials(deepcopy=False)
    known: list[object] = [trial.params for trial in trials if trial.number in ended]
    known += [trial.system_attrs.get("fixed_params") for trial in trials if trial.state is TrialState.WAITING]
    for trial in trials:
        if trial.state is TrialState.RUNNING:
            study.tell(trial.number, state=TrialState.FAIL)
        if trial.number not in ended and trial.state is not TrialState.WAITING and trial.params not in known:
            study.enqueue_trial(trial.params)
            known.append(trial.params)


def _accuracy(trial: Trial, search: Search, console: Console) -> float:
    """Train the trial's network, and return its accuracy on the validation split."""
    values = {name: _suggest(trial, name, field, search.base) for name, field in tuned_fields().items()}
    console.print(f"trial {trial.number}: {_text(values)}", markup=False, highlight=False, soft_wrap=True)
    try:
        network = train(search.train, search.validation, search.base.model_copy(update=values), search.weights)
    except DivergedError:
        trial.set_user_attr(_DIVERGED, True)
        raise
    made = find(model_volume(), "network", network)
    if made is None:
        raise ProjectError(f"network {network} vanished while it was made: tune again")
    accuracy = float(made.facts["validation_accuracy"])
    count = len(open_split(data_volume() / KIND / search.validation))
    found = wilson(round(accuracy * count), count)
    trial.set_user_attr(_NETWORK, network)
    trial.set_user_attr(_INTERVAL, [found.low, found.high])
    return accuracy


def _suggest(trial: Trial | FixedTrial, name: str, field: Tuned, base: Train) -> float:
    # The first trial's own value may lie outside of the range, which is widened for it.
    own = float(getattr(base, name))
    low, high = min(field.low, own), max(field.high, own)
    value = trial.suggest_float(name, low, high, log=field.log and low > 0)
    return own if value == own else float(f"{value:.{_DIGITS}g}")


def _close(study: optuna.Study, search: Search, folder: Path, console: Console) -> None:
    done = [trial for trial in study.get_trials(deepcopy=False) if trial.state is TrialState.COMPLETE]
    if not done:
        console.print("no trial was finished")
        return
    best = sorted(done, key=lambda trial: (-(trial.value or 0.0), trial.number))
    console.print(_table(best[:_SHOWN], search))
    plot = folder / "trials.png"
    _draw(done, plot)
    console.print(
        f"\n{len(done)} trials, on validation alone; differences within the 95 % intervals may be chance\nplot: {plot}",
        markup=False,
        soft_wrap=True,
    )
    own = next(trial for trial in done if trial.number == min(each.number for each in done))
    if best[0].value == own.value:
        console.print("None is better than the values of params.yaml.")
        return
    console.print("\nThe best trial, for params.yaml:\n\ntrain:", markup=False)
    for name, value in _values(best[0], search).items():
        if value != getattr(search.base, name):
            console.print(f"  {name}: {yaml.safe_dump(value).splitlines()[0]}", markup=False, highlight=False)


def _table(trials: Sequence[FrozenTrial], search: Search) -> Table:
    """A column for each trial, since there are more parameters than a terminal has room for."""
    table = Table("", *(f"trial {trial.number}" for trial in trials), box=None, pad_edge=False)
    table.add_row("accuracy", *(f"{trial.value:.4f}" for trial in trials))
    table.add_row("from", *(f"{trial.user_attrs[_INTERVAL][0]:.4f}" for trial in trials))
    table.add_row("to", *(f"{trial.user_attrs[_INTERVAL][1]:.4f}" for trial in trials))
    values = [_values(trial, search) for trial in trials]
    for name in tuned_fields():
        table.add_row(name, *(f"{each[name]:g}" for each in values))
    return table


def _values(trial: FrozenTrial, search: Search) -> dict[str, float]:
    """The values that a trial trained with."""
    frozen = FixedTrial(trial.params)
    return {name: _suggest(frozen, name, field, search.base) for name, field in tuned_fields().items()}


def _draw(trials: Sequence[FrozenTrial], path: Path) -> None:
    """Plot the accuracy of each trial over the value of each parameter."""
    matplotlib.use("agg")
    fields = tuned_fields()
    figure = Figure(figsize=(3 * len(fields), 3), layout="constrained")
    for place, (name, field) in enumerate(fields.items(), 1):
        axes = figure.add_subplot(1, len(fields), place, xlabel=name, ylabel="accuracy on validation")
        axes.scatter(
            [t.params[name] for t in trials], [cast(float, t.value) for t in trials], c=[t.number for t in trials]
        )
        if field.log:
            axes.set_xscale("log")
    figure.savefig(path, dpi=80)


def _text(values: Mapping[str, float]) -> str:
    return ", ".join(f"{name} {value:g}" for name, value in values.items())


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    lock = FileLock(folder / ".lock", fallback_to_soft=False)
    try:
        lock.acquire(blocking=False)
    except Timeout:
        raise ProjectError(f"another process tunes these parameters already, in {folder}: wait until it ends") from None
    except OSError as error:
        raise ProjectError(
            f"{folder} cannot be locked ({error.strerror}), so nothing keeps two searches apart: choose volumes on a "
            "file system with locks by VOLUMES="
        ) from error
    try:
        yield
    finally:
        lock.release()
