"""Streamlit's own scripts, styles and fonts, kept in memory and asked for early: half of the way to the first picture.

Streamlit names the parts of its page one after another, as each turns out to be needed, and reads each from disk
through every layer of its server. Here the parts that a board needs are named in the page's head, all are answered from
memory, and compressed for whoever is not on this machine.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Awaitable, Callable, Iterable, MutableMapping
from functools import cache
from pathlib import Path
from typing import Any

Scope = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[MutableMapping[str, Any]]]
Send = Callable[[MutableMapping[str, Any]], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

EARLY = ("DataFrame", "Selectbox", "TextInput", "DownloadButton", "PageLink")
"""Parts of Streamlit's page that a board shows first, as its manifest names them."""

KINDS = {".js": "text/javascript; charset=utf-8", ".css": "text/css; charset=utf-8", ".woff2": "font/woff2"}
"""Ending of a file that is kept to its media type; everything else is left to Streamlit."""

PACKED = {".js", ".css"}
"""Endings of files that become smaller."""

HERE = {"127.0.0.1", "::1", "localhost"}

YEAR = 31_536_000
"""Seconds; the names of these files change with what they hold."""


OF_THE_PLAIN = (b"accept-encoding", b"if-none-match", b"if-modified-since")
"""What is asked of Streamlit's page and not of the changed one: its packing, and whether it is still the same."""


def manifest_of(path: Path) -> dict[str, Any]:
    """Vite's manifest; empty where there is none, or none as it is known: the board works without."""
    try:
        parts = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return parts if isinstance(parts, dict) and all(_is_part(part) for part in parts.values()) else {}


def _is_part(part: Any) -> bool:
    if not isinstance(part, dict) or not all(isinstance(part.get(name, ""), str) for name in ("name", "file")):
        return False
    lists = [part.get(name, []) for name in ("css", "imports")]
    return "file" in part and all(isinstance(each, list) and all(isinstance(n, str) for n in each) for each in lists)


def early_files(manifest: dict[str, Any], names: Iterable[str]) -> list[str]:
    """The files of some parts of a page and all that they import, in the order of Vite's manifest; unknown: none."""
    wanted = set(names)
    found: dict[str, None] = {}
    waiting = [key for key, part in reversed(manifest.items()) if part.get("name") in wanted]
    while waiting:
        part = manifest.get(waiting.pop())
        if part is not None and part["file"] not in found:
            found.update(dict.fromkeys([part["file"], *part.get("css", [])]))
            waiting.extend(reversed(part.get("imports", [])))
    return list(found)


def with_early(page: bytes, files: Iterable[str]) -> bytes:
    """A page that asks its browser at once for what its scripts will ask for later."""
    text = page.decode("utf-8")
    links = []
    for name in files:
        if f'"./{name}"' in text:
            continue
        if name.endswith(".js"):
            links.append(f'<link rel="modulepreload" crossorigin href="./{name}">')
        elif name.endswith(".css"):
            links.append(f'<link rel="preload" as="style" crossorigin href="./{name}">')
        elif name.endswith(".woff2"):
            links.append(f'<link rel="preload" as="font" type="font/woff2" crossorigin href="./{name}">')
    return text.replace("</head>", "".join(links) + "</head>", 1).encode("utf-8")


class Assets:
    """ASGI middleware before Streamlit's own.

    Only files that lie in Streamlit's folder when the server starts are ever answered: what is asked for is looked up
    by its name, no path is made of it.
    """

    def __init__(self, app: App, root: Path) -> None:
        """``root`` is the folder of Streamlit's ``index.html``."""
        self._app = app
        self._files = {
            f"/{path.relative_to(root).as_posix()}": path
            for path in (root / "static").rglob("*")
            if path.suffix in KINDS and path.is_file()
        }
        named = early_files(manifest_of(root / "manifest.json"), EARLY)
        icons = [name.removeprefix("/") for name in self._files if "/MaterialSymbols-Rounded." in name]
        self._early = [name for name in [*named, *icons] if f"/{name}" in self._files]
        for name in self._early:
            _content(self._files[f"/{name}"])

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a file, change a page on its way out, leave the rest alone."""
        if scope["type"] != "http" or scope["method"] != "GET":
            await self._app(scope, receive, send)
            return
        path = self._files.get(scope["path"])
        if path is not None:
            await _answer(path, scope, send)
        elif "." in scope["path"] or scope["path"].startswith(("/_stcore", "/media", "/component")):
            await self._app(scope, receive, send)
        else:
            await self._app(_plain(scope), receive, _Page(send, self._early, packs=_packs(scope)))


def _plain(scope: Scope) -> Scope:
    """A request whose answer can be changed: whole, in the messages that :class:`_Page` reads, and not packed."""
    headers = [(name, value) for name, value in scope["headers"] if name.lower() not in OF_THE_PLAIN]
    known = {name: value for name, value in (scope.get("extensions") or {}).items() if name != "http.response.pathsend"}
    return {**scope, "headers": headers, "extensions": known}


class _Page:
    """Gathers an HTML answer and sends it with links to early files; any other answer goes through as it is."""

    def __init__(self, send: Send, early: list[str], *, packs: bool) -> None:
        self._send, self._early, self._packs = send, early, packs
        self._start: MutableMapping[str, Any] | None = None
        self._body = b""

    async def __call__(self, message: MutableMapping[str, Any]) -> None:
        if message["type"] == "http.response.start" and _is_page(message):
            self._start = message
        elif message["type"] == "http.response.body" and self._start is not None:
            self._body += message.get("body", b"")
            if message.get("more_body", False):
                return
            page = with_early(self._body, self._early)
            drop = (b"content-length", b"etag", b"last-modified", b"accept-ranges")
            kept = [(name, value) for name, value in self._start["headers"] if name.lower() not in drop]
            kept.append((b"vary", b"accept-encoding"))
            if self._packs:
                page = gzip.compress(page, compresslevel=6, mtime=0)
                kept.append((b"content-encoding", b"gzip"))
            self._start["headers"] = [*kept, (b"content-length", b"%d" % len(page))]
            await self._send(self._start)
            await self._send({"type": "http.response.body", "body": page})
        else:
            await self._send(message)


def _is_page(start: MutableMapping[str, Any]) -> bool:
    headers = {name.lower(): value for name, value in start["headers"]}
    plain = b"content-encoding" not in headers
    return start["status"] == 200 and plain and headers.get(b"content-type", b"").startswith(b"text/html")


@cache
def _content(path: Path) -> bytes:
    return path.read_bytes()


@cache
def _packed(path: Path) -> bytes:
    return gzip.compress(_content(path), compresslevel=6, mtime=0)


def _packs(scope: Scope) -> bool:
    """Whether an answer is packed: for whoever reads that and is not on this machine."""
    asked = dict(scope["headers"])
    near = (scope.get("client") or ("",))[0] in HERE and b"x-forwarded-for" not in asked
    return not near and b"gzip" in asked.get(b"accept-encoding", b"")


async def _answer(path: Path, scope: Scope, send: Send) -> None:
    pack = path.suffix in PACKED and _packs(scope)
    body = _packed(path) if pack else _content(path)
    headers = [
        (b"content-type", KINDS[path.suffix].encode()),
        (b"content-length", b"%d" % len(body)),
        (b"cache-control", b"public, immutable, max-age=%d" % YEAR),
        (b"vary", b"accept-encoding"),
        (b"x-content-type-options", b"nosniff"),
    ]
    if pack:
        headers.append((b"content-encoding", b"gzip"))
    await send({"type": "http.response.start", "status": 200, "headers": headers})
    await send({"type": "http.response.body", "body": body})
