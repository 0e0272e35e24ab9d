"""Streamlit's own files, answered from memory: the same as Streamlit answers, and nothing else."""

from __future__ import annotations

import asyncio
import gzip
import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("streamlit", reason="the board's extra is not installed")

from starlette.middleware.gzip import GZipMiddleware
from starlette.staticfiles import StaticFiles

from leaderboard.assets import EARLY, Assets, early_files, manifest_of, with_early

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


def asked(app: Any, path: str, *, client: str = "127.0.0.1", more: Any = None, **headers: str) -> tuple[Any, ...]:
    """Status, headers and body of what is answered."""
    sent: list[Any] = []

    async def receive() -> dict[str, Any]:
        return {"type": "http.request"}

    async def send(message: Any) -> None:
        sent.append(message)

    scope = {
        "type": "http",
        "asgi": {"spec_version": "2.4"},
        "method": "GET",
        "path": path,
        "client": (client, 1),
        "headers": [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()],
        **(more or {}),
    }
    asyncio.run(app(scope, receive, send))
    return sent[0]["status"], dict(sent[0]["headers"]), b"".join(part.get("body", b"") for part in sent[1:])


def links(body: bytes) -> int:
    return body.count(b'rel="modulepreload"')


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


def packing(app: Any) -> Any:
    """As Streamlit packs, which spares the first page alone."""
    packed = GZipMiddleware(app, minimum_size=10)

    async def either(scope: Any, receive: Any, send: Any) -> None:
        await (app if scope["path"] == "/" else packed)(scope, receive, send)

    return either


@pytest.mark.parametrize("path", ["/", "/board", "/images"])
@pytest.mark.parametrize("client", ["127.0.0.1", "192.0.2.7"])
def test_every_page_is_changed_for_a_browser_that_reads_packed_ones(root: Path, path: str, client: str) -> None:
    app = packing(beyond)
    if path != "/":
        assert asked(app, path, accept_encoding="gzip")[1][b"content-encoding"] == b"gzip", "else nothing is tested"
    status, headers, body = asked(
        Assets(app, root), path, client=client, accept_encoding="gzip, deflate, br, zstd", if_none_match="x"
    )
    near = client == "127.0.0.1"
    assert status == 200
    assert headers.get(b"content-encoding") == (None if near else b"gzip")
    assert b"accept-encoding" in headers[b"vary"].lower()
    assert int(headers[b"content-length"]) == len(body)
    page = body if near else gzip.decompress(body)
    assert page == with_early(PAGE, ["static/js/table.js", "static/table.css", "static/js/grid.js"])
    assert links(page) == 2
    plain = asked(Assets(app, root), path, client=client)
    assert (plain[1].get(b"content-encoding"), plain[2]) == (None, page)


def test_a_page_is_never_said_to_be_the_one_that_a_browser_keeps(root: Path) -> None:
    """What it keeps may be Streamlit's own, without the links."""
    (root / "index.html").write_bytes(PAGE)
    app = StaticFiles(directory=root, html=True)
    own = asked(app, "/")[1]
    again = {"if_none_match": own[b"etag"].decode(), "if_modified_since": own[b"last-modified"].decode()}
    assert asked(app, "/", **again)[0] == 304, "else nothing is tested"
    status, headers, body = asked(Assets(app, root), "/", **again)
    assert (status, links(body)) == (200, 2)
    assert not {b"etag", b"last-modified"} & set(headers)


def test_a_server_that_sends_files_itself_sends_no_page(root: Path) -> None:
    """ASGI's ``http.response.pathsend``: the page would go past."""
    (root / "index.html").write_bytes(PAGE)
    app = StaticFiles(directory=root, html=True)
    offered = {"extensions": {"http.response.pathsend": {}}}
    assert asked(app, "/", more=offered)[2] == b"", "else nothing is tested"
    assert links(asked(Assets(app, root), "/", more=offered)[2]) == 2


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


def as_named(manifest: Any) -> Any:
    manifest["table.tsx"]["imports"] += ["none", "wasm"]
    manifest["table.tsx"]["css"] += ["static/none.css", "../secret.js", "static/notes.txt"]
    manifest["wasm"] = {"file": "static/js/table.wasm"}
    return manifest


def test_of_what_a_manifest_names_only_what_is_there_is_asked_for(root: Path) -> None:
    """A new Streamlit may name files of another ending, which are not kept."""
    path = root / "manifest.json"
    path.write_text(json.dumps(as_named(json.loads(path.read_text()))))
    page = asked(Assets(beyond, root), "/")[2]
    assert page == with_early(PAGE, ["static/js/table.js", "static/table.css", "static/js/grid.js"])


@pytest.mark.parametrize(
    "manifest",
    [
        *(b"", b"{", b"\xff\xfe", b"[]", b"null", b"3", b'"text"'),
        *(
            json.dumps({"good": {"name": EARLY[0], "file": "static/js/table.js"}, "bad": part}).encode()
            for part in (
                *(None, [], "text", {}, {"name": EARLY[0]}, {"file": 3}, {"file": None, "name": EARLY[0]}),
                *({"file": "a.js", "name": ["x"]}, {"file": "a.js", "name": {}}, {"file": "a.js", "css": "b.css"}),
                *({"file": "a.js", "imports": [["good"]]}, {"file": "a.js", "imports": None}),
                {"file": "a.js", "css": [None]},
            )
        ),
    ],
)
def test_with_a_manifest_of_another_kind_the_board_starts_without_early_files(root: Path, manifest: bytes) -> None:
    (root / "manifest.json").write_bytes(manifest)
    app = Assets(beyond, root)
    assert asked(app, "/")[2] == PAGE
    assert asked(app, "/static/js/grid.js")[2] == b"grid();"


def test_without_a_manifest_the_board_starts_too(root: Path) -> None:
    (root / "manifest.json").unlink()
    assert asked(Assets(beyond, root), "/")[2] == PAGE


def test_imports_however_deep(root: Path) -> None:
    parts: dict[str, Any] = {f"{i}": {"file": f"{i}.js", "imports": [f"{i + 1}"]} for i in range(5000)}
    parts["0"]["name"] = EARLY[0]
    assert early_files(parts, EARLY) == [f"{i}.js" for i in range(5000)]


def test_the_installed_streamlit_has_the_parts_that_are_asked_for_early() -> None:
    import streamlit

    root = Path(streamlit.__file__).parent / "static"
    manifest = manifest_of(root / "manifest.json")
    names = {part.get("name") for part in manifest.values()}
    assert set(EARLY) <= names
    files = early_files(manifest, EARLY)
    assert all((root / name).is_file() for name in files)
    assert any("DataFrame" in name for name in files)
