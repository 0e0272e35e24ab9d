"""Fetch the files of a data set from where its owners published them: resumed, checked, unpacked.

Nothing is fetched before the user has accepted the licence, and nothing at all where the owners do not allow it. Where
the owners publish a checksum it stands in the card. Where they do not, the first download is trusted: its sha256 is
kept beside the files, and what is found there later, or fetched again, must have it.
"""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import json
import lzma
import os
import re
import time
import urllib.error
import urllib.request
import zipfile
import zlib
from collections.abc import Iterator, Mapping
from pathlib import Path, PurePosixPath, PureWindowsPath
from typing import IO, Any
from urllib.parse import unquote, urlsplit

import filelock
import msgspec

from bench.data.cards import Card, DownloadTable
from bench.data.folders import DOWNLOADS
from bench.data.scan import Progress
from bench.data.system import write_whole, writing
from bench.errors import DataError, OutputError, UsageError

RECEIPT = "fetched.json"
"""File in it that :func:`receipt` reads."""
_BLOCK = 1 << 18
_ATTEMPTS = 4
_PAUSE = 2.0
"""Seconds between two attempts, times their number."""
_TIMEOUT = 60.0
"""Seconds without a byte after which a connection is given up."""
_BROKEN = (urllib.error.URLError, http.client.HTTPException, TimeoutError, ConnectionError)
_PASSING = (http.HTTPStatus.REQUEST_TIMEOUT, http.HTTPStatus.TOO_EARLY, http.HTTPStatus.TOO_MANY_REQUESTS)
"""Answers below 500 after which a server may be asked again."""
_RANGE = re.compile(r"bytes (\d+)-\d+/(\d+|\*)")


def download(
    card: Card, root: Path, *, accept_licence: bool, progress: Progress | None = None, timeout: float = _TIMEOUT
) -> Path:
    """Fetch and unpack all files of a data set; what is there already is not fetched again.

    Args:
        card: of the data set.
        root: the data root; the files go to the first folder that the card names.
        accept_licence: whether the user accepts the licence that the card names.
        progress: called as ``progress(done, total, text)`` with bytes; the total is 0 where the server does not say.
        timeout: seconds without a byte after which a connection is given up and taken up again.

    Returns:
        the folder of the data set.

    Raises:
        UsageError: the program may not fetch it, or the licence is not accepted.
        DataError: the server does not have it, or sends something else than the card expects.
        OutputError: the files cannot be written.
    """
    if not card.downloads:
        raise UsageError(f"{card.name} cannot be fetched by this program", card.obtain or f"see {card.url}")
    if not accept_licence:
        raise UsageError(
            f"{card.name} is published under: {card.licence}",
            f"read the terms at {card.url}, and repeat with --accept-licence if you accept them",
        )
    folder = root / card.folders[0]
    with _alone(folder):
        for item in card.downloads:
            _fetch_and_place(item, folder, progress, timeout)
    return folder


@contextlib.contextmanager
def _alone(folder: Path) -> Iterator[None]:
    """Keep other processes from fetching into the same folder: both would append to one file.

    Raises:
        UsageError: another is at it.
        OutputError: the folder cannot be made.
    """
    try:
        (folder / DOWNLOADS).mkdir(parents=True, exist_ok=True)
        with filelock.FileLock(folder / DOWNLOADS / "lock", timeout=0):
            yield
    except filelock.Timeout:
        raise UsageError(f"{folder}: another process is fetching it", "wait until that has ended") from None
    except OSError as error:
        raise OutputError(f"{folder}: cannot be written: {error.strerror}", "name another data root") from None


def receipt(folder: Path) -> dict[str, str]:
    """What was fetched into a data set's folder: address -> sha256 of what came first.

    The owners of most data sets publish no checksum: this is what later downloads are compared with, and what two
    people can compare.

    Raises:
        DataError: the file that keeps it is damaged.
    """
    path = folder / DOWNLOADS / RECEIPT
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, str])
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror}") from None
    except msgspec.DecodeError:
        raise DataError(f"{path}: not what this program wrote", "take it away") from None


