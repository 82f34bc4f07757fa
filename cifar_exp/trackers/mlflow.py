"""MLflow: a local SQLite store that many runs share, with their files as artifacts beside it.

Only the client is used, with an explicit store: the environment cannot redirect a run, and runs of other processes and
threads stay separate.
"""

import json
import logging
import os
import re
import time
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock

from cifar_exp.config.schema import ExperimentConfig
from cifar_exp.run_dir.lifecycle import run_name
from cifar_exp.safe_io import atomic
from cifar_exp.trackers.tracker import Tracker, config_as_scalars

RUN_FILE = "mlflow_run.json"  # which of the store's runs a run directory is
_STATES = {"completed": "FINISHED", "interrupted": "KILLED", "pruned": "KILLED"}  # any other end is FAILED
_MOST_METRICS, _MOST_PARAMS = 1000, 100  # that MLflow accepts in one call
_FILES = ("config_resolved.yaml", "metrics.csv", "summary.csv")


class MLflow(Tracker):
    """A run in the store, resumed if the run directory already has one."""

    def __init__(self, config: ExperimentConfig, out_dir: Path) -> None:
        # No usage statistics, no check for newer versions.
        os.environ["MLFLOW_DISABLE_TELEMETRY"] = os.environ["DO_NOT_TRACK"] = "true"
        from mlflow import MlflowClient

        for noisy in ("mlflow", "alembic"):
            logging.getLogger(noisy).setLevel(logging.WARNING)
        assert config.tracker.store is not None  # checked with the config
        store = Path(config.tracker.store)
        store.mkdir(parents=True, exist_ok=True)
        # Two processes that create the tables at once would both fail.
        with FileLock(store / "mlflow.lock"):
            self._client = MlflowClient(tracking_uri=f"sqlite:///{store / 'mlflow.db'}")
            name, artifacts = config.tracker.experiment, (store / "artifacts").as_uri()
            known = self._client.get_experiment_by_name(name)
            created = None if known else self._client.create_experiment(name, artifact_location=artifacts)
            experiment = str(known.experiment_id if known else created)
        last_logged_steps = self._resume_run(out_dir)
        super().__init__(out_dir, last_logged_steps)
        if last_logged_steps is None:
            self._run = self._client.create_run(experiment, run_name=run_name(out_dir)).info.run_id
            atomic.write_json(out_dir / RUN_FILE, {"run_id": self._run, "experiment_id": experiment})
            self._log_settings(config)
        self.after_epoch()

    def _resume_run(self, out_dir: Path) -> dict[str, int] | None:
        """Resume the directory's earlier MLflow run; returns the last logged step of each CSV, None without a run."""
        if not (out_dir / RUN_FILE).exists():
            return None
        self._run = str(json.loads((out_dir / RUN_FILE).read_bytes())["run_id"])
        self._client.update_run(self._run, status="RUNNING")
        one_of_each = {"metrics.csv": "epoch", "steps.csv": "steps/learning_rate"}
        histories = {name: self._client.get_metric_history(self._run, key) for name, key in one_of_each.items()}
        return {name: max((point.step for point in history), default=0) for name, history in histories.items()}

    def _log_settings(self, config: ExperimentConfig) -> None:
        from mlflow.entities import Param

        # MLflow refuses other characters in a key.
        scalars = config_as_scalars(config).items()
        leaves = [Param(re.sub(r"[^\w./ :-]", "_", key), str(value)) for key, value in scalars]
        for start in range(0, len(leaves), _MOST_PARAMS):
            self._client.log_batch(self._run, params=leaves[start : start + _MOST_PARAMS])

    def log(self, rows: Sequence[tuple[int, dict[str, float]]]) -> None:
        """See ``Tracker``."""
        from mlflow.entities import Metric

        now = int(1000 * time.time())
        metrics = [Metric(name, value, now, step) for step, row in rows for name, value in row.items()]
        for start in range(0, len(metrics), _MOST_METRICS):
            self._client.log_batch(self._run, metrics[start : start + _MOST_METRICS])

    def log_and_close(self, state: str, numbers: dict[str, float], texts: dict[str, str], figures: list[Path]) -> None:
        """See ``Tracker``."""
        for name, value in numbers.items():
            self._client.log_metric(self._run, f"summary/{name}", value, step=self.last_step)
        for name, text in texts.items():
            self._client.set_tag(self._run, f"summary.{name}", text)
        for name in _FILES:
            if (self.out_dir / name).exists():
                self._client.log_artifact(self._run, str(self.out_dir / name))
        for path in figures:
            self._client.log_artifact(self._run, str(path), "figures")
        self._client.set_terminated(self._run, _STATES.get(state, "FAILED"))


begin = MLflow


def is_store(folder: str | Path) -> bool:
    """Whether the folder holds MLflow's database."""
    return Path(folder, "mlflow.db").is_file()
