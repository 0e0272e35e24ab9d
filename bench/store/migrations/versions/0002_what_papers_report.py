"""What papers report: the split, the method here that implements it, the hardware, and the protocol's wording.

Schema 0002, from 0001.
"""

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"
branch_labels = None
depends_on = None

KEPT = ("paper", "table", "method", "dataset", "protocol", "metric", "value", "unit", "comparable", "note")
ADDED = ("split", "counterpart", "hardware", "wording")


def upgrade() -> None:
    old = sa.table("reported_result", sa.column("id"), *[sa.column(name) for name in KEPT])
    rows = op.get_bind().execute(sa.select(*[old.c[name] for name in KEPT]).order_by(old.c.id)).mappings().all()
    op.drop_table("reported_result")
    new = op.create_table(
        "reported_result",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("paper", sa.Text(), nullable=False),
        sa.Column("table", sa.Text(), nullable=False),
        sa.Column("method", sa.Text(), nullable=False),
        sa.Column("dataset", sa.Text(), nullable=False),
        sa.Column("protocol", sa.Text(), nullable=False),
        sa.Column("metric", sa.Text(), nullable=False),
        sa.Column("value", sa.Double(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("comparable", sa.Boolean(), nullable=False),
        sa.Column("note", sa.Text(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("counterpart", sa.Text(), nullable=False),
        sa.Column("hardware", sa.Text(), nullable=False),
        sa.Column("wording", sa.Text(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reported_result")),
        sa.UniqueConstraint(
            "dataset",
            "paper",
            "table",
            "method",
            "protocol",
            "metric",
            "split",
            name=op.f("uq_reported_result_identity"),
        ),
    )
    if rows:
        op.bulk_insert(
            new, [{**row, "comparable": bool(row["comparable"]), **dict.fromkeys(ADDED, "")} for row in rows]
        )
