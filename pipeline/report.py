"""`crowdmood report OUT`: one HTML page about a finished run, with everything in it, so that it works offline."""

from __future__ import annotations

import base64
import html
import json
import os
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from importlib import resources
from pathlib import Path, PurePosixPath
from string import Template
from typing import Any

import cv2
import numpy as np

from emotion import EMOTIONS
from pipeline.draw import COLOURS, letters_on
from pipeline.errors import DataError, PhotoError
from pipeline.photos import load_photo
from pipeline.reading import PhotoReading
from pipeline.run import PICTURES, REPORT_FILE, RUN_FILE
from pipeline.sinks import SINKS, picture_name, read_results
from pipeline.summary import Summary
from pipeline.whole_file import whole_file

THUMBNAIL_WH = (240, 160)
"""Twice the size they are shown at, for fine screens."""

MAX_THUMBNAILS = 2000
"""Photos after these have a row without a picture, so that the page stays one that a browser opens."""

FACE_BINS = ((0, 0), (1, 1), (2, 2), (3, 4), (5, 8), (9, 16), (17, 32), (33, 64), (65, None))
"""Faces per photo, from and to (None: no end)."""


def write_report(out: Path, path: Path | None = None, *, max_thumbnails: int = MAX_THUMBNAILS) -> Path:
    """Write the page about the run in `out` to `path` (default: `out`/report.html); returns where.

    Raises DataError when `out` holds no finished run or a damaged one, OSError when the page cannot be written.
    """
    results = out / SINKS["jsonl"].name
    if not os.path.isfile(results):
        raise DataError(f"{out}: expected the output of a finished `crowdmood annotate`, found no {results.name}")
    readings = list(read_results(results))
    page = _page(readings, _run_of(out), folder=out, max_thumbnails=max_thumbnails)
    target = path or out / REPORT_FILE
    with whole_file(target) as stream:
        stream.write(page.encode())
    return target


def _run_of(out: Path) -> dict[str, Any]:
    path = out / RUN_FILE
    try:
        run = json.loads(path.read_text(encoding="utf-8")) if os.path.isfile(path) else {}
    except OSError as error:
        raise DataError(f"{path}: cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise DataError(f"{path}: expected JSON: {error}") from error
    if not isinstance(run, dict):
        raise DataError(f"{path}: expected a JSON object, got {type(run).__name__}")
    return run


def _page(readings: Sequence[PhotoReading], run: Mapping[str, Any], *, folder: Path, max_thumbnails: int) -> str:
    template = Template((resources.files("pipeline") / "templates" / "report.html").read_text(encoding="utf-8"))
    summary = Summary().add(readings)
    rows = [
        _row(
            reading,
            _thumbnail(folder / PICTURES / PurePosixPath(picture_name(reading.source))) if i < max_thumbnails else None,
        )
        for i, reading in enumerate(readings)
    ]
    colours = {name: {"css": _css(name), "dark": letters_on(COLOURS[name]) == 255} for name in EMOTIONS}
    data = json.dumps({"photos": rows, "colours": colours}, ensure_ascii=False)
    return template.substitute(
        subtitle=html.escape(f"{summary.photos} photos, {summary.faces} faces"),
        totals=_totals(summary),
        emotions=_emotion_bars(summary.emotions),
        faces_per_photo=_face_bars(readings),
        errors=_errors(readings),
        emotion_options="".join(f"<option>{name}</option>" for name in EMOTIONS),
        settings=_settings(readings, run),
        data=data.replace("<", "\\u003c").replace("\u2028", "\\u2028").replace("\u2029", "\\u2029"),
    )


def _row(reading: PhotoReading, thumbnail: str | None) -> dict[str, Any]:
    confidences = [face.confidence for face in reading.faces if face.confidence is not None]
    return {
        "name": reading.source,
        "size": f"{reading.width} x {reading.height}" if reading.width else "",
        "faces": len(reading.faces),
        "emotions": dict(Counter(face.emotion for face in reading.faces if face.emotion).most_common()),
        "confidence": round(sum(confidences) / len(confidences), 4) if confidences else None,
        "ms": reading.elapsed_ms,
        "detector": reading.detector,
        "fallback": reading.fallback_reason,
        "error": reading.error,
        "thumbnail": thumbnail,
    }


def _thumbnail(picture: Path) -> str | None:
    """A small JPEG of an annotated picture as a data URI; None when there is none."""
    try:
        pixels = load_photo(picture).pixels_bgr
    except PhotoError:
        return None
    height, width = pixels.shape[:2]
    scale = min(THUMBNAIL_WH[0] / width, THUMBNAIL_WH[1] / height)
    if scale < 1:
        size = (max(1, round(width * scale)), max(1, round(height * scale)))
        pixels = np.asarray(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA), np.uint8)
    encoded = cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, 75])[1]
    return "data:image/jpeg;base64," + base64.b64encode(encoded.tobytes()).decode()


