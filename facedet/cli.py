"""`facedet`: prepare and look at face data, train, measure and export detectors."""

from __future__ import annotations

import errno
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table
from typer.core import TyperGroup

from facedet import cli_prepare, cli_train
from facedet.audit import KINDS, AuditRules
from facedet.data.coco import FaceDataset
from facedet.data.load import load_data
from facedet.detectors import DEFAULT_DETECTOR, load_detector
from facedet.errors import DataError, FacedetError
from facedet.mistakes import Mistakes

TRAIN_EXTRA = ("torch", "torchvision", "onnx", "matplotlib", "pycocotools", "scipy", "supervision", "yaml")
ALL_SPLITS = "all"
LOW_SCORE = 0.02


class _Group(TyperGroup):
    """Prints the errors that are meant for users, and those of files, as one line and exits with 2."""

    def invoke(self, ctx: Any) -> Any:
        try:
            return super().invoke(ctx)
        except FacedetError as error:
            typer.echo(f"error: {error}", err=True)
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise
            where = error.filename2 or error.filename
            typer.echo(f"error: {where}: {error.strerror}" if where else f"error: {error}", err=True)
        except ModuleNotFoundError as error:
            if (error.name or "").partition(".")[0] not in TRAIN_EXTRA:
                raise
            typer.echo(f"error: this command needs {error.name}: pip install 'crowdmood[train]'", err=True)
        raise typer.Exit(2)


app = typer.Typer(cls=_Group, no_args_is_help=True, add_completion=False, help=__doc__, pretty_exceptions_enable=False)
app.add_typer(cli_prepare.app, name="prepare")
app.command()(cli_train.train)

DetectorName = Annotated[str, typer.Option("--detector", help="A detector's name, or a weight file.")]
Data = Annotated[Path, typer.Argument(help="Prepared folder, COCO JSON file or WIDER FACE's own folder.")]
SplitName = Annotated[str, typer.Option("--split", help=f"train, val, test or {ALL_SPLITS}.")]
Scale = Annotated[int | None, typer.Option(help="Test scale: long side in pixels. Default: the detector's own.")]
Threads = Annotated[int | None, typer.Option(help="Processor threads.")]
AsJson = Annotated[bool, typer.Option("--json", help="Figures as JSON on standard output.")]


@app.command()
def evaluate(
    *,
    data: Annotated[Path, typer.Option(help="Prepared folder, COCO JSON file or WIDER FACE's own folder.")],
    detector: DetectorName = DEFAULT_DETECTOR,
    split: SplitName = "val",
    protocol: Annotated[str, typer.Option(help="coco: AP and AR; wider: easy, medium, hard.")] = "coco",
    scale: Scale = None,
    threads: Threads = None,
    min_score: Annotated[
        float, typer.Option(help="Detections below are left out; keep low for full curves.")
    ] = LOW_SCORE,
    min_true_px: Annotated[
        int | None, typer.Option(min=1, help="Smaller true faces neither reward nor cost; not WIDER's levels.")
    ] = None,
    plots: Annotated[Path | None, typer.Option(help="Folder for curves, misses and false alarms.")] = None,
    as_json: AsJson = False,
) -> None:
    """AP, AR and the WIDER FACE levels of a detector on one split, and what it gets right and wrong by score."""
    from facedet.evaluate import evaluate as measure
    from facedet.gallery import prepare_gallery, write_gallery

    dataset = _load(data, split)
    if min_true_px is not None:
        dataset = dataset.ignoring_small(min_true_px)
    if plots is not None:
        prepare_gallery(plots)
    engine = load_detector(detector, scale=scale, threads=threads, min_score=min_score)
    with _progress() as progress:
        task = progress.add_task("photos", total=len(dataset))
        result = measure(engine, dataset, protocol, on_photo=lambda done: progress.update(task, completed=done))
    if as_json:
        typer.echo(json.dumps(result.as_dict()))
    else:
        _print_figures(result.as_dict())
        _print_mistakes(result.by_score)
    if plots is not None:
        for path in write_gallery(result, dataset, plots):
            typer.echo(f"wrote {path}", err=True)


@app.command()
def show(
    data: Data,
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Picture to write.")] = Path("contact_sheet.jpg"),
    split: SplitName = ALL_SPLITS,
    photos: Annotated[int, typer.Option(min=1, help="How many photos.")] = 24,
    seed: Annotated[int, typer.Option(min=0, help="Which photos: a draw with this seed.")] = 0,
) -> None:
    """A contact sheet of true faces (green; ignored ones grey), to look at before training."""
    from facedet.data import draw

    dataset = _load(data, split)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(dataset))[:photos])
    tiles = []
    for photo in (dataset.photos[i] for i in chosen):
        image = draw.draw_boxes(photo.read(), photo.boxes_xyxy[~photo.ignore], draw.GREEN)
        image = draw.draw_boxes(image, photo.boxes_xyxy[photo.ignore], draw.GREY)
        tiles.append(draw.tile(image, side_px=320, caption=Path(photo.name).stem))
    draw.write_image(out, draw.contact_sheet(tiles))
    typer.echo(f"{out}: {len(tiles)} of {len(dataset)} photos")


@app.command()
def stats(data: Data, *, split: SplitName = ALL_SPLITS, as_json: AsJson = False) -> None:
    """Photos, faces per photo and face sizes."""
    from facedet.data.stats import stats as count

    figures = count(_load(data, split))
    if as_json:
        typer.echo(json.dumps(figures))
        return
    table = Table("what", "value", title=figures.pop("name"))
    for name, value in figures.items():
        rows = value.items() if isinstance(value, dict) else [("", value)]
        for key, number in rows:
            table.add_row(f"{name.replace('_', ' ')} {key}".strip(), str(number))
    Console().print(table)


