"""A Ray cluster of several nodes on this machine for the length of a test."""

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path

# Nothing is reported to Ray's makers, and no token is written into the home folder.
QUIET = {"RAY_USAGE_STATS_ENABLED": "0", "RAY_AUTH_MODE": "disabled"}


@contextmanager
def ray_cluster(folder: Path, nodes: Sequence[Mapping[str, str]]) -> Iterator[str]:
    """Start one ``ray start`` per node; the first is the head.

    Args:
        folder: for Ray's sockets and logs; a short path (a socket's is at most 107 characters).
        nodes: for each, environment variables of the jobs that run on it; ``RAY_TEST_GPUS`` gives it GPUs that
            need not be there.

    Yields:
        The cluster's address.

    Raises:
        RuntimeError: a node was not up within two minutes.
    """
    address = f"127.0.0.1:{_free_port()}"
    with ExitStack() as stack:
        for number, variables in enumerate(nodes):
            where = (
                ["--head", f"--port={address.split(':')[1]}", "--include-dashboard=false", f"--temp-dir={folder}"]
                if number == 0
                else [f"--address={address}"]
            )
            command = [_ray(), "start", "--block", "--num-cpus=1", f"--num-gpus={variables.get('RAY_TEST_GPUS', 0)}"]
            environment = os.environ | QUIET | dict(variables)
            output = folder / f"node-{number}.out"
            stack.enter_context(_running([*command, *where], output, environment))
            _wait_for_nodes(address, number + 1, output)
        yield address


def _wait_for_nodes(address: str, count: int, output: Path) -> None:
    script = (
        f"import ray; ray.init(address={address!r}, log_to_driver=False, logging_level='ERROR')\n"
        "print(sum(node['Alive'] for node in ray.nodes()))"
    )
    give_up = time.monotonic() + 120
    while time.monotonic() < give_up:
        done = subprocess.run(
            [sys.executable, "-c", script], env=os.environ | QUIET, capture_output=True, text=True, check=False
        )
        if done.stdout.strip() == str(count):
            return
        time.sleep(0.5)
    raise RuntimeError(f"node {count} of {address} did not come up:\n{output.read_text()}\n{done.stderr[-2000:]}")


@contextmanager
def _running(command: list[str], output: Path, environment: dict[str, str]) -> Iterator[None]:
    with output.open("wb") as file:
        process = subprocess.Popen(command, stdout=file, stderr=file, env=environment, start_new_session=True)
    try:
        yield
    finally:
        process.terminate()  # `ray start --block` ends what it started
        try:
            process.wait(60)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ray() -> str:
    beside = Path(sys.executable).with_name("ray")
    return str(beside) if beside.exists() else shutil.which("ray") or "ray"


def _free_port() -> int:
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])
