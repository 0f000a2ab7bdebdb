"""A database, and the threads that use it: one writes, the others read.

All writes that wait are committed together: one flush of the disk serves many. Not promised: that a write that was
cancelled isn't done; it may be.
"""

import asyncio
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import groupby
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from cheops.errors import BadSettings, CheopsError, StoreFailed, Taken

T = TypeVar("T")
READERS = 4
TOGETHER = 256  # writes in one commit
TRIES = 3
STALLED_MS = (
    10_000  # an agent that is stopped, or whose machine is gone, keeps the others of its site waiting no longer
)
ONE_WRITER = 0xC4E2  # of PostgreSQL's advisory locks
Write = Callable[[Connection, Sequence[Any], bool], Sequence[Any]]
"""What is done in a transaction with some things that came one after the other: gives a result for each, or the Taken
that refuses it. The last argument says that it may have been done before: a commit was sent, and the connection was
lost before the answer came.
"""


@dataclass(slots=True)
class _Work:
    """Something to be done in a transaction with `what`, and who waits for it."""

    do: Write
    what: Any
    done: "Future[Any]"


class Database:
    """Its threads end with `close`. Raises BadSettings if the URL can't be used."""

    def __init__(self, url: str) -> None:
        self._engine = _engine(url)
        # What is read in several statements is of one moment; SQLite's transactions are so anyway.
        isolation = {} if self._is_sqlite else {"isolation_level": "REPEATABLE READ"}
        self._reading = self._engine.execution_options(**isolation)
        self._queue: SimpleQueue[_Work | None] = SimpleQueue()
        self._closed = False
        self._readers = ThreadPoolExecutor(READERS, thread_name_prefix="log")
        self._writer = threading.Thread(target=self._write_all, name="log writer", daemon=True)
        self._writer.start()

    @property
    def _is_sqlite(self) -> bool:
        return self._engine.dialect.name == "sqlite"

    def begin(self) -> AbstractContextManager[Connection]:
        """A transaction in the caller's own thread."""
        return self._engine.begin()

    def close(self) -> None:
        """Ends the threads once all that waits is written."""
        self._closed = True
        self._queue.put(None)
        self._writer.join()
        self._fail_the_rest()
        self._readers.shutdown()
        self._engine.dispose()

    async def written(self, do: Write, what: Any = None) -> Any:
        """Does it in a transaction with others, and returns once that is durable. Raises StoreFailed, and Taken."""
        self._check_open("written")
        work = _Work(do, what, Future())
        self._queue.put(work)
        try:
            return await asyncio.wrap_future(work.done)
        except SQLAlchemyError as error:
            raise failed("written", error) from error

    async def read(self, do: Callable[[Connection], T]) -> T:
        """Raises StoreFailed."""
        self._check_open("read")

        def reading() -> T:
            with self._reading.connect() as connection:
                return do(connection)

        try:
            return await asyncio.get_running_loop().run_in_executor(self._readers, reading)
        except SQLAlchemyError as error:
            raise failed("read", error) from error

    def _check_open(self, what: str) -> None:
        if self._closed:
            raise _closed(what)

    # The thread that writes

    def _write_all(self) -> None:
        while (first := self._queue.get()) is not None:
            together = [first]
            while len(together) < TOGETHER and (more := self._next()):
                together.append(more)
            self._commit(together)

    def _next(self) -> _Work | None:
        """What waits, if anything does; the end is left for the next look."""
        try:
            work = self._queue.get_nowait()
        except Empty:
            return None
        if work is None:
            self._queue.put(None)
        return work

    def _fail_the_rest(self) -> None:
        while not self._queue.empty():
            if work := self._queue.get():
                _settle(work, error=_closed("written"))

    def _commit(self, together: Sequence[_Work]) -> None:
        """All of them in one transaction; if that fails, each in one of its own, so that none suffers from another."""
        error = self._try(together, again=False)
        unknown = error is not None and is_lost(error)
        if unknown:  # perhaps only the connection was old: the database has been restarted
            error = self._try(together, again=True)
        if error is None:
            return
        for work in together:
            if len(together) == 1 or is_lost(error):
                self._give_up(work, error, again=unknown)
            else:
                self._alone(work, again=unknown)

    def _give_up(self, work: _Work, error: Exception, *, again: bool) -> None:
        if _is_passing(error):
            self._alone(work, again=again)
        else:
            _settle(work, error=error)

    def _alone(self, work: _Work, *, again: bool) -> None:
        error = self._try([work], again=again)
        for _ in range(TRIES - 1):
            if error is None or not (_is_passing(error) or is_lost(error)):
                break
            again = again or is_lost(error)
            error = self._try([work], again=again)
        if error:
            _settle(work, error=error)

    def _try(self, together: Sequence[_Work], *, again: bool) -> Exception | None:
        """Settles them if it is committed, else says why it isn't."""
        try:
            with self._engine.begin() as connection:
                if not self._is_sqlite:
                    # Writers that lock the rows of several resources and peers would wait for each other in a circle.
                    connection.execute(_LOCK, {"lock": ONE_WRITER})
                ends = [
                    end
                    for do, works in groupby(together, key=lambda work: work.do)
                    for end in do(connection, [work.what for work in works], again)
                ]
        except Exception as error:
            return error
        for work, end in zip(together, ends, strict=True):
            if isinstance(end, Taken):
                _settle(work, error=end)
            else:
                _settle(work, result=end)
        return None


