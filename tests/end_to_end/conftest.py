"""Labs for tests: each in a folder and on addresses of its own, and gone without a trace afterwards."""

import itertools
import os
import signal
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import pytest

from cheops.lab.lab import Lab
from end_to_end.traces import Traces

_numbers = itertools.count(1)

# Whoever starts the tests in the background has them ignore SIGINT, and all that they start would ignore it too.
signal.signal(signal.SIGINT, signal.default_int_handler)


def unused_net() -> str:
    """The beginning of addresses that nobody else uses: no other test here, no other run on this machine."""
    return f"127.{40 + os.getpid() % 200}.{next(_numbers)}"


@pytest.fixture(scope="session", autouse=True)
def ended_by_sigterm() -> None:
    """A run that is ended from outside ends its labs too, as it does after Ctrl-C."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)


@pytest.fixture(scope="session")
def net() -> Callable[[], str]:
    return unused_net


@pytest.fixture
def folder() -> Iterator[Path]:
    """A folder for a lab, which isn't there yet; its path is short, since paths of unix sockets must be."""
    with short_folder() as path:
        yield path


@contextmanager
def short_folder() -> Iterator[Path]:
    with tempfile.TemporaryDirectory(prefix="lab-") as parent:
        yield Path(parent).resolve() / "lab"


@contextmanager
def running(app: str, sites: int) -> Iterator[Lab]:
    with short_folder() as path:
        net = unused_net()
        with Lab.up(path, app=app, sites=sites, net=net) as lab:
            traces = Traces.of(lab)
            yield lab
        assert traces.left() == []


@pytest.fixture(scope="session")
def shop() -> Iterator[Lab]:
    """Three sites that run the shop. Whoever breaks something mends it."""
    with running("shop", 3) as lab:
        yield lab


@pytest.fixture(scope="module")
def lab_of() -> Iterator[Callable[..., Lab]]:
    """Starts a lab of any application, given the folder of its description; it ends with the module."""
    with ExitStack() as stack:
        yield lambda app, sites=2: stack.enter_context(running(str(app), sites))
