"""The operation log."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    op.create_table(
        "store", sa.Column("name", sa.String, primary_key=True), sa.Column("born", sa.Float, nullable=False)
    )
    op.create_table(
        "resources",
        sa.Column("rid", sa.String, primary_key=True),
        sa.Column("service", sa.String, nullable=False),
        sa.Column("gone", sa.Boolean, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.Column("revision", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("due", sa.Float),
        sa.Column("owner", sa.String, nullable=False, server_default=""),
        sa.Column("until", sa.Float, nullable=False, server_default="0"),
    )
    op.create_index("resources_due", "resources", ["due"])
    op.create_index("resources_service", "resources", ["service", "gone"])
    op.create_table(
        "operations",
        sa.Column("rid", sa.String, nullable=False),
        sa.Column("author", sa.String, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("ms", sa.BigInteger, nullable=False),
        sa.Column("counter", sa.Integer, nullable=False),
        sa.Column("sha256", sa.String),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("rid", "author", "n"),
    )
    op.create_index("operations_stamp", "operations", ["author", "ms", "counter"])
    op.create_table(
        "outcomes",
        sa.Column("rid", sa.String, nullable=False),
        sa.Column("author", sa.String, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("site", sa.String, nullable=False),
        sa.Column("version", sa.BigInteger, nullable=False),
        sa.Column("state", sa.String, nullable=False),
        sa.Column("at", sa.Float, nullable=False),
        sa.Column("document", sa.Text, nullable=False),
        sa.PrimaryKeyConstraint("rid", "author", "n", "site"),
    )
    op.create_index("outcomes_state", "outcomes", ["state", "site", "at"])
    op.create_table(
        "names",
        sa.Column("value", sa.String, nullable=False),
        sa.Column("site", sa.String, nullable=False),
        sa.Column("rid", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("value", "site", "rid"),
    )
    op.create_table(
        "refers",
        sa.Column("other", sa.String, nullable=False),
        sa.Column("rid", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("other", "rid"),
    )
    op.create_table(
        "peers",
        sa.Column("peer", sa.String, primary_key=True),
        sa.Column("head", sa.BigInteger, nullable=False, server_default="0"),
        sa.Column("store", sa.String, nullable=False, server_default=""),
        sa.Column("cursor_store", sa.String),
        sa.Column("cursor_position", sa.BigInteger),
    )
    op.create_table(
        "feeds",
        sa.Column("peer", sa.String, nullable=False),
        sa.Column("position", sa.BigInteger, nullable=False),
        sa.Column("rid", sa.String, nullable=False),
        sa.Column("author", sa.String, nullable=False),
        sa.Column("n", sa.Integer, nullable=False),
        sa.Column("site", sa.String, nullable=False),
        sa.PrimaryKeyConstraint("peer", "position"),
    )
