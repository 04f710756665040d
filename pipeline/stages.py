"""The work on blocks of photos: decoding, inference and writing overlap, and results come back in order.

A block is a few consecutive photos; its faces share one call of the classifier. Which photos form a block depends on
the photos alone, not on timing or on the number of workers, so that a resumed run computes the very same batches.
"""

from __future__ import annotations

import errno
import queue
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TypeVar

from pipeline.crowd_pipeline import CrowdPipeline, Detected
from pipeline.errors import DetectorError, OutputError, PhotoError
from pipeline.photos import Photo
from pipeline.reading import PhotoReading
from pipeline.sinks import write_picture
from pipeline.sources import Source
from pipeline.web import DEFAULT_LIMITS, WebLimits

BLOCK_PHOTOS = 8
BLOCK_PIXELS = 32_000_000
"""A block ends when it has so many photos, or when a further photo would bring it over so many pixels."""

WAITING_PIXELS = 3 * BLOCK_PIXELS
"""No new block is begun while those under way hold more; bounds the memory, whatever the folder's size."""

_THIS_PHOTO_ONLY = frozenset(
    {errno.ENAMETOOLONG, errno.EINVAL, errno.EILSEQ, errno.EISDIR, errno.ENOTDIR, errno.EEXIST}
)
"""Errors on writing one picture that say nothing about the next; others (a full disk) end the run."""

T = TypeVar("T")
U = TypeVar("U")


@dataclass(frozen=True)
class Block:
    """Consecutive photos. pixels: of all of them, by their headers."""

    sources: tuple[Source, ...]
    pixels: int


def blocks_of(sources: Iterable[Source], *, max_pixels: int) -> Iterator[Block]:
    """Cut a run into blocks by the photos' headers; one over `max_pixels`, never decoded, counts nothing."""
    waiting: list[Source] = []
    total = 0
    for source in sources:
        probed = source.probe_pixels()
        pixels = probed if probed <= max_pixels else 0
        if waiting and (len(waiting) >= BLOCK_PHOTOS or total + pixels > BLOCK_PIXELS):
            yield Block(tuple(waiting), total)
            waiting, total = [], 0
        waiting.append(source)
        total += pixels
    if waiting:
        yield Block(tuple(waiting), total)


@dataclass(frozen=True)
class _Decoded:
    source: Source
    photo: Photo | None
    elapsed_ms: float
    error: str | None = None


@dataclass(frozen=True)
class _Read:
    reading: PhotoReading
    photo: Photo | None


class Stages:
    """The three stages. pipelines: one per worker, since models are not shared between threads."""

    def __init__(
        self,
        pipelines: Sequence[CrowdPipeline],
        *,
        max_pixels: int,
        pictures: Path | None,
        staging: Path,
        timing: bool = True,
        web: WebLimits = DEFAULT_LIMITS,
    ) -> None:
        """pictures: folder for annotated pictures, None for none. staging: folder for unfinished files."""
        self._free: queue.SimpleQueue[CrowdPipeline] = queue.SimpleQueue()
        for pipeline in pipelines:
            self._free.put(pipeline)
        self._workers = len(pipelines)
        self._max_pixels = max_pixels
        self._pictures = pictures
        self._staging = staging
        self._timing = timing
        self._web = web

    def run(self, blocks: Iterable[Block], on_done: Callable[[list[PhotoReading]], None]) -> None:
        """Work through all blocks; `on_done` gets each block's readings, in order, in the calling thread.

        Raises OutputError when nothing can be written any more. On any exception, KeyboardInterrupt too, work under
        way is finished or dropped before this returns.
        """
        under_way: deque[tuple[Future[list[PhotoReading]], int]] = deque()
        stopped = threading.Event()
        decoders, inferers, writers = pools = [ThreadPoolExecutor(self._workers) for _ in range(3)]
        try:
            for block in blocks:
                decoded = decoders.submit(self._decode, block, stopped)
                read = inferers.submit(_after(decoded, self._infer))
                under_way.append((writers.submit(_after(read, self._write)), block.pixels))
                while len(under_way) > self._workers + 2 or sum(pixels for _, pixels in under_way) > WAITING_PIXELS:
                    on_done(under_way.popleft()[0].result())
            while under_way:
                on_done(under_way.popleft()[0].result())
        finally:
            stopped.set()
            for pool in pools:
                pool.shutdown(wait=False, cancel_futures=True)
            for pool in pools:
                pool.shutdown(wait=True)

    def _decode(self, block: Block, stopped: threading.Event) -> list[_Decoded]:
        """Raises CancelledError, which nobody waits for, when the run has ended: what is left may be slow."""
        decoded = []
        for source in block.sources:
            if stopped.is_set():
                raise CancelledError
            decoded.append(self._decode_one(source))
        return decoded

    def _decode_one(self, source: Source) -> _Decoded:
        started = time.perf_counter()
        try:
            photo, error = source.load(max_pixels=self._max_pixels, web=self._web), None
        except PhotoError as refused:
            photo, error = None, refused.reason
        return _Decoded(source, photo, 1000 * (time.perf_counter() - started), error)

    def _infer(self, photos: list[_Decoded]) -> list[_Read]:
        pipeline = self._free.get()
        try:
            readings = pipeline.classify_or_error([_detect(pipeline, photo) for photo in photos])
        finally:
            self._free.put(pipeline)
        return [_Read(reading, photo.photo) for reading, photo in zip(readings, photos, strict=True)]

    def _write(self, photos: list[_Read]) -> list[PhotoReading]:
        return [self._write_one(photo.reading, photo.photo) for photo in photos]

    def _write_one(self, reading: PhotoReading, photo: Photo | None) -> PhotoReading:
        if not self._timing:
            reading = replace(reading, elapsed_ms=None)
        if self._pictures is None or photo is None or reading.error is not None:
            return reading
        try:
            write_picture(reading, photo.pixels_bgr, self._pictures, staging=self._staging)
        except PhotoError as error:
            return replace(reading, error=error.reason)
        except OSError as error:
            reason = f"the annotated picture cannot be written: {error.strerror or error}"
            if error.errno in _THIS_PHOTO_ONLY:
                return replace(reading, error=reason)
            raise OutputError(f"{reading.source}: {reason}") from error
        return reading


def _detect(pipeline: CrowdPipeline, decoded: _Decoded) -> Detected:
    name = decoded.source.name
    if decoded.photo is None:
        return Detected(name, elapsed_ms=decoded.elapsed_ms, error=decoded.error)
    try:
        return pipeline.detect(decoded.photo, source=name, decode_ms=decoded.elapsed_ms)
    except DetectorError as error:
        return Detected(name, elapsed_ms=decoded.elapsed_ms, error=str(error))


def _after(first: Future[T], then: Callable[[T], U]) -> Callable[[], U]:
    return lambda: then(first.result())
