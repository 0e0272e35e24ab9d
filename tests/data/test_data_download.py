"""Downloading, against a server on this machine: resumed, checked, unpacked, and only with the licence accepted."""

from __future__ import annotations

import contextlib
import hashlib
import http.client
import http.server
import io
import threading
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from bench.data import download as room
from bench.data import load_card, open_dataset
from bench.data.cards import card_names, read_card
from bench.data.download import download, fetch, unpack
from bench.errors import DataError, OutputError, UsageError

CONTENT = bytes(range(256)) * 4000


class Server(http.server.ThreadingHTTPServer):
    """Serves files from memory, with ranges and entity tags, and breaks connections when told to."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.break_after: list[int] = []
        self.answers: list[int] = []
        self.requests: list[tuple[str, str | None]] = []
        self.with_ranges = True

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.server_address[1]}/{name}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def do_GET(self) -> None:
        server = self.server
        asked = self.headers.get("Range")
        server.requests.append((self.path, asked))
        content = server.files.get(self.path.lstrip("/"))
        if server.answers:
            return self.send_error(server.answers.pop(0))
        if content is None:
            return self.send_error(404)
        tag = f'"{hashlib.sha256(content).hexdigest()[:12]}"'
        begin = 0
        if asked and server.with_ranges and self.headers.get("If-Range") == tag:
            begin = int(asked.removeprefix("bytes=").rstrip("-"))
            if begin >= len(content):
                return self.send_error(416)
        self.send_response(206 if begin else 200)
        self.send_header("Content-Length", str(len(content) - begin))
        self.send_header("ETag", tag)
        self.end_headers()
        body = content[begin:]
        if server.break_after:
            body = body[: server.break_after.pop(0)]
        self.wfile.write(body)
        return None

    def log_message(self, format: str, *arguments: object) -> None:
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Server]:
    monkeypatch.setattr(room, "_PAUSE", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    with Server() as running:
        thread = threading.Thread(target=running.serve_forever, daemon=True)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def zipped(files: dict[str, bytes]) -> bytes:
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)
    return content.getvalue()


# -- one file ------------------------------------------------------------------------------------------


def test_a_file_with_progress_and_checksums(server: Server, tmp_path: Path):
    server.files["a.bin"] = CONTENT
    calls = []
    sums = {"sha256": hashlib.sha256(CONTENT).hexdigest(), "md5": hashlib.md5(CONTENT).hexdigest()}
    fetch(server.url("a.bin"), tmp_path / "x" / "a.bin", **sums, progress=lambda *call: calls.append(call))
    assert (tmp_path / "x" / "a.bin").read_bytes() == CONTENT
    assert calls[-1] == (len(CONTENT), len(CONTENT), "fetching a.bin")
    assert [p.name for p in (tmp_path / "x").iterdir()] == ["a.bin"]


def test_broken_connections_are_gone_on_with(server: Server, tmp_path: Path):
    server.files["a.bin"] = CONTENT
    server.break_after = [300_000, 400_000]
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    assert [asked for _, asked in server.requests] == [None, "bytes=300000-", "bytes=700000-"]


def test_a_later_call_goes_on_where_the_first_one_stopped(server: Server, tmp_path: Path):
    server.files["a.bin"] = CONTENT
    server.break_after = [100_000] * 4 + [0] * 3
    with pytest.raises(DataError, match=r"a\.bin: .*after 400000 of 1024000 bytes .*goes on where this stopped"):
        fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert not (tmp_path / "a.bin").exists()
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert server.requests[-1][1] == "bytes=400000-"
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize("other", [CONTENT[::-1], CONTENT[:50_000]])
def test_a_file_that_changed_on_the_server_is_begun_anew(server: Server, tmp_path: Path, other: bytes):
    server.files["a.bin"] = CONTENT
    server.break_after = [100_000] + [0] * 3
    with pytest.raises(DataError):
        fetch(server.url("a.bin"), tmp_path / "a.bin")
    server.files["a.bin"] = other
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == other


def test_a_server_without_ranges(server: Server, tmp_path: Path):
    server.files["a.bin"] = CONTENT
    server.with_ranges = False
    server.break_after = [300_000]
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


def test_another_content_than_expected(server: Server, tmp_path: Path):
    server.files["a.bin"] = CONTENT
    with pytest.raises(DataError, match=r"a\.bin: its sha256 is [0-9a-f]{64}, the card expects 0000"):
        fetch(server.url("a.bin"), tmp_path / "a.bin", sha256="0" * 64)
    assert not any(tmp_path.glob("a.bin*") if (tmp_path / "a.bin").exists() else tmp_path.glob("*.part"))


def test_what_a_server_may_answer(server: Server, tmp_path: Path):
    with pytest.raises(DataError, match=r"gone\.bin: the server answers 404 .*the address may be old") as caught:
        fetch(server.url("gone.bin"), tmp_path / "a.bin")
    assert "\n" not in str(caught.value)
    server.files["a.bin"] = CONTENT
    server.answers = [503, 500]
    fetch(server.url("a.bin"), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT
    server.answers = [503] * 4
    with pytest.raises(DataError, match=r"b\.bin: .*Service Unavailable"):
        fetch(server.url("b.bin"), tmp_path / "b.bin")


def test_nobody_there(tmp_path: Path, server: Server):
    with pytest.raises(DataError, match=r"http://127\.0\.0\.1:9/a: .*refused"):
        fetch("http://127.0.0.1:9/a", tmp_path / "a", timeout=2)


def test_a_folder_that_cannot_be_made(server: Server, tmp_path: Path):
    (tmp_path / "x").write_text("a file")
    with pytest.raises(OutputError, match=r"x/a\.bin: cannot be written"):
        fetch(server.url("a.bin"), tmp_path / "x" / "a.bin")


# -- archives ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["../evil", "/etc/evil", "a/../../evil", "C:/evil", "D:evil", r"\\host\share\evil"])
def test_an_archive_that_leaves_its_folder(tmp_path: Path, name: str):
    (tmp_path / "a.zip").write_bytes(zipped({"good": b"1", name: b"2"}))
    with pytest.raises(DataError, match="which leaves its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_archive_that_leaves_its_folder_by_a_link(tmp_path: Path):
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "link").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "a.zip").write_bytes(zipped({"link/evil": b"1"}))
    with pytest.raises(DataError, match=r"'link/evil', which leaves its folder"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert list((tmp_path / "elsewhere").iterdir()) == []
    (tmp_path / "b.zip").write_bytes(zipped({"good": b"1"}))
    unpack(tmp_path / "b.zip", tmp_path / "out" / "link")  # the folder itself may be one
    assert (tmp_path / "elsewhere" / "good").read_bytes() == b"1"


def test_a_damaged_archive_is_fetched_again(tmp_path: Path):
    content = bytearray(zipped({"a": CONTENT}))
    content[2000] ^= 1
    (tmp_path / "a.zip").write_bytes(bytes(content))
    with pytest.raises(DataError, match=r"a\.zip: not a sound zip archive.*fetch it again"):
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert not (tmp_path / "a.zip").exists()
    assert not (tmp_path / "out" / "a").exists()


def test_a_file_of_the_same_size_and_other_content_is_unpacked_again(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(zipped({"same": b"good", "other": b"new"}))
    (tmp_path / "out").mkdir()
    for name, content in (("same", b"good"), ("other", b"old")):
        (tmp_path / "out" / name).write_bytes(content)
    before = (tmp_path / "out" / "same").stat().st_ino
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "other").read_bytes() == b"new"
    assert (tmp_path / "out" / "same").stat().st_ino == before


def test_paths_as_programs_of_windows_write_them(tmp_path: Path):
    (tmp_path / "a.zip").write_bytes(zipped({"images\\a.tif": b"1"}))
    unpack(tmp_path / "a.zip", tmp_path / "out")
    assert (tmp_path / "out" / "images" / "a.tif").read_bytes() == b"1"
    (tmp_path / "b.zip").write_bytes(zipped({"..\\a.tif": b"1"}))
    with pytest.raises(DataError, match="which leaves its folder"):
        unpack(tmp_path / "b.zip", tmp_path / "out")


@pytest.mark.parametrize("kind", [zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA, zipfile.ZIP_BZIP2])
def test_an_archive_whose_content_is_damaged(tmp_path: Path, kind: int):
    with zipfile.ZipFile(tmp_path / "a.zip", "w", kind) as archive:
        archive.writestr("a", CONTENT[:5000])
        size = archive.infolist()[0].compress_size
    damaged = bytearray((tmp_path / "a.zip").read_bytes())
    damaged[31 : 31 + size] = b"\xff" * size
    (tmp_path / "a.zip").write_bytes(damaged)
    with pytest.raises((DataError, OutputError)) as caught:
        unpack(tmp_path / "a.zip", tmp_path / "out")
    assert "a.zip: not a sound zip archive" in str(caught.value)
    assert not (tmp_path / "out" / "a").exists()


# -- servers that do not keep to the rules ---------------------------------------------------------------


Answer = Callable[[http.server.BaseHTTPRequestHandler, int | None], None]


def answer(
    handler: http.server.BaseHTTPRequestHandler, code: int, body: bytes = b"", cut: int | None = None, **headers: str
) -> None:
    handler.send_response(code)
    for name, value in ({"Content_Length": str(len(body)), "ETag": '"e"'} | headers).items():
        handler.send_header(name.replace("_", "-"), value)
    handler.end_headers()
    handler.wfile.write(body[:cut])


def part(handler: http.server.BaseHTTPRequestHandler, begin: int, end: int, tag: str = '"e"') -> None:
    extent = f"bytes {begin}-{end - 1}/{len(CONTENT)}"
    answer(handler, 206, CONTENT[begin:end], Content_Range=extent, ETag=tag)


def begins_and_then(then: Answer) -> Answer:
    """The whole file is cut off after 300,000 bytes; then something else comes."""

    def both(handler: http.server.BaseHTTPRequestHandler, begin: int | None) -> None:
        if begin is None:
            answer(handler, 200, CONTENT, cut=300_000)
        else:
            then(handler, begin)

    return both


@pytest.fixture
def odd(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Answer], str]]:
    """Starts a server with one answer for everything; gives the address of a file."""
    monkeypatch.setattr(room, "_PAUSE", 0.01)
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    running: list[http.server.ThreadingHTTPServer] = []

    def start(reply: Answer) -> str:
        class Odd(http.server.BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                asked = self.headers.get("Range")
                with contextlib.suppress(ConnectionError):
                    reply(self, None if asked is None else int(asked.removeprefix("bytes=").rstrip("-")))

            def log_message(self, format: str, *arguments: object) -> None:
                pass

        server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Odd)
        server.daemon_threads = True
        running.append(server)
        threading.Thread(target=server.serve_forever, daemon=True).start()
        return f"http://127.0.0.1:{server.server_address[1]}/a.bin"

    yield start
    for server in running:
        server.shutdown()
        server.server_close()


@pytest.mark.parametrize(
    "reply",
    [
        begins_and_then(lambda h, begin: part(h, begin, min(begin + 200_000, len(CONTENT)))),  # no more at once
        begins_and_then(lambda h, begin: answer(h, 206, CONTENT[begin:], Content_Range=f"bytes {begin}-1023999/*")),
        lambda h, begin: answer(h, 200, CONTENT, Content_Length="many"),
        lambda h, begin: answer(h, 200, CONTENT, Content_Length="-5"),
    ],
)
def test_what_can_be_made_of_odd_answers(odd: Callable[[Answer], str], tmp_path: Path, reply: Answer):
    fetch(odd(reply), tmp_path / "a.bin")
    assert (tmp_path / "a.bin").read_bytes() == CONTENT


@pytest.mark.parametrize(
    ("reply", "says"),
    [
        (begins_and_then(lambda h, begin: part(h, 100_000, len(CONTENT))), "another part of the file"),
        (begins_and_then(lambda h, begin: part(h, 0, len(CONTENT))), "another part of the file"),
        (begins_and_then(lambda h, begin: part(h, begin, len(CONTENT), '"f"')), "another part of the file"),
        (lambda h, begin: part(h, 5, len(CONTENT)), "another part of the file"),
        (lambda h, begin: answer(h, 200, CONTENT, Content_Length="1024050"), "after 1024000 of 1024050 bytes"),
        (lambda h, begin: answer(h, 200, CONTENT, Content_Encoding="gzip"), "sends it packed"),
        (lambda h, begin: answer(h, 200), "an empty file"),
        (lambda h, begin: answer(h, 204), "the server answers 204"),
        (lambda h, begin: answer(h, 302, Location="/a.bin"), "the server answers 302"),
        (lambda h, begin: answer(h, 302, Location="ftp://127.0.0.1/a"), "302 and sends on to ftp://"),
        (lambda h, begin: answer(h, 302, Location="http://[::x/"), "an address that is none"),
        (lambda h, begin: answer(h, 429), "Too Many Requests .*repeat the command"),
    ],
)
def test_what_no_file_comes_of(odd: Callable[[Answer], str], tmp_path: Path, reply: Answer, says: str):
    with pytest.raises(DataError, match=rf"a\.bin: .*{says}") as caught:
        fetch(odd(reply), tmp_path / "a.bin")
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.bin").exists()


def test_nobody_is_sent_from_an_encrypted_address_to_an_open_one():
    sent = urllib.request.Request("https://example.org/a")
    for there, refused in (("http://example.org/b", True), ("https://example.org/b", False)):
        handler = room._Redirects()
        if refused:
            with pytest.raises(urllib.error.HTTPError):
                handler.redirect_request(sent, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), there)
        else:
            found = handler.redirect_request(sent, io.BytesIO(), 302, "Found", http.client.HTTPMessage(), there)
            assert found.full_url == there


# -- a data set ----------------------------------------------------------------------------------------


@pytest.fixture
def card_file(server: Server, write_card: Callable[..., Path]) -> Path:
    path = write_card("mine")
    path.write_text(
        path.read_text()
        + f'\n[[downloads]]\nurl = "{server.url("images.zip")}"\nto = "."\nunpack = true\n'
        + f'\n[[downloads]]\nurl = "{server.url("notes.txt")}"\nto = "notes.txt"\n'
    )
    return path


def test_a_data_set_is_fetched_once_and_opens(server: Server, card_file: Path, tmp_path: Path, shared_data: Path):
    import numpy as np
    from PIL import Image

    files = {}
    for i in range(4):
        for kind, array in (("images", np.full((9, 9), i, np.uint8)), ("labels", np.eye(9, dtype=np.uint8))):
            content = io.BytesIO()
            Image.fromarray(array).save(content, "PNG")
            files[f"{kind}/a{i}.png"] = content.getvalue()
    server.files = {"images.zip": zipped(files), "notes.txt": b"read me"}
    card = read_card(card_file)
    with pytest.raises(UsageError, match=r"mine is published under: CC0-1\.0 .*https://example\.org.*--accept-licence"):
        download(card, tmp_path, accept_licence=False)
    assert server.requests == []
    calls: list[str] = []
    folder = download(card, tmp_path, accept_licence=True, progress=lambda a, b, text: calls.append(text))
    assert folder == tmp_path / "mine"
    assert (folder / "notes.txt").read_bytes() == b"read me"
    assert {"fetching images.zip", "unpacking images.zip", "fetching notes.txt"} <= set(calls)
    assert len(open_dataset("mine", tmp_path)) == 4
    asked = len(server.requests)
    download(card, tmp_path, accept_licence=True)
    assert len(server.requests) == asked


def test_two_at_once_are_not_mixed(server: Server, card_file: Path, tmp_path: Path):
    server.files = {"images.zip": zipped({"a": b"1"}), "notes.txt": b"read me"}
    card, said = read_card(card_file), []

    def second(*call: object) -> None:
        if not said:
            with pytest.raises(UsageError, match="mine: another process is fetching it") as caught:
                download(card, tmp_path, accept_licence=True)
            said.append(caught.value)

    download(card, tmp_path, accept_licence=True, progress=second)
    assert said
    download(card, tmp_path, accept_licence=True)


@pytest.fixture
def fetched(server: Server, card_file: Path, tmp_path: Path) -> Path:
    """The folder of ``mine`` after a first download."""
    server.files = {"images.zip": zipped({"images/a.txt": b"old"}), "notes.txt": b"read me"}
    return download(read_card(card_file), tmp_path, accept_licence=True)


def test_the_first_download_is_trusted_and_the_next_must_be_the_same(
    server: Server, card_file: Path, fetched: Path, tmp_path: Path
):
    card = read_card(card_file)
    url = server.url("notes.txt")
    assert room.receipt(fetched)[url] == hashlib.sha256(b"read me").hexdigest()
    assert any("was trusted" in line for line in room.told(card, fetched))
    (fetched / "notes.txt").unlink()
    server.files["notes.txt"] = b"read it"
    with pytest.raises(DataError, match=r"notes\.txt: its sha256 is [0-9a-f]{64}, at the first download it was"):
        download(card, tmp_path, accept_licence=True)
    assert not (fetched / "notes.txt").exists()
    server.files["notes.txt"] = b"read me"
    download(card, tmp_path, accept_licence=True)
    (fetched / room.DOWNLOADS / room.RECEIPT).unlink()
    (fetched / "notes.txt").unlink()
    server.files["notes.txt"] = b"read it"
    download(card, tmp_path, accept_licence=True)
    assert (fetched / "notes.txt").read_bytes() == b"read it"


def archives(path: Path, server: Server, *parts: str) -> None:
    """Let the card of that file name ``<part>/images.zip`` for each part, unpacked into the folder of that name."""
    text = path.read_text().split("[[downloads]]")[0]
    for part in parts:
        text += f'\n[[downloads]]\nurl = "{server.url(f"{part}/images.zip")}"\nto = "{part}"\nunpack = true\n'
        server.files[f"{part}/images.zip"] = zipped({f"{part}.txt": part.encode()})
    path.write_text(text)


def test_two_archives_of_the_same_name(server: Server, card_file: Path, tmp_path: Path):
    archives(card_file, server, "train", "test")
    for _ in range(2):
        folder = download(read_card(card_file), tmp_path, accept_licence=True)
        for part in ("train", "test"):
            assert (folder / part / f"{part}.txt").read_text() == part
            digest = hashlib.sha256(server.files[f"{part}/images.zip"]).hexdigest()
            assert room.receipt(folder)[server.url(f"{part}/images.zip")] == digest
    assert len(server.requests) == 2
    archives(card_file, server, "extra")  # another card that shares the folder
    download(read_card(card_file), tmp_path, accept_licence=True)
    assert (folder / "extra" / "extra.txt").read_text() == "extra"


@pytest.mark.parametrize("kept", [True, False])
def test_what_an_earlier_version_fetched_is_not_fetched_again(
    server: Server, card_file: Path, tmp_path: Path, kept: bool
):
    archives(card_file, server, "train")
    folder = download(read_card(card_file), tmp_path, accept_licence=True)
    before = room.receipt(folder)
    own = next((folder / room.DOWNLOADS).glob("*/images.zip")).parent
    for file in own.iterdir():
        file.rename(folder / room.DOWNLOADS / file.name)
    own.rmdir()
    if not kept:  # only the mark that it was unpacked
        (folder / room.DOWNLOADS / "images.zip").unlink()
    archives(card_file, server, "train", "test")
    for _ in range(2):
        download(read_card(card_file), tmp_path, accept_licence=True)
        assert (folder / "test" / "test.txt").read_text() == "test"
    assert [path for path, _ in server.requests] == ["/train/images.zip", "/test/images.zip"]
    assert room.receipt(folder).items() > before.items()


def test_a_file_that_was_changed_here_is_not_taken_for_the_download(card_file: Path, fetched: Path, tmp_path: Path):
    (fetched / "notes.txt").write_text("something else")
    with pytest.raises(DataError, match=r"notes\.txt: it is not what was fetched from http://"):
        download(read_card(card_file), tmp_path, accept_licence=True)


def test_a_page_instead_of_an_archive_is_not_trusted(server: Server, card_file: Path, tmp_path: Path):
    server.files = {"images.zip": b"<html>busy</html>", "notes.txt": b"read me"}
    with pytest.raises(DataError, match="not a sound zip archive"):
        download(read_card(card_file), tmp_path, accept_licence=True)
    server.files["images.zip"] = zipped({"images/a.txt": b"old"})
    assert (download(read_card(card_file), tmp_path, accept_licence=True) / "images" / "a.txt").read_bytes() == b"old"


def test_a_checksum_of_the_owners_is_what_counts(server: Server, card_file: Path, fetched: Path, tmp_path: Path):
    digest = hashlib.sha256(b"read it").hexdigest()
    card_file.write_text(card_file.read_text() + f'sha256 = "{digest}"\n')
    with pytest.raises(DataError, match=r"notes\.txt: it is not what was fetched"):
        download(read_card(card_file), tmp_path, accept_licence=True)
    (fetched / "notes.txt").unlink()
    server.files["notes.txt"] = b"read it"
    download(read_card(card_file), tmp_path, accept_licence=True)
    assert room.receipt(fetched)[server.url("notes.txt")] == digest


def test_no_card_fetches_without_encryption():
    addresses = [item.url for name in card_names() for item in load_card(name).downloads]
    assert addresses
    assert all(url.startswith("https://") for url in addresses)


def test_what_may_not_be_fetched(tmp_path: Path):
    for name, word in (("dic_hela", "Cell Tracking Challenge"), ("sartorius", "kaggle"), ("neural", "private")):
        with pytest.raises(UsageError, match=f"{name} cannot be fetched by this program .*({word})"):
            download(load_card(name), tmp_path, accept_licence=True)
    assert list(tmp_path.iterdir()) == []


def test_every_card_can_be_fetched_or_says_what_to_do():
    for name in card_names():
        card = load_card(name)
        assert card.downloads or card.obtain
