"""Fetch photos by URL: several at once, with time-outs and retries, and never more than asked for.

A photo gets its final name only when it is complete and is an image, and its sha256 then goes into
`manifest.jsonl`: a run that was killed goes on where it stopped. What cannot be fetched is returned with the reason.
"""

from __future__ import annotations

import errno
import hashlib
import json
import queue
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import requests

from facedet.data.raw import inside
from facedet.errors import ConfigError

MANIFEST = "manifest.jsonl"
RETRY_STATUS = frozenset({408, 429, 500, 502, 503, 504})
CHUNK = 64 * 1024
_THIS_NAME_ONLY = frozenset({errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR, errno.EEXIST})
"""Errors on storing one photo that say nothing about the next; others (a full disk) end the download."""


@dataclass(frozen=True)
class DownloadRules:
    """Limits of a download. Times in seconds; backoff_s doubles with every attempt, deadline_s is per attempt."""

    workers: int = 8
    attempts: int = 4
    backoff_s: float = 0.5
    max_wait_s: float = 30.0
    connect_timeout_s: float = 5.0
    read_timeout_s: float = 20.0
    deadline_s: float = 120.0
    max_bytes: int = 30_000_000
    host_failures: int = 10

    def __post_init__(self) -> None:
        values = {"workers": self.workers, "attempts": self.attempts, "max_bytes": self.max_bytes}
        faults = [f"{name} {value}: expected at least 1" for name, value in values.items() if value < 1]
        if faults:
            raise ConfigError(faults)


@dataclass(frozen=True)
class Download:
    """What became of one URL: `path` and `sha256` of the photo, or `error` with the reason."""

    name: str
    url: str
    path: Path | None = None
    sha256: str = ""
    error: str = ""


class _Refused(Exception):
    """This URL is hopeless; trying again would not help."""


class _TryAgain(Exception):
    """This attempt failed; `wait_s` is what the server asked for."""

    def __init__(self, reason: str, wait_s: float = 0.0) -> None:
        super().__init__(reason)
        self.wait_s = wait_s


def download_all(
    urls: Mapping[str, str],
    folder: str | Path,
    *,
    rules: DownloadRules | None = None,
    on_done: Callable[[Download], None] | None = None,
) -> list[Download]:
    """Fetch {file name: URL} into `folder`; the results are in the same order. Photos already there are kept.

    A name must stay inside `folder` (DataError). on_done: called from worker threads, once per photo. An interrupt
    ends it at once: the threads do not keep the process, and stop after what they are at.
    """
    fetcher = _Fetcher(Path(folder), rules or DownloadRules())
    for name in urls:
        inside(fetcher.folder, name)

    def one(item: tuple[str, str]) -> Download:
        result = fetcher.fetch(*item)
        if on_done:
            on_done(result)
        return result

    todo: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()
    done: queue.SimpleQueue[Download | BaseException] = queue.SimpleQueue()
    for item in urls.items():
        todo.put(item)

    def work() -> None:
        try:
            while not fetcher.stopped.is_set():
                done.put(one(todo.get_nowait()))
        except queue.Empty:
            return
        except BaseException as e:
            done.put(e)

    for _ in range(min(fetcher.rules.workers, len(urls))):
        threading.Thread(target=work, daemon=True).start()
    found: dict[str, Download] = {}
    try:
        while len(found) < len(urls):
            result = done.get()
            if isinstance(result, BaseException):
                raise result
            found[result.name] = result
    finally:
        fetcher.stopped.set()
    return [found[name] for name in urls]


def image_kind(head: bytes) -> str:
    """ "jpeg", "png", "webp", "bmp" or "tiff" by a file's first 12 bytes, "" for anything else."""
    if head[:4] == b"RIFF" and head[8:12] == b"WEBP":
        return "webp"
    starts = {b"\xff\xd8\xff": "jpeg", b"\x89PNG\r\n\x1a\n": "png", b"BM": "bmp", b"II*\0": "tiff", b"MM\0*": "tiff"}
    return next((kind for start, kind in starts.items() if head.startswith(start)), "")


