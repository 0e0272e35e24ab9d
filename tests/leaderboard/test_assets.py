"""Streamlit's own files, answered from memory: the same as Streamlit answers, and nothing else."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the board's extra is not installed")

from leaderboard.assets import EARLY, Assets, early_files, with_early

PAGE = b"<html><head><title>x</title></head><body></body></html>"


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A folder as Streamlit's: a page, its manifest, two scripts, a style, and a secret beside them."""
    static = tmp_path / "static" / "js"
    static.mkdir(parents=True)
    (static / "table.js").write_text("table();" * 100)
    (static / "grid.js").write_text("grid();")
    (tmp_path / "static" / "table.css").write_text("b {}")
    (tmp_path / "static" / "notes.txt").write_text("no part of a page")
    (tmp_path / "secret.js").write_text("secret")
    manifest = {
        "table.tsx": {
            "name": EARLY[0],
            "file": "static/js/table.js",
            "css": ["static/table.css"],
            "imports": ["_grid", "table.tsx"],
        },
        "_grid": {"name": "grid", "file": "static/js/grid.js", "imports": ["table.tsx"]},
        "other.tsx": {"name": "Other", "file": "static/js/other.js"},
    }
    (tmp_path / "manifest.json").write_text(json.dumps(manifest))
    return tmp_path


def asked(app: Any, path: str, *, client: str = "127.0.0.1", kind: str = "http", **headers: str) -> tuple[Any, ...]:
    """Status, headers and body of what is answered."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": kind,
        "method": "GET",
        "path": path,
        "client": (client, 1),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent[1:])


async def beyond(scope: Any, receive: Any, send: Any) -> None:
    """Streamlit, as far as it matters: a page for every address, in two pieces."""
    html = not scope["path"].startswith("/static")
    kind = b"text/html; charset=utf-8" if html else b"text/plain"
    start = {"type": "http.response.start", "status": 200 if html else 404}
    await send({**start, "headers": [(b"content-type", kind), (b"content-length", b"%d" % len(PAGE))]})
    await send({"type": "http.response.body", "body": PAGE[:20], "more_body": True})
    await send({"type": "http.response.body", "body": PAGE[20:]})


def test_parts_and_what_they_import_each_once(root: Path) -> None:
    manifest = json.loads((root / "manifest.json").read_text())
    assert early_files(manifest, EARLY) == ["static/js/table.js", "static/table.css", "static/js/grid.js"]
    assert early_files(manifest, ["no such part"]) == []
    assert early_files({}, EARLY) == []


def test_a_page_asks_early_for_what_it_does_not_name_itself() -> None:
    named = PAGE.replace(b"<title>", b'<script src="./static/a.js"></script><title>')
    page = with_early(named, ["static/a.js", "static/b.js", "static/c.css"]).decode()
    assert page.count("a.js") == 1
    assert '<link rel="modulepreload" crossorigin href="./static/b.js">' in page
    assert page.index("c.css") < page.index("</head>")


def test_files_are_answered_and_pages_changed(root: Path) -> None:
    app = Assets(beyond, root)
    status, headers, body = asked(app, "/static/js/grid.js")
    assert (status, body) == (200, b"grid();")
    assert headers[b"content-type"].startswith(b"text/javascript")
    assert b"immutable" in headers[b"cache-control"]
    for path in ("/", "/images"):
        status, headers, body = asked(app, path)
        assert status == 200
        assert b"modulepreload" in body
        assert int(headers[b"content-length"]) == len(body)


def test_packed_for_others_only(root: Path) -> None:
    app = Assets(beyond, root)
    path, plain = "/static/js/table.js", b"table();" * 100
    assert asked(app, path, accept_encoding="gzip")[2] == plain, "on this machine packing costs more than it saves"
    _, headers, body = asked(app, path, client="192.0.2.7", accept_encoding="gzip, br")
    assert headers[b"content-encoding"] == b"gzip"
    assert gzip.decompress(body) == plain
    assert asked(app, path, client="192.0.2.7")[2] == plain
    behind = asked(app, path, accept_encoding="gzip", x_forwarded_for="192.0.2.7")
    assert behind[1][b"content-encoding"] == b"gzip", "a proxy on this machine asks for somebody else"


@pytest.mark.parametrize(
    "path",
    [
        *("/secret.js", "/static/../secret.js", "/static/js/../../secret.js", "/static//js/grid.js"),
        *("/static/%2e%2e/secret.js", "/static/notes.txt", "/static/js", "/static/js/none.js"),
    ],
)
def test_nothing_else_is_answered(root: Path, path: str) -> None:
    status, _, body = asked(Assets(beyond, root), path)
    assert b"secret" not in body
    assert b"no part" not in body
    assert body in (PAGE, with_early(PAGE, [])) or status == 404


def test_the_installed_streamlit_has_the_parts_that_are_asked_for_early() -> None:
    import streamlit

    root = Path(streamlit.__file__).parent / "static"
    manifest = json.loads((root / "manifest.json").read_text())
    names = {part.get("name") for part in manifest.values()}
    assert set(EARLY) <= names
    files = early_files(manifest, EARLY)
    assert all((root / name).is_file() for name in files)
    assert any("DataFrame" in name for name in files)
