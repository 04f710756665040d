"""A video file or a webcam: faces followed, an annotated MP4, a row per face and frame, and a row per track."""

from __future__ import annotations

import csv
import io
import os
import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
import numpy.typing as npt

from emotion import EMOTIONS
from pipeline.crowd_pipeline import CrowdPipeline
from pipeline.draw import draw_faces
from pipeline.errors import OutputError, UsageError
from pipeline.journal import Journal
from pipeline.photos import Photo
from pipeline.reading import FaceReading
from pipeline.run import RUN_FILE
from pipeline.sinks import SINKS
from pipeline.tracking import FaceTracker, Track
from pipeline.whole_file import whole_file

WEBCAM_FPS = 15.0
"""Taken for webcams and files that do not say how fast they run."""

LOST_FRAMES = 0.02
"""Part of the frames a file promises that may be missing before it counts as damaged: containers count roughly."""

STOPPED = "stopped by Ctrl-C"
FACE_COLUMNS = ("frame", "time_s", "track", "x1", "y1", "x2", "y2", "score", "emotion", "confidence", *EMOTIONS)
TRACK_COLUMNS = ("track", "first_s", "last_s", "frames", "size_px", "emotion", "confidence", *EMOTIONS)


@dataclass(frozen=True)
class VideoSummary:
    """What a video came to. promised: frames by the file's own count, 0 when it says nothing or not all were wanted.

    problem: why it ended before its end; None when it did not.
    """

    frames: int
    promised: int
    analysed: int
    tracks: int
    seconds: float
    problem: str | None

    def to_dict(self) -> dict[str, Any]:
        """For JSON."""
        return {**self.__dict__, "seconds": round(self.seconds, 3)}


class _Rows:
    """A CSV file that grows row by row."""

    def __init__(self, stream: BinaryIO, columns: tuple[str, ...]) -> None:
        self._text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        self._writer = csv.writer(self._text, lineterminator="\n")
        self._writer.writerow(columns)

    def add(self, row: list[object]) -> None:
        self._writer.writerow(row)

    def close(self) -> None:
        self._text.flush()
        self._text.detach()