def sha256_of(path: Path) -> str:
    """Hexadecimal sha256 of a file."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


class _Fetcher:
    """Sessions, manifest and what is known of each host, shared by the workers."""

    def __init__(self, folder: Path, rules: DownloadRules) -> None:
        self.folder, self.rules = folder, rules
        folder.mkdir(parents=True, exist_ok=True)
        self.stopped = threading.Event()
        self._lock = threading.Lock()
        self._local = threading.local()
        self._silent: Counter[str] = Counter()
        self._known = _read_manifest(folder / MANIFEST)

    def fetch(self, name: str, url: str) -> Download:
        path = inside(self.folder, name)
        if name.lower() == MANIFEST:
            return Download(name, url, error="a photo cannot have the name of the list of photos")
        known = self._known.get(name)
        if known and known["url"] == url and path.is_file() and sha256_of(path) == known["sha256"]:
            return Download(name, url, path, known["sha256"])
        try:
            digest = self._fetch_with_retries(url, path)
        except _Refused as e:
            return Download(name, url, error=str(e))
        self._note({"name": name, "url": url, "sha256": digest, "bytes": path.stat().st_size})
        return Download(name, url, path, digest)

    def _fetch_with_retries(self, url: str, path: Path) -> str:
        host = _checked_host(url)
        reason = ""
        for attempt in range(self.rules.attempts):
            if self._silent[host] >= self.rules.host_failures:
                raise _Refused(f"{host} does not answer (gave up on it after {self.rules.host_failures} photos)")
            try:
                digest = self._attempt(url, path)
                self._silent[host] = 0
                return digest
            except _TryAgain as e:
                reason = str(e)
                wait = max(self.rules.backoff_s * 2**attempt, e.wait_s)
                if attempt + 1 < self.rules.attempts and self.stopped.wait(min(wait, self.rules.max_wait_s)):
                    break
        with self._lock:
            self._silent[host] += 1
        raise _Refused(f"{reason} ({self.rules.attempts} attempts)")

    def _attempt(self, url: str, path: Path) -> str:
        limit, end = self.rules.deadline_s, time.monotonic() + self.rules.deadline_s
        timeout = (min(self.rules.connect_timeout_s, limit), min(self.rules.read_timeout_s, limit))
        try:
            with self._session().get(url, timeout=timeout, stream=True) as response, _cut_off(response, end):
                _check_response(response, self.rules.max_bytes)
                return self._store(response, path, end)
        except (requests.exceptions.InvalidSchema, requests.exceptions.InvalidURL, requests.TooManyRedirects) as e:
            raise _Refused(f"{type(e).__name__}: {e}") from e
        except requests.RequestException as e:
            late = time.monotonic() > end
            raise _TryAgain(f"not complete after {limit:g} s" if late else f"{type(e).__name__}: {_short(e)}") from e
        except OSError as e:  # after RequestException, which is one too
            if e.errno not in _THIS_NAME_ONLY:
                raise
            raise _Refused(f"cannot be stored: {e.strerror or e}") from e

    def _store(self, response: requests.Response, path: Path, end: float) -> str:
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{threading.get_ident()}.part")
        digest, size, head = hashlib.sha256(), 0, b""
        try:
            with part.open("wb") as file:
                for block in response.iter_content(CHUNK):
                    size += len(block)
                    head = head or block[:12]
                    if size > self.rules.max_bytes:
                        raise _Refused(f"larger than {self.rules.max_bytes} bytes")
                    if not image_kind(head):
                        raise _Refused("expected a JPEG, PNG, WebP, BMP or TIFF image, got something else")
                    digest.update(block)
                    file.write(block)
                    if time.monotonic() > end:
                        break
            if time.monotonic() > end:
                raise _TryAgain(f"not complete after {self.rules.deadline_s:g} s")
            if not size:
                raise _TryAgain("empty answer")
            part.replace(path)
        finally:
            part.unlink(missing_ok=True)
        return digest.hexdigest()

    def _session(self) -> requests.Session:
        if not hasattr(self._local, "session"):
            self._local.session = requests.Session()
            self._local.session.max_redirects = 5
            self._local.session.headers["User-Agent"] = "crowdmood (facedet prepare)"
        session: requests.Session = self._local.session
        return session

    def _note(self, entry: dict[str, Any]) -> None:
        with self._lock, (self.folder / MANIFEST).open("a", encoding="utf-8") as file:
            file.write(json.dumps(entry) + "\n")


@contextmanager
def _cut_off(response: requests.Response, end: float) -> Iterator[None]:
    """End what is read of `response` at the time `end`: a server may send a byte now and then for ever."""

    def cut() -> None:
        with suppress(AttributeError, OSError, RuntimeError, ValueError):  # urllib3 before 2.3; or read by now
            response.raw.shutdown()

    timer = threading.Timer(max(0.0, end - time.monotonic()), cut)
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


def _checked_host(url: str) -> str:
    try:
        parts = urlsplit(url)
        host = parts.hostname or ""
    except ValueError as e:
        raise _Refused(f"not a URL: {e}") from e
    if parts.scheme not in ("http", "https") or not host:
        raise _Refused(f"expected an http or https URL, got scheme {parts.scheme!r}")
    return host


def _check_response(response: requests.Response, max_bytes: int) -> None:
    if response.status_code in RETRY_STATUS:
        asked = response.headers.get("Retry-After", "")
        raise _TryAgain(f"HTTP {response.status_code}", float(asked) if asked.isdigit() else 0.0)
    if response.status_code != 200:
        raise _Refused(f"HTTP {response.status_code}")
    kind = response.headers.get("Content-Type", "").split(";")[0].strip().lower()
    if kind and not kind.startswith("image/") and kind not in ("application/octet-stream", "binary/octet-stream"):
        raise _Refused(f"expected an image, the server sends {kind}")
    length = response.headers.get("Content-Length", "")
    if length.isdigit() and int(length) > max_bytes:
        raise _Refused(f"larger than {max_bytes} bytes: {length}")


def _short(error: Exception) -> str:
    text = str(error)
    return text if len(text) <= 160 else text[:157] + "..."


def _read_manifest(path: Path) -> dict[str, dict[str, Any]]:
    """What earlier runs noted; a last line cut off by a kill is left out."""
    known = {}
    if path.is_file():
        for line in path.read_text(encoding="utf-8").splitlines():
            try:
                entry = json.loads(line)
                known[str(entry["name"])] = {"url": str(entry["url"]), "sha256": str(entry["sha256"])}
            except (ValueError, KeyError, TypeError):
                continue
    return known
