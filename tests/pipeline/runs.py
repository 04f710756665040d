"""Whole runs for tests: thirty photos and a bad one, a run over them, what it wrote, and its end at a chosen photo."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pipeline.reading import PhotoReading
from pipeline.run import RunSettings, annotate
from pipeline.sources import find_photos
from pipeline.summary import Summary
from tests.pipeline.factories import make_pipeline, save_photo

SETTINGS = RunSettings(detector="squares", timing=False)


def run(photos: Path, out: Path, *, settings: RunSettings = SETTINGS, **options: Any) -> Summary:
    pipelines = [make_pipeline(max_pixels=settings.max_pixels) for _ in range(settings.workers)]
    sources = find_photos([photos], exclude=out)
    return annotate(sources, out, settings=settings, **{"pipelines": pipelines, **options})


def contents(folder: Path) -> dict[str, bytes]:
    """Every file below a folder, by relative path."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def save_photos(folder: Path) -> Path:
    """30 photos of different sizes and greys in three folders, and bad.jpg, which is empty."""
    for i in range(30):
        save_photo(folder / f"{i % 3}/{i:02d}.jpg", 40 + 20 * (i % 5), 40 + i, 8 * i)
    (folder / "0/bad.jpg").write_bytes(b"")
    return folder


class Stop(Exception):
    """Ends a run at a chosen photo, as a kill would."""


def stop_after(count: int) -> Any:
    seen: list[PhotoReading] = []

    def on_reading(reading: PhotoReading) -> None:
        seen.append(reading)
        if len(seen) >= count:
            raise Stop

    return on_reading
