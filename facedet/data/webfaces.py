"""Caltech 10,000 Web Faces: eyes, nose and mouth of each face, from which a box is derived.

Angelova, Abu-Mostafa, Perona 2005, "Pruning training sets for learning of object categories".
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt

from facedet.data.raw import RawPhoto, corners_array, inside
from facedet.errors import DataError

WIDTH_OF = (1.29, 0.87)
"""A box's width: so many distances between the eyes, plus so many between the eyes' middle and the mouth."""
HEIGHT_OF = (1.38, 1.49)
"""Its height, in the same distances."""
LIFT = 0.24
"""Its centre lies above the middle between eyes and mouth by this part of their distance."""


def read_webfaces(ground_truth: str | Path, images: str | Path) -> list[RawPhoto]:
    """One photo per name in `WebFaces_GroundThruth.txt`; one that is not in `images` has no path.

    Boxes are derived from the landmarks by constants that were fitted to a detector's boxes of 250 of the photos; some
    faces of the set are not labelled (`facedet audit --propose` adds those that a detector is sure of).
    Raises DataError naming the line when it is not a name and eight numbers.
    """
    ground_truth = Path(ground_truth)
    try:
        lines = ground_truth.read_text(encoding="utf-8-sig").splitlines()
    except (OSError, UnicodeDecodeError) as e:
        raise DataError(f"{ground_truth}: cannot be read: {e}") from e
    faces: dict[str, list[npt.NDArray[np.float64]]] = {}
    for number, line in enumerate(lines, 1):
        if not line.strip():
            continue
        name, *numbers = line.split()
        try:
            landmarks = np.array(numbers, np.float64).reshape(4, 2)
            if not np.isfinite(landmarks).all():
                raise ValueError("a number is not finite")
        except ValueError as e:
            raise DataError(f"{ground_truth}: line {number}: expected a photo's name and eight numbers: {e}") from e
        faces.setdefault(name, []).append(box_of_landmarks(landmarks))
    if not faces:
        raise DataError(f"{ground_truth}: expected lines of a photo's name and eight numbers, found none")
    photos = []
    for name, boxes in faces.items():
        path = inside(Path(images), name)
        ignore = np.zeros(len(boxes), np.bool_)
        photos.append(
            RawPhoto(
                name, corners_array([box.tolist() for box in boxes]), ignore, path=path if path.is_file() else None
            )
        )
    return photos


def box_of_landmarks(landmarks: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
    """Box float64 [4] (x1, y1, x2, y2) of left eye, right eye, nose and mouth, float64 [4, 2], all in pixels."""
    left, right, _, mouth = landmarks
    eyes = (left + right) / 2
    distances = np.array([np.linalg.norm(right - left), np.linalg.norm(mouth - eyes)])
    half = np.array([distances @ WIDTH_OF, distances @ HEIGHT_OF]) / 2
    centre = (eyes + mouth) / 2 + LIFT * (eyes - mouth)
    return np.concatenate([centre - half, centre + half])