class _Mp4:
    """An MP4 that appears whole; opened at the first frame, whose size the others get."""

    def __init__(self, path: Path, fps: float, *, staging: Path) -> None:
        self._path, self._fps = path, fps
        self._unfinished = staging / f"{secrets.token_hex(8)}.part.mp4"
        self._writer: cv2.VideoWriter | None = None
        self._size_wh = (0, 0)

    def write(self, frame: npt.NDArray[np.uint8]) -> None:
        if self._writer is None:
            self._size_wh = (frame.shape[1] // 2 * 2, frame.shape[0] // 2 * 2)
            code = cv2.VideoWriter.fourcc(*"mp4v")
            self._writer = cv2.VideoWriter(str(self._unfinished), code, self._fps, self._size_wh)
            if not self._writer.isOpened():
                raise OutputError(f"{self._path}: cannot be written as MP4")
        width, height = self._size_wh
        fits = frame.shape[1] - width in (0, 1) and frame.shape[0] - height in (0, 1)
        self._writer.write(np.ascontiguousarray(frame[:height, :width]) if fits else cv2.resize(frame, (width, height)))

    def finish(self) -> None:
        """Close, check and rename: OpenCV does not say when the disk was full."""
        if self._writer is None:
            return
        self._writer.release()
        check = cv2.VideoCapture(str(self._unfinished))
        good = check.isOpened() and check.read()[0]
        check.release()
        if not good:
            raise OutputError(f"{self._path}: could not be written whole; is the disk full?")
        self._unfinished.replace(self._path)

    def remove_unfinished(self) -> None:
        if self._writer is not None:
            self._writer.release()
            self._unfinished.unlink(missing_ok=True)


class _Analysis:
    """The chain, the tracker and the faces that are shown now."""

    def __init__(self, pipeline: CrowdPipeline, fps: float, *, every: int) -> None:
        self._pipeline, self._fps, self._every = pipeline, fps, every
        self.tracker = FaceTracker(fps / every)
        self.analysed = 0
        self._shown: list[FaceReading] = []

    def frame(self, number: int, pixels_bgr: npt.NDArray[np.uint8], rows: _Rows) -> npt.NDArray[np.uint8]:
        """Analyse a frame if it is its turn, note its faces, and return it with the faces drawn."""
        if number % self._every == 0:
            self.analysed += 1
            reading = self._pipeline.classify([self._pipeline.detect(Photo(pixels_bgr), source=str(number))])[0]
            followed = self.tracker.update(reading, number)
            self._shown = [face for face, _ in followed]
            for face, track in followed:
                data = face.to_dict()
                place = [number, round(number / self._fps, 3), track, *data["box_xyxy"], data["score"]]
                rows.add([*place, *_emotion_columns(data)])
        return draw_faces(pixels_bgr, self._shown)


def annotate_video(
    source: str,
    out: Path,
    *,
    pipeline: CrowdPipeline,
    every: int = 1,
    show: bool = False,
    max_frames: int | None = None,
    on_frame: Callable[[int, int], None] = lambda frame, total: None,
) -> VideoSummary:
    """Write annotated.mp4, faces.csv and tracks.csv to `out`. source: a file, or a webcam's number.

    every: analyse each so-many-th frame; those between show the faces of the last analysed one. show: a window; q
    closes it and ends. on_frame gets the frames done and the promised total (0: unknown). Ctrl-C ends the video early;
    what was seen until then is written. Raises UsageError for what is no video, MissingExtra without the extra
    [video], OutputError when `out` cannot be written, is in use or holds a run over photos, whose faces.csv would be
    lost, and PhotoError when the classifier fails.
    """
    started = time.perf_counter()
    with _opened(source) as capture, Journal(out) as lock:
        if lock.unfinished or any((out / name).exists() for name in (RUN_FILE, SINKS["jsonl"].name)):
            raise OutputError(f"{out}: holds a run over photos, with a faces.csv of its own: choose another folder")
        told = capture.get(cv2.CAP_PROP_FPS)
        fps = told if 0 < told < 1000 else WEBCAM_FPS
        total = max(0, int(capture.get(cv2.CAP_PROP_FRAME_COUNT)))
        analysis = _Analysis(pipeline, fps, every=every)
        movie = _Mp4(out / "annotated.mp4", fps, staging=lock.folder)

        def step(number: int, frame: npt.NDArray[np.uint8], rows: _Rows) -> bool:
            picture = analysis.frame(number, frame, rows)
            movie.write(picture)
            on_frame(number + 1, total)
            return show and _window_closed(picture)

        try:
            promised = total if max_frames is None else 0
            with whole_file(out / "faces.csv", staging=lock.folder) as stream:
                rows = _Rows(stream, FACE_COLUMNS)
                frames, problem = _play(_frames(capture, max_frames), partial(step, rows=rows), promised=promised)
                rows.close()
            _write_tracks(analysis.tracker.tracks.values(), out / "tracks.csv", fps, staging=lock.folder)
            movie.finish()
        except OSError as error:
            raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
        finally:
            movie.remove_unfinished()
    seconds = time.perf_counter() - started
    return VideoSummary(frames, promised, analysis.analysed, len(analysis.tracker.tracks), seconds, problem)


@contextmanager
def _opened(source: str) -> Iterator[cv2.VideoCapture]:
    """A file or webcam that gives frames. Raises UsageError when it does not open."""
    webcam = source.isascii() and source.isdigit() and len(source) < 10  # OpenCV takes 32 bits
    if not webcam and not os.path.isfile(source):
        raise UsageError(f"{source}: no such video file (a webcam is named by its number)")
    capture = cv2.VideoCapture(int(source)) if webcam else cv2.VideoCapture(source)
    try:
        if not capture.isOpened():
            kind = "no webcam of that number answers" if webcam else "not a video that OpenCV can read"
            raise UsageError(f"{source}: {kind}")
        yield capture
    finally:
        capture.release()


def _frames(capture: cv2.VideoCapture, limit: int | None) -> Iterator[npt.NDArray[np.uint8]]:
    """Frames until the end, the first broken one, or `limit`."""
    count = 0
    while limit is None or count < limit:
        good, frame = capture.read()
        if not good:
            return
        count += 1
        yield np.asarray(frame, np.uint8)


def _play(
    frames: Iterable[npt.NDArray[np.uint8]], step: Callable[[int, npt.NDArray[np.uint8]], bool], *, promised: int
) -> tuple[int, str | None]:
    """Call `step` with each frame until it returns true; the frames that were done, and why that is not all of them."""
    done = 0
    try:
        for number, frame in enumerate(frames):
            ended = step(number, frame)
            done = number + 1
            if ended:
                return done, None
    except KeyboardInterrupt:
        return done, f"{STOPPED} after {done} frames"
    return done, _ended_early(done, promised)


def _ended_early(frames: int, promised: int) -> str | None:
    if frames == 0:
        return "no frame could be read"
    if promised and frames < promised * (1 - LOST_FRAMES) - 1:
        return f"the video breaks off after {frames} of {promised} frames"
    return None


def _window_closed(picture: npt.NDArray[np.uint8]) -> bool:
    """Show a frame; whether the user pressed q. Raises UsageError where there is no screen."""
    try:
        cv2.imshow("crowdmood (q ends)", picture)
        return cv2.waitKey(1) & 0xFF == ord("q")
    except cv2.error as error:
        raise UsageError("--show: no window can be opened here") from error


def _write_tracks(tracks: Iterable[Track], path: Path, fps: float, *, staging: Path) -> None:
    with whole_file(path, staging=staging) as stream:
        rows = _Rows(stream, TRACK_COLUMNS)
        for track in tracks:
            size_px = track.size_px_sum / track.frames
            place = [track.number, round(track.first_frame / fps, 3), round(track.last_frame / fps, 3), track.frames]
            mean = FaceReading((0, 0, size_px, size_px), 1.0, track.mean).to_dict()
            rows.add([*place, round(size_px, 1), *_emotion_columns(mean)])
        rows.close()


def _emotion_columns(face: Mapping[str, Any]) -> list[object]:
    shares = face["probabilities"] or {}
    return [face["emotion"], face["confidence"], *(shares.get(name) for name in EMOTIONS)]
