"""Operations are read in the order in which they came. SQLite knows it anyway, as the table's rowid."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    if op.get_context().dialect.name != "sqlite":
        op.add_column("operations", sa.Column("came", sa.BigInteger, sa.Identity(always=True), nullable=False))
