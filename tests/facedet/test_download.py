"""The downloader against a server on this machine: retries, limits, dead links, resuming, hostile names."""

from __future__ import annotations

import json
import re
import signal
import socket
import threading
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import cv2
import numpy as np
import pytest

from facedet.data.download import MANIFEST, DownloadRules, download_all, image_kind, sha256_of
from facedet.errors import ConfigError, DataError

JPEG = cv2.imencode(".jpg", np.full((8, 8, 3), 90, np.uint8))[1].tobytes()
QUICK = DownloadRules(workers=4, attempts=3, backoff_s=0.01, connect_timeout_s=2, read_timeout_s=2, max_bytes=5000)


@dataclass
class Server:
    base: str
    asked: Counter[str] = field(default_factory=Counter)


@pytest.fixture
def server() -> Iterator[Server]:
    seen = Server("")

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            seen.asked[self.path] += 1
            status, kind, body, headers = answer(self.path, seen.asked[self.path])
            self.send_response(status)
            self.send_header("Content-Type", kind)
            for name, value in headers.items():
                self.send_header(name, value)
            if "Content-Length" not in headers:
                self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            slow = self.path.startswith("/slow.jpg")
            for byte in body if slow else b"":
                self.wfile.write(bytes([byte]))
                time.sleep(0.1)
            self.wfile.write(b"" if slow else body)

        def log_message(self, format: str, *args: object) -> None:
            pass

    http = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    seen.base = f"http://127.0.0.1:{http.server_address[1]}"
    thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield seen
    http.shutdown()
    thread.join()
    http.server_close()


def answer(path: str, times: int) -> tuple[int, str, bytes, dict[str, str]]:
    special: dict[str, tuple[int, str, bytes, dict[str, str]]] = {
        "/gone.jpg": (404, "text/html", b"gone", {}),
        "/page.jpg": (200, "text/html", b"<html>parked domain</html>", {}),
        "/fake.jpg": (200, "image/jpeg", b"<html>not an image</html>", {}),
        "/big.jpg": (200, "image/jpeg", JPEG + bytes(9000), {}),
        "/big-unsaid.jpg": (200, "image/jpeg", JPEG + bytes(9000), {"Content-Length": "", "Connection": "close"}),
        "/cut.jpg": (200, "image/jpeg", JPEG[:100], {"Content-Length": str(len(JPEG)), "Connection": "close"}),
        "/slow.jpg?unsaid": (200, "image/jpeg", JPEG, {"Content-Length": "", "Connection": "close"}),
        "/empty.jpg": (200, "image/jpeg", b"", {}),
        "/down.jpg": (503, "text/plain", b"", {}),
        "/to-file.jpg": (302, "text/plain", b"", {"Location": "file:///etc/passwd"}),
        "/loop.jpg": (302, "text/plain", b"", {"Location": "/loop.jpg"}),
        "/moved.jpg": (302, "text/plain", b"", {"Location": "/ok.jpg"}),
    }
    if path == "/flaky.jpg" and times < 3:
        return 500, "text/plain", b"", {}
    return special.get(path, (200, "image/jpeg", JPEG, {}))


def test_nothing_to_do(tmp_path: Path) -> None:
    assert download_all({}, tmp_path) == []


def test_photos_arrive_with_a_manifest(tmp_path: Path, server: Server) -> None:
    urls = {f"{i}.jpg": f"{server.base}/{i}.jpg" for i in range(12)}
    done: list[str] = []
    results = download_all(urls, tmp_path, rules=QUICK, on_done=lambda d: done.append(d.name))
    assert [r.name for r in results] == list(urls)
    assert sorted(done) == sorted(urls)
    assert all(r.path is not None and r.path.read_bytes() == JPEG for r in results)
    entries = [json.loads(line) for line in (tmp_path / MANIFEST).read_text().splitlines()]
    assert {e["name"] for e in entries} == set(urls)
    assert all(e["sha256"] == sha256_of(tmp_path / e["name"]) and e["bytes"] == len(JPEG) for e in entries)


@pytest.mark.parametrize(
    ("path", "reason", "times"),
    [
        ("/gone.jpg", "HTTP 404", 1),
        ("/page.jpg", "the server sends text/html", 1),
        ("/fake.jpg", "expected a JPEG, PNG, WebP, BMP or TIFF image", 1),
        ("/big.jpg", "larger than 5000 bytes", 1),
        ("/big-unsaid.jpg", "larger than 5000 bytes", 1),
        ("/cut.jpg", "3 attempts", 3),
        ("/empty.jpg", r"empty answer \(3 attempts\)", 3),
        ("/down.jpg", r"HTTP 503 \(3 attempts\)", 3),
        ("/to-file.jpg", "InvalidSchema", 1),
        ("/loop.jpg", "TooManyRedirects", 6),
    ],
)
def test_dead_links_are_reported(tmp_path: Path, server: Server, path: str, reason: str, times: int) -> None:
    (result,) = download_all({"a.jpg": server.base + path}, tmp_path, rules=QUICK)
    assert result.path is None
    assert re.search(reason, result.error), result.error
    assert server.asked[path] == times
    assert list(tmp_path.iterdir()) == []


