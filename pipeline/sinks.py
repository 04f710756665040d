"""Where readings go: annotated pictures, results.jsonl, faces.csv. Files appear whole, readings keep their order."""

from __future__ import annotations

import csv
import io
import json
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Protocol

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image

from emotion import EMOTIONS
from pipeline import formats
from pipeline.draw import draw_faces
from pipeline.errors import DataError, PhotoError, UsageError
from pipeline.reading import PhotoReading
from pipeline.whole_file import whole_file

JPEG_QUALITY = 92
MAX_NAME_BYTES = 255
"""Of a file, without its folders: the limit of nearly every file system."""

_ENCODINGS: dict[str, tuple[str, list[int]]] = {
    ".png": (".png", []),
    ".webp": (".webp", [cv2.IMWRITE_WEBP_QUALITY, JPEG_QUALITY]),
    ".bmp": (".bmp", []),
    ".tif": (".tiff", []),
    ".tiff": (".tiff", []),
}
"""How a picture of that suffix is written; everything else as JPEG, GIF by Pillow."""

_WRITTEN_AS_JPEG = frozenset({".heic", ".heif", ".avif"})

CSV_COLUMNS = (
    *("photo", "width", "height", "detector", "fallback_reason", "emotion_model"),
    *("x1", "y1", "x2", "y2", "score", "emotion", "confidence", *EMOTIONS, "too_small"),
)


def picture_name(photo: str) -> str:
    """Where in the folder of annotated pictures a photo's stands: under its own path, if it can be written so."""
    return f"{photo}.jpg" if PurePosixPath(photo).suffix.lower() in _WRITTEN_AS_JPEG else photo


def check_pictures(photos: Sequence[str]) -> None:
    """Raises UsageError when two photos' pictures would have one name, or one stand where another has its folder."""
    written = Counter(picture_name(photo) for photo in photos)
    double = [photo for photo in photos if written[picture_name(photo)] > 1]
    if double:
        raise UsageError(f"{' and '.join(double[:2])} would share one picture: rename one, or give --no-images")
    _check_folders({picture_name(photo): photo for photo in photos}, way_out="give --no-images")


def write_picture(
    reading: PhotoReading, pixels_bgr: npt.NDArray[np.uint8], folder: Path, *, staging: Path | None = None
) -> Path:
    """Draw a reading on its photo and write it to `folder`, as `picture_name` has it; returns where.

    Raises PhotoError when the picture cannot be encoded, OSError when it cannot be written.
    """
    path = folder / PurePosixPath(picture_name(reading.source))
    encoded = _encode(draw_faces(pixels_bgr, reading.faces), path.suffix.lower())
    with whole_file(path, staging=staging) as stream:
        stream.write(encoded)
    return path


