"""FER+: ten annotators' votes for FER-2013 images (Barsoum et al. 2016, https://arxiv.org/abs/1608.01041)."""

from __future__ import annotations

import csv
import math
from dataclasses import replace
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotion.data.fer2013 import FerSplit
from emotion.errors import DataError
from emotion.expressions import EMOTIONS

FERPLUS_CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
TO_FER2013 = {
    "neutral": "neutral", "happiness": "happy", "surprise": "surprise", "sadness": "sad",
    "anger": "angry", "disgust": "disgust", "fear": "fear",
}  # fmt: skip
"""FER+ name -> FER-2013 name; contempt has no counterpart."""


def load_ferplus_votes(path: str | Path, names: tuple[str, ...], *, usage: str = "") -> npt.NDArray[np.float32]:
    """Votes per image as float32 [N, 8] in `FERPLUS_CLASSES` order, rows in the order of `names`.

    Votes for "unknown" and "NF" (no face) are left out; an image without votes has a row of zeros.
    The file has the ten choices and either a column `file`, or Microsoft's `Usage` and `Image name`: fer2013new.csv has
    a line for every line of fer2013.csv, and so belongs to names that were read from there. usage: the `Usage` of these
    images where it is known; a line of another one shows that the two files do not belong together.
    Raises DataError when the file cannot be read, columns are missing, a vote is no number of people or a line has
    another Usage.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; expected FER+ votes as CSV")
    votes = np.zeros((len(names), len(FERPLUS_CLASSES)), np.float32)
    try:
        _read_votes(path, {name: i for i, name in enumerate(names)}, usage, votes)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: damaged, or not FER+ votes as CSV: {error}") from None
    return votes


def votes_of(split: FerSplit, path: str | Path | None) -> npt.NDArray[np.float32]:
    """As `load_ferplus_votes`, for the images of a split; nobody has voted where there is no file."""
    if path is None:
        return np.zeros((len(split), len(FERPLUS_CLASSES)), np.float32)
    return load_ferplus_votes(path, split.names, usage=split.usage)


def _read_votes(path: Path, row_of: dict[str, int], usage: str, votes: npt.NDArray[np.float32]) -> None:
    """Put the votes of the file into the rows of their names."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        by_line = {"Usage", "Image name"} <= columns
        missing = {*FERPLUS_CLASSES} - columns if by_line else {"file", *FERPLUS_CLASSES} - columns
        if missing:
            raise DataError(f"{path}: missing column {', '.join(sorted(missing))}")
        for row in reader:
            where = f"{path}:{reader.line_num}"
            index = row_of.get(f"line {reader.line_num}" if by_line else row["file"])
            if index is None:
                continue
            if by_line and usage and row["Usage"] != usage:
                raise DataError(
                    f"{where}: Usage {row['Usage']!r}, but {usage!r} in the same line of the images' file: expected "
                    "fer2013.csv with all its lines"
                )
            votes[index] = [_count(row[name], name, where) for name in FERPLUS_CLASSES]


def _count(text: str | None, name: str, where: str) -> float:
    """The number of votes in column `name`. where: file and line, for errors."""
    try:
        count = float(text or "")
    except ValueError:
        count = math.nan
    if not 0 <= count < math.inf:
        raise DataError(f"{where}: expected a number of votes in every column, 0 or more, got {name} {text!r}")
    return count


def ferplus_majority(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """int64 [N], position in `EMOTIONS` of the choice with most votes; -1 for a tie, contempt, or no votes at all."""
    column = np.array([EMOTIONS.index(TO_FER2013[c]) if c in TO_FER2013 else -1 for c in FERPLUS_CLASSES], np.int64)
    ordered = np.sort(votes, axis=1)
    majority: npt.NDArray[np.int64] = np.where(ordered[:, -1] > ordered[:, -2], column[votes.argmax(1)], -1)
    return majority


def ferplus_relabelled(split: FerSplit, path: str | Path | None) -> FerSplit:
    """The images whose FER+ votes have one clear majority among the seven emotions, with that as their label.

    Raises DataError when there is none, and as `load_ferplus_votes`.
    """
    labels = ferplus_majority(votes_of(split, path))
    if not (labels >= 0).any():
        raise DataError(f"{path}: no image of this split has a clear majority; expected votes keyed by file name")
    return replace(split.subset(labels >= 0), labels=labels[labels >= 0])