@app.command()
def audit(
    data: Annotated[Path, typer.Argument(help="Prepared folder, COCO JSON file, or Dataturks' JSON with --images.")],
    *,
    detector: DetectorName = DEFAULT_DETECTOR,
    images: Annotated[Path | None, typer.Option(help="Folder of the photos.")] = None,
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="Folder for findings.jsonl and a sheet per kind.")
    ] = None,
    propose: Annotated[
        Path | None, typer.Option(help="Corrected annotations to write, in the format that came in.")
    ] = None,
    confident: Annotated[float, typer.Option(help="Detections of at least this score should have a label.")] = 0.6,
    unsure: Annotated[
        float | None,
        typer.Option(help="Tell detections from this score on too; in COCO they are proposed as faces to ignore."),
    ] = None,
    scale: Scale = None,
    as_json: AsJson = False,
) -> None:
    """Where labels and a detector differ: faces left out, labels without a face, loose boxes, duplicates."""
    from facedet.audit import audit as hold_against
    from facedet.audit_files import make_room, write_audit, write_proposal
    from facedet.data.load import load_raw

    rules = AuditRules(confident=confident, unsure=unsure)
    raw = load_raw(data, images=images)
    if propose is not None and propose.exists() and propose.samefile(raw.source):
        raise DataError(f"--propose {propose}: expected another file than the annotations that are audited")
    engine = load_detector(detector, scale=scale, min_score=rules.weak)
    make_room(out, propose)
    with _progress() as progress:
        task = progress.add_task("photos", total=len(raw.photos))
        result = hold_against(
            engine, raw.photos, rules=rules, on_photo=lambda done: progress.update(task, completed=done)
        )
    if not result.sizes:
        raise DataError(f"{data}: none of its {len(raw.photos)} photos could be read")
    figures = {"photos": len(result.sizes), "photos_skipped": len(result.skipped), "labels": result.labels}
    if as_json:
        typer.echo(json.dumps(figures | {"detector": engine.name, "findings": result.counts}))
    else:
        table = Table(
            "finding", "count", "what it is", title=f"{data}, {figures['photos']} photos, {result.labels} labels"
        )
        for kind, count in result.counts.items():
            table.add_row(kind, str(count), KINDS[kind])
        Console().print(table)
    for name, reason in list(result.skipped.items())[:1]:
        typer.echo(f"note: {len(result.skipped)} photos were skipped; the first, {name}: {reason}", err=True)
    if propose is not None:  # first: sheets need the photos once more
        write_proposal(result, raw, propose)
    if out is not None:
        write_audit(result, raw, out)


@app.command()
def average(
    first: Annotated[Path, typer.Argument(help="Run folder, checkpoint or exported file of the compact detector.")],
    second: Annotated[Path, typer.Argument(help="Another one, which began where the first was, or the other way.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="Checkpoint to write, .pt.")],
    share: Annotated[float, typer.Option(help="Of the second in the mean, between 0 and 1.")] = 0.5,
) -> None:
    """The mean of the weights of two runs, which is often better than either, as a checkpoint."""
    from facedet.average import average_compact

    average_compact(first, second, out, share=share)
    typer.echo(f"wrote {out}")


@app.command()
def export(
    run: Annotated[Path, typer.Argument(help="Run folder or checkpoint of the compact detector.")],
    *,
    out: Annotated[Path, typer.Option("--out", "-o", help="The ONNX file to write.")],
    int8: Annotated[
        Path | None,
        typer.Option(help="Data set whose photos show the ranges of values: eight-bit arithmetic, faster by half."),
    ] = None,
) -> None:
    """Write a trained compact detector as one ONNX file that needs no torch: `--detector FILE.onnx`."""
    from facedet.export import export_compact

    if int8 is None:
        export_compact(run, out)
        typer.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB")
        return
    from facedet.quantize import export_int8

    difference = export_int8(run, out, load_data(int8).photos)
    typer.echo(f"{out}: {out.stat().st_size / 1e6:.2f} MB, int8; scores differ by {difference:.3f} on the average")


def _load(data: Path, split: str) -> FaceDataset:
    return load_data(data, split=None if split == ALL_SPLITS else split)


def _progress() -> Progress:
    return Progress(console=Console(stderr=True), transient=True)


def _print_figures(figures: dict[str, Any]) -> None:
    title = f"{figures['detector']} on {figures['dataset']}, test scale {figures['scale']}, {figures['protocol']}"
    table = Table("measure", "value", "95 % interval", title=title)
    for name, value in figures["metrics"].items():
        ends = figures["intervals"].get(name)
        table.add_row(name, "-" if value is None else f"{value:.4f}", f"{ends[0]:.3f} to {ends[1]:.3f}" if ends else "")
    for name in ("photos", "faces", "ms_per_photo"):
        table.add_row(name.replace("_", " "), str(figures[name]))
    if point := figures["operating_point"]:
        text = f"score {point['score']:.3f}: precision {point['precision']:.3f}, recall {point['recall']:.3f}"
        table.add_row("best F1", f"{point['f1']:.4f} at {text}")
    Console().print(table)


def _print_mistakes(rows: Sequence[Mistakes]) -> None:
    kinds = ("right", "off", "twice", "background", "missed")
    table = Table("from score", "precision", "recall", *kinds, title="Right and wrong at IoU 0.5")
    for row in rows:
        shares = ["-" if share is None else f"{share:.3f}" for share in (row.precision, row.recall)]
        table.add_row(f"{row.score:g}", *shares, *(str(getattr(row, kind)) for kind in kinds))
    Console().print(table)


if __name__ == "__main__":
    app()
