"""A Slurm cluster of one machine for the length of a test: munged, slurmctld and slurmd, all below one folder.

    python tests/cluster/slurm.py COMMAND...    runs a command with such a cluster at hand

Debian's packages are enough: `apt-get install slurmctld slurmd slurm-client munge`. Nothing outside the folder is
read or written, and everything started is ended. Slurm's own limits on a job (cgroups) and its accounting
database are left out: no privileges are needed, and what waits for jobs has to do without `sacct`.
"""

import getpass
import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

NEEDS = ("munged", "slurmctld", "slurmd", "sbatch", "srun", "scancel", "scontrol", "squeue", "sinfo")

_CONFIG = """\
ClusterName=test
SlurmctldHost={host}(127.0.0.1)
SlurmctldPort={controller_port}
SlurmdPort={node_port}
SlurmUser={user}
SlurmdUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket,cred_expire=5
CryptoType=crypto/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SwitchType=switch/none
MpiDefault=none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobRequeue=1
KillWait=20
ReturnToService=2
NodeName={host} NodeAddr=127.0.0.1 CPUs={cpus} RealMemory=2000 State=UNKNOWN
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
PartitionName=test Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1 State=UP
PartitionName=urgent Nodes={host} MaxTime=INFINITE PriorityTier=2 State=UP
"""


def missing() -> str | None:
    """The first program that a cluster needs and this machine lacks, or None."""
    return next((program for program in NEEDS if _find(program) is None), None)


@contextmanager
def slurm_cluster(folder: Path, *, cpus: int = 2) -> Iterator[dict[str, str]]:
    """Start a cluster whose one node runs up to ``cpus`` one-CPU jobs at a time.

    Args:
        folder: an empty folder with a short path (a socket's is at most 107 characters).
        cpus: what the node claims to have, whatever this machine has.

    Yields:
        The environment in which Slurm's commands find the cluster.

    Raises:
        RuntimeError: the node was not ready within a minute.
    """
    folder.chmod(0o755)
    (folder / "key").write_bytes(os.urandom(1024))
    (folder / "key").chmod(0o600)
    for name in ("state", "spool"):
        (folder / name).mkdir()
    controller_port, node_port = _free_ports(2)
    (folder / "slurm.conf").write_text(
        _CONFIG.format(
            host=socket.gethostname().split(".")[0],
            user=getpass.getuser(),
            folder=folder,
            cpus=cpus,
            controller_port=controller_port,
            node_port=node_port,
        )
    )
    (folder / "cgroup.conf").write_text("CgroupPlugin=cgroup/v1\n")
    environment = os.environ | {"SLURM_CONF": str(folder / "slurm.conf")}
    munge_files = [f"--{name}={folder}/munge.{name}" for name in ("pid-file", "log-file", "seed-file")]
    with ExitStack() as stack:
        for name, command in {
            "munged": ["-F", "-f", f"--key-file={folder}/key", f"--socket={folder}/munge.socket", *munge_files],
            "slurmctld": ["-D", "-i"],
            "slurmd": ["-D"],
        }.items():
            stack.enter_context(_running([_find(name), *command], folder / f"{name}.out", environment))
            if name == "munged":
                _wait(lambda: (folder / "munge.socket").exists(), "munged made no socket", folder)
        _wait(lambda: _node_state(environment) == "idle", "the node did not become idle", folder)
        try:
            yield environment
        finally:
            subprocess.run(["scancel", "--me"], env=environment, capture_output=True, check=False)
            with suppress(RuntimeError):
                _wait(lambda: not _queue(environment), "", folder, seconds=20)


@contextmanager
def _running(command: list[str | None], output: Path, environment: dict[str, str]) -> Iterator[None]:
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _find(program: str) -> str | None:
    # Not every user's PATH has the folders of the services.
    return shutil.which(program, path=f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/local/sbin")


def _node_state(environment: dict[str, str]) -> str:
    return _output(["sinfo", "--noheader", "--format=%T"], environment)


def _queue(environment: dict[str, str]) -> str:
    return _output(["squeue", "--noheader", "--me"], environment)


def _output(command: list[str], environment: dict[str, str]) -> str:
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else f"exit {done.returncode}"


def _wait(condition, problem: str, folder: Path, seconds: float = 20) -> None:
    give_up = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > give_up:
            logs = "".join(f"\n--- {path.name}\n{path.read_text()[-2000:]}" for path in folder.glob("*.out"))
            raise RuntimeError(f"{problem}{logs}")
        time.sleep(0.1)


def _free_ports(count: int) -> list[int]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    if lacking := missing():
        sys.exit(f"{lacking} is not installed")
    with tempfile.TemporaryDirectory(prefix="slurm-") as name, slurm_cluster(Path(name)) as found:
        sys.exit(subprocess.run(sys.argv[1:], env=found, check=False).returncode)