def told(card: Card, folder: Path) -> list[str]:
    """What a user should know of what was fetched: the checksum of each file, and what it was compared with.

    Raises:
        DataError: as :func:`receipt`.
    """
    lines = [f"sha256 {digest}  {url}" for url, digest in receipt(folder).items()]
    if any(item.sha256 is None and item.md5 is None for item in card.downloads):
        lines.append(
            "the card has no checksum by the owners for all of these: the first download was trusted, "
            "and a later one must be the same"
        )
    return lines


def _fetch_and_place(item: DownloadTable, folder: Path, progress: Progress | None, timeout: float) -> None:
    recorded = receipt(folder)
    archive = _archive(item.url, folder, recorded)
    unpacked = _unpacked(archive)
    target = archive if item.unpack else folder / item.to
    known = recorded.get(item.url)
    if target.is_file():
        try:
            found = _digest(target, "sha256")
            sound = found == (item.sha256 or known or found) and item.md5 in (None, _digest(target, "md5"))
        except OSError as error:
            raise DataError(f"{target}: cannot be read: {error.strerror}") from None
        if not sound:
            raise DataError(
                f"{target}: it is not what was fetched from {item.url}", "take it away, and repeat the command"
            )
    elif item.unpack and unpacked.is_file():
        return
    else:
        found = fetch(item.url, target, sha256=item.sha256, md5=item.md5, progress=progress, timeout=timeout)
        if item.sha256 is None and found != (known or found):
            target.unlink()
            raise DataError(
                f"{item.url}: its sha256 is {found}, at the first download it was {known}",
                f"the owners changed it; if that is as it should be, take away {folder / DOWNLOADS / RECEIPT}",
            )
    if item.unpack and not unpacked.is_file():
        unpack(archive, folder / item.to, progress)
        write_whole(unpacked, b"")
    if known != found:  # once it is known to be sound
        kept = {**receipt(folder), item.url: found}
        write_whole(folder / DOWNLOADS / RECEIPT, msgspec.json.format(msgspec.json.encode(kept)))


def _archive(url: str, folder: Path, recorded: Mapping[str, str]) -> Path:
    """Where an archive is kept: two addresses may end in the same name, and several cards may share a folder.

    It was kept under that name alone before: what lies there is taken for this archive if the receipt says that
    it was fetched, and knows no other that may have been kept there.
    """
    own, former = _own_folder(url, folder) / _name(url), folder / DOWNLOADS / _name(url)
    if own.parent.exists() or not (former.is_file() or _unpacked(former).is_file()):
        return own
    claim = [other for other in recorded if _name(other) == _name(url) and not _own_folder(other, folder).exists()]
    return former if claim == [url] else own


def _own_folder(url: str, folder: Path) -> Path:
    return folder / DOWNLOADS / hashlib.sha256(url.encode()).hexdigest()[:12]


def _unpacked(archive: Path) -> Path:
    """The file that says that an archive was unpacked to the end."""
    return archive.with_name(f"{archive.name}.unpacked")


def fetch(
    url: str,
    target: Path,
    *,
    sha256: str | None = None,
    md5: str | None = None,
    progress: Progress | None = None,
    timeout: float = _TIMEOUT,
) -> str:
    """Fetch one file. What a broken connection or a kill left is gone on with, if the server's file is still the same.

    Args:
        url: http or https.
        target: where to; it is there whole or not at all.
        sha256: of the content, where it is known.
        md5: the same.
        progress: called with bytes.
        timeout: seconds without a byte.

    Returns:
        the sha256 of the content.

    Raises:
        DataError: the server refuses, stays silent, or sends another content.
        OutputError: the file cannot be written.
    """
    part = target.with_name(f"{target.name}.part")
    state = target.with_name(f"{target.name}.part.json")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        failures, most = 0, 0
        while True:
            try:
                _go_on(url, part, state, progress, timeout)
                break
            except urllib.error.HTTPError as error:
                if error.code < 500 and error.code not in _PASSING:
                    reason = error.reason.splitlines()[0] if error.reason else "an error without a reason"
                    raise DataError(
                        f"{url}: the server answers {error.code} {reason}", "the address may be old"
                    ) from None
                problem: Exception = error
            except _BROKEN as error:
                problem = error
            have = part.stat().st_size if part.is_file() else 0
            failures, most = (1, have) if have > most else (failures + 1, most)  # a large file may break often
            if failures < _ATTEMPTS:
                time.sleep(_PAUSE * (failures - 1))
            else:
                reason = " ".join(str(getattr(problem, "reason", problem)).split()) or type(problem).__name__
                raise DataError(f"{url}: {reason}", "repeat the command: it goes on where this stopped") from None
        if md5 is not None:
            _compare(url, part, "md5", md5)
        found = _compare(url, part, "sha256", sha256)
        part.replace(target)
        state.unlink(missing_ok=True)
        return found
    except OSError as error:
        raise OutputError(
            f"{target}: cannot be written: {error.strerror}", "free some space, or name another data root"
        ) from None


