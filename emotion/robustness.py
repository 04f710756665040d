"""Accuracy when the crop is not what training saw: shifted or scaled boxes, small, blurred, compressed, dark faces."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import cv2
import numpy as np
import numpy.typing as npt

from emotion.data import FerSplit
from emotion.data.fer2013 import SIDE
from emotion.evaluate import Scorer, predict

Face = npt.NDArray[np.uint8]
Change = Callable[[Face, np.random.Generator], Face]


@dataclass(frozen=True)
class RobustnessRow:
    """Accuracy in [0, 1] on the changed split, and its difference to the unchanged one."""

    change: str
    accuracy: float
    difference: float


def box_shift(part: float) -> Change:
    """The box is off by `part` of its side, in a random direction."""

    def change(face: Face, rng: np.random.Generator) -> Face:
        angle = rng.uniform(0, 2 * np.pi)
        return _warped(face, shift=(part * SIDE * np.cos(angle), part * SIDE * np.sin(angle)))

    return change


def box_scale(part: float) -> Change:
    """The box is larger or smaller by `part` of its side, at random."""
    return lambda face, rng: _warped(face, zoom=1 + part * rng.choice((-1, 1)))


def rotation(degrees: float) -> Change:
    """The head is tilted by `degrees` to a random side."""
    return lambda face, rng: _warped(face, degrees=degrees * rng.choice((-1, 1)))


def downsampling(side: int) -> Change:
    """The face had `side` pixels in the photo."""

    def change(face: Face, rng: np.random.Generator) -> Face:
        small = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA)
        return cv2.resize(small, (SIDE, SIDE), interpolation=cv2.INTER_LINEAR).astype(np.uint8, copy=False)

    return change


def blur(sigma: float) -> Change:
    """Gaussian blur of `sigma` pixels of the 48."""
    return lambda face, rng: cv2.GaussianBlur(face, (0, 0), sigma).astype(np.uint8, copy=False)


def jpeg(quality: int) -> Change:
    """JPEG compression of the 48-pixel face."""

    def change(face: Face, rng: np.random.Generator) -> Face:
        _, data = cv2.imencode(".jpg", face, [cv2.IMWRITE_JPEG_QUALITY, quality])
        decoded = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE)
        return np.asarray(decoded, np.uint8)

    return change


def gamma(exponent: float) -> Change:
    """Grey g in [0, 1] becomes g ** exponent: above 1 darker, below 1 lighter."""
    table = np.round(255 * (np.arange(256) / 255) ** exponent).astype(np.uint8)
    return lambda face, rng: table[face]


CHANGES: dict[str, Change] = {
    "box shifted by 5 %": box_shift(0.05),
    "box shifted by 10 %": box_shift(0.10),
    "box shifted by 20 %": box_shift(0.20),
    "box scaled by 5 %": box_scale(0.05),
    "box scaled by 10 %": box_scale(0.10),
    "box scaled by 20 %": box_scale(0.20),
    "face of 24 px": downsampling(24),
    "face of 16 px": downsampling(16),
    "blur, sigma 1.5 px": blur(1.5),
    "JPEG quality 30": jpeg(30),
    "gamma 0.5": gamma(0.5),
    "gamma 2": gamma(2.0),
    "rotation by 15 degrees": rotation(15),
}


def robustness(scorer: Scorer, split: FerSplit, *, seed: int = 0) -> list[RobustnessRow]:
    """Accuracy on the split as it is and under each of `CHANGES`; beyond the 48 pixels, edges repeat."""
    plain = float(predict(scorer, split).right.mean())
    rows = [RobustnessRow("none", plain, 0.0)]
    for name, change in CHANGES.items():
        rng = np.random.default_rng(seed)
        images = np.stack([change(face, rng) for face in split.images])
        accuracy = float(predict(scorer, replace(split, images=images)).right.mean())
        rows.append(RobustnessRow(name, accuracy, accuracy - plain))
    return rows


def _warped(face: Face, *, shift: tuple[float, float] = (0.0, 0.0), zoom: float = 1.0, degrees: float = 0.0) -> Face:
    """What a box sees that is shifted by `shift` pixels, `zoom` times as wide and turned by `degrees`."""
    centre = (SIDE - 1) / 2
    matrix = cv2.getRotationMatrix2D((centre, centre), degrees, zoom)
    matrix[:, 2] += np.array(shift)
    flags = cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP
    warped = cv2.warpAffine(face, matrix, (SIDE, SIDE), flags=flags, borderMode=cv2.BORDER_REPLICATE)
    return warped.astype(np.uint8, copy=False)
