"""The operation log on SQLite or PostgreSQL, through SQLAlchemy Core."""

from cheops.stores.sql.log import SqlLog, open_log

__all__ = ["SqlLog", "open_log"]
