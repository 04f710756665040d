"""`facedet prepare`: any annotation format to one checked folder."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress
from rich.table import Table

from facedet.data.coco import IMAGES_FOLDER, read_coco
from facedet.data.dataturks import read_dataturks
from facedet.data.download import DownloadRules
from facedet.data.prepare import REPORT_FILE, PrepareOptions, PrepareReport, check_out, prepare
from facedet.data.raw import RawPhoto
from facedet.data.voc import read_voc
from facedet.data.webfaces import read_webfaces
from facedet.data.wider import read_wider
from facedet.data.yolo import read_yolo
from facedet.errors import ConfigError, DataError

app = typer.Typer(no_args_is_help=True, help="Turn annotations of any format into one checked folder in COCO form.")

Out = Annotated[Path, typer.Option("--out", "-o", help="Folder to write: annotations.json, images/, report.json.")]
Images = Annotated[Path | None, typer.Option(help="Folder of the photos.")]
Seed = Annotated[int, typer.Option(help="Seed of the split by photo.")]
Split = Annotated[
    str, typer.Option("--split", help="Shares of train, val and test, of photos that have no split in the source.")
]
FaceClass = Annotated[list[str] | None, typer.Option(help="Class name that counts as a face; may be repeated.")]


@app.command()
def dataturks(
    annotations: Annotated[Path, typer.Argument(help="Dataturks' JSON, of any of its three shapes.")],
    *,
    out: Out,
    images: Images = None,
    download: Annotated[bool, typer.Option(help="Fetch the photos that are not in --images.")] = True,
    workers: Annotated[int, typer.Option(help="Downloads at once.")] = 8,
    seed: Seed = 0,
    split: Split = "0.8,0.1,0.1",
) -> None:
    """Dataturks: photos from --images (named as their URL's last part, or by a relative URL), the rest fetched."""
    rules = DownloadRules(workers=workers)
    options = PrepareOptions(images, download, seed, parse_split(split), rules)
    _run(lambda: read_dataturks(annotations), out, options, source=annotations)


@app.command()
def wider(
    folder: Annotated[Path, typer.Argument(help="Folder with images/ and one wider_face_*_bbx_gt.txt.")],
    *,
    out: Out,
    seed: Seed = 0,
    split: Split = "0.8,0.1,0.1",
) -> None:
    """WIDER FACE in its own layout; faces marked invalid are ignored in training and measuring."""
    _run(lambda: read_wider(folder), out, PrepareOptions(seed=seed, fractions=parse_split(split)))


@app.command()
def voc(
    folder: Annotated[Path, typer.Argument(help="Folder with Pascal VOC XML files, at any depth.")],
    *,
    out: Out,
    images: Images = None,
    face_class: FaceClass = None,
    seed: Seed = 0,
    split: Split = "0.8,0.1,0.1",
) -> None:
    """Pascal VOC, photos in the XML files' subfolders or of a unique name; difficult faces are ignored later on."""
    options = PrepareOptions(seed=seed, fractions=parse_split(split))
    wanted = face_class or ["face"]
    _run(lambda: read_voc(folder, images=images, classes=wanted, without=out), out, options, images=images)


@app.command()
def yolo(
    folder: Annotated[Path, typer.Argument(help="Folder with images/ and labels/, and data.yaml or classes.txt.")],
    *,
    out: Out,
    images: Images = None,
    face_class: FaceClass = None,
    seed: Seed = 0,
    split: Split = "0.8,0.1,0.1",
) -> None:
    """YOLO text files; polygons become their bounding boxes, landmarks are left out by `kpt_shape` in data.yaml."""
    options = PrepareOptions(seed=seed, fractions=parse_split(split))
    _run(
        lambda: read_yolo(folder, images=images, classes=face_class, without=out, notice=_notice), out, options,
        images=images,
    )  # fmt: skip


@app.command()
def webfaces(
    annotations: Annotated[Path, typer.Argument(help="WebFaces_GroundThruth.txt: eyes, nose and mouth of each face.")],
    *,
    out: Out,
    images: Annotated[Path, typer.Option(help="Folder of the photos.")],
    seed: Seed = 0,
    split: Split = "0.8,0.1,0.1",
) -> None:
    """Caltech 10,000 Web Faces; boxes are derived from the landmarks."""
    options = PrepareOptions(seed=seed, fractions=parse_split(split))
    _run(lambda: read_webfaces(annotations, images), out, options, source=annotations, images=images)


@app.command()
def coco(
    annotations: Annotated[Path, typer.Argument(help="COCO JSON file.")],
    *,
    out: Out,
    images: Images = None,
    face_class: FaceClass = None,
    seed: Seed = 0,
    split: Split = "0.8,0.1,0.1",
) -> None:
    """COCO JSON; a `split` that an image carries is kept."""
    options = PrepareOptions(seed=seed, fractions=parse_split(split))
    folder = images or annotations.parent / IMAGES_FOLDER
    _run(
        lambda: read_coco(annotations, folder, classes=face_class or ["face"], notice=_notice), out, options,
        source=annotations, images=images,
    )  # fmt: skip


def parse_split(text: str) -> tuple[float, float, float]:
    """ "0.8,0.1,0.1" as three numbers; ConfigError for anything else."""
    try:
        train, val, test = (float(part) for part in text.split(","))
    except ValueError as e:
        raise ConfigError([f"--split {text!r}: expected three numbers, such as 0.8,0.1,0.1"]) from e
    if math.isnan(train + val + test):
        raise ConfigError([f"--split {text!r}: expected three numbers with sum 1, such as 0.8,0.1,0.1"])
    return train, val, test


def _run(
    read: Callable[[], Sequence[RawPhoto]], out: Path, options: PrepareOptions, *,
    source: Path | None = None, images: Path | None = None,
) -> None:  # fmt: skip
    check_out(out, source=source)
    if images is not None and not images.is_dir():
        raise DataError(f"{images}: expected a folder of photos")
    raws = read()
    console = Console(stderr=True)
    with Progress(console=console, transient=True) as progress:
        task = progress.add_task("photos", total=len(raws))
        report = prepare(raws, out, options=options, on_photo=lambda _: progress.advance(task))
    print_report(report, out)


def _notice(sentence: str) -> None:
    typer.echo(f"note: {sentence}", err=True)


def print_report(report: PrepareReport, out: Path) -> None:
    """Tables of splits and of what was kept, repaired and left out."""
    console = Console()
    table = Table("split", "photos", "faces", title=str(out))
    for split, row in report.splits.items():
        table.add_row(split, str(row["photos"]), str(row["faces"]))
    console.print(table)
    counts = Table("what", "count")
    for name, count in report.counts.items():
        if count:
            counts.add_row(name.replace("_", " "), str(count))
    console.print(counts)
    if report.dead_links or report.left_out:
        console.print(
            f"{len(report.left_out)} photos left out, {len(report.dead_links)} dead links: {out / REPORT_FILE}"
        )
