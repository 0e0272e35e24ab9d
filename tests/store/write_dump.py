"""Write the dump of a small database of the newest schema, once: tests open it for ever after.

python tests/store/write_dump.py
"""

import importlib.util
import sqlite3
import sys
import tempfile
from contextlib import closing
from pathlib import Path

from bench.records import ReportedResultRecord
from bench.store import open_store, schema

HERE = Path(__file__).parent


def main() -> int:
    """Write ``schemas/<revision>.sql``, and refuse to change one."""
    target = HERE / "schemas" / f"{schema.head()}.sql"
    if target.exists():
        print(f"{target} is there already, and stays as it is", file=sys.stderr)
        return 1
    spec = importlib.util.spec_from_file_location("runs_for_dump", HERE / "conftest.py")
    runs = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(runs)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bench.db"
        with open_store(path) as store:
            store.add(runs.bundle_of("first", value=0.5))
            store.add(runs.bundle_of("first", value=0.6), supersede=True)
            store.add(runs.bundle_of("failed", status="failed", failure_kind="out_of_memory", failure="it was full"))
            store.add_reported(
                [ReportedResultRecord("A paper", "1", "U-Net", "cells", "voc", "AP@0.5", 0.61, "fraction", True)]
            )
        with closing(sqlite3.connect(path)) as connection:
            dump = "\n".join(connection.iterdump())
    target.parent.mkdir(exist_ok=True)
    target.write_text(dump + "\n", encoding="utf-8")
    print(f"wrote {target}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
