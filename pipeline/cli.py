"""crowdmood: find the faces in photos of crowds and read their expressions."""

from __future__ import annotations

import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperGroup

from pipeline.cli_evaluate import calibrate, evaluate
from pipeline.cli_video import video
from pipeline.errors import OutputError, UsageError
from pipeline.progress import progress

if TYPE_CHECKING:
    from pipeline.reading import PhotoReading
    from pipeline.run import RunSettings
    from pipeline.sources import Source
    from pipeline.summary import Summary

USER_ERRORS = ("facedet.errors", "emotion.errors", "pipeline.errors")
FORMAT_HELP = (
    "What to write, repeatable or with commas: pictures, jsonl, csv, coco, coco-emotions, yolo, yolo-emotions, voc, "
    "dataturks. Without it: pictures, jsonl, csv."
)
CONVERT_HELP = "pictures (with --photos), csv, coco, coco-emotions, yolo, yolo-emotions, voc, dataturks."
INTERRUPTED = 130
"""Exit code after Ctrl-C, as shells have it."""


class _Group(TyperGroup):
    """Prints the errors that are meant for users as one line and exits with 2; Ctrl-C exits with 130."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo("\nstopped", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except Exception as error:
            if type(error).__module__ not in USER_ERRORS:
                raise
            typer.echo(f"error: {error}", err=True)
        raise typer.Exit(2)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)


@app.callback()
def _commands() -> None:
    """Find the faces in photos of crowds and read their expressions."""


app.command()(evaluate)
app.command()(calibrate)
app.command()(video)


@app.command()
def annotate(
    photos: Annotated[
        list[str] | None,
        typer.Argument(help="Photos, folders (searched recursively), quoted globs, URLs, or - for paths on stdin."),
    ] = None,
    *,
    list_file: Annotated[Path | None, typer.Option("--list", help="File with a path or URL per line.")] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("crowdmood-out"),
    detector: Annotated[str | None, typer.Option(help="Face detector: a name or a weight file.")] = None,
    emotion: Annotated[str, typer.Option(help="Emotion classifier: a name or an .onnx file.")] = "default",
    scale: Annotated[
        int | None, typer.Option(min=16, help="Reduce larger photos to this long side for the detector: faster.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="Leave out faces scored below.")] = None,
    min_face: Annotated[int | None, typer.Option(min=1, help="Leave out faces smaller than this, in pixels.")] = None,
    min_legible: Annotated[
        float | None, typer.Option(min=0, help="Give smaller faces no emotion but `too_small`, in pixels.")
    ] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Refuse photos with more pixels.")] = 200_000_000,
    allow_private: Annotated[
        bool, typer.Option("--allow-private", help="Fetch URLs of private addresses (own machine, local network) too.")
    ] = False,
    max_download: Annotated[int, typer.Option(min=1, help="Refuse to fetch more bytes per photo.")] = 50_000_000,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads per model and worker.")] = None,
    workers: Annotated[int, typer.Option(min=1, max=64, help="Photos worked on at once.")] = 1,
    formats: Annotated[list[str] | None, typer.Option("--format", help=FORMAT_HELP)] = None,
    images: Annotated[bool, typer.Option("--images/--no-images", help="Write annotated pictures.")] = True,
    fallback: Annotated[
        bool, typer.Option("--fallback/--no-fallback", help="Let another detector step in when the wanted one fails.")
    ] = True,
    timing: Annotated[
        bool, typer.Option("--timing/--no-timing", help="Write elapsed_ms; without it equal runs write equal bytes.")
    ] = True,
    resume: Annotated[bool, typer.Option("--resume", help="Go on with a run that was stopped or killed.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress bar and no summary.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON on standard output.")] = False,
) -> None:
    """Draw faces and emotions on photos; write results.jsonl and faces.csv.

    Exit code 0: all photos were read; 1: some could not be, see "error" in results.jsonl; 2: nothing could be done.
    """
    from pipeline.crowd_pipeline import MIN_LEGIBLE_PX
    from pipeline.run import RunSettings
    from pipeline.web import WebLimits

    written = _formats(formats)
    settings = RunSettings(
        detector=detector,
        emotion_model=emotion,
        scale=scale,
        min_score=min_score,
        min_face_px=min_face,
        min_legible_px=MIN_LEGIBLE_PX if min_legible is None else min_legible,
        fallback=fallback,
        max_pixels=max_pixels,
        formats=tuple(name for name in written if name != "pictures"),
        pictures=images and "pictures" in written,
        timing=timing,
        web=WebLimits(max_bytes=max_download, allow_private=allow_private),
        workers=workers,
        threads=threads,
    )
    warnings.filterwarnings("ignore", module="PIL")  # on damaged EXIF and the like; what matters ends in `error`
    sources = _sources(photos or [], list_file, out)
    summary = _run(sources, out, settings=settings, resume=resume, quiet=quiet or as_json)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **summary.to_dict()}, ensure_ascii=False))
    elif not quiet:
        typer.echo(summary.to_text())
    if summary.errors:
        raise typer.Exit(1)


@app.command()
def report(
    out: Annotated[Path, typer.Argument(help="Output folder of a finished `crowdmood annotate`.")],
    *,
    to: Annotated[Path | None, typer.Option("--to", help="Where to write it; default OUT/report.html.")] = None,
    thumbnails: Annotated[int, typer.Option(min=0, help="Photos that get a thumbnail at most.")] = 2000,
) -> None:
    """Write one HTML page about a run: totals, histograms, a table with thumbnails, errors, settings."""
    from pipeline.report import write_report

    try:
        path = write_report(out, to, max_thumbnails=thumbnails)
    except OSError as error:
        raise OutputError(f"{to or out}: cannot be written: {error.strerror or error}") from error
    typer.echo(str(path))


@app.command()
def convert(
    results: Annotated[
        Path, typer.Argument(help="Output folder of a finished `crowdmood annotate`, or results.jsonl.")
    ],
    *,
    formats: Annotated[list[str], typer.Option("--format", help="Repeatable or with commas: " + CONVERT_HELP)],
    photos: Annotated[Path | None, typer.Option(help="Folder of the photos, to draw pictures again.")] = None,
    to: Annotated[Path | None, typer.Option("--to", help="Folder to write to; default: that of the results.")] = None,
    max_pixels: Annotated[int, typer.Option(min=1, help="Draw on no photos with more pixels.")] = 200_000_000,
) -> None:
    """Write a finished run in other formats; emotions corrected in its results.jsonl count.

    Exit code 1: some photos could not be drawn on.
    """
    from pipeline.convert import convert as write

    written = [name for name in _formats(formats) if name != "jsonl"]
    if not written:
        raise UsageError(f"--format jsonl: that is what is read; expected some of {CONVERT_HELP}")
    notes: list[str] = []
    try:
        paths = write(results, written, to=to, photos=photos, max_pixels=max_pixels, on_note=notes.append)
    except OSError as error:
        raise OutputError(f"{to or results}: cannot be written: {error.strerror or error}") from error
    for path in paths:
        typer.echo(str(path))
    for note in notes:
        typer.echo(f"note: {note}", err=True)
    if notes:
        raise typer.Exit(1)


def _sources(photos: list[str], list_file: Path | None, out: Path) -> list[Source]:
    """What the arguments, the list file and standard input mean."""
    from pipeline.sources import find_photos, read_list

    if not photos and list_file is None:
        raise UsageError("expected photos, folders, globs or URLs, - for paths on standard input, or --list FILE")
    listed = read_list(list_file) if list_file is not None else []
    if "-" in photos:
        listed += read_list(None)
    return find_photos([photo for photo in photos if photo != "-"], listed=listed, exclude=out)


def _run(sources: list[Source], out: Path, *, settings: RunSettings, resume: bool, quiet: bool) -> Summary:
    """Load the models, do the work; Ctrl-C and a full disk say how to go on."""
    from pipeline.run import annotate as annotate_all
    from pipeline.run import load_pipelines

    pipelines = load_pipelines(settings)
    reason = pipelines[0].detectors.load_failure
    if reason is not None:
        typer.echo(f"warning: {reason}; {pipelines[0].detectors.first} is used instead", err=True)
    count = faces = 0
    with progress(len(sources), shown=not quiet) as advance:

        def on_reading(reading: PhotoReading) -> None:
            nonlocal count, faces
            count += 1
            faces += len(reading.faces)
            advance(f"{faces} faces")

        try:
            return annotate_all(
                sources,
                out,
                settings=settings,
                pipelines=pipelines,
                resume=resume,
                on_reading=on_reading,
                on_note=lambda text: typer.echo(f"note: {text}", err=True),
            )
        except KeyboardInterrupt:
            typer.echo(f"\nstopped; {_how_to_go_on(count, len(sources))}", err=True)
            raise typer.Exit(INTERRUPTED) from None
        except OutputError as error:
            raise OutputError(f"{error}; {_how_to_go_on(count, len(sources))}" if count else str(error)) from error


def _how_to_go_on(done: int, photos: int) -> str:
    return f"{done} of {photos} photos are done: the same command with --resume goes on from there"


def _formats(wanted: list[str] | None) -> tuple[str, ...]:
    """The outputs that were asked for; results.jsonl always is, for everything else can be made from it."""
    from pipeline.sinks import SINKS

    names = [name.strip() for part in wanted or ["pictures,jsonl,csv"] for name in part.split(",")]
    unknown = [name for name in names if name != "pictures" and name not in SINKS]
    if unknown:
        raise UsageError(f"--format {', '.join(unknown)}: expected some of pictures, {', '.join(SINKS)}")
    return tuple(dict.fromkeys(["jsonl", *names]))