def unpack(archive: Path, folder: Path, progress: Progress | None = None) -> None:
    """Unpack a zip archive; files that are there already, by their size and checksum (CRC-32), are left as they are.

    Raises:
        DataError: not a zip archive, damaged, or with a path that leaves the folder, if only on some systems.
        OutputError: a file cannot be written.
    """
    try:
        with zipfile.ZipFile(archive) as opened:
            members = [m for m in opened.infolist() if not m.is_dir()]
            for member in members:
                if _leaves(_path_of(member), folder):
                    raise DataError(f"{archive}: it holds the path {member.filename!r}, which leaves its folder")
            for done, member in enumerate(members, 1):
                target = folder / PurePosixPath(_path_of(member))
                if not _is_unpacked(member, target):
                    with writing(target) as file, opened.open(member) as source:
                        file.writelines(_blocks(source))
                if progress:
                    progress(done, len(members), f"unpacking {archive.name}")
    except (zipfile.BadZipFile, EOFError, NotImplementedError, zlib.error, lzma.LZMAError, RuntimeError) as error:
        archive.unlink(missing_ok=True)
        raise DataError(
            f"{archive}: not a sound zip archive: {error}", "repeat the command to fetch it again"
        ) from None


def _blocks(source: IO[bytes]) -> Iterator[bytes]:
    """What a member of an archive holds.

    Raises:
        BadZipFile: it cannot be unpacked; what cannot be written is an error of another kind.
    """
    try:
        while block := source.read(_BLOCK):
            yield block
    except OSError as error:
        raise zipfile.BadZipFile(str(error)) from None


def _path_of(member: zipfile.ZipInfo) -> str:
    """Its path in the archive, with slashes: some programs of Windows write the other ones."""
    return member.filename.replace("\\", "/")


def _leaves(name: str, folder: Path) -> bool:
    """Whether a member of an archive would be written outside the folder, here or on another system."""
    path = PurePosixPath(name)
    return (
        path.is_absolute()
        or ".." in path.parts
        or PureWindowsPath(name).anchor != ""
        or not (folder / path).resolve().is_relative_to(folder.resolve())
    )


def _is_unpacked(member: zipfile.ZipInfo, target: Path) -> bool:
    if not target.is_file() or target.stat().st_size != member.file_size:
        return False
    found = 0
    with contextlib.suppress(OSError), target.open("rb") as file:  # what cannot be read is written anew
        while block := file.read(_BLOCK):
            found = zlib.crc32(block, found)
        return found == member.CRC
    return False


# -- one connection ------------------------------------------------------------------------------------