def _css(name: str) -> str:
    return "#{:02x}{:02x}{:02x}".format(*COLOURS[name])


def _totals(summary: Summary) -> str:
    values = {"photos": summary.photos, "faces": summary.faces, "errors": summary.errors}
    if summary.photos:
        values["faces per photo"] = round(summary.faces / summary.photos, 1)  # type: ignore[assignment]
    if summary.too_small:
        values["faces too small"] = summary.too_small
    if summary.fallbacks:
        values["photos by another detector"] = summary.fallbacks
    return "".join(f"<div><b>{value:,}</b><span>{name}</span></div>" for name, value in values.items())


def _bars(rows: Iterable[tuple[str, int, str | None]]) -> str:
    """Name, count and colour of each bar; the numbers are text, so that the picture is not needed."""
    listed = list(rows)
    largest, total = max((count for _, count, _ in listed), default=0), sum(count for _, count, _ in listed)
    if not total:
        return "<p>none</p>"
    cells = []
    for name, count, colour in listed:
        style = f"width:{100 * count / largest:.1f}%" + (f";background:{colour}" if colour else "")
        share = f"{count:,} ({100 * count / total:.0f}%)"
        cells.append(f'<span>{html.escape(name)}</span><i style="{style}"></i><span class="num">{share}</span>')
    return f'<div class="bars">{"".join(cells)}</div>'


def _emotion_bars(emotions: Counter[str]) -> str:
    return _bars((name, count, _css(name)) for name, count in emotions.most_common())


def _face_bars(readings: Sequence[PhotoReading]) -> str:
    counts = [len(reading.faces) for reading in readings if reading.width]
    rows = []
    for low, high in FACE_BINS:
        name = f"{low}" if low == high else f"{low} to {high}" if high else f"{low} and more"
        rows.append((name, sum(low <= count and (high is None or count <= high) for count in counts), None))
    while rows and not rows[-1][1]:
        rows.pop()
    return _bars(rows)


def _errors(readings: Sequence[PhotoReading]) -> str:
    reasons = Counter(reading.error for reading in readings if reading.error)
    fallbacks = Counter(reading.fallback_reason for reading in readings if reading.fallback_reason)
    parts = [f"<li>{html.escape(str(reason))}: {_photos(count)}</li>" for reason, count in reasons.most_common(20)]
    told = [f"<li>{html.escape(str(reason))}: {_photos(count)}</li>" for reason, count in fallbacks.most_common(20)]
    text = ""
    if parts:
        text += f'<section aria-labelledby="h-errors"><h2 id="h-errors">Errors</h2><ul>{"".join(parts)}</ul></section>'
    if told:
        text += f"<section><h2>Another detector stepped in</h2><ul>{''.join(told)}</ul></section>"
    return text


def _photos(count: int) -> str:
    return f"{count} photo" + ("" if count == 1 else "s")


def _settings(readings: Sequence[PhotoReading], run: Mapping[str, Any]) -> str:
    used = Counter(reading.detector for reading in readings if reading.detector)
    models = Counter(reading.emotion_model for reading in readings if reading.emotion_model)
    rows = {
        "detectors used": ", ".join(f"{name} ({_photos(count)})" for name, count in used.most_common()) or "none",
        "emotion models used": ", ".join(str(name) for name, _ in models.most_common()) or "none",
        **{f"{name}": value for name, value in run.items() if name != "photos_sha256"},
    }
    shown = {name: value if isinstance(value, str) else json.dumps(value) for name, value in rows.items()}
    return "".join(f"<dt>{html.escape(name)}</dt><dd>{html.escape(value)}</dd>" for name, value in shown.items())
