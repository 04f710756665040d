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

from facedet import DETECTORS
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
REPORT_FILE = "report.html"
"""What `crowdmood report` writes."""


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
        _check_places(out, settings)
        run = describe_run(sources, settings, pipelines[0])
        if resume and not journal.unfinished and _is_finished(out, run, settings=settings):
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


def _check_places(out: Path, settings: RunSettings) -> None:
    """Raises OutputError when a folder stands where this run writes a file, or a file where it needs a folder."""
    is_folder = {RUN_FILE: False, **{SINKS[name].name: bool(SINKS[name].folder) for name in settings.formats}}
    if settings.pictures:
        is_folder[PICTURES] = True
    for name, wanted in is_folder.items():
        if (out / name).exists() and (out / name).is_dir() != wanted:
            raise OutputError(f"{out / name}: cannot be written: a {'file' if wanted else 'folder'} has that name")


def _is_finished(out: Path, run: dict[str, Any], *, settings: RunSettings) -> bool:
    """Whether `out` holds all files of a run that is described alike. Raises DataError when its results are damaged."""
    try:
        described = json.loads((out / RUN_FILE).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return False
    if described != run or not all((out / SINKS[name].name).exists() for name in settings.formats):
        return False
    whole = [reading.source for reading in read_results(out / SINKS["jsonl"].name) if reading.error is None]
    files = _files_of(whole, settings).items()
    return all((out / folder / name).is_file() for folder, names in files for name in names)


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
    """What decides the outputs: settings, models, photos. Runs of equal description may continue each other.

    Photos count as the same while name, place, size and time of change are; a detector's weight file by its content.
    Raises OSError when that file cannot be read.
    """
    marks = json.dumps([source.mark() for source in sources])
    wanted = pipeline.detectors.wanted
    is_file = wanted not in DETECTORS and pipeline.detectors.load_failure is None and Path(wanted).is_file()
    kept = {name: value for name, value in asdict(settings).items() if name not in ("workers", "threads", "web")}
    return {
        **kept,
        "formats": list(settings.formats),
        "detector": wanted,
        **({"detector_sha256": _short_sha256(Path(wanted).read_bytes())} if is_file else {}),
        "detector_used": pipeline.detectors.first,
        "emotion_model": pipeline.classifier.identity,
        "photos": len(sources),
        "photos_sha256": _short_sha256(marks.encode()),
    }


def _short_sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()[:16]


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
    """A sentence about outputs that an earlier run has left beside this one's, and about each folder of this run that
    also holds files of photos that it has not read.

    Nobody deletes them, for they may be wanted; but a training on the folder would read them too.
    """
    possible = {PICTURES: settings.pictures, REPORT_FILE: False}
    possible |= {sink.name: name in settings.formats for name, sink in SINKS.items()}
    stale = [name for name, written in possible.items() if not written and (out / name).exists()]
    if stale:
        yield f"{out} also holds {', '.join(stale)}, which this run has not written"
    photos = [reading.source for reading in read_results(out / SINKS["jsonl"].name) if reading.width is not None]
    for folder, expected in _files_of(photos, settings).items():
        files = (path for path in (out / folder).rglob("*") if path.is_file() and not path.name.startswith("."))
        others = {path.relative_to(out / folder).as_posix() for path in files} - expected
        if others:
            yield f"{out / folder} also holds {len(others)} files of other photos, such as {min(others)}"


def _files_of(photos: Sequence[str], settings: RunSettings) -> dict[str, set[str]]:
    """The folders of this run that have a file per photo, and which files these photos have there."""
    sinks = [SINKS[name] for name in settings.formats if SINKS[name].folder]
    files = {sink.folder: {str(PurePosixPath(name).with_suffix(sink.suffix)) for name in photos} for sink in sinks}
    if settings.pictures:
        files[PICTURES] = {picture_name(name) for name in photos}
    return files


@contextmanager
def _told_as_output_error(out: Path) -> Iterator[None]:
    try:
        yield
    except OSError as error:
        raise OutputError(f"{out}: cannot be written: {error.strerror or error}") from error
