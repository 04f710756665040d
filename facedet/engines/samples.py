"""Training samples: which photos a step takes, and how each is changed. Everything follows from seed and step."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from facedet.data.augment import CropRecipe, PhotoCache, random_crop
from facedet.data.coco import Photo
from facedet.detectors.faster_rcnn import network_size_wh, resized
from facedet.engines.config import FasterRCNNConfig

MIN_FACE_PX = 4.0
"""Faces smaller than this in the network's input are ignored: no pixel of p2 can tell them apart."""


@dataclass(frozen=True)
class Sample:
    """One training image, uint8 [3, H, W] BGR, and its target (models.matching.Target)."""

    image: Tensor
    target: dict[str, Tensor]


class Samples:
    """Samples of any step, for one process of a team."""

    def __init__(self, photos: Sequence[Photo], config: FasterRCNNConfig) -> None:
        self._photos = photos
        self._config = config
        self._cache = PhotoCache(1 << 30)

    def of_step(self, step: int, *, rank: int = 0, team_size: int = 1) -> list[Sample]:
        """The share of process `rank` of the batch of `step`: photos without repetition within an epoch."""
        share = self._config.batch_size // team_size
        first = step * self._config.batch_size + rank * share
        return [self._sample(number) for number in range(first, first + share)]

    def _sample(self, number: int) -> Sample:
        epoch, place = divmod(number, len(self._photos))
        order = np.random.default_rng([self._config.seed, 0, epoch]).permutation(len(self._photos))
        rng = np.random.default_rng([self._config.seed, 1, number])
        index = int(order[place])
        if self._config.crop_px:
            return self._crop(index, rng)
        return whole_photo(self._photos[index], self._cache.read(self._photos[index]), self._config, rng)

    def _crop(self, index: int, rng: np.random.Generator) -> Sample:
        recipe = CropRecipe(size=self._config.crop_px, flip=self._config.flip)
        crop = random_crop(self._photos, index, self._cache, recipe, rng)
        boxes = np.concatenate([crop.boxes_xyxy, crop.ignored_xyxy])
        ignore = np.arange(len(boxes)) >= len(crop.boxes_xyxy)
        return _sample_of(torch.from_numpy(np.ascontiguousarray(crop.image.transpose(2, 0, 1))), boxes, ignore)


def whole_photo(
    photo: Photo, image: npt.NDArray[np.uint8], config: FasterRCNNConfig, rng: np.random.Generator
) -> Sample:
    """The photo at a random scale, maybe mirrored, its light and colour changed. image: uint8 [H, W, 3] BGR."""
    short_px = int(rng.choice(config.short_px))
    size_wh = network_size_wh(photo.width, photo.height, short_px=short_px, long_px=config.long_px)
    stretch = np.array([size_wh[0] / photo.width, size_wh[1] / photo.height] * 2, np.float32)
    boxes = photo.boxes_xyxy * stretch
    tensor = resized(change_light(image, config.light, rng), size_wh)
    if rng.random() < config.flip:
        tensor = tensor.flip(2)
        boxes = np.stack([size_wh[0] - boxes[:, 2], boxes[:, 1], size_wh[0] - boxes[:, 0], boxes[:, 3]], axis=1)
    return _sample_of(tensor, boxes, photo.ignore)


def _sample_of(image: Tensor, boxes_xyxy: npt.NDArray[np.float32], ignore: npt.NDArray[np.bool_]) -> Sample:
    height, width = image.shape[1:]
    boxes = np.stack([boxes_xyxy[:, i].clip(0, (width, height)[i % 2]) for i in range(4)], axis=1)
    sides = (boxes[:, 2:] - boxes[:, :2]).min(axis=1, initial=np.inf)
    seen = sides > 0
    target = {
        "boxes": torch.from_numpy(boxes[seen]),
        "ignore": torch.from_numpy((ignore | (sides < MIN_FACE_PX))[seen]),
    }
    return Sample(image, target)


def change_light(image: npt.NDArray[np.uint8], strength: float, rng: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Contrast, brightness and colour cast changed by at most `strength` in [0, 1]; uint8 [H, W, 3] in and out."""
    if strength == 0:
        return image
    contrast = 1 + strength * rng.uniform(-1, 1)
    brightness = 128 * strength * rng.uniform(-1, 1)
    cast = 1 + 0.5 * strength * rng.uniform(-1, 1, 3)
    ramp = np.arange(256, dtype=np.float32)
    table = ((ramp[:, None] - 128) * contrast * cast + 128 + brightness).clip(0, 255).astype(np.uint8)
    return cv2.LUT(image, table.reshape(256, 1, 3)).astype(np.uint8, copy=False)
