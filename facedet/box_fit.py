"""What fine-tuning of `compact` begins with: its boxes made as wide and tall as the new set draws them.

One set's boxes end at the chin, another's hold the hair and the ears. Few steps on few photos do not teach a network
that (Dataturks' labels were 1.15 times as wide as its boxes after twelve epochs), while the median of a few hundred
ratios tells it, and a bias of each head takes it up exactly: the network says the logarithms of width and height.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facedet.boxes import iou_matrix
from facedet.data.augment import OUTSIDE
from facedet.data.coco import Photo, spread
from facedet.models.compact import STRIDES, Compact, network_of

MOST_PHOTOS = 300
"""Looked at, spread over all: more do not move a median."""
LONG_SIDE_PX = 1280
"""Larger photos are reduced to it."""
LEAST_SCORE = 0.3
SAME_FACE_IOU = 0.3
"""A label of more than 1.8 times the box's sides has less and does not count, so the medians stay below that."""
LEAST_FACES = 100
"""Of a stride, else its boxes stay: a set that shows few faces of a size says little of how it would draw them."""


@dataclass(frozen=True)
class BoxFit:
    """Labels beside the boxes that one stride's head gave their faces: medians of width and of height by the box's."""

    stride: int
    faces: int
    wider: float
    taller: float


def measure_box_fits(
    values: Mapping[str, Tensor], photos: Sequence[Photo], read: Callable[[Photo], npt.NDArray[np.uint8]]
) -> list[BoxFit]:
    """How the labels of photos differ from the boxes of a network with these values, by stride.

    values: of a `Compact`. read: gives a photo as uint8 [H, W, 3] BGR. Strides that gave less than LEAST_FACES labelled
    faces their best box are left out.
    """
    network = network_of(values).eval().to(memory_format=torch.channels_last)
    network.load_state_dict(values)
    chosen = spread([photo for photo in photos if not photo.ignore.all()], MOST_PHOTOS)
    ratios = np.concatenate([np.zeros((0, 3)), *[_ratios(network, photo, read(photo)) for photo in chosen]])
    fits = []
    for stride in STRIDES:
        of_stride = ratios[ratios[:, 0] == stride, 1:]
        if len(of_stride) >= LEAST_FACES:
            wider, taller = np.median(of_stride, axis=0).tolist()
            fits.append(BoxFit(stride, len(of_stride), wider, taller))
    return fits


def with_box_fits(values: Mapping[str, Tensor], fits: Sequence[BoxFit]) -> dict[str, Tensor]:
    """The values of a `Compact` whose boxes are so much wider and taller; `values` are not changed."""
    fitted = {name: value.clone() for name, value in values.items()}
    for fit in fits:
        bias = fitted[f"heads.{STRIDES.index(fit.stride)}.out.bias"]
        bias[3:] += torch.tensor([math.log(fit.wider), math.log(fit.taller)])
    return fitted


@torch.inference_mode()
def _ratios(network: Compact, photo: Photo, image: npt.NDArray[np.uint8]) -> npt.NDArray[np.float64]:
    """float64 [N, 3], a row per label that the network finds: stride of its best box, width and height by the box's."""
    scale = min(1.0, LONG_SIDE_PX / max(image.shape[:2]))
    size_wh = max(1, round(image.shape[1] * scale)), max(1, round(image.shape[0] * scale))
    image = cv2.resize(image, size_wh, interpolation=cv2.INTER_AREA).astype(np.uint8, copy=False)
    bottom, right = -image.shape[0] % STRIDES[-1], -image.shape[1] % STRIDES[-1]
    image = cv2.copyMakeBorder(image, 0, bottom, 0, right, cv2.BORDER_CONSTANT, value=OUTSIDE).astype(np.uint8)
    points = network(torch.from_numpy(image).permute(2, 0, 1)[None].float())[0].numpy()
    strides = np.repeat(STRIDES, [(image.shape[0] // s) * (image.shape[1] // s) for s in STRIDES])
    found = points[:, 0] > np.log(LEAST_SCORE / (1 - LEAST_SCORE))
    scores, boxes, strides = points[found, 0], points[found, 1:], strides[found]
    labels = photo.boxes_xyxy[~photo.ignore] * np.float32(scale)
    if len(boxes) == 0 or len(labels) == 0:
        return np.zeros((0, 3))
    answers = np.where(iou_matrix(labels, boxes) >= SAME_FACE_IOU, scores, -np.inf)
    best, known = answers.argmax(1), np.isfinite(answers.max(1))
    sides = (labels[:, 2:] - labels[:, :2]) / np.maximum(boxes[best, 2:] - boxes[best, :2], 1e-3)
    rows: npt.NDArray[np.float64] = np.column_stack([strides[best], sides])[known].astype(np.float64)
    return rows
