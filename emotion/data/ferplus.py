"""FER+: ten annotators' votes for FER-2013 images (Barsoum et al. 2016, https://arxiv.org/abs/1608.01041)."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import numpy.typing as npt

from emotion.errors import DataError
from emotion.expressions import EMOTIONS

FERPLUS_CLASSES = ("neutral", "happiness", "surprise", "sadness", "anger", "disgust", "fear", "contempt")
TO_FER2013 = {
    "neutral": "neutral", "happiness": "happy", "surprise": "surprise", "sadness": "sad",
    "anger": "angry", "disgust": "disgust", "fear": "fear",
}  # fmt: skip
"""FER+ name -> FER-2013 name; contempt has no counterpart."""


def load_ferplus_votes(path: str | Path, names: tuple[str, ...]) -> npt.NDArray[np.float32]:
    """Votes per image as float32 [N, 8] in `FERPLUS_CLASSES` order, rows in the order of `names`.

    Votes for "unknown" and "NF" (no face) are left out; an image without votes has a row of zeros.
    The file has the ten choices and either a column `file`, or Microsoft's `Usage` and `Image name`: fer2013new.csv has
    a line for every line of fer2013.csv, and so belongs to names that were read from there.
    Raises DataError when the file cannot be read, columns are missing or a vote is no number.
    """
    path = Path(path)
    if not path.exists():
        raise DataError(f"{path}: no such file; expected FER+ votes as CSV")
    votes = np.zeros((len(names), len(FERPLUS_CLASSES)), np.float32)
    try:
        _read_votes(path, {name: i for i, name in enumerate(names)}, votes)
    except (csv.Error, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}: damaged, or not FER+ votes as CSV: {error}") from None
    return votes


def _read_votes(path: Path, row_of: dict[str, int], votes: npt.NDArray[np.float32]) -> None:
    """Put the votes of the file into the rows of their names."""
    with path.open(newline="", encoding="utf-8-sig") as file:
        reader = csv.DictReader(file)
        columns = set(reader.fieldnames or ())
        by_line = {"Usage", "Image name"} <= columns
        missing = {*FERPLUS_CLASSES} - columns if by_line else {"file", *FERPLUS_CLASSES} - columns
        if missing:
            raise DataError(f"{path}: missing column {', '.join(sorted(missing))}")
        for row in reader:
            index = row_of.get(f"line {reader.line_num}" if by_line else row["file"])
            if index is None:
                continue
            try:
                votes[index] = [float(row[c]) for c in FERPLUS_CLASSES]
            except (TypeError, ValueError):
                raise DataError(f"{path}:{reader.line_num}: expected a number of votes in every column") from None


def ferplus_majority(votes: npt.NDArray[np.float32]) -> npt.NDArray[np.int64]:
    """int64 [N], position in `EMOTIONS` of the choice with most votes; -1 for a tie, contempt, or no votes at all."""
    column = np.array([EMOTIONS.index(TO_FER2013[c]) if c in TO_FER2013 else -1 for c in FERPLUS_CLASSES], np.int64)
    ordered = np.sort(votes, axis=1)
    majority: npt.NDArray[np.int64] = np.where(ordered[:, -1] > ordered[:, -2], column[votes.argmax(1)], -1)
    return majority
