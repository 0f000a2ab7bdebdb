"""The tables of the operation log. Documents are JSON; what is looked for stands in columns of its own."""

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    Float,
    Index,
    Integer,
    MetaData,
    PrimaryKeyConstraint,
    String,
    Table,
    Text,
)

metadata = MetaData()

store = Table("store", metadata, Column("name", String, primary_key=True), Column("born", Float, nullable=False))

resources = Table(
    "resources",
    metadata,
    Column("rid", String, primary_key=True),
    Column("service", String, nullable=False),
    Column("gone", Boolean, nullable=False),
    Column("document", Text, nullable=False),
    Column("revision", BigInteger, nullable=False, server_default="0"),
    Column("due", Float),
    Column("owner", String, nullable=False, server_default=""),
    Column("until", Float, nullable=False, server_default="0"),
    Index("resources_due", "due"),
    Index("resources_service", "service", "gone"),
)

operations = Table(
    "operations",
    metadata,
    Column("rid", String, nullable=False),
    Column("author", String, nullable=False),
    Column("n", Integer, nullable=False),
    Column("ms", BigInteger, nullable=False),
    Column("counter", Integer, nullable=False),
    Column("sha256", String),
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("rid", "author", "n"),
    Index("operations_stamp", "author", "ms", "counter"),
    Index("operations_body", "sha256"),
)

outcomes = Table(
    "outcomes",
    metadata,
    Column("rid", String, nullable=False),
    Column("author", String, nullable=False),
    Column("n", Integer, nullable=False),
    Column("site", String, nullable=False),
    Column("version", BigInteger, nullable=False),
    Column("state", String, nullable=False),
    Column("at", Float, nullable=False),
    Column("document", Text, nullable=False),
    PrimaryKeyConstraint("rid", "author", "n", "site"),
    Index("outcomes_state", "state", "site", "at"),
)

names = Table(
    "names",
    metadata,
    Column("value", String, nullable=False),
    Column("site", String, nullable=False),
    Column("rid", String, nullable=False),
    PrimaryKeyConstraint("value", "site", "rid"),
)

refers = Table(
    "refers",
    metadata,
    Column("other", String, nullable=False),
    Column("rid", String, nullable=False),
    PrimaryKeyConstraint("other", "rid"),
)

peers = Table(
    "peers",
    metadata,
    Column("peer", String, primary_key=True),
    Column("head", BigInteger, nullable=False, server_default="0"),
    Column("store", String, nullable=False, server_default=""),
    Column("cursor_store", String),
    Column("cursor_position", BigInteger),
)

feeds = Table(
    "feeds",
    metadata,
    Column("peer", String, nullable=False),
    Column("position", BigInteger, nullable=False),
    Column("rid", String, nullable=False),
    Column("author", String, nullable=False),
    Column("n", Integer, nullable=False),
    Column("site", String, nullable=False),
    PrimaryKeyConstraint("peer", "position"),
)
