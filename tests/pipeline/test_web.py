"""Photos by URL against a server on this machine, and the limits that keep strangers' servers in check."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.errors import PhotoError
from pipeline.sinks import read_results
from pipeline.sources import find_photos
from pipeline.web import WebLimits, fetch, is_url, name_of_url
from tests.pipeline.factories import corner_image, encoded, save_photo, tiny_classifier

PHOTO = encoded(corner_image(), "JPEG")
LOCAL = WebLimits(allow_private=True, total_s=5, wait_s=0.4)


class Server(BaseHTTPRequestHandler):
    """One path per way of behaving."""

    def do_GET(self) -> None:
        name = self.path.strip("/").split("/")[0].split("?")[0]
        getattr(self, f"send_{name.removesuffix('.jpg')}", self.send_missing)()

    def reply(self, status: int, body: bytes = b"", **headers: str) -> None:
        self.send_response(status)
        given = {key.replace("_", "-"): value for key, value in headers.items()}
        for key, value in {"Content-Length": str(len(body)), **given}.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(body)

    def send_photo(self) -> None:
        self.reply(200, PHOTO)

    def send_text(self) -> None:
        self.reply(200, b"<html>no photo</html>")

    def send_missing(self) -> None:
        self.reply(404)

    def send_spaced(self) -> None:
        expected = ("/spaced/%C3%A9t%C3%A9%201.jpg?q=a%20b&c=%2F", f"127.0.0.1:{self.server.server_address[1]}")
        self.reply(200 if (self.path, self.headers["Host"]) == expected else 400, PHOTO)

    def send_moved(self) -> None:
        self.reply(302, Location="/photo.jpg")

    def send_umlaut(self) -> None:
        self.reply(302, Location="/spaced/été 1.jpg?q=a b&c=%2F".encode().decode("latin-1"))

    def send_loop(self) -> None:
        self.reply(302, Location="/loop")

    def send_file(self) -> None:
        self.reply(302, Location="file:///etc/passwd")

    def send_short(self) -> None:
        self.reply(200, PHOTO[:100], Content_Length=str(len(PHOTO)))
        self.close_connection = True

    def send_declared(self) -> None:
        self.reply(200, Content_Length=str(10**9))

    def send_endless(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(100):
            self.wfile.write(b"x" * 65536)

    def send_stall(self) -> None:
        self.reply(200, PHOTO[:100], Content_Length=str(len(PHOTO)))
        time.sleep(1)

    def send_drip(self) -> None:
        self.send_response(200)
        self.end_headers()
        for _ in range(40):
            self.wfile.write(b"x")
            self.wfile.flush()
            time.sleep(0.1)

    def log_message(self, *_: object) -> None:
        """Quiet."""


class QuietServer(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Clients that hang up are the point of these tests."""


@pytest.fixture(scope="module")
def url() -> Iterator[str]:
    server = QuietServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever, args=(0.05,))
    thread.start()
    yield f"http://127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.mark.parametrize("path", ["photo.jpg", "moved", "umlaut", "spaced/été 1.jpg?q=a b&c=%2F"])
def test_a_photo_and_a_redirect_to_one(path: str, url: str) -> None:
    assert fetch(f"{url}/{path}", limits=LOCAL) == PHOTO


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("missing", "the server answers 404 Not Found"),
        ("loop", "more than 5 redirects"),
        ("file", "expected an http or https URL, got 'file:///etc/passwd'"),
        ("short", f"the connection broke after 100 of {len(PHOTO)} bytes"),
        ("stall", "timed out"),
    ],
)
def test_servers_that_misbehave(path: str, reason: str, url: str) -> None:
    with pytest.raises(PhotoError, match=reason):
        fetch(f"{url}/{path}", limits=LOCAL)


@pytest.mark.parametrize("path", ["declared", "endless"])
def test_the_size_limit(path: str, url: str) -> None:
    with pytest.raises(PhotoError, match=r"over the limit of 1"):
        fetch(f"{url}/{path}", limits=WebLimits(allow_private=True, max_bytes=1_000_000))


def test_a_server_that_drips_is_cut_off(url: str) -> None:
    started = time.monotonic()
    with pytest.raises(PhotoError, match="timed out"):
        fetch(f"{url}/drip", limits=WebLimits(allow_private=True, total_s=0.5))
    assert time.monotonic() - started < 3


@pytest.mark.parametrize(
    "host",
    ["127.0.0.1", "localhost", "[::1]", "10.1.2.3", "192.168.0.1", "172.16.5.5", "169.254.169.254", "0.0.0.0",
     "[::ffff:127.0.0.1]", "[fe80::1]", "[fc00::1]", "[64:ff9b::7f00:1]", "[2002:7f00:1::]", "2130706433", "224.0.0.1"],
)  # fmt: skip
def test_private_addresses_are_refused(host: str) -> None:
    with pytest.raises(PhotoError, match="a private address; --allow-private"):
        fetch(f"http://{host}:1/x.jpg")


