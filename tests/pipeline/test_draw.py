"""Labels: readable, inside the photo, off other faces where there is room."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion import EMOTIONS
from pipeline.draw import COLOURS, MIN_TEXT_PX, Label, colour_of, draw_faces, lay_out
from pipeline.reading import FaceReading
from tests.pipeline.factories import grey_image, make_face


def overlap(a: tuple[float, ...], b: tuple[float, ...]) -> float:
    return max(0.0, min(a[2], b[2]) - max(a[0], b[0])) * max(0.0, min(a[3], b[3]) - max(a[1], b[1]))


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance after WCAG 2.1."""
    linear = [(c / 255) / 12.92 if c <= 10 else ((c / 255 + 0.055) / 1.055) ** 2.4 for c in colour]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def test_no_faces_leave_the_photo_as_it_is() -> None:
    photo = grey_image()
    drawn = draw_faces(photo, [])
    assert np.array_equal(drawn, photo)
    assert drawn is not photo


def test_the_photo_given_is_not_drawn_on() -> None:
    photo = grey_image()
    drawn = draw_faces(photo, [make_face((20, 20, 60, 50))])
    assert (photo == 128).all()
    assert (drawn != 128).any()


def test_a_colour_per_emotion() -> None:
    assert set(COLOURS) == set(EMOTIONS)
    assert len(set(COLOURS.values())) == len(EMOTIONS)


@pytest.mark.parametrize("name", EMOTIONS)
def test_the_box_has_the_colour_of_its_emotion(name: str) -> None:
    face = make_face((100, 100, 300, 300), name)
    drawn = draw_faces(grey_image(400, 400), [face])
    assert tuple(drawn[250, 100].tolist()) == colour_of(face)[::-1]


@pytest.mark.parametrize("name", EMOTIONS)
def test_letters_stand_out_from_their_label(name: str) -> None:
    drawn = draw_faces(grey_image(400, 400), [make_face((100, 100, 300, 300), name)])
    label = lay_out([make_face((100, 100, 300, 300), name)], size_wh=(400, 400))[0]
    assert label is not None
    x1, y1, x2, y2 = label.place
    values = {tuple(pixel) for pixel in drawn[y1:y2, x1:x2].reshape(-1, 3)[:, ::-1].tolist()}
    shades = sorted(luminance(value) for value in values)
    assert (shades[-1] + 0.05) / (shades[0] + 0.05) > 4.5


@pytest.mark.parametrize(("side", "smallest"), [(20, MIN_TEXT_PX), (100, 16), (500, 40)])
def test_letters_grow_with_the_face(side: int, smallest: int) -> None:
    box = (200.0, 200.0, 200.0 + side, 200.0 + side)
    label = lay_out([make_face(box)], size_wh=(1000, 1000))[0]
    assert label is not None
    assert label.text == "happy 70%"
    assert label.text_px >= smallest
    assert overlap(label.place, box) == 0


def test_labels_keep_off_other_faces_and_labels_where_there_is_room() -> None:
    faces = [make_face((x, y, x + 40, y + 40)) for y in (60, 140, 220) for x in range(40, 900, 90)]
    labels = [label for label in lay_out(faces, size_wh=(1000, 400)) if label is not None]
    assert len(labels) == len(faces)
    for i, label in enumerate(labels):
        assert all(overlap(label.place, face.box_xyxy) == 0 for face in faces)
        assert all(overlap(label.place, other.place) == 0 for other in labels[:i])


def test_a_face_too_small_to_be_judged_has_a_box_and_no_label() -> None:
    face = make_face((20, 20, 30, 30), None)
    assert lay_out([face], size_wh=(100, 60)) == [None]
    assert (draw_faces(grey_image(), [face]) != 128).any()


def test_in_a_tiny_photo_the_label_shrinks_and_at_last_goes() -> None:
    face = make_face((2, 2, 20, 20))
    small = lay_out([face], size_wh=(36, 24))[0]
    assert small is not None
    assert small.text_px < MIN_TEXT_PX
    assert lay_out([face], size_wh=(20, 20)) == [None]
    assert draw_faces(grey_image(20, 20), [face]).shape == (20, 20, 3)


def inside(label: Label, width: int, height: int) -> bool:
    x1, y1, x2, y2 = label.place
    return 0 <= x1 < x2 <= width and 0 <= y1 < y2 <= height


@settings(max_examples=60, deadline=None)
@given(st.data())
def test_labels_never_leave_the_photo(data: st.DataObject) -> None:
    width, height = data.draw(st.integers(2, 700)), data.draw(st.integers(2, 500))
    faces: list[FaceReading] = []
    for _ in range(data.draw(st.integers(1, 12))):
        x1, y1 = data.draw(st.floats(0, width - 1)), data.draw(st.floats(0, height - 1))
        x2 = data.draw(st.floats(x1 + 0.5, width))
        y2 = data.draw(st.floats(y1 + 0.5, height))
        faces.append(make_face((x1, y1, x2, y2), data.draw(st.sampled_from([*EMOTIONS, None]))))
    labels = lay_out(faces, size_wh=(width, height))
    assert all(label is None or inside(label, width, height) for label in labels)
    assert draw_faces(grey_image(width, height), faces).shape == (height, width, 3)
