"""The run that an argument names: a path, a shortened path below ``outputs/``, or ``latest``."""

from pathlib import Path

from cifar_exp.errors import RequestError
from cifar_exp.safe_io.untrusted import stat_if_there

_OUTPUTS = Path("outputs")
_NAMED = 3  # candidates in an error


def find_run(named: Path) -> Path:
    """The directory that an argument means; as it stands if it exists or nothing else fits.

    The argument is a path, the beginning of a run's path or of its last parts below ``outputs/``, or ``latest``.

    Raises:
        RequestError: there is no run for ``latest``, or several runs fit.
    """
    try:
        if stat_if_there(named) is not None or not _OUTPUTS.is_dir():
            return named
    except OSError:
        return named
    from cifar_exp.compare.discover import find_runs
    from cifar_exp.compare.typed_runs import started_and_epochs

    name = named.as_posix().removeprefix("outputs/")
    try:
        runs = find_runs([_OUTPUTS])[0]
    except RequestError:  # there are none
        runs = []
    if name == "latest":
        if not runs:
            raise RequestError("latest: there is no run under outputs/")
        return _shown(max(runs, key=lambda run: started_and_epochs(run)[0] or ""))
    below = {f"/{run.relative_to(_OUTPUTS.absolute()).as_posix()}": run for run in runs}
    found = [run for path, run in below.items() if path.endswith(f"/{name}")]
    found = found or [run for path, run in below.items() if f"/{name}" in path]
    if len(found) > 1:
        candidates = ", ".join(map(str, map(_shown, found[:_NAMED])))
        more = f", ... ({len(found):,} runs)" if len(found) > _NAMED else ""
        raise RequestError(f"{named}: could be {candidates}{more}; add characters until it names one run")
    return _shown(found[0]) if found else named


def _shown(run: Path) -> Path:
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