_LOCK = text("select pg_advisory_xact_lock(:lock)")


def _settle(work: _Work, *, result: Any = None, error: BaseException | None = None) -> None:
    if not work.done.set_running_or_notify_cancel():
        return
    if error:
        work.done.set_exception(error)
    else:
        work.done.set_result(result)


def _engine(url: str) -> Engine:
    try:
        made = make_url(url)
        return _sqlite(made) if made.get_backend_name() == "sqlite" else _postgresql(made)
    except ArgumentError as error:
        raise BadSettings(
            f"the store's URL can't be used: {error}", hint="Write sqlite:///… or postgresql+psycopg://…"
        ) from error
    except ModuleNotFoundError as error:
        raise BadSettings(
            f"the store's URL asks for {error.name}, which isn't installed", hint="pip install 'cheops[postgresql]'"
        ) from error


def _postgresql(url: URL) -> Engine:
    """A machine that is gone is noticed on both sides; what the URL says itself holds (libpq's parameters)."""
    ours: dict[str, int | str] = {
        "connect_timeout": 5,
        "keepalives_idle": 5,
        "keepalives_interval": 2,
        "keepalives_count": 3,
        "tcp_user_timeout": STALLED_MS,
    }
    arguments = {name: value for name, value in ours.items() if name not in url.query}
    said = url.query.get("options", "")  # the later ones hold
    arguments["options"] = f"-c idle_in_transaction_session_timeout={STALLED_MS} {said}"
    return create_engine(url, pool_pre_ping=True, pool_size=READERS + 1, max_overflow=0, connect_args=arguments)


def _sqlite(url: URL) -> Engine:
    engine = create_engine(url, connect_args={"timeout": 30})

    @event.listens_for(engine, "connect")
    def _configure(connection: Any, _: Any) -> None:
        connection.isolation_level = None  # BEGIN is ours to say
        for pragma in ("busy_timeout=30000", "journal_mode=WAL", "synchronous=FULL"):
            connection.execute(f"PRAGMA {pragma}")

    @event.listens_for(engine, "begin")
    def _begin(connection: Connection) -> None:
        reads = threading.current_thread().name.startswith("log_")
        connection.exec_driver_sql("BEGIN" if reads else "BEGIN IMMEDIATE")

    return engine


def is_lost(error: Exception) -> bool:
    """Whether the database is away, or the connection to it: psycopg's errors have no code then, or one that says so
    (PostgreSQL's manual, appendix A).
    """
    if not isinstance(error, DBAPIError):
        return False
    code = getattr(error.orig, "sqlstate", "")
    return error.connection_invalidated or code is None or code == "25P03" or code.startswith(("08", "57P"))


def _is_passing(error: Exception) -> bool:
    """Whether another writer was in the way: a deadlock, or a conflict."""
    return isinstance(error, DBAPIError) and getattr(error.orig, "sqlstate", "") in ("40001", "40P01")


_HINTS = (
    ("full", "Make room on the disk."),
    ("No space", "Make room on the disk."),
    ("locked", "Another process holds the database: end it if it isn't one of Cheops'."),
    ("readonly", "Let the agent's user write to the database's file and folder."),
    ("unable to open", "Look whether the database's folder is there, and may be written to."),
    ("malformed", "The file is damaged: put it aside; the peers fill a new one."),
    ("not a database", "The file is damaged: put it aside; the peers fill a new one."),
)


def failed(what: str, error: SQLAlchemyError) -> CheopsError:
    """The error of ours; it never tells a statement's values, which are other people's."""
    reason = str(getattr(error, "orig", None) or type(error).__name__).strip().splitlines()[0]
    hint = next(
        (hint for word, hint in _HINTS if word in reason), "Look whether the database is there; it is tried again."
    )
    return StoreFailed(f"the operation log can't be {what}: {reason}", hint=hint)


def _closed(what: str) -> StoreFailed:
    return StoreFailed(
        f"the operation log can't be {what}: it was closed", hint="The agent ends; ask it when it is back."
    )
