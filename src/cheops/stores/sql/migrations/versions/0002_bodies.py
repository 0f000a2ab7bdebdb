"""Bodies are found by their SHA-256, to know who still needs one."""

from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_index("operations_body", "operations", ["sha256"])
