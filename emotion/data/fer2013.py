"""FER-2013 from any of its three common layouts.

- `fer2013.csv`: columns emotion,pixels,Usage (Goodfellow et al. 2013, "Challenges in Representation Learning")
- Kaggle's `archive.zip`: train/<label>/Training_*.jpg and test/<label>/{PublicTest,PrivateTest}_*.jpg
- that archive, unpacked
"""

from __future__ import annotations

import csv
import logging
import zipfile
import zlib
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath

import cv2
import numpy as np
import numpy.typing as npt

from emotion.errors import DataError, EmptySplit
from emotion.expressions import EMOTIONS

SIDE = 48
SPLITS = {"train": "Training", "public": "PublicTest", "private": "PrivateTest"}
"""Our split name -> the `Usage` column and file-name prefix of FER-2013."""
EXPECTED_COUNTS = {"train": 28_709, "public": 3_589, "private": 3_589}


@dataclass(frozen=True, eq=False)
class FerSplit:
    """One split: images uint8 [N, 48, 48] grey, labels int64 [N] in `EMOTIONS` order, names (file or CSV line).

    source: where it was read, for errors. usage: the `Usage` of its images, empty when it is not known.
    """

    images: npt.NDArray[np.uint8]
    labels: npt.NDArray[np.int64]
    names: tuple[str, ...]
    source: str = "these images"
    usage: str = ""

    def __len__(self) -> int:
        return len(self.labels)

    def subset(self, keep: npt.NDArray[np.bool_]) -> FerSplit:
        """The rows where `keep` (bool [N]) is true."""
        names = tuple(name for name, kept in zip(self.names, keep, strict=True) if kept)
        return replace(self, images=self.images[keep], labels=self.labels[keep], names=names)

    def of_classes(self, names: tuple[str, ...]) -> FerSplit:
        """The images labelled with one of `names`, labels being positions in `names`. DataError when none is."""
        position = np.array([names.index(emotion) if emotion in names else -1 for emotion in EMOTIONS])
        labels = position[self.labels]
        if not (labels >= 0).any():
            raise DataError(f"{self.source}: no image is labelled {' or '.join(names)}")
        kept = self.subset(labels >= 0)
        return replace(kept, labels=labels[labels >= 0].astype(np.int64))


def load_fer2013(path: str | Path, split: str) -> FerSplit:
    """Read one split ("train", "public" or "private") from a CSV, a zip or a folder.

    Raises DataError, naming file and row, when something is missing, unknown or corrupt, or the split is empty.
    """
    path = Path(path)
    if split not in SPLITS:
        raise DataError(f"unknown split {split!r}: expected one of {', '.join(SPLITS)}")
    if not path.exists():
        raise DataError(f"{path}: no such file or folder; expected fer2013.csv, archive.zip or its unpacked folder")
    if path.is_dir():
        rows = _rows_of_folder(path, SPLITS[split])
    elif zipfile.is_zipfile(path):
        rows = _rows_of_zip(path, SPLITS[split])
    elif path.suffix.lower() == ".csv":
        rows = _rows_of_csv(path, SPLITS[split])
    else:
        raise DataError(f"{path}: expected fer2013.csv, archive.zip or its unpacked folder")
    images, labels, names = [], [], []
    try:
        for name, label, image in rows:
            names.append(name)
            labels.append(label)
            images.append(image)
    except (csv.Error, UnicodeDecodeError, zlib.error, zipfile.BadZipFile, RuntimeError, OSError) as error:
        raise DataError(f"{path}: damaged after {names[-1] if names else 'the start'}: {error}") from None
    if not images:
        raise EmptySplit(f"{path}: no image of split {split!r} ({SPLITS[split]}) found")
    source = f"{path}, split {split!r}"
    return FerSplit(np.stack(images), np.array(labels, np.int64), tuple(names), source, SPLITS[split])


def load_split_if_any(path: str | Path, split: str) -> FerSplit | None:
    """As `load_fer2013`, but None when the data has no image of the split. Damage is an error all the same."""
    try:
        return load_fer2013(path, split)
    except EmptySplit:
        return None


def count_report(split: str, loaded: FerSplit) -> str | None:
    """A sentence when the number of images differs from the official one, else None."""
    expected = EXPECTED_COUNTS[split]
    if len(loaded) == expected:
        return None
    return f"split {split!r} has {len(loaded):,} images; the official FER-2013 has {expected:,}"


