"""The command `crowdmood video`."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Annotated

import typer


def video(
    source: Annotated[str, typer.Argument(help="A video file, or a webcam's number (0 is the first).")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the results.")] = Path("crowdmood-video"),
    every: Annotated[int, typer.Option(min=1, help="Analyse each so-many-th frame.")] = 1,
    show: Annotated[bool, typer.Option("--show", help="A live window; q ends.")] = False,
    max_frames: Annotated[int | None, typer.Option(min=1, help="Stop after so many frames.")] = None,
    detector: Annotated[str | None, typer.Option(help="Face detector: a name or a weight file.")] = None,
    emotion: Annotated[str, typer.Option(help="Emotion classifier: a name or an .onnx file.")] = "default",
    scale: Annotated[
        int | None, typer.Option(min=16, help="Reduce larger frames to this long side for the detector: faster.")
    ] = None,
    min_score: Annotated[float | None, typer.Option(min=0, max=1, help="Leave out faces scored below.")] = None,
    min_face: Annotated[int | None, typer.Option(min=1, help="Leave out faces smaller than this, in pixels.")] = None,
    min_legible: Annotated[
        float | None, typer.Option(min=0, help="Give smaller faces no emotion but `too_small`, in pixels.")
    ] = None,
    threads: Annotated[int | None, typer.Option(min=1, help="Processor threads per model.")] = None,
    fallback: Annotated[
        bool, typer.Option("--fallback/--no-fallback", help="Let another detector step in when the wanted one fails.")
    ] = True,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress and no summary.")] = False,
    as_json: Annotated[bool, typer.Option("--json", help="The summary as JSON on standard output.")] = False,
) -> None:
    """Follow faces through a video: annotated.mp4, faces.csv (per face and frame), tracks.csv (per followed face).

    Exit code 0: read to its end; 1: it breaks off; 2: nothing could be done; 130: stopped by Ctrl-C.
    """
    from pipeline.crowd_pipeline import CrowdPipeline
    from pipeline.video import STOPPED, annotate_video

    pipeline = CrowdPipeline.default(
        detector,
        emotion,
        scale=scale,
        min_score=min_score,
        min_face_px=min_face,
        min_legible_px=min_legible,
        threads=threads,
        fallback=fallback,
    )
    if pipeline.detectors.load_failure is not None:
        warning = f"{pipeline.detectors.load_failure}; {pipeline.detectors.first} is used instead"
        typer.echo(f"warning: {warning}", err=True)
    shown = not quiet and not as_json and sys.stderr.isatty()

    def on_frame(frame: int, total: int) -> None:
        if shown:
            typer.echo(f"\rframe {frame}" + (f" of {total}" if total else ""), err=True, nl=False)

    summary = annotate_video(
        source, out, pipeline=pipeline, every=every, show=show, max_frames=max_frames, on_frame=on_frame
    )
    if shown:
        typer.echo("", err=True)
    if as_json:
        typer.echo(json.dumps({"out": str(out), **summary.to_dict()}, ensure_ascii=False))
    elif not quiet:
        speed = summary.frames / summary.seconds if summary.seconds else 0
        of = f" of {summary.promised} promised" if summary.promised > summary.frames else ""
        typer.echo(f"{summary.frames} frames{of}, {summary.tracks} faces followed, {speed:.1f} frames per second")
    if summary.problem is not None:
        typer.echo(f"note: {summary.problem}; what was seen is written", err=True)
        raise typer.Exit(130 if summary.problem.startswith(STOPPED) else 1)
