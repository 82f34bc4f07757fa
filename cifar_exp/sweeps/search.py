"""A search by Optuna: it chooses each job's values by the validation accuracies of earlier jobs.

The study is stored in the sweep's directory, so that the same command resumes it. Completed and pruned jobs are kept;
the others run again. The next choice depends only on the seed and on earlier results.
"""

import itertools
import json
import logging
from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import IntervalSweep, Override, RangeSweep, Transformer
from hydra.core.utils import JobReturn, JobStatus
from hydra.errors import HydraException
from hydra.plugins.launcher import Launcher
from omegaconf import DictConfig, OmegaConf

from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.safe_io import atomic
from cifar_exp.safe_io.untrusted import read_json
from cifar_exp.sweeps import RECORD
from cifar_exp.sweeps.pruning import JOB, open_study, trials_by_job

if TYPE_CHECKING:
    from optuna import Study
    from optuna.distributions import BaseDistribution
    from optuna.samplers import BaseSampler
    from optuna.trial import FrozenTrial, Trial

log = logging.getLogger(__name__)

_RESULTS = "optimization_results.yaml"


def search(launcher: Launcher, config: DictConfig, arguments: Sequence[str]) -> None:
    """Run a search with the settings of ``conf/hydra/sweeper/optuna.yaml``, which are in ``config.hydra.sweeper``.

    ``arguments`` are overrides of the command line: one value holds for every job, several are searched. They replace
    ``params`` of the settings with the same key.
    """
    import optuna

    from cifar_exp.compute.seeding import derived_seed

    optuna.logging.set_verbosity(optuna.logging.WARNING)
    settings, sweep_dir = config.hydra.sweeper, Path(config.hydra.sweep.dir)
    n_trials, n_jobs = settings.n_trials, settings.n_jobs
    fixed, searched = split(settings.params, arguments)
    space = {key: _distribution(override) for key, override in searched.items()}
    sweep_dir.mkdir(parents=True, exist_ok=True)
    OmegaConf.save(config, sweep_dir / "multirun.yaml")
    study = open_study(sweep_dir, settings.pruner)

    def run(trials: Mapping[int, "FrozenTrial | Trial"]) -> None:
        # Record the jobs chosen so far, for the table of results.
        record = read_json(sweep_dir / RECORD) if (sweep_dir / RECORD).exists() else {}
        record["jobs"] = [
            {"job": job, "run": str(job), "overrides": {key: _text(value) for key, value in trial.params.items()}}
            for job, trial in sorted(trials_by_job(study).items())
        ]
        atomic.write_json(sweep_dir / RECORD, record)
        # A launcher numbers its jobs from the first one: one launch for each group of consecutive numbers.
        for _, group in itertools.groupby(enumerate(sorted(trials)), key=lambda one: one[1] - one[0]):
            numbers = [number for _, number in group]
            chosen = [[f"{key}={_text(value)}" for key, value in trials[job].params.items()] for job in numbers]
            results = launcher.launch([[*fixed, *texts] for texts in chosen], initial_job_idx=numbers[0])
            for job, result in zip(numbers, results, strict=True):
                _tell(study, trials[job].number, result, sweep_dir / str(job))

    kept = (optuna.trial.TrialState.COMPLETE, optuna.trial.TrialState.PRUNED)
    unfinished = {job: trial for job, trial in trials_by_job(study).items() if trial.state not in kept}
    for old in unfinished.values():
        _check_known(old, space, sweep_dir)
    for start in range(0, len(unfinished), n_jobs):
        batch = sorted(unfinished)[start : start + n_jobs]
        for job in batch:
            _reopen(study, unfinished[job])
        run({job: trials_by_job(study)[job] for job in batch})
    while (done := len(trials_by_job(study))) < n_trials:
        study.sampler = _sampler(settings.sampler, derived_seed(settings.seed, "search", done), several=n_jobs > 1)
        trials = {job: study.ask(space) for job in range(done, min(done + n_jobs, n_trials))}
        for job, trial in trials.items():
            trial.set_user_attr(JOB, job)
        run(trials)
    _write_best(study, sweep_dir)


def split(params: Mapping[str, str] | None, arguments: Sequence[str]) -> tuple[list[str], dict[str, Override]]:
    """The overrides of every job, and the searched ones by key.

    Raises:
        RequestError: nothing is searched.
    """
    texts = [*(f"{key}={value}" for key, value in (params or {}).items()), *arguments]
    parsed = OverridesParser.create().parse_overrides(texts)
    overrides = {override.get_key_element(): override for override in parsed}
    searched = {key: override for key, override in overrides.items() if override.is_sweep_override()}
    if not searched:
        raise RequestError("hydra/sweeper=optuna: nothing to search; try 'max_lr=tag(log, interval(0.01, 1))'")
    return [override.input_line or "" for key, override in overrides.items() if key not in searched], searched


