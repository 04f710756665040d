"""`crowdmood convert`: a finished run in other formats, without looking at the photos again but to draw on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path, PurePosixPath

from pipeline.errors import DataError, PhotoError, UsageError
from pipeline.photos import DEFAULT_MAX_PIXELS, load_photo
from pipeline.reading import PhotoReading
from pipeline.run import PICTURES
from pipeline.sinks import SINKS, check_names, read_results, write_picture


def convert(
    results: Path,
    formats: Sequence[str],
    *,
    to: Path | None = None,
    photos: Path | None = None,
    max_pixels: int = DEFAULT_MAX_PIXELS,
    on_note: Callable[[str], None] = lambda note: None,
) -> list[Path]:
    """Write `results` (a results.jsonl or the folder that holds one) in `formats`; returns what was written.

    formats: keys of SINKS but jsonl, and "pictures", which needs the folder of the photos. to: the folder to write
    into, by default the one of the results. on_note gets a sentence about each photo that cannot be drawn on.
    Raises UsageError, DataError when the results are none, OSError when something cannot be written.
    """
    path = results / SINKS["jsonl"].name if os.path.isdir(results) else results
    if not os.path.isfile(path):
        raise DataError(f"{results}: expected the output of a finished `crowdmood annotate`, found no {path.name}")
    if "pictures" in formats and (photos is None or not os.path.isdir(photos)):
        raise UsageError(f"--format pictures: expected --photos, the folder of the photos to draw on, got {photos}")
    names = [reading.source for reading in read_results(path)]
    outside = [name for name in names if PurePosixPath(name).is_absolute() or ".." in PurePosixPath(name).parts]
    if outside:
        raise DataError(f"{path}: photo {outside[0]!r}: expected a relative path without ..")
    check_names(names, (name for name in formats if name in SINKS), pictures="pictures" in formats)
    out = path.parent if to is None else to
    written = []
    for name in formats:
        if name == "pictures" and photos is not None:
            for reading in read_results(path):
                _draw(reading, photos, out / PICTURES, max_pixels=max_pixels, on_note=on_note)
            written.append(out / PICTURES)
        else:
            SINKS[name].write(read_results(path), out / SINKS[name].name)
            written.append(out / SINKS[name].name)
    return written


def _draw(
    reading: PhotoReading, photos: Path, folder: Path, *, max_pixels: int, on_note: Callable[[str], None]
) -> None:
    if reading.error is not None:
        return
    try:
        photo = load_photo(photos / PurePosixPath(reading.source), max_pixels=max_pixels)
        if photo.size_wh != (reading.width, reading.height):
            width, height = photo.size_wh
            raise PhotoError(f"is {width} x {height} pixels, but was read at {reading.width} x {reading.height}")
        write_picture(reading, photo.pixels_bgr, folder)
    except PhotoError as error:
        on_note(f"{reading.source}: {error.reason}")
