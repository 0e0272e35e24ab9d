"""What Alembic runs: the migrations, on the connection that :mod:`bench.store.schema` hands over."""

from alembic import context
from sqlalchemy.types import TypeDecorator

from bench.store.models import Base


def render_item(kind, item, _context):
    """Write our column types as the plain types below them: a migration must not change when the code does."""
    if kind == "type" and isinstance(item, TypeDecorator):
        return f"sa.{item.impl_instance!r}"
    return False


context.configure(
    connection=context.config.attributes["connection"],
    target_metadata=Base.metadata,
    render_as_batch=True,
    render_item=render_item,
    transactional_ddl=True,
    compare_type=True,
    compare_server_default=True,
)
with context.begin_transaction():
    context.run_migrations()
