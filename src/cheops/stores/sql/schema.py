"""Brings a database to the schema that this version knows; one that a newer version has written is refused."""

import threading
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text

from cheops.errors import StoreTooNew

MIGRATIONS = Path(__file__).parent / "migrations"
_LOCK = 0xC4E0  # of PostgreSQL's advisory locks: one agent migrates, the others wait
_ONE_AT_A_TIME = threading.Lock()  # what Alembic gives to a migration is global to the process


def migrate(connection: Connection, to: str = "head") -> None:
    """Raises StoreTooNew. Several agents may do it at once."""
    with _ONE_AT_A_TIME:
        _migrate(connection, to)


def _migrate(connection: Connection, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["connection"] = connection
    if connection.dialect.name == "postgresql":
        connection.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": _LOCK})
    known = {script.revision for script in ScriptDirectory.from_config(config).walk_revisions()}
    current = MigrationContext.configure(connection).get_current_revision()
    if current is not None and current not in known:
        raise StoreTooNew(
            f"the store has the schema {current}, and this version of Cheops knows only up to {max(known)}",
            hint="Start the version that wrote it, or a newer one; nothing was changed.",
        )
    command.upgrade(config, to)
