"""Pictures of an evaluation: precision-recall curves, the worst misses and the worst false alarms."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from facedet.data.coco import FaceDataset, Photo
from facedet.data.draw import BLUE, GREEN, GREY, RED, Image, contact_sheet, draw_boxes, spot_tile, tile, write_image
from facedet.errors import MissingExtra
from facedet.evaluate import Evaluation
from facedet.faces import Faces
from facedet.operating_point import Match, match_all

TILES = 36
TILE_PX = 200
PHOTO_TILE_PX = 400


def prepare_gallery(folder: str | Path) -> None:
    """Make the folder before the work that fills it. Raises MissingExtra without matplotlib, OSError."""
    _matplotlib_classes()
    Path(folder).mkdir(parents=True, exist_ok=True)


def write_gallery(evaluation: Evaluation, dataset: FaceDataset, folder: str | Path) -> list[Path]:
    """Write pr.png, misses.jpg, false_alarms.jpg and photos.jpg into `folder`.

    Misses are the largest faces without a detection, false alarms those of the highest score, both at IoU 0.5 and
    the threshold of the best F1. True faces are green, missed ones red, false alarms blue, ignored faces grey.
    """
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    matches = match_all(dataset, evaluation.detections)
    threshold = evaluation.operating_point.score if evaluation.operating_point else 0.0
    paths = [folder / name for name in ("pr.png", "misses.jpg", "false_alarms.jpg", "photos.jpg")]
    plot_curves(evaluation, paths[0])
    write_image(paths[1], contact_sheet(_tiles(_misses(dataset, matches, threshold), dataset, evaluation.detections)))
    alarms = _false_alarms(evaluation.detections, matches)
    write_image(paths[2], contact_sheet(_tiles(alarms, dataset, evaluation.detections)))
    write_image(paths[3], contact_sheet(_photos(dataset, evaluation.detections, matches, threshold), columns=4))
    return paths


def plot_curves(evaluation: Evaluation, path: Path) -> None:
    """Precision over recall, a line per level or IoU. Raises MissingExtra without matplotlib."""
    FigureCanvasAgg, Figure = _matplotlib_classes()  # noqa: N806
    figure = Figure(figsize=(6, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, curve in evaluation.curves.items():
        axes.plot(curve[:, 0], curve[:, 1], label=name)
    title = f"{evaluation.detector} on {evaluation.dataset}, scale {evaluation.scale}, {evaluation.protocol}"
    axes.set(xlabel="recall", ylabel="precision", xlim=(0, 1), ylim=(0, 1.02), title=title)
    axes.grid(alpha=0.3)
    if evaluation.curves:
        axes.legend(loc="lower left")
    figure.savefig(str(path), dpi=120)


def _matplotlib_classes() -> tuple[Any, Any]:
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure
    except ImportError as e:
        raise MissingExtra("plots need matplotlib: pip install 'crowdmood[train]'") from e
    return FigureCanvasAgg, Figure


Spot = tuple[int, npt.NDArray[np.float32], str]
"""Photo's index, box, caption."""


def _misses(dataset: FaceDataset, matches: list[Match], threshold: float) -> list[Spot]:
    spots = []
    for i, (photo, match) in enumerate(zip(dataset.photos, matches, strict=True)):
        for box in photo.boxes_xyxy[(match.found_at < threshold) & ~photo.ignore]:
            spots.append((i, box, f"{_side(box):.0f} px {Path(photo.name).stem}"))
    return sorted(spots, key=lambda s: -_side(s[1]))[:TILES]


def _false_alarms(detections: Iterable[Faces], matches: list[Match]) -> list[Spot]:
    spots = []
    for i, (faces, match) in enumerate(zip(detections, matches, strict=True)):
        wrong = ~match.hits & ~match.neutral
        for box, score in zip(faces.boxes_xyxy[wrong], faces.scores[wrong], strict=True):
            spots.append((float(score), (i, box, f"{score:.2f}, {_side(box):.0f} px")))
    return [spot for _, spot in sorted(spots, key=lambda s: -s[0])[:TILES]]


def _side(box_xyxy: npt.NDArray[np.float32]) -> float:
    return float(np.sqrt((box_xyxy[2] - box_xyxy[0]) * (box_xyxy[3] - box_xyxy[1])))


def _tiles(spots: list[Spot], dataset: FaceDataset, detections: tuple[Faces, ...]) -> list[Image]:
    """Cut-outs around the spots, with all true faces green, detections blue and the spot itself red."""
    tiles = []
    for i, box, caption in spots:
        layers = [(dataset.photos[i].boxes_xyxy, GREEN), (detections[i].boxes_xyxy[:50], BLUE), (box[None], RED)]
        tiles.append(spot_tile(dataset.photos[i].read(), box, layers, side_px=TILE_PX, caption=caption))
    return tiles


def _photos(dataset: FaceDataset, detections: tuple[Faces, ...], matches: list[Match], threshold: float) -> list[Image]:
    """A spread of photos over the set, with what was found and what was not."""
    step = max(1, len(dataset) // 24)
    return [_photo_tile(dataset.photos[i], detections[i], matches[i], threshold) for i in range(0, len(dataset), step)][
        :24
    ]


def _photo_tile(photo: Photo, faces: Faces, match: Match, threshold: float) -> Image:
    image = photo.read()
    found = match.found_at >= threshold
    sure = faces.scores >= threshold
    for boxes, colour in (
        (photo.boxes_xyxy[photo.ignore], GREY),
        (photo.boxes_xyxy[found & ~photo.ignore], GREEN),
        (photo.boxes_xyxy[~found & ~photo.ignore], RED),
        (faces.boxes_xyxy[sure & ~match.hits & ~match.neutral], BLUE),
    ):
        image = draw_boxes(image, boxes, colour)
    return tile(image, side_px=PHOTO_TILE_PX, caption=Path(photo.name).stem)