def write_results(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """One line of JSON per photo, schema crowdmood/1. Raises OSError."""
    with whole_file(path, staging=staging) as stream:
        for reading in readings:
            stream.write(to_line(reading).encode() + b"\n")


def write_csv(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """One row per face, the same figures as results.jsonl; photos without faces have no row. Raises OSError."""
    with whole_file(path, staging=staging) as stream:
        text = io.TextIOWrapper(stream, encoding="utf-8", newline="")
        writer = csv.writer(text, lineterminator="\n")
        writer.writerow(CSV_COLUMNS)
        for reading in readings:
            writer.writerows(_csv_rows(reading))
        text.flush()
        text.detach()


class Writer(Protocol):
    """Writes all readings to one file or folder, whole."""

    def __call__(self, readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None: ...


@dataclass(frozen=True)
class Sink:
    """An output of a whole run: its file or folder in the output folder, what writes it, and a check of the photos'
    names that is made before the run begins. folder, suffix: where it has a file per photo, and how those end."""

    name: str
    write: Writer
    check: Callable[[Sequence[str]], None] | None = None
    folder: str = ""
    suffix: str = ""


SINKS: dict[str, Sink] = {
    "jsonl": Sink("results.jsonl", write_results),
    "csv": Sink("faces.csv", write_csv),
    "coco": Sink("coco.json", formats.write_coco),
    "coco-emotions": Sink("coco_emotions.json", formats.write_coco_emotions),
    "yolo": Sink("yolo", formats.write_yolo, formats.check_stems, "yolo/labels", ".txt"),
    "yolo-emotions": Sink(
        "yolo_emotions", formats.write_yolo_emotions, formats.check_stems, "yolo_emotions/labels", ".txt"
    ),
    "voc": Sink("voc", formats.write_voc, formats.check_stems, "voc", ".xml"),
    "dataturks": Sink("dataturks.json", formats.write_dataturks),
}
"""Outputs by the name that --format takes. Adding one is a function and a line."""


def check_names(photos: Sequence[str], formats: Iterable[str], *, pictures: bool) -> None:
    """Raises UsageError when one of the formats, or the pictures, cannot hold photos of these names side by side."""
    for sink in (SINKS[name] for name in formats):
        if sink.check is not None:
            sink.check(photos)
        if sink.folder:
            _check_labels({str(PurePosixPath(photo).with_suffix(sink.suffix)): photo for photo in photos})
    if pictures:
        check_pictures(photos)


def to_line(reading: PhotoReading) -> str:
    """A reading as one line of results.jsonl, without the line's end."""
    return json.dumps(reading.to_dict(), ensure_ascii=False, allow_nan=False, separators=(", ", ": "))


def read_results(path: Path) -> Iterator[PhotoReading]:
    """The readings of a results.jsonl, one at a time. Raises DataError naming the line, or why it cannot be read."""
    try:
        with path.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                try:
                    reading = PhotoReading.from_dict(json.loads(line))
                except (ValueError, RecursionError, DataError) as error:
                    raise DataError(f"{path} line {number}: {error}") from error
                yield reading
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error


def _check_labels(photos: Mapping[str, str]) -> None:
    """Raises UsageError when a label file cannot be written for its name. photos: by the label file they get."""
    way_out = "leave that format out"
    for file, photo in photos.items():
        length = len(PurePosixPath(file).name.encode())
        if length > MAX_NAME_BYTES:
            raise UsageError(
                f"{photo} would get a label file whose name has {length} bytes, {MAX_NAME_BYTES} at most can be: "
                f"rename it, or {way_out}"
            )
    _check_folders(photos, way_out=way_out)


def _check_folders(photos: Mapping[str, str], *, way_out: str) -> None:
    """Raises UsageError when a file stands where another has its folder. photos: by the file they get."""
    for file, photo in photos.items():
        taken = next((str(folder) for folder in PurePosixPath(file).parents if str(folder) in photos), None)
        if taken is not None:
            raise UsageError(f"{photos[taken]} would stand where {photo} has its folder: rename one, or {way_out}")


def _csv_rows(reading: PhotoReading) -> Iterator[list[object]]:
    data = reading.to_dict()
    photo = [data[name] for name in CSV_COLUMNS[:6]]
    for face in data["faces"]:
        shares = face["probabilities"] or {}
        emotions = [face["emotion"], face["confidence"], *(shares.get(name) for name in EMOTIONS)]
        yield [*photo, *face["box_xyxy"], face["score"], *emotions, str(face["too_small"]).lower()]


def _encode(picture: npt.NDArray[np.uint8], suffix: str) -> bytes:
    if suffix == ".gif":
        stream = io.BytesIO()
        Image.fromarray(picture[:, :, ::-1]).save(stream, "GIF")
        return stream.getvalue()
    encoding, options = _ENCODINGS.get(suffix, (".jpg", [cv2.IMWRITE_JPEG_QUALITY, JPEG_QUALITY]))
    try:
        good, encoded = cv2.imencode(encoding, picture, options)
    except cv2.error as error:
        raise PhotoError(f"the annotated picture cannot be written as {encoding}: {error.err}") from error
    if not good:
        height, width = picture.shape[:2]
        raise PhotoError(f"the annotated picture, {width} x {height}, cannot be written as {encoding}")
    return encoded.tobytes()
