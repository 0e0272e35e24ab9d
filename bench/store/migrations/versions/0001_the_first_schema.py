"""The first schema.

Schema 0001, on an empty database.
"""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None
branch_labels = None
depends_on = None


def upgrade() -> None:
    op.create_table(
        "dataset_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("content_hash", sa.Text(), nullable=False),
        sa.Column("source", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("licence", sa.Text(), nullable=False),
        sa.Column("n_images", sa.Integer(), nullable=False),
        sa.Column("n_instances", sa.BigInteger(), nullable=False),
        sa.Column("classes", sa.JSON(), nullable=False),
        sa.Column("protocols", sa.JSON(), nullable=False),
        sa.Column("card", sa.JSON(), nullable=False),
        sa.CheckConstraint("source IN ('real', 'synthetic')", name=op.f("ck_dataset_version_source")),
        sa.CheckConstraint("n_images >= 0 AND n_instances >= 0", name=op.f("ck_dataset_version_counts")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_dataset_version")),
        sa.UniqueConstraint("name", "content_hash", name=op.f("uq_dataset_version_name_content_hash")),
    )
    op.create_table(
        "environment",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("python", sa.Text(), nullable=False),
        sa.Column("platform", sa.Text(), nullable=False),
        sa.Column("torch", sa.Text(), nullable=True),
        sa.Column("mmcv", sa.Text(), nullable=True),
        sa.Column("ops", sa.Text(), nullable=True),
        sa.Column("cuda", sa.Text(), nullable=True),
        sa.Column("packages", sa.JSON(), nullable=False),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_environment")),
        sa.UniqueConstraint("digest", name=op.f("uq_environment_digest")),
    )
    with op.batch_alter_table("environment") as batch_op:
        batch_op.create_index(batch_op.f("ix_environment_hash"), ["hash"], unique=False)

    op.create_table(
        "machine",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("digest", sa.Text(), nullable=False),
        sa.Column("hash", sa.Text(), nullable=False),
        sa.Column("hostname", sa.Text(), nullable=False),
        sa.Column("cpu", sa.Text(), nullable=False),
        sa.Column("cores", sa.Integer(), nullable=False),
        sa.Column("memory_bytes", sa.BigInteger(), nullable=False),
        sa.Column("os", sa.Text(), nullable=False),
        sa.Column("gpu", sa.Text(), nullable=True),
        sa.Column("gpu_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("driver", sa.Text(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_machine")),
        sa.UniqueConstraint("digest", name=op.f("uq_machine_digest")),
    )
    with op.batch_alter_table("machine") as batch_op:
        batch_op.create_index(batch_op.f("ix_machine_hash"), ["hash"], unique=False)

    op.create_table(
        "method_version",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("variant", sa.Text(), nullable=False),
        sa.Column("title", sa.Text(), nullable=False),
        sa.Column("origin", sa.Text(), nullable=False),
        sa.Column("code_hash", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("params_hash", sa.Text(), nullable=False),
        sa.Column("scored", sa.Boolean(), nullable=False),
        sa.Column("paper", sa.JSON(), nullable=True),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_method_version")),
        sa.UniqueConstraint("name", "variant", "code_hash", "params_hash", name="uq_method_version_identity"),
    )
    op.create_table(
        "metric",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("protocol", sa.Text(), nullable=False),
        sa.Column("protocol_version", sa.Text(), nullable=False),
        sa.Column("name", sa.Text(), nullable=False),
        sa.Column("params", sa.JSON(), nullable=False),
        sa.Column("params_hash", sa.Text(), nullable=False),
        sa.Column("unit", sa.Text(), nullable=False),
        sa.Column("higher_is_better", sa.SmallInteger(), nullable=False),
        sa.CheckConstraint("higher_is_better IN (-1, 0, 1)", name=op.f("ck_metric_higher_is_better")),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_metric")),
        sa.UniqueConstraint(
            "protocol",
            "protocol_version",
            "name",
            "params_hash",
            "unit",
            "higher_is_better",
            name="uq_metric_definition",
        ),
    )
    op.create_table(
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
        sa.PrimaryKeyConstraint("id", name=op.f("pk_reported_result")),
        sa.UniqueConstraint(
            "dataset", "paper", "table", "method", "protocol", "metric", name="uq_reported_result_identity"
        ),
    )
    op.create_table(
        "image",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("dataset_version_id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("height", sa.Integer(), nullable=False),
        sa.Column("width", sa.Integer(), nullable=False),
        sa.Column("truths", sa.Integer(), nullable=False),
        sa.Column("group", sa.Text(), nullable=True),
        sa.CheckConstraint("height > 0 AND width > 0 AND truths >= 0", name=op.f("ck_image_counts")),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"],
            ["dataset_version.id"],
            name=op.f("fk_image_dataset_version_id_dataset_version"),
            ondelete="CASCADE",
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_image")),
        sa.UniqueConstraint("dataset_version_id", "key", name=op.f("uq_image_dataset_version_id_key")),
    )
    op.create_table(
        "run",
        sa.Column("id", sa.Integer(), nullable=False),
        sa.Column("key", sa.Text(), nullable=False),
        sa.Column("dataset_version_id", sa.Integer(), nullable=False),
        sa.Column("method_version_id", sa.Integer(), nullable=False),
        sa.Column("environment_id", sa.Integer(), nullable=False),
        sa.Column("machine_id", sa.Integer(), nullable=False),
        sa.Column("split", sa.Text(), nullable=False),
        sa.Column("seed", sa.BigInteger(), nullable=False),
        sa.Column("schedule", sa.Text(), nullable=False),
        sa.Column("init", sa.Text(), nullable=False),
        sa.Column("device", sa.Text(), nullable=False),
        sa.Column("status", sa.Text(), nullable=False),
        sa.Column("superseded", sa.Boolean(), nullable=False),
        sa.Column("badge", sa.Text(), nullable=False),
        sa.Column("started", sa.DateTime(timezone=True), nullable=False),
        sa.Column("finished", sa.DateTime(timezone=True), nullable=False),
        sa.Column("attempt", sa.Integer(), nullable=False),
        sa.Column("folder", sa.Text(), nullable=False),
        sa.Column("command", sa.Text(), nullable=False),
        sa.Column("n_images", sa.Integer(), nullable=False),
        sa.Column("complete", sa.Boolean(), nullable=False),
        sa.Column("failure_kind", sa.Text(), nullable=True),
        sa.Column("failure", sa.Text(), nullable=True),
        sa.Column("commit", sa.Text(), nullable=True),
        sa.Column("dirty", sa.Boolean(), nullable=True),
        sa.Column("weights_sha256", sa.Text(), nullable=True),
        sa.Column("train_seconds", sa.Double(), nullable=True),
        sa.Column("predict_seconds", sa.Double(), nullable=True),
        sa.Column("peak_memory_bytes", sa.BigInteger(), nullable=True),
        sa.Column("n_parameters", sa.BigInteger(), nullable=True),
        sa.Column("arguments", sa.JSON(), nullable=False),
        sa.Column("submitted_by", sa.Text(), nullable=True),
        sa.Column("note", sa.Text(), nullable=True),
        sa.Column("latency_median_ms", sa.Double(), nullable=True),
        sa.Column("latency_p95_ms", sa.Double(), nullable=True),
        sa.CheckConstraint(
            "(status = 'ok' AND failure_kind IS NULL) OR (status = 'failed' AND failure_kind IS NOT NULL)",
            name=op.f("ck_run_status"),
        ),
        sa.CheckConstraint("badge IN ('measured', 'submitted', 'control')", name=op.f("ck_run_badge")),
        sa.CheckConstraint(
            "failure_kind IN ('out_of_memory', 'timeout', 'error', 'interrupted')", name=op.f("ck_run_failure_kind")
        ),
        sa.CheckConstraint("attempt >= 1", name=op.f("ck_run_attempt")),
        sa.CheckConstraint("n_images >= 0", name=op.f("ck_run_n_images")),
        sa.ForeignKeyConstraint(
            ["dataset_version_id"], ["dataset_version.id"], name=op.f("fk_run_dataset_version_id_dataset_version")
        ),
        sa.ForeignKeyConstraint(["environment_id"], ["environment.id"], name=op.f("fk_run_environment_id_environment")),
        sa.ForeignKeyConstraint(["machine_id"], ["machine.id"], name=op.f("fk_run_machine_id_machine")),
        sa.ForeignKeyConstraint(
            ["method_version_id"], ["method_version.id"], name=op.f("fk_run_method_version_id_method_version")
        ),
        sa.PrimaryKeyConstraint("id", name=op.f("pk_run")),
        sqlite_autoincrement=True,
    )
    with op.batch_alter_table("run") as batch_op:
        batch_op.create_index(
            "ix_run_board", ["dataset_version_id", "split", "status", "superseded", "schedule"], unique=False
        )
        batch_op.create_index(batch_op.f("ix_run_environment_id"), ["environment_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_key"), ["key"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_machine_id"), ["machine_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_method_version_id"), ["method_version_id"], unique=False)
        batch_op.create_index(batch_op.f("ix_run_started"), ["started"], unique=False)
        batch_op.create_index(
            "uq_run_standing",
            ["key"],
            unique=True,
            sqlite_where=sa.text("status = 'ok' AND NOT superseded"),
            postgresql_where=sa.text("status = 'ok' AND NOT superseded"),
        )

    op.create_table(
        "artifact",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("path", sa.Text(), nullable=False),
        sa.Column("sha256", sa.Text(), nullable=False),
        sa.Column("bytes", sa.BigInteger(), nullable=False),
        sa.CheckConstraint("bytes >= 0", name=op.f("ck_artifact_bytes")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_artifact_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "path", name=op.f("pk_artifact")),
    )
    op.create_table(
        "image_result",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("metric_id", sa.Integer(), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("tp", sa.Integer(), nullable=True),
        sa.Column("fp", sa.Integer(), nullable=True),
        sa.Column("fn", sa.Integer(), nullable=True),
        sa.CheckConstraint("tp >= 0 AND fp >= 0 AND fn >= 0", name=op.f("ck_image_result_counts")),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_image_result_image_id_image"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["metric_id"], ["metric.id"], name=op.f("fk_image_result_metric_id_metric")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_image_result_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "metric_id", "image_id", name=op.f("pk_image_result")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("image_result") as batch_op:
        batch_op.create_index(batch_op.f("ix_image_result_image_id_metric_id"), ["image_id", "metric_id"], unique=False)

    op.create_table(
        "result",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("metric_id", sa.Integer(), nullable=False),
        sa.Column("position", sa.SmallInteger(), nullable=False),
        sa.Column("value", sa.Double(), nullable=True),
        sa.Column("reason", sa.Text(), nullable=True),
        sa.Column("low", sa.Double(), nullable=True),
        sa.Column("high", sa.Double(), nullable=True),
        sa.Column("n", sa.Integer(), nullable=True),
        sa.CheckConstraint("(low IS NULL) = (high IS NULL)", name=op.f("ck_result_interval")),
        sa.CheckConstraint("low <= high", name=op.f("ck_result_interval_order")),
        sa.CheckConstraint("n >= 0", name=op.f("ck_result_n")),
        sa.CheckConstraint("value IS NOT NULL OR reason IS NOT NULL", name=op.f("ck_result_value_or_reason")),
        sa.ForeignKeyConstraint(["metric_id"], ["metric.id"], name=op.f("fk_result_metric_id_metric")),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_result_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "metric_id", name=op.f("pk_result")),
        sqlite_with_rowid=False,
    )
    with op.batch_alter_table("result") as batch_op:
        batch_op.create_index(batch_op.f("ix_result_metric_id"), ["metric_id"], unique=False)

    op.create_table(
        "timing_sample",
        sa.Column("run_id", sa.Integer(), nullable=False),
        sa.Column("phase", sa.String(length=20), nullable=False),
        sa.Column("image_id", sa.Integer(), nullable=False),
        sa.Column("round", sa.Integer(), nullable=False),
        sa.Column("milliseconds", sa.Double(), nullable=False),
        sa.CheckConstraint(
            "phase IN ('total', 'preprocess', 'network', 'postprocess')", name=op.f("ck_timing_sample_phase")
        ),
        sa.CheckConstraint("milliseconds >= 0", name=op.f("ck_timing_sample_milliseconds")),
        sa.ForeignKeyConstraint(
            ["image_id"], ["image.id"], name=op.f("fk_timing_sample_image_id_image"), ondelete="CASCADE"
        ),
        sa.ForeignKeyConstraint(["run_id"], ["run.id"], name=op.f("fk_timing_sample_run_id_run"), ondelete="CASCADE"),
        sa.PrimaryKeyConstraint("run_id", "phase", "image_id", "round", name=op.f("pk_timing_sample")),
        sqlite_with_rowid=False,
    )