def corners(params: Mapping[str, str] | None, arguments: Sequence[str]) -> list[list[str]]:
    """Overrides of two jobs, with the smallest and the largest values, to check a search before it starts.

    Raises:
        RequestError: nothing is searched, or a key has values that cannot be searched.
    """
    fixed, searched = split(params, arguments)
    space: dict[str, Any] = {key: _distribution(override) for key, override in searched.items()}
    ends = {
        key: (one.choices[0], one.choices[-1]) if hasattr(one, "choices") else (one.low, one.high)
        for key, one in space.items()
    }
    return [[*fixed, *(f"{key}={_text(end[which])}" for key, end in ends.items())] for which in (0, 1)]


def _distribution(override: Override) -> "BaseDistribution":
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    sweep: Any = override.value()
    try:
        if isinstance(sweep, IntervalSweep):
            kind: Any = IntDistribution if type(sweep.start) is type(sweep.end) is int else FloatDistribution
            return kind(sweep.start, sweep.end, log="log" in sweep.tags)
        if isinstance(sweep, RangeSweep) and not sweep.shuffle:
            values = list(sweep.range())
            kind = IntDistribution if all(type(value) is int for value in values) else FloatDistribution
            return kind(values[0], values[-1], step=sweep.step)
        choices: Any = list(override.sweep_iterator(transformer=Transformer.encode))
        return CategoricalDistribution(choices)
    except (ValueError, IndexError, HydraException) as error:
        hint = "use a list, range(...) or interval(...), with tag(log, ...) above 0"
        raise RequestError(f"{override.input_line}: cannot be searched ({error}); {hint}") from error


def _text(value: Any) -> str:
    """A value as Hydra's override grammar reads it."""
    return json.dumps(value) if value is None or isinstance(value, bool) else str(_rounded(value))


def _rounded(value: Any) -> Any:
    """A float with four significant digits, for readable overrides."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def _check_known(trial: "FrozenTrial", space: Mapping[str, Any], sweep_dir: Path) -> None:
    """Refuse values that this search cannot choose: the journal may belong to another search, or to a stranger."""
    known = trial.params.keys() == space.keys() and all(
        trial.distributions[key] == space[key] and space[key]._contains(space[key].to_internal_repr(value))
        for key, value in trial.params.items()
    )
    if not known:
        raise RequestError(
            f"{sweep_dir}: contains an unfinished search of other values; choose another hydra.sweep.dir"
        )


def _reopen(study: "Study", trial: "FrozenTrial") -> None:
    """Add a running trial with the values of a failed one, for the job that runs again."""
    from optuna.trial import TrialState, create_trial

    if trial.state.is_finished():
        kept: dict[str, Any] = {name: getattr(trial, name) for name in ("params", "distributions", "user_attrs")}
        study.add_trial(create_trial(state=TrialState.RUNNING, **kept))


def _tell(study: "Study", number: int, result: JobReturn, run_dir: Path) -> None:
    """Report the end of a trial, whose job ran in a directory."""
    from optuna.trial import TrialState

    value = result._return_value if result.status is JobStatus.COMPLETED else None
    if value is not None and value == value:
        study.tell(number, float(value))
        return
    state = TrialState.FAIL
    with suppress(ValueError):  # its status may be damaged
        if run_status.job_state(run_dir) == "pruned":
            state = TrialState.PRUNED
    study.tell(number, None, state)


def _sampler(name: str, seed: int, *, several: bool) -> "BaseSampler":
    from optuna.samplers import RandomSampler, TPESampler

    return RandomSampler(seed=seed) if name == "random" else TPESampler(seed=seed, constant_liar=several)


def _write_best(study: "Study", sweep_dir: Path) -> None:
    trials = trials_by_job(study)
    finished = [trial for trial in trials.values() if trial.state.name == "COMPLETE"]
    if not finished:
        log.warning("No trial finished with a validation accuracy.")
        return
    best = max(finished, key=lambda trial: (trial.value, -trial.user_attrs[JOB]))
    job, params = best.user_attrs[JOB], {key: _rounded(value) for key, value in best.params.items()}
    result = {"name": "optuna", "best_job": job, "best_params": params, "best_value": best.value}
    OmegaConf.save(OmegaConf.create(result), sweep_dir / _RESULTS)
    chosen = ", ".join(f"{key}={_text(value)}" for key, value in params.items())
    log.info("Best of %d jobs: %d with %s (accuracy %.4f)", len(trials), job, chosen, best.value)