def test_a_redirect_to_a_private_address_is_refused(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    port = int(url.rsplit(":", 1)[1])

    def resolve(host: str, *_: object, **__: object) -> list[tuple[object, ...]]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (host, port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr("pipeline.web._is_public", lambda address: address != "127.0.0.2")
    monkeypatch.setattr(Server, "send_moved", lambda self: self.reply(302, Location=f"http://127.0.0.2:{port}/photo"))
    with pytest.raises(PhotoError, match=r"127\.0\.0\.2 is at 127\.0\.0\.2, a private address"):
        fetch(f"{url}/moved")


def test_a_name_that_has_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    answers = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (ip, 80)) for ip in ("93.184.216.34", "10.0.0.1")]
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: answers)
    with pytest.raises(PhotoError, match=r"example\.org is at 10\.0\.0\.1"):
        fetch("http://example.org/x.jpg")


def test_every_address_of_a_host_is_tried(url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    real, asked = socket.create_connection, []

    def resolve(host: str, port: int, *_: object, **__: object) -> list[tuple[object, ...]]:
        addresses = {"photos.test": ("127.0.0.8", "127.0.0.9", "127.0.0.1")}.get(host, (host,))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (address, port)) for address in addresses]

    def connect(place: tuple[str, int], timeout: float) -> socket.socket:
        asked.append(place[0])
        if place[0] != "127.0.0.1":
            raise ConnectionRefusedError("refused")
        return real(place, timeout)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    monkeypatch.setattr(socket, "create_connection", connect)
    assert fetch(url.replace("127.0.0.1", "photos.test") + "/photo.jpg", limits=LOCAL) == PHOTO
    assert asked == ["127.0.0.8", "127.0.0.9", "127.0.0.1"]


def test_a_closed_port_and_an_unknown_scheme() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with pytest.raises(PhotoError, match="refused"):
        fetch(f"http://127.0.0.1:{port}/", limits=LOCAL)
    with pytest.raises(PhotoError, match="expected an http or https URL"):
        fetch("ftp://example.org/x.jpg")
    assert is_url("HTTPS://x/y")
    assert not is_url("photos/http.jpg")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("https://example.org/a/b.jpg", "example.org/a/b.jpg"),
        ("https://example.org/../../etc/x.jpg", "example.org/etc/x.jpg"),
        ("https://example.org/x.jpg?id=1&w=2", "example.org/x.jpg_id_1_w_2"),
        ("https://example.org:8080/", "example.org"),
        ("http://h/%2e%2e/.hidden", "h/_2e_2e/hidden"),
        ("http://[bad/x.jpg", "_bad/x.jpg"),
        (f"http://h/{'東' * 100}.jpg", f"h/{'東' * 38}.jpg"),
    ],
)
def test_names_of_urls(url: str, name: str) -> None:
    assert name_of_url(url) == name


def test_what_only_looks_like_a_url_is_that_photos_error() -> None:
    with pytest.raises(PhotoError, match="cannot be fetched: Invalid IPv6 URL"):
        fetch("http://[bad/x.jpg")
    with pytest.raises(PhotoError, match="cannot be fetched: Port"):
        fetch("http://127.0.0.1:x/")


def test_urls_lists_and_files_together(tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "a.jpg")
    listed = [str(photo), "http://h/x.jpg?1", "http://h/x.jpg_1", str(tmp_path / "missing.jpg")]
    names = [source.name for source in find_photos(["http://h/y.jpg", photo], listed=listed)]
    assert names == ["h/y.jpg", "a.jpg", "h/x.jpg_1", "h/x-2.jpg_1", "missing.jpg"]


def test_the_command_reads_urls_a_list_file_and_stdin(url: str, tmp_path: Path) -> None:
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    photo = save_photo(tmp_path / "ä.jpg")
    (tmp_path / "list.txt").write_text(f"{photo}\n\n{tmp_path}/missing.jpg\n", encoding="utf-8")
    options = ["--list", str(tmp_path / "list.txt"), "--allow-private", "--emotion", str(weights), "--detector", "haar"]
    words = ["annotate", "-", f"{url}/photo.jpg", *options, "-o", str(tmp_path / "out")]
    result = CliRunner().invoke(app, words, input=f"{url}/text.jpg\0{tmp_path}/also missing.jpg")
    assert result.exit_code == 1, result.output
    readings = list(read_results(tmp_path / "out/results.jsonl"))
    assert [(reading.source, str(reading.error)[:24]) for reading in readings] == [
        ("127.0.0.1/photo.jpg", "None"),
        ("ä.jpg", "None"),
        ("missing.jpg", "cannot be opened: No suc"),
        ("127.0.0.1/text.jpg", "not a JPEG, PNG, WebP, G"),
        ("also missing.jpg", "cannot be opened: No suc"),
    ]
    assert (tmp_path / "out/annotated/127.0.0.1/photo.jpg").exists()


def test_no_source_at_all() -> None:
    result = CliRunner().invoke(app, ["annotate"])
    assert result.exit_code == 2
    assert "error: expected photos, folders, globs or URLs" in result.stderr
