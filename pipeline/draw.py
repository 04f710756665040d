"""Boxes, labels and confidences on a photo: a colour per emotion, text that can be read on small and large faces."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.labels import LabelMap, Rect
from pipeline.reading import FaceReading

RGB = tuple[int, int, int]

COLOURS: dict[str, RGB] = {
    "angry": (213, 94, 0),  # vermillion
    "disgust": (0, 158, 115),  # bluish green
    "fear": (204, 121, 167),  # reddish purple
    "happy": (240, 228, 66),  # yellow
    "sad": (0, 114, 178),  # blue
    "surprise": (230, 159, 0),  # orange
    "neutral": (86, 180, 233),  # sky blue
}
"""Red, green, blue: the colours of Okabe and Ito (2008), told apart by people of every colour vision."""

TOO_SMALL_COLOUR: RGB = (160, 160, 160)
MIN_TEXT_PX, MAX_TEXT_PX = 12, 40
"""Size of the letters. In a photo too small for a label of MIN_TEXT_PX they shrink, at last to TINY_TEXT_PX."""
TINY_TEXT_PX = 7
CROWDED = 0.25
"""A label that would cover more than this part of its own area is tried in its short form."""
LABELLED_PX = 16
"""A smaller face whose label would hide as much as it tells keeps its coloured box only."""


@dataclass(frozen=True)
class Label:
    """A label and where it lies."""

    text: str
    text_px: int
    place: Rect


def draw_faces(pixels_bgr: npt.NDArray[np.uint8], faces: Sequence[FaceReading]) -> npt.NDArray[np.uint8]:
    """A copy of an upright photo, uint8 [H, W, 3] BGR, with the faces drawn on it."""
    picture = pixels_bgr.copy()
    labels = lay_out(faces, size_wh=(picture.shape[1], picture.shape[0]))
    for face in faces:
        _draw_box(picture, face)
    for face, label in zip(faces, labels, strict=True):
        if label is not None:
            _draw_tie(picture, face, label.place)
    for face, label in zip(faces, labels, strict=True):
        if label is not None:
            _draw_label(picture, label, colour_of(face))
    return picture


def lay_out(faces: Sequence[FaceReading], *, size_wh: tuple[int, int]) -> list[Label | None]:
    """One label per face, inside the photo; None where it cannot stand (see LABELLED_PX, TINY_TEXT_PX)."""
    places = LabelMap(np.array([face.box_xyxy for face in faces], np.float64).reshape(-1, 4), size_wh)
    labels: list[Label | None] = [None] * len(faces)
    for index in sorted(range(len(faces)), key=lambda i: -faces[i].size_px):
        labels[index] = _fit(faces[index], index, places)
    return labels


def colour_of(face: FaceReading) -> RGB:
    """The colour of a face's emotion, (red, green, blue)."""
    return TOO_SMALL_COLOUR if face.emotion is None else COLOURS[face.emotion]


def letters_on(colour: RGB) -> int:
    """The grey of letters that stand out on a colour: black 0 or white 255."""
    red, green, blue = colour
    return 0 if 0.299 * red + 0.587 * green + 0.114 * blue > 100 else 255


def _fit(face: FaceReading, index: int, places: LabelMap) -> Label | None:
    if face.emotion is None or face.confidence is None:
        return None
    percent = round(100 * face.confidence)
    full, short = f"{face.emotion} {percent}%", f"{face.emotion[:3]} {percent}"
    wanted_px = int(np.clip(0.16 * face.size_px, MIN_TEXT_PX, MAX_TEXT_PX))
    for text_px in (wanted_px, MIN_TEXT_PX, 10, 8, TINY_TEXT_PX):
        text, found = full, places.find(index, _label_wh(full, text_px))
        if found is None or found[1] > CROWDED * _area(found[0]):
            shorter = places.find(index, _label_wh(short, text_px))
            if shorter is not None and (found is None or shorter[1] < 0.8 * found[1]):
                text, found = short, shorter
        if found is None:
            continue
        place, cost = found
        if cost > _area(place) and face.size_px < LABELLED_PX:
            return None
        places.take(place)
        return Label(text, text_px, place)
    return None


def _area(rect: Rect) -> int:
    return (rect[2] - rect[0]) * (rect[3] - rect[1])


def _draw_box(picture: npt.NDArray[np.uint8], face: FaceReading) -> None:
    """A frame of 1 to 6 px by the face's size, with a dark line around it so that it shows on any background."""
    height, width = picture.shape[:2]
    thickness = int(np.clip(round(face.size_px / 50), 1 if face.size_px < 16 else 2, 6))
    margin = thickness // 2
    x1, y1, x2, y2 = face.box_xyxy
    left, top = max(int(x1), margin), max(int(y1), margin)
    right, bottom = min(int(np.ceil(x2)), width - 1 - margin), min(int(np.ceil(y2)), height - 1 - margin)
    rim = margin + 1
    cv2.rectangle(picture, (left - rim, top - rim), (right + rim, bottom + rim), (0, 0, 0), 1)
    cv2.rectangle(picture, (left, top), (right, bottom), _bgr(colour_of(face)), thickness)


def _draw_tie(picture: npt.NDArray[np.uint8], face: FaceReading, place: Rect) -> None:
    """A line from a label to its box, when the label could not stand beside it."""
    x1, y1, x2, y2 = face.box_xyxy
    gap = max(place[1] - y2, y1 - place[3], place[0] - x2, x1 - place[2])
    if gap > 3:
        at_label = (int(np.clip((x1 + x2) / 2, place[0], place[2] - 1)), place[1] if place[1] > y2 else place[3] - 1)
        at_box = (int(np.clip(at_label[0], x1, x2)), int(y2 if place[1] > y2 else y1))
        cv2.line(picture, at_label, at_box, (0, 0, 0), 3, cv2.LINE_AA)
        cv2.line(picture, at_label, at_box, _bgr(colour_of(face)), 1, cv2.LINE_AA)


def _draw_label(picture: npt.NDArray[np.uint8], label: Label, colour: RGB) -> None:
    x1, y1, x2, y2 = label.place
    ink = _text_mask(label.text, label.text_px)[..., None].astype(np.float32) / 255
    letters = letters_on(colour)
    picture[y1:y2, x1:x2] = (np.array(_bgr(colour), np.float32) * (1 - ink) + letters * ink).round().astype(np.uint8)


def _bgr(colour: RGB) -> RGB:
    return colour[2], colour[1], colour[0]


def _label_wh(text: str, text_px: int) -> tuple[int, int]:
    height, width = _text_mask(text, text_px).shape
    return width, height


@lru_cache(maxsize=4096)
def _text_mask(text: str, text_px: int) -> npt.NDArray[np.uint8]:
    """How much ink each pixel of a label has, uint8 [H, W]."""
    font = _font(text_px)
    margin = max(2, text_px // 5)
    width, height = round(font.getlength(text)) + 2 * margin, round(1.25 * text_px) + 1
    canvas = Image.new("L", (width, height), 0)
    ImageDraw.Draw(canvas).text((margin, height / 2), text, fill=255, font=font, anchor="lm")
    return np.asarray(canvas)


@lru_cache(maxsize=64)
def _font(text_px: int) -> ImageFont.FreeTypeFont:
    """Pillow's own typeface, so that pictures look the same on every machine."""
    font = ImageFont.load_default(text_px)
    if not isinstance(font, ImageFont.FreeTypeFont):
        raise RuntimeError("expected a Pillow with FreeType, as its wheels have")
    return font
