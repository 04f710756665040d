"""A whole run of `crowdmood annotate`: photos in, an output folder with pictures, results.jsonl and faces.csv out."""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from pipeline.crowd_pipeline import MIN_LEGIBLE_PX, CrowdPipeline
from pipeline.errors import OutputError
from pipeline.journal import Journal
from pipeline.photos import DEFAULT_MAX_PIXELS
from pipeline.reading import PhotoReading
from pipeline.sinks import SINKS, check_names, picture_name, read_results
from pipeline.sources import Source
from pipeline.stages import Stages, blocks_of
from pipeline.summary import Summary
from pipeline.web import DEFAULT_LIMITS, WebLimits
from pipeline.whole_file import whole_file

PICTURES = "annotated"
RUN_FILE = "run.json"
"""What was run with which settings and models; for `crowdmood report`."""


@dataclass(frozen=True)
class RunSettings:
    """Everything that decides what a run writes, but for the photos; None means the model's own default.

    workers and threads decide only how fast: workers is how many photos are worked on at once, threads how many
    processor threads each model may use (None: the machine's, divided by the workers).
    """

    detector: str | None = None
    emotion_model: str = "default"
    scale: int | None = None
    min_score: float | None = None
    min_face_px: int | None = None
    min_legible_px: float = MIN_LEGIBLE_PX
    fallback: bool = True
    max_pixels: int = DEFAULT_MAX_PIXELS
    formats: tuple[str, ...] = ("jsonl", "csv")
    pictures: bool = True
    timing: bool = True
    web: WebLimits = DEFAULT_LIMITS
    workers: int = 1
    threads: int | None = None


def load_pipelines(settings: RunSettings) -> list[CrowdPipeline]:
    """One pipeline per worker. Raises UsageError, DetectorError, `emotion.WeightsError`."""
    threads = settings.threads
    if threads is None and settings.workers > 1:
        threads = max(1, (os.cpu_count() or 1) // settings.workers)
    return [
        CrowdPipeline.default(
            settings.detector,
            settings.emotion_model,
            scale=settings.scale,
            min_score=settings.min_score,
            min_face_px=settings.min_face_px,
            min_legible_px=settings.min_legible_px,
            threads=threads,
            fallback=settings.fallback,
            max_pixels=settings.max_pixels,
        )
        for _ in range(settings.workers)
    ]


def annotate(
    sources: Sequence[Source],
    out: Path,
    *,
    settings: RunSettings,
    pipelines: Sequence[CrowdPipeline],
    resume: bool = False,
    on_reading: Callable[[PhotoReading], None] = lambda reading: None,
    on_note: Callable[[str], None] = lambda note: None,
) -> Summary:
    """Read all photos and write the outputs to `out`; one bad photo is one reading with an error.

    pipelines: one per worker. resume: go on with a killed run of the same photos and settings. on_reading is called
    for every photo, in order, also for those done before. on_note gets a sentence worth telling.
    Raises UsageError when a format cannot hold these photos; OutputError when `out` cannot be written, is in use or
    holds another run: what is done is kept for resume.
    """
    started = time.perf_counter()
    check_names([source.name for source in sources], settings.formats, pictures=settings.pictures)
    with Journal(out) as journal, _told_as_output_error(out):
        run = describe_run(sources, settings, pipelines[0])
        if resume and not journal.unfinished and _is_finished(out, run):
            on_note(f"{out} holds this very run, finished: nothing is left to do")
            journal.finish()
            return Summary().add(read_results(out / SINKS["jsonl"].name))
        done = _begin(journal, run, resume=resume, on_note=on_note)
        for reading in journal.readings():
            on_reading(reading)
        stages = _stages(pipelines, settings, out=out, staging=journal.folder)

        def note(readings: list[PhotoReading]) -> None:
            journal.append(readings)
            for reading in readings:
                on_reading(reading)

        stages.run(blocks_of(sources[done:], max_pixels=settings.max_pixels), note)
        summary = Summary().add(journal.readings())
        _write_outputs(journal, out, run=run, settings=settings)
        journal.finish()
        for text in leftovers(out, settings):
            on_note(text)
    summary.seconds = time.perf_counter() - started
    summary.measured = len(sources) - done
    return summary


def _is_finished(out: Path, run: dict[str, Any]) -> bool:
    """Whether `out` holds all files of a run that is described alike."""
    path = out / RUN_FILE
    try:
        described = json.loads(path.read_text(encoding="utf-8")) if path.is_file() else None
    except ValueError:
        return False
    return described == run and all((out / SINKS[name].name).exists() for name in run["formats"])


def _stages(pipelines: Sequence[CrowdPipeline], settings: RunSettings, *, out: Path, staging: Path) -> Stages:
    return Stages(
        pipelines,
        max_pixels=settings.max_pixels,
        pictures=out / PICTURES if settings.pictures else None,
        staging=staging,
        timing=settings.timing,
        web=settings.web,
    )


def describe_run(sources: Sequence[Source], settings: RunSettings, pipeline: CrowdPipeline) -> dict[str, Any]:
    """What decides the outputs: settings, models, photos. Runs of equal description may continue each other."""
    names = "\n".join(source.name for source in sources)
    kept = {name: value for name, value in asdict(settings).items() if name not in ("workers", "threads", "web")}
    return {
        **kept,
        "formats": list(settings.formats),
        "detector": pipeline.detectors.wanted,
        "detector_used": pipeline.detectors.first,
        "emotion_model": pipeline.classifier.identity,
        "photos": len(sources),
        "photos_sha256": hashlib.sha256(names.encode()).hexdigest()[:16],
    }


def _begin(journal: Journal, run: dict[str, Any], *, resume: bool, on_note: Callable[[str], None]) -> int:
    """Open the journal; returns how many photos are done."""
    if resume:
        done = journal.resume(run)
        if done:
            on_note(f"going on after {done} of {run['photos']} photos")
        return done
    if journal.unfinished:
        on_note(f"an unfinished run with {journal.unfinished} photos is given up (--resume would have gone on with it)")
    journal.begin(run)
    return 0


def _write_outputs(journal: Journal, out: Path, *, run: dict[str, Any], settings: RunSettings) -> None:
    for name in settings.formats:
        SINKS[name].write(journal.readings(), out / SINKS[name].name, staging=journal.folder)
    with whole_file(out / RUN_FILE, staging=journal.folder) as stream:
        stream.write(json.dumps(run, indent=1, ensure_ascii=False).encode() + b"\n")


def leftovers(out: Path, settings: RunSettings) -> Iterator[str]:
    """A sentence about each folder of this run that also holds files of photos that it has not read.

    Nobody deletes them, for they may be wanted; but a training on the folder would read them too.
    """
    photos = [reading.source for reading in read_results(out / SINKS["jsonl"].name) if reading.width is not None]
    folders = {SINKS[name].folder: SINKS[name].suffix for name in settings.formats if SINKS[name].folder}
    if settings.pictures:
        folders[PICTURES] = ""
    for folder, suffix in folders.items():
        expected = {str(PurePosixPath(name).with_suffix(suffix)) if suffix else picture_name(name) for name in photos}
        files = (path for path in (out / folder).rglob("*") if path.is_file() and not path.name.startswith("."))
        others = {path.relative_to(out / folder).as_posix() for path in files} - expected
        if others:
            yield f"{out / folder} also holds {len(others)} files of other photos, such as {min(others)}"


@contextmanager
def _told_as_output_error(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
