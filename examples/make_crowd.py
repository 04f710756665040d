"""Compose examples/crowd.jpg: a picture of a crowd that is free of rights.

Every person in it is one of two official portraits in the public domain (17 U.S.C. 105, works of the United States
government) that well-known packages carry:

- Eileen Collins, NASA, as `skimage.data.astronaut()` (scikit-image);
- Grace Hopper, US Navy, as matplotlib's sample data `grace_hopper.jpg`.

The backdrop is drawn. People are cut out once, then varied in size, mirror, tilt, light, tone and colour of dress and
set in rows, the far and small ones first. The same seed gives the same picture.

    python examples/make_crowd.py [OUT.jpg]
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
from matplotlib import cbook
from skimage import data

Image = npt.NDArray[np.uint8]
SIZE_WH = (1600, 920)
SEED = 7


@dataclass(frozen=True)
class Portrait:
    """A person cut out: bgr uint8 [H, W, 3], alpha float32 [H, W] in [0, 1], and where the face is, in pixels.

    Everything below `collar_y` is dress.
    """

    bgr: Image
    alpha: npt.NDArray[np.float32]
    face_centre_xy: tuple[float, float]
    face_width: float
    collar_y: int


@dataclass(frozen=True)
class Row:
    """People at one distance: y of the face centres, face width, distance between neighbours, all in pixels."""

    y: float
    face_width: float
    pitch: float


ROWS = (
    Row(y=218, face_width=20, pitch=62),
    Row(y=250, face_width=26, pitch=80),
    Row(y=295, face_width=36, pitch=112),
    Row(y=360, face_width=52, pitch=158),
    Row(y=455, face_width=78, pitch=232),
    Row(y=590, face_width=118, pitch=345),
)
FRONT = ((300.0, 715.0, 150.0, 0), (1270.0, 705.0, 165.0, 1))
"""The two people in front: x and y of the face centre, face width, index of the portrait."""


def main(out: Path) -> None:
    """Write the picture to `out` as JPEG."""
    rng = np.random.default_rng(SEED)
    canvas = backdrop(rng)
    people = [astronaut(), hopper()]
    for number, row in enumerate(ROWS):
        for x in np.arange(row.pitch * (0.1 + 0.5 * (number % 2)), SIZE_WH[0], row.pitch):
            person = people[int(rng.integers(2))]
            where = (x + rng.uniform(-0.12, 0.12) * row.pitch, row.y + rng.uniform(-0.25, 0.25) * row.face_width)
            place(canvas, vary(person, rng), where, row.face_width * rng.uniform(0.92, 1.08), rng)
    for x, y, face_width, index in FRONT:
        place(canvas, people[index], (x, y), face_width, rng)
    noisy = canvas + rng.normal(0, 2.0, canvas.shape)
    if not cv2.imwrite(str(out), noisy.clip(0, 255).astype(np.uint8), [cv2.IMWRITE_JPEG_QUALITY, 84]):
        raise SystemExit(f"error: {out}: cannot be written")
    print(f"{out}: {SIZE_WH[0]}x{SIZE_WH[1]} px, {out.stat().st_size / 1000:.0f} kB")


def backdrop(rng: np.random.Generator) -> npt.NDArray[np.float32]:
    """An evening sky over a blurred skyline, float32 [H, W, 3]."""
    width, height = SIZE_WH
    rise = np.linspace(0, 1, height, dtype=np.float32)[:, None, None]
    sky = (1 - rise) * np.array([168, 118, 70], np.float32) + rise * np.array([150, 180, 225], np.float32)
    canvas = np.repeat(sky, width, axis=1)
    x = 0
    while x < width:
        step, top = int(rng.integers(50, 140)), int(rng.integers(30, 170))
        canvas[top:, x : x + step] = np.array([96, 88, 84], np.float32) * rng.uniform(0.7, 1.1)
        x += step
    canvas[230:] = (52, 50, 55)
    blurred: npt.NDArray[np.float32] = cv2.GaussianBlur(canvas, (0, 0), 7)
    return blurred


def astronaut() -> Portrait:
    """Eileen Collins without flag and model rocket."""
    outline = [(153, 95), (168, 45), (215, 15), (265, 25), (300, 75), (298, 110), (280, 130), (265, 155), (305, 205)]
    outline += [(340, 250), (360, 320), (362, 345), (420, 345), (490, 430), (500, 511), (20, 511), (40, 300)]
    outline += [(60, 245), (110, 210), (125, 165), (185, 145), (178, 125)]
    bgr = np.ascontiguousarray(data.astronaut()[:, :, ::-1])
    return cut_out(bgr, outline, face_centre_xy=(222, 122), face_width=82, collar_y=185)


def hopper() -> Portrait:
    """Grace Hopper without the flag."""
    with cbook.get_sample_data("grace_hopper.jpg") as file:
        bgr = cv2.imdecode(np.frombuffer(file.read(), np.uint8), cv2.IMREAD_COLOR)
    outline = [(152, 150), (150, 100), (180, 60), (210, 25), (290, 22), (350, 70), (370, 100), (366, 150), (375, 190)]
    outline += [(360, 260), (340, 305), (335, 330), (430, 385), (500, 420), (511, 440), (511, 599), (5, 599)]
    outline += [(20, 430), (45, 380), (195, 325), (200, 305), (165, 290), (155, 210)]
    return cut_out(np.asarray(bgr, np.uint8), outline, face_centre_xy=(265, 215), face_width=150, collar_y=395)


def cut_out(
    bgr: Image, outline: list[tuple[int, int]], *, face_centre_xy: tuple[float, float], face_width: float, collar_y: int
) -> Portrait:
    """Separate the person inside a rough outline from the background (GrabCut), with a soft edge."""
    inside = np.zeros(bgr.shape[:2], np.uint8)
    cv2.fillPoly(inside, [np.array(outline, np.int32)], 1)
    core = cv2.erode(inside, np.ones((25, 25), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    reach = cv2.dilate(inside, np.ones((15, 15), np.uint8))
    mask = np.where(core > 0, cv2.GC_FGD, np.where(reach > 0, cv2.GC_PR_FGD, cv2.GC_BGD)).astype(np.uint8)
    mask[(reach > 0) & (inside == 0)] = cv2.GC_PR_BGD
    cv2.setRNGSeed(SEED)
    cv2.grabCut(bgr, mask, None, np.zeros((1, 65)), np.zeros((1, 65)), 4, cv2.GC_INIT_WITH_MASK)
    person = np.isin(mask, (cv2.GC_FGD, cv2.GC_PR_FGD)).astype(np.float32)
    person = cv2.morphologyEx(person, cv2.MORPH_OPEN, np.ones((7, 7), np.uint8))
    person = cv2.erode(person, np.ones((3, 3), np.uint8), borderType=cv2.BORDER_CONSTANT, borderValue=1)
    alpha = cv2.GaussianBlur(person, (0, 0), 1.5).astype(np.float32)
    below = bgr.shape[0]  # people end at the portrait's lower edge: let the dress go on
    bgr = np.asarray(cv2.copyMakeBorder(bgr, 0, below, 0, 0, cv2.BORDER_REPLICATE), np.uint8)
    alpha = np.asarray(cv2.copyMakeBorder(alpha, 0, below, 0, 0, cv2.BORDER_REPLICATE), np.float32)
    return Portrait(bgr, alpha, face_centre_xy, face_width, collar_y)


def vary(person: Portrait, rng: np.random.Generator) -> Portrait:
    """Another dress colour, light and tone; every second one mirrored."""
    hsv = cv2.cvtColor(person.bgr, cv2.COLOR_BGR2HSV).astype(np.float32)
    dress = np.clip((np.arange(hsv.shape[0]) - person.collar_y) / 12, 0, 1).astype(np.float32)[:, None]
    turned = hsv.copy()
    turned[..., 0] = (hsv[..., 0] + rng.uniform(0, 180)) % 180
    turned[..., 1] *= rng.uniform(0.25, 0.75)
    turned[..., 2] = np.clip(turned[..., 2] * rng.uniform(0.6, 1.0) + rng.uniform(0, 70), 0, 255)
    recoloured = cv2.cvtColor(turned.clip(0, 255).astype(np.uint8), cv2.COLOR_HSV2BGR).astype(np.float32)
    bgr = person.bgr * (1 - dress[..., None]) + recoloured * dress[..., None]
    bgr = 255 * (bgr / 255) ** rng.uniform(0.8, 1.25)
    bgr *= rng.uniform(0.94, 1.06, 3)
    image, alpha, (x, y) = bgr.clip(0, 255).astype(np.uint8), person.alpha, person.face_centre_xy
    if rng.random() < 0.5:
        image, alpha, x = image[:, ::-1], alpha[:, ::-1], image.shape[1] - 1 - x
    return Portrait(
        np.ascontiguousarray(image), np.ascontiguousarray(alpha), (x, y), person.face_width, person.collar_y
    )


def place(
    canvas: npt.NDArray[np.float32],
    person: Portrait,
    face_xy: tuple[float, float],
    face_width: float,
    rng: np.random.Generator,
) -> None:
    """Blend a person into the canvas, slightly tilted, so that the face has this centre and width in pixels."""
    width, height = SIZE_WH
    factor = face_width / person.face_width
    softened, alpha = person.bgr.astype(np.float32), person.alpha
    if factor < 0.7:  # warpAffine does not average: blur first, or small people come out jagged
        sigma = 0.4 / factor
        softened, alpha = cv2.GaussianBlur(softened, (0, 0), sigma), cv2.GaussianBlur(alpha, (0, 0), sigma)
    move = cv2.getRotationMatrix2D(person.face_centre_xy, rng.uniform(-7, 7), factor)
    move[:, 2] += np.subtract(face_xy, person.face_centre_xy)
    image = cv2.warpAffine(softened, move, (width, height), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    cover = cv2.warpAffine(alpha, move, (width, height), flags=cv2.INTER_LINEAR)[..., None]
    canvas[:] = canvas * (1 - cover) + image * cover


if __name__ == "__main__":
    main(Path(sys.argv[1]) if len(sys.argv) > 1 else Path(__file__).with_name("crowd.jpg"))