def test_a_photo_that_cannot_be_stored_is_a_dead_link(tmp_path: Path, server: Server) -> None:
    (tmp_path / "file").touch()
    urls = {
        "file/a.jpg": f"{server.base}/1.jpg",
        "é" * 127 + ".jpg": f"{server.base}/2.jpg",
        "c.jpg": server.base + "/3",
    }
    results = download_all(urls, tmp_path, rules=QUICK)
    assert [r.error[:17] for r in results] == ["cannot be stored:", "cannot be stored:", ""]


def test_no_photo_takes_the_place_of_the_manifest(tmp_path: Path, server: Server) -> None:
    urls = {name: f"{server.base}/{name}" for name in ("a.jpg", MANIFEST, MANIFEST.upper())}
    results = download_all(urls, tmp_path, rules=QUICK)
    assert [r.error[:42] for r in results] == ["", *["a photo cannot have the name of the list o"] * 2]
    assert json.loads((tmp_path / MANIFEST).read_text())["name"] == "a.jpg"


def test_a_flaky_server_is_asked_again(tmp_path: Path, server: Server) -> None:
    urls = {"a.jpg": server.base + "/flaky.jpg", "b.jpg": server.base + "/moved.jpg"}
    assert [r.error for r in download_all(urls, tmp_path, rules=QUICK)] == ["", ""]
    assert server.asked["/flaky.jpg"] == 3


def test_a_second_run_fetches_only_what_is_missing_or_changed(tmp_path: Path, server: Server) -> None:
    urls = {name: f"{server.base}/{name}" for name in ("a.jpg", "b.jpg", "c.jpg")}
    download_all(urls, tmp_path, rules=QUICK)
    (tmp_path / "b.jpg").unlink()
    (tmp_path / "c.jpg").write_bytes(JPEG[:50])
    with (tmp_path / MANIFEST).open("a") as file:
        file.write('{"name": "d.jp')  # a kill in the middle of a line
    again = download_all(urls, tmp_path, rules=QUICK)
    assert all(r.path is not None and r.path.read_bytes() == JPEG for r in again)
    assert server.asked == {"/a.jpg": 1, "/b.jpg": 2, "/c.jpg": 2}


@pytest.mark.parametrize(
    "url", ["file:///etc/passwd", "ftp://example.com/a.jpg", "a.jpg", "http:///a.jpg", "http://[::1"]
)
def test_only_http_and_https(tmp_path: Path, url: str) -> None:
    (result,) = download_all({"a.jpg": url}, tmp_path, rules=QUICK)
    assert "expected an http or https URL" in result.error or "not a URL" in result.error


@pytest.mark.parametrize("name", ["../a.jpg", "/tmp/a.jpg", "x/../../a.jpg"])
def test_no_name_leaves_the_folder(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="must not lead out of"):
        download_all({name: "http://127.0.0.1:9/a.jpg"}, tmp_path / "photos", rules=QUICK)


def test_a_silent_host_is_given_up(tmp_path: Path) -> None:
    rules = DownloadRules(workers=1, attempts=2, backoff_s=0.0, connect_timeout_s=0.5, host_failures=2)
    results = download_all({f"{i}.jpg": "http://127.0.0.1:9/a.jpg" for i in range(5)}, tmp_path, rules=rules)
    assert ["does not answer" in r.error for r in results] == [False, False, True, True, True]


@pytest.mark.parametrize("path", ["/slow.jpg", "/slow.jpg?unsaid"])
def test_a_server_that_sends_a_byte_now_and_then_is_cut_off(tmp_path: Path, server: Server, path: str) -> None:
    rules = replace(QUICK, attempts=1, deadline_s=0.5)
    started = time.monotonic()
    (result,) = download_all({"a.jpg": server.base + path}, tmp_path, rules=rules)
    assert time.monotonic() - started < 5
    assert result.error == "not complete after 0.5 s (1 attempts)"
    assert list(tmp_path.iterdir()) == []


def test_an_interrupt_does_not_wait_for_a_silent_host(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/a.jpg"
        main = threading.main_thread().ident
        assert main is not None
        before = signal.signal(signal.SIGINT, signal.default_int_handler)  # in the background shells ignore it
        threading.Timer(0.3, signal.pthread_kill, (main, signal.SIGINT)).start()
        started = time.monotonic()
        try:
            with pytest.raises(KeyboardInterrupt):
                download_all({"a.jpg": url, "b.jpg": url}, tmp_path, rules=replace(QUICK, read_timeout_s=8))
        finally:
            signal.signal(signal.SIGINT, before)
    assert time.monotonic() - started < 5


def test_rules_that_cannot_work_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"workers 0: expected at least 1; attempts -1: expected at least 1"):
        DownloadRules(workers=0, attempts=-1)


@pytest.mark.parametrize(
    ("head", "kind"),
    [
        (b"", ""),
        (b"<html>", ""),
        (JPEG[:12], "jpeg"),
        (b"\x89PNG\r\n\x1a\n", "png"),
        (b"RIFF\0\0\0\0WEBP", "webp"),
        (b"RIFF\0\0\0\0WAVE", ""),
        (b"GIF89a", ""),
    ],
)
def test_image_kind(head: bytes, kind: str) -> None:
    assert image_kind(head) == kind
