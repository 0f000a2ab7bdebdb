"""Processes that listen, and end with their context."""

import socket
import subprocess
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from bench.errors import BenchFailed
from bench.variants import Address

START_SECONDS = 15


@contextmanager
def running(command: Sequence[str], log: Path, listening: Sequence[Address]) -> Iterator[int]:
    """The pid of a process once it listens. Raises BenchFailed if it never does."""
    with log.open("wb") as output:
        child = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=output, stderr=output, process_group=0)
    try:
        _wait(child, log, listening)
        yield child.pid
    finally:
        child.kill()
        child.wait()


def _wait(child: "subprocess.Popen[bytes]", log: Path, listening: Sequence[Address]) -> None:
    end = time.monotonic() + START_SECONDS
    while not all(map(answers, listening)):
        if child.poll() is not None or time.monotonic() > end:
            raise BenchFailed(f"{log.stem} doesn't start: {log.read_text(errors='replace')[-500:]}")
        time.sleep(0.02)


def answers(address: Address) -> bool:
    """Whether something listens there."""
    with socket.socket() as trial:
        trial.settimeout(1)
        return trial.connect_ex(address) == 0
