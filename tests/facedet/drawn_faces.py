"""Photos of drawn faces: an ellipse with eyes and a mouth, on blurred noise. Enough for a network to learn."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from facedet.data.coco import FaceDataset, Photo, write_coco

CELL_PX = 64


def drawn_photo(rng: np.random.Generator, *, cells: int) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """BGR uint8 [64 cells, 64 cells, 3] and its faces float32 [N, 4], one in most cells and one at least."""
    side = cells * CELL_PX
    noise = rng.integers(60, 140, (side, side, 3)).astype(np.uint8)
    image = cv2.GaussianBlur(noise, (5, 5), 0).astype(np.uint8, copy=False)
    boxes = []
    for cell in range(cells**2):
        if cell and rng.random() < 0.25:
            continue
        width = int(rng.integers(20, 44))
        height = int(min(width * rng.uniform(1, 1.4), 58))
        left = (cell % cells) * CELL_PX + int(rng.integers(1, CELL_PX - width))
        top = (cell // cells) * CELL_PX + int(rng.integers(1, CELL_PX - height))
        _draw_face(image, left, top, width, height)
        boxes.append([left, top, left + width, top + height])
    return image, np.array(boxes, np.float32)


def _draw_face(image: npt.NDArray[np.uint8], left: int, top: int, width: int, height: int) -> None:
    middle = (left + width // 2, top + height // 2)
    cv2.ellipse(image, middle, (width // 2, height // 2), 0, 0, 360, (150, 180, 220), -1)
    for share in (0.32, 0.68):
        eye = (left + int(width * share), top + int(height * 0.4))
        cv2.circle(image, eye, max(1, width // 12), (40, 30, 30), -1)
    mouth = (left + width // 2, top + int(height * 0.7))
    cv2.ellipse(image, mouth, (width // 5, max(1, height // 12)), 0, 0, 360, (60, 60, 160), -1)


def drawn_dataset(folder: Path, *, photos: int, cells: int = 2, splits: tuple[str, ...] = ()) -> FaceDataset:
    """Write photos below `folder`/images, and with `splits` (one per photo) also `annotations.json`."""
    (folder / "images").mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(0)
    made = []
    for number in range(photos):
        image, boxes = drawn_photo(rng, cells=cells)
        path = folder / "images" / f"{number}.png"
        cv2.imwrite(str(path), image)
        made.append(Photo(path, path.name, image.shape[1], image.shape[0], boxes, np.zeros(len(boxes), np.bool_)))
    dataset = FaceDataset("drawn", folder / "images", tuple(made))
    if splits:
        names = {photo.name: split for photo, split in zip(made, splits, strict=True)}
        write_coco(dataset, folder / "annotations.json", splits=names)
    return dataset
