"""Turn raw annotations of any format into one checked folder: `annotations.json`, `images/` and `report.json`."""

from __future__ import annotations

import json
import os
import shutil
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from facedet.data.checks import pixel_scale, repair_boxes
from facedet.data.coco import (
    ANNOTATIONS_FILE,
    IMAGES_FOLDER,
    SPLITS,
    FaceDataset,
    Photo,
    split_of,
    write_coco,
)
from facedet.data.download import DownloadRules, download_all, sha256_of
from facedet.data.images import read_photo
from facedet.data.raw import RawPhoto, inside, locate_photos
from facedet.data.whole_file import write_whole
from facedet.errors import DataError

REPORT_FILE = "report.json"


@dataclass(frozen=True)
class PrepareOptions:
    """images: folder whose photos are used as they are. download: fetch the rest. fractions: train, val, test."""

    images: Path | None = None
    download: bool = True
    seed: int = 0
    fractions: tuple[float, float, float] = (0.8, 0.1, 0.1)
    rules: DownloadRules = field(default_factory=DownloadRules)


@dataclass(frozen=True)
class PrepareReport:
    """counts: photos and boxes by what became of them. splits: split -> photos and faces. left_out: photo -> reason.

    sha256: photo -> checksum of the file in `images/`.
    """

    counts: dict[str, int]
    splits: dict[str, dict[str, int]]
    left_out: dict[str, str]
    dead_links: dict[str, str]
    sha256: dict[str, str]


def prepare(
    raws: Sequence[RawPhoto],
    out: str | Path,
    *,
    options: PrepareOptions | None = None,
    on_photo: Callable[[str], None] | None = None,
) -> PrepareReport:
    """Write the prepared folder `out`, going on past photos that are missing, broken or of another shape.

    Raises DataError when no photo at all is left, which the report is written for too, when there is no folder
    `options.images`, or when `out` holds something else.
    """
    options, out = options or PrepareOptions(), Path(out)
    split_of("", fractions=options.fractions)
    check_out(out)
    if options.images and not options.images.is_dir():
        raise DataError(f"{options.images}: expected a folder of photos")
    folder = out / IMAGES_FOLDER
    folder.mkdir(parents=True, exist_ok=True)
    raws, counts = unique_names(raws)
    sources, dead = _locate(raws, folder, options)
    photos, left_out = [], {}
    for raw in raws:
        try:
            photos.append(_check_photo(raw, sources.get(raw.name), folder, counts))
        except DataError as e:
            left_out[raw.name] = str(e)
        if on_photo:
            on_photo(raw.name)
    counts["photos_read"], counts["photos_left_out"] = len(raws), len(left_out)
    counts["photos_kept"] = len(photos)
    splits = {r.name: r.split or split_of(r.name, seed=options.seed, fractions=options.fractions) for r in raws}
    dataset = FaceDataset(out.name, folder, tuple(sorted(photos, key=lambda p: p.name)))
    sums = {p.name: sha256_of(p.path) for p in dataset.photos}
    report = PrepareReport(dict(sorted(counts.items())), _split_counts(dataset, splits), left_out, dead, sums)
    # The report first: it marks the annotations beside it as this function's own, and says why no photo is left.
    write_whole(out / REPORT_FILE, json.dumps(asdict(report), indent=1))
    if not photos:
        first = next(iter(left_out.values()), "none listed")
        raise DataError(f"{out}: no photo is left of {len(raws)}, see {REPORT_FILE}; the first: {first}")
    write_coco(dataset, out / ANNOTATIONS_FILE, splits=splits)
    return report


def check_out(out: Path, *, source: Path | None = None) -> None:
    """Raises DataError when `out` holds annotations that are not `prepare`'s, or that are the `source` itself."""
    target = out / ANNOTATIONS_FILE
    if not target.exists():
        return
    if source is not None and source.exists() and target.samefile(source):
        raise DataError(f"{target}: would be overwritten while it is read: expected another folder to write")
    if not (out / REPORT_FILE).is_file():
        raise DataError(f"{target}: is there already, without the {REPORT_FILE} of an earlier run: not overwritten")


def unique_names(raws: Sequence[RawPhoto]) -> tuple[list[RawPhoto], Counter[str]]:
    """Photos with distinct names. The same photo listed twice is joined, another photo of the same name is left out."""
    counts: Counter[str] = Counter()
    by_name: dict[str, RawPhoto] = {}
    for raw in raws:
        first = by_name.setdefault(raw.name, raw)
        if first is raw:
            continue
        if (first.url, first.path, first.relative) == (raw.url, raw.path, raw.relative):
            counts["photos_listed_twice_joined"] += 1
            values = {**vars(first), "corners": np.vstack([first.corners, raw.corners])}
            by_name[raw.name] = RawPhoto(**{**values, "ignore": np.concatenate([first.ignore, raw.ignore])})
        else:
            counts["photos_left_out_same_name"] += 1
    return list(by_name.values()), counts


def _locate(raws: Sequence[RawPhoto], folder: Path, options: PrepareOptions) -> tuple[dict[str, Path], dict[str, str]]:
    """name -> file for the photos that are here or could be fetched, and URL -> reason for dead links."""
    found = locate_photos(options.images, raws) if options.images else {}
    found |= {raw.name: raw.path for raw in raws if raw.path}
    wanted = {raw.name: raw.url for raw in raws if raw.url and raw.name not in found}
    results = download_all(wanted, folder, rules=options.rules) if wanted and options.download else []
    # A link may have died since an earlier run.
    found |= {name: folder / name for name in wanted if inside(folder, name).is_file()}
    return found, {r.url: r.error for r in results if r.error}


def _check_photo(raw: RawPhoto, source: Path | None, folder: Path, counts: Counter[str]) -> Photo:
    """The checked photo, placed in `folder`; DataError when it is left out (and counted by reason)."""
    target = inside(folder, raw.name)
    if raw.fault:
        counts["records_of_no_use"] += 1
        raise DataError(raw.fault)
    if source is None:
        counts["photos_missing"] += 1
        raise DataError(f"{raw.name}: no such photo here" + (f", and {raw.url} was not fetched" if raw.url else ""))
    try:
        height, width = read_photo(source).shape[:2]
    except DataError:
        counts["photos_unreadable"] += 1
        raise
    scale = pixel_scale(raw, (width, height))
    if scale is None:
        counts["photos_of_another_shape"] += 1
        raise DataError(f"{raw.name}: {width}x{height} px, its annotation says {raw.declared_wh}")
    counts["photos_of_another_size"] += int(raw.declared_wh not in (None, (width, height)))
    boxes, ignore = repair_boxes(raw, (width, height), scale, counts)
    _place(source, target)
    counts["faces"] += int((~ignore).sum())
    counts["faces_ignored"] += int(ignore.sum())
    counts["photos_without_faces"] += int(len(boxes) == 0)
    return Photo(target, raw.name, width, height, boxes, ignore)


def _place(source: Path, target: Path) -> None:
    """Put the photo at `target`: a hard link where the file system allows, else a copy."""
    if source.resolve() == target.resolve():
        return
    target.parent.mkdir(parents=True, exist_ok=True)
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)


def _split_counts(dataset: FaceDataset, splits: dict[str, str]) -> dict[str, dict[str, int]]:
    table: dict[str, Any] = {split: {"photos": 0, "faces": 0} for split in SPLITS}
    for photo in dataset.photos:
        row = table[splits[photo.name]]
        row["photos"] += 1
        row["faces"] += int((~photo.ignore).sum())
    return dict(table)