def _go_on(url: str, part: Path, state: Path, progress: Progress | None, timeout: float) -> None:
    """Append to ``part`` until it is complete."""
    have = part.stat().st_size if part.is_file() else 0
    mark = _mark(state) if have else None
    request = urllib.request.Request(url, headers={"User-Agent": "cellseg-bench", "Accept-Encoding": "identity"})
    if mark is not None:
        request.add_header("Range", f"bytes={have}-")
        request.add_header("If-Range", mark)
    try:
        response = urllib.request.build_opener(_Redirects).open(request, timeout=timeout)
    except urllib.error.HTTPError as error:
        if error.code == http.HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE and mark is not None:
            part.unlink()  # the file became shorter: begin anew
            raise ConnectionError("the file changed on the server") from None
        raise
    except ValueError as error:  # of an address that the server sent us to
        raise DataError(f"{url}: the server sends on to an address that is none: {error}") from None
    with response:
        going_on = response.status == http.HTTPStatus.PARTIAL_CONTENT
        begin, total = _extent(response, have if mark is not None else None, mark, url, part)
        if not going_on:
            new_mark = response.headers.get("ETag") or response.headers.get("Last-Modified")
            state.unlink(missing_ok=True)
            if new_mark is not None and not new_mark.startswith("W/"):
                state.write_text(json.dumps(new_mark), encoding="utf-8")
        done = begin
        with part.open("ab" if going_on else "wb") as file:
            while block := _received(response):
                file.write(block)
                done += len(block)
                if progress:
                    progress(done, total or 0, f"fetching {_name(url)}")
    if total is not None and done != total:
        raise ConnectionError(f"the connection broke after {done} of {total} bytes")
    if not done:
        raise ConnectionError("the server sent an empty file")


def _extent(
    response: http.client.HTTPResponse, asked: int | None, mark: str | None, url: str, part: Path
) -> tuple[int, int | None]:
    """Where in the file a server's answer begins, and how long the whole file is, None if it does not say.

    Args:
        response: of the server.
        asked: from where on the file was asked for, None for the whole.
        mark: of the file that was begun.
        url: for the error.
        part: what is here of the file; taken away where the answer does not go on with it.

    Raises:
        DataError: an answer that holds no file.
        ConnectionError: another part of the file than was asked for, or a part of another file.
    """
    if response.headers.get("Content-Encoding", "identity").lower() not in ("identity", ""):
        raise DataError(f"{url}: the server sends it packed, although it was not asked to", "fetch it with a browser")
    length = response.headers.get("Content-Length", "")
    size = int(length) if length.isascii() and length.isdigit() else None
    if response.status == http.HTTPStatus.OK:
        return 0, size
    if response.status != http.HTTPStatus.PARTIAL_CONTENT:
        raise DataError(f"{url}: the server answers {response.status} {response.reason}", "the address may be old")
    extent = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
    found = response.headers.get("ETag") or response.headers.get("Last-Modified")
    if asked is None or (extent and int(extent[1]) != asked) or found not in (None, mark):
        part.unlink(missing_ok=True)
        raise ConnectionError("the server sends another part of the file than it was asked for")
    if extent and extent[2] != "*":
        return asked, int(extent[2])
    return asked, None if size is None else asked + size


def _received(response: http.client.HTTPResponse) -> bytes:
    """The next bytes of an answer.

    Raises:
        ConnectionError: they do not come; what cannot be written is an error of another kind.
    """
    try:
        return response.read(_BLOCK)
    except (TimeoutError, ConnectionError):
        raise
    except OSError as error:
        raise ConnectionError(f"the connection broke: {error.strerror or error}") from None


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Goes where a server sends it, by http and https only, and from https to https only."""

    def redirect_request(self, req: Any, fp: Any, code: int, msg: str, headers: Any, newurl: str) -> Any:
        """The request to the new address."""
        here, there = urlsplit(req.full_url).scheme, urlsplit(newurl).scheme
        if there not in ("http", "https") or (here == "https" and there == "http"):
            raise urllib.error.HTTPError(req.full_url, code, f"and sends on to {newurl}", headers, fp)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _mark(state: Path) -> str | None:
    """What tells whether the server's file is still the one that was begun."""
    with contextlib.suppress(OSError, ValueError):
        found: Any = json.loads(state.read_text(encoding="utf-8"))
        return found if isinstance(found, str) else None
    return None


def _compare(url: str, part: Path, name: str, expected: str | None) -> str:
    """The digest of what was fetched, once it is what is expected, if anything is."""
    found = _digest(part, name)
    if expected is not None and found != expected:
        part.unlink()
        raise DataError(
            f"{url}: its {name} is {found}, the card expects {expected}", "the file on the server is another"
        )
    return found


def _digest(path: Path, name: str) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, name).hexdigest()


def _name(url: str) -> str:
    return os.path.basename(unquote(urlsplit(url).path)) or "download"  # noqa: PTH119 - a path of a URL, not of a disk
