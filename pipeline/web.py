"""Photos by URL, with limits: http and https only, no private addresses, bounded size, redirects and time.

The standard library's client and not `requests`: the address that is checked must be the one that is connected to, or a
name server could show a public address to the check and a private one to the connection.
"""

from __future__ import annotations

import http.client
import ipaddress
import re
import socket
import ssl
import threading
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from urllib.parse import SplitResult, quote, urljoin, urlsplit

from pipeline.errors import PhotoError

_CHUNK = 64 * 1024
_REDIRECTS = frozenset({301, 302, 303, 307, 308})
_NAT64 = ipaddress.IPv6Network("64:ff9b::/96")
_PATH = "/%!$&'()*+,;=:@~"
"""What may stand in a URL's path as it is (RFC 3986); a percent sign is taken for the start of an escape."""
_QUERY = _PATH + "?"
_UNSAFE = re.compile(r"[^\w.\-/]+")


@dataclass(frozen=True)
class WebLimits:
    """Limits on one photo: bytes, redirects, seconds in all and per wait, and whether private hosts may be asked."""

    max_bytes: int = 50_000_000
    max_redirects: int = 5
    total_s: float = 60.0
    wait_s: float = 15.0
    allow_private: bool = False


DEFAULT_LIMITS = WebLimits()


def is_url(text: str) -> bool:
    """Whether a source is to be fetched: it begins with http:// or https://."""
    return text.lower().startswith(("http://", "https://"))


def name_of_url(url: str) -> str:
    """A relative path for a photo's results: host and path, without anything a file system could stumble over."""
    try:
        parts = urlsplit(url)
        tail = f"?{parts.query}" if parts.query else ""
        whole = f"{parts.hostname or 'host'}{parts.path}{tail}"
    except ValueError:  # no URL after all; fetching it will say so
        whole = url.partition("://")[2]
    text = _UNSAFE.sub("_", whole)
    kept = [part.encode()[-120:].decode(errors="ignore").lstrip(".") for part in text.split("/")]
    return "/".join(part for part in kept if part)


def fetch(url: str, *, limits: WebLimits = DEFAULT_LIMITS) -> bytes:
    """The bytes behind a URL. Raises PhotoError that says which limit was met or what the server answered."""
    deadline = time.monotonic() + limits.total_s
    for _ in range(limits.max_redirects + 1):
        try:
            answer = _get(url, limits, deadline)
        except (OSError, http.client.HTTPException, ValueError) as error:
            late = isinstance(error, TimeoutError) or time.monotonic() >= deadline
            reason = "timed out" if late else str(error) or type(error).__name__
            raise PhotoError(f"cannot be fetched: {reason}") from error
        if isinstance(answer, bytes):
            return answer
        url = answer
    raise PhotoError(f"cannot be fetched: more than {limits.max_redirects} redirects")


def _get(url: str, limits: WebLimits, deadline: float) -> bytes | str:
    """The body, or the URL that the server sends us to."""
    parts = urlsplit(url)
    connection = _connect(parts, limits, deadline)
    link = connection.sock  # cut off at the deadline, whatever the server is doing: it may send a byte now and then
    timer = threading.Timer(max(0, deadline - time.monotonic()), partial(_cut, link))
    timer.start()
    try:
        target = quote(parts.path or "/", safe=_PATH) + (f"?{quote(parts.query, safe=_QUERY)}" if parts.query else "")
        headers = {"User-Agent": "crowdmood", "Accept": "image/*", "Accept-Encoding": "identity"}
        connection.request("GET", target, headers=headers)
        response = connection.getresponse()
        place = response.getheader("Location")
        if response.status in _REDIRECTS and place:
            return urljoin(url, place.encode("latin-1").decode("utf-8", "replace"))  # headers are read as Latin-1
        if response.status != 200:
            raise PhotoError(f"cannot be fetched: the server answers {response.status} {response.reason}")
        return _body(response, limits, deadline)
    finally:
        timer.cancel()
        connection.close()


def _cut(link: socket.socket) -> None:
    with suppress(OSError):  # it is closed already
        link.shutdown(socket.SHUT_RDWR)


def _connect(parts: SplitResult, limits: WebLimits, deadline: float) -> http.client.HTTPConnection:
    """A connection whose other end has been checked."""
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise PhotoError(f"cannot be fetched: expected an http or https URL, got {parts.geturl()!r:.100}")
    port = parts.port or (443 if parts.scheme == "https" else 80)
    addresses = _checked_addresses(parts.hostname, port, allow_private=limits.allow_private)
    link = _answering(addresses, port, limits, deadline)
    wait_s = link.gettimeout()
    try:
        connection: http.client.HTTPConnection
        if parts.scheme == "https":
            context = ssl.create_default_context()
            link = context.wrap_socket(link, server_hostname=parts.hostname)
            connection = http.client.HTTPSConnection(parts.hostname, port, timeout=wait_s, context=context)
        else:
            connection = http.client.HTTPConnection(parts.hostname, port, timeout=wait_s)
    except BaseException:
        link.close()
        raise
    connection.sock = link
    return connection


def _answering(addresses: Sequence[str], port: int, limits: WebLimits, deadline: float) -> socket.socket:
    """A connection to the first of the addresses that answers. Raises OSError, that of the last one, when none does."""
    for address in addresses[:-1]:
        with suppress(OSError):
            return _call(address, port, limits, deadline)
    return _call(addresses[-1], port, limits, deadline)


def _call(address: str, port: int, limits: WebLimits, deadline: float) -> socket.socket:
    wait_s = min(limits.wait_s, deadline - time.monotonic())
    if wait_s <= 0:
        raise TimeoutError
    return socket.create_connection((address, port), timeout=wait_s)


def _checked_addresses(host: str, port: int, *, allow_private: bool) -> list[str]:
    """The addresses of a host. Raises PhotoError when any of them is not a public one."""
    addresses = [str(info[4][0]) for info in socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)]
    if not allow_private:
        for address in addresses:
            if not _is_public(address):
                raise PhotoError(f"{host} is at {address}, a private address; --allow-private lets it be asked")
    return addresses


def _is_public(address: str) -> bool:
    ip = ipaddress.ip_address(address.partition("%")[0])
    if isinstance(ip, ipaddress.IPv6Address):
        through_nat64 = ipaddress.IPv4Address(int(ip) & 0xFFFFFFFF) if ip in _NAT64 else None
        ip = ip.ipv4_mapped or ip.sixtofour or through_nat64 or ip
    return ip.is_global and not ip.is_multicast


def _body(response: http.client.HTTPResponse, limits: WebLimits, deadline: float) -> bytes:
    declared = response.getheader("Content-Length") or ""
    if declared.isdigit() and int(declared) > limits.max_bytes:
        raise PhotoError(
            f"cannot be fetched: {int(declared) / 1e6:.1f} MB, over the limit of {limits.max_bytes / 1e6:g}"
        )
    blocks, size = [], 0
    while block := response.read1(_CHUNK):
        size += len(block)
        if size > limits.max_bytes:
            raise PhotoError(f"cannot be fetched: over the limit of {limits.max_bytes / 1e6:g} MB")
        blocks.append(block)
    if time.monotonic() >= deadline:
        raise TimeoutError
    if declared.isdigit() and size < int(declared):
        raise PhotoError(f"cannot be fetched: the connection broke after {size} of {declared} bytes")
    return b"".join(blocks)
