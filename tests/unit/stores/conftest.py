"""The stores that the suites are run on: in memory, on SQLite, on PostgreSQL."""

import itertools
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

import postgres
from cheops.ports import LogStore
from cheops.stores.memory import LogInMemory
from stored import BORN, NAME, Opens, opening

_databases = itertools.count(1)


@pytest.fixture(scope="session")
def server() -> Iterator[postgres.Server]:
    with postgres.running() as server:
        yield server


@pytest.fixture
def database(server: postgres.Server) -> str:
    """The URL of an empty store on PostgreSQL."""
    return server.create(f"log{next(_databases)}")


@pytest.fixture(params=["sqlite", "postgresql"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    return _url(request, request.param, tmp_path)


@pytest.fixture(params=["memory", "sqlite", "postgresql"])
def opens(request: pytest.FixtureRequest, tmp_path: Path) -> Opens:
    """Opens the store, which is empty the first time."""
    return _in_memory if request.param == "memory" else opening(_url(request, request.param, tmp_path))


def _url(request: pytest.FixtureRequest, engine: str, folder: Path) -> str:
    return f"sqlite:///{folder / 'log.db'}" if engine == "sqlite" else request.getfixturevalue("database")


@asynccontextmanager
async def _in_memory() -> AsyncIterator[LogStore]:
    yield LogInMemory(NAME, born=BORN)
