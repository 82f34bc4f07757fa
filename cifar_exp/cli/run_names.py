"""Find a run by its path, by the start of a folder name in its path below ``outputs/``, or as ``latest``."""

from pathlib import Path

from cifar_exp.errors import RequestError
from cifar_exp.run_dir import run_status
from cifar_exp.safe_io.untrusted import stat_if_there

_OUTPUTS = Path("outputs")
_MOST_CANDIDATES = 3  # in an error


def find_run(argument: Path) -> Path:
    """Resolve an argument to a run directory; returns it unchanged if it exists or no run matches.

    Raises:
        RequestError: there is no run for ``latest``, or several runs match.
    """
    try:
        if stat_if_there(argument) is not None or not _OUTPUTS.is_dir():
            return argument
    except OSError:
        return argument
    from cifar_exp.compare.discover import find_runs

    name = argument.as_posix().removeprefix("outputs/")
    try:
        runs = find_runs([_OUTPUTS])[0]
    except RequestError:  # there are none
        runs = []
    if name == "latest":
        if not runs:
            raise RequestError("latest: there is no run under outputs/")
        return _shown(max(runs, key=_started_at))
    below = {f"/{run.relative_to(_OUTPUTS.absolute()).as_posix()}": _shown(run) for run in runs}
    found = [run for path, run in below.items() if path.endswith(f"/{name}")]
    found = found or [run for path, run in below.items() if f"/{name}" in path]
    if len(found) > 1:
        more = f", ... ({len(found):,} runs)" if len(found) > _MOST_CANDIDATES else ""
        candidates = ", ".join(map(str, found[:_MOST_CANDIDATES]))
        raise RequestError(f"{argument}: matches several runs: {candidates}{more}; type more of the name")
    return found[0] if found else argument


def _started_at(run: Path) -> str:
    try:
        return str(run_status.read_status(run)["started_at"])
    except (OSError, ValueError, KeyError):
        return ""


def _shown(run: Path) -> Path:
    return run.relative_to(Path.cwd()) if run.is_relative_to(Path.cwd()) else run
