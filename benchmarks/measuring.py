"""What all benchmarks share: one table, one CSV, one description of the machine.

A quantity and its baseline are measured in turns (A, B, A, B, ...), so that whatever else the machine does hits both;
the ratio is the median of the turns' own ratios.
"""

import argparse
import csv
import json
import os
import platform
import statistics
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path

_PACKAGES = ("torch", "torchvision", "numpy", "albumentations", "captum", "pandas", "matplotlib", "hydra-core")
CSV_COLUMNS = (
    "benchmark",
    "what",
    "unit",
    "measured",
    "measured_min",
    "measured_max",
    "baseline_name",
    "baseline",
    "baseline_min",
    "baseline_max",
    "ratio",
    "ratio_min",
    "ratio_max",
    "repeats",
    "limit",
    "holds",
    "load_average",
    "threads",
    "hardware",
    "versions",
    "measured_at",
)


@dataclass(frozen=True)
class Limit:
    """What must hold: of the measured value, or of its ratio to the baseline."""

    of: str  # measured | ratio
    at_least: float | None = None
    at_most: float | None = None

    def __str__(self) -> str:
        bound = f">= {self.at_least:g}" if self.at_least is not None else f"<= {self.at_most:g}"
        return f"{'ratio ' if self.of == 'ratio' else ''}{bound}"

    def holds(self, value: float) -> bool:
        """Whether a value is within the limit."""
        if self.at_least is not None:
            return value >= self.at_least
        assert self.at_most is not None
        return value <= self.at_most


@dataclass(frozen=True)
class Result:
    """One line of the table.

    Attributes:
        what: was measured.
        unit: of the measured values and the baseline's.
        measured: one value for each repeat.
        baseline: as many, measured in turns with the others; empty where there is nothing to compare with.
        baseline_name: what the baseline is.
        limit: what must hold on this machine; None where nothing is asked.
        speed: whether the ratio is measured / baseline (more is better) or baseline / measured (less is better).
    """

    what: str
    unit: str
    measured: Sequence[float]
    baseline: Sequence[float] = ()
    baseline_name: str = ""
    limit: Limit | None = None
    speed: bool = True

    @property
    def ratios(self) -> list[float]:
        """By repeat: how many times better than the baseline."""
        if not self.baseline:
            return []
        pairs = zip(self.measured, self.baseline, strict=True)
        return [ours / theirs if self.speed else theirs / ours for ours, theirs in pairs]

    @property
    def holds(self) -> bool | None:
        """Whether the limit holds for the median; None where there is none."""
        if self.limit is None:
            return None
        return self.limit.holds(statistics.median(self.ratios if self.limit.of == "ratio" else self.measured))


@dataclass
class Report:
    """The results of one benchmark: printed as they come, then written as CSV."""

    benchmark: str
    threads: int | None = None
    results: list[Result] = field(default_factory=list)

    def __post_init__(self) -> None:
        print(f"{self.benchmark}: {hardware()}; {self.threads or 'default'} threads; {versions()}")
        print(f"load average at the start: {os.getloadavg()[0]:.1f}; median (lowest to highest)\n")
        print("| what | measured | baseline | ratio | limit | holds | n |")
        print("|---|---|---|---|---|---|---|", flush=True)

    def add(self, result: Result) -> None:
        """Print a line of the table."""
        self.results.append(result)
        holds = {None: "", True: "yes", False: "**no**"}[result.holds]
        baseline = f"{spread(result.baseline)} ({result.baseline_name})" if result.baseline else ""
        ratio = spread(result.ratios) if result.ratios else ""
        print(
            f"| {result.what} | {spread(result.measured)} {result.unit} | {baseline} | {ratio} | "
            f"{result.limit or ''} | {holds} | {len(result.measured)} |",
            flush=True,
        )

    def write(self, path: Path) -> None:
        """Append the results to a CSV, with its header first where there is none."""
        path.parent.mkdir(parents=True, exist_ok=True)
        new = not path.exists()
        with path.open("a", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, CSV_COLUMNS, lineterminator="\n")
            if new:
                writer.writeheader()
            writer.writerows(map(self._row, self.results))
        print(f"\nwritten to {path}")

    def _row(self, result: Result) -> dict[str, object]:
        row: dict[str, object] = {
            "benchmark": self.benchmark,
            "what": result.what,
            "unit": result.unit,
            "baseline_name": result.baseline_name,
            "repeats": len(result.measured),
            "limit": str(result.limit or ""),
            "holds": "" if result.holds is None else result.holds,
            "load_average": round(os.getloadavg()[0], 2),
            "threads": self.threads or "",
            "hardware": hardware(),
            "versions": versions(),
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
        }
        for name, values in (("measured", result.measured), ("baseline", result.baseline), ("ratio", result.ratios)):
            if values:
                row |= {name: statistics.median(values), f"{name}_min": min(values), f"{name}_max": max(values)}
        return row


def print_measurement(side: str, turn: int, figures: Mapping[str, object]) -> None:
    """Print one measurement to stderr at once, so that a benchmark that is stopped early leaves it.

    ``turn`` counts from 0; turns below 0 warm up.
    """
    which = f"turn {turn + 1}" if turn >= 0 else "warm-up"
    print(f"{side}, {which}: {json.dumps(figures)}", file=sys.stderr, flush=True)


def spread(values: Sequence[float]) -> str:
    """Median, and the range where there is more than one value."""
    middle = _short(statistics.median(values))
    return middle if len(values) == 1 else f"{middle} ({_short(min(values))} to {_short(max(values))})"


def _short(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def hardware() -> str:
    """Processor, features that decide what is fast, cores, memory, GPU."""
    info = _cpuinfo()
    features = cpu_features()
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") / 2**30
    name = info.get("model name") or platform.processor() or platform.machine()
    return f"{name} ({' '.join(features) or platform.machine()}), {os.cpu_count()} CPUs, {pages:.0f} GiB"


def cpu_features() -> list[str]:
    """Those of the processor's features that decide what is fast."""
    info = _cpuinfo()
    flags = set(info.get("flags", info.get("Features", "")).split())
    return [name for name in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if name in flags]


def _cpuinfo() -> dict[str, str]:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        return {}
    pairs = (line.split(":", 1) for line in lines if ":" in line)
    return {key.strip(): value.strip() for key, value in pairs}


def versions() -> str:
    """Python and the packages that speed depends on. Imports none of them."""
    found = []
    for name in _PACKAGES:
        try:
            found.append(f"{name} {metadata.version(name)}")
        except metadata.PackageNotFoundError:
            continue
    return ", ".join([f"Python {platform.python_version()}", *found])


def arguments(description: str, **defaults: int) -> argparse.ArgumentParser:
    """A parser with ``--csv`` and an integer option for each default."""
    parser = argparse.ArgumentParser(description=description.splitlines()[0])
    parser.add_argument("--csv", type=Path, default=Path("outputs/benchmarks.csv"), help="the results are appended")
    for name, value in defaults.items():
        parser.add_argument(f"--{name.replace('_', '-')}", type=int, default=value, help=f"default: {value}")
    return parser


def overrides_for_synthetic_data() -> list[str]:
    """Overrides that put CIFAR-10's shape and size, made of random pixels, in the place of a data set's files."""
    folder = str(Path(__file__).parent)
    if folder not in sys.path:  # a program that is started with this file's folder has it already
        sys.path.insert(0, folder)
    return ["data=mnist5k", "data._target_=synthetic.cifar10_like", "data.name=synthetic", "trust=[synthetic]"]