def warn_of_count(split: str, loaded: FerSplit) -> None:
    """Log a warning when the number of images differs from the official one."""
    note = count_report(split, loaded)
    if note:
        logging.getLogger(__name__).warning("note: %s", note)


def drop_duplicates(train: FerSplit, *held_out: FerSplit) -> tuple[FerSplit, int]:
    """Remove from `train` every image whose pixels also occur in a held-out split; returns it and how many."""
    seen = {image.tobytes() for split in held_out for image in split.images}
    keep = np.array([image.tobytes() not in seen for image in train.images], bool)
    return train.subset(keep), int((~keep).sum())


def load_training(path: str | Path) -> tuple[FerSplit, FerSplit, int]:
    """Training without the images that also occur in PublicTest or PrivateTest, PublicTest, and how many were dropped.

    Logs a warning for a split that has not the official number of images, and for data without PrivateTest. Raises
    DataError.
    """
    train, public, private = (
        load_fer2013(path, "train"),
        load_fer2013(path, "public"),
        load_split_if_any(path, "private"),
    )
    warn_of_count("train", train)
    warn_of_count("public", public)
    if private is None:
        logging.getLogger(__name__).warning(
            "note: %s has no PrivateTest: what Training shares with it, some 280 images of the whole set, is learnt",
            path,
        )
    kept, dropped = drop_duplicates(train, public, *([] if private is None else [private]))
    return kept, public, dropped


def _rows_of_csv(path: Path, usage: str) -> Iterator[tuple[str, int, npt.NDArray[np.uint8]]]:
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        missing = {"emotion", "pixels", "Usage"} - set(reader.fieldnames or ())
        if missing:
            raise DataError(
                f"{path}: expected columns emotion,pixels,Usage; missing {', '.join(sorted(missing))}, "
                f"found {', '.join(reader.fieldnames or ()) or 'none'}"
            )
        for row in reader:
            where = f"{path}:{reader.line_num}"
            if row["Usage"] not in SPLITS.values():
                raise DataError(f"{where}: unknown Usage {row['Usage']!r}: expected {', '.join(SPLITS.values())}")
            if row["Usage"] == usage:
                yield f"line {reader.line_num}", _label_of_number(row["emotion"], where), _pixels(row["pixels"], where)


def _label_of_number(text: str | None, where: str) -> int:
    if text is None or not text.isdecimal() or int(text) >= len(EMOTIONS):
        raise DataError(f"{where}: emotion {text!r}: expected a number from 0 to {len(EMOTIONS) - 1}")
    return int(text)


def _pixels(text: str | None, where: str) -> npt.NDArray[np.uint8]:
    try:
        values = np.array((text or "").split(), np.int64)
    except (ValueError, OverflowError) as error:
        raise DataError(f"{where}: pixels: {error}") from None
    if values.size != SIDE * SIDE:
        raise DataError(f"{where}: {values.size} pixels: expected {SIDE * SIDE} ({SIDE}x{SIDE})")
    if values.min() < 0 or values.max() > 255:
        raise DataError(f"{where}: pixel value {values[(values < 0) | (values > 255)][0]}: expected 0 to 255")
    return values.astype(np.uint8).reshape(SIDE, SIDE)


def _rows_of_zip(path: Path, prefix: str) -> Iterator[tuple[str, int, npt.NDArray[np.uint8]]]:
    with zipfile.ZipFile(path) as archive:
        for name in sorted(archive.namelist()):
            if PurePosixPath(name).name.startswith(prefix + "_"):
                yield _decode(name, archive.read(name), f"{path}!{name}")


def _rows_of_folder(path: Path, prefix: str) -> Iterator[tuple[str, int, npt.NDArray[np.uint8]]]:
    for file in sorted(path.rglob(prefix + "_*")):
        if file.is_file():
            yield _decode(file.relative_to(path).as_posix(), file.read_bytes(), str(file))


def _decode(name: str, data: bytes, where: str) -> tuple[str, int, npt.NDArray[np.uint8]]:
    label = PurePosixPath(name).parent.name
    if label not in EMOTIONS:
        raise DataError(f"{where}: unknown label folder {label!r}: expected one of {', '.join(EMOTIONS)}")
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_GRAYSCALE) if data else None
    if image is None:
        raise DataError(f"{where}: not a readable image")
    if image.shape != (SIDE, SIDE):
        raise DataError(f"{where}: {image.shape[1]}x{image.shape[0]} pixels: expected {SIDE}x{SIDE}")
    return name, EMOTIONS.index(label), image.astype(np.uint8)
