"""Truth is read from COCO and from results; whatever is wrong with it is told with its place."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.errors import DataError
from pipeline.formats import write_coco, write_coco_emotions
from pipeline.sinks import read_results, write_results
from pipeline.truth import TrueFace, load_truth, photo_paths
from tests.pipeline.factories import make_face, make_reading, save_photo
from tests.pipeline.truths import coco, save_coco

HAPPY = {"bbox": [10, 20, 30, 40], "attributes": {"emotion": "Happy"}}


def test_emotion_as_attribute(tmp_path: Path) -> None:
    crowd = {"bbox": [0, 0, 5, 5], "iscrowd": 1}
    null = {"bbox": [1, 1, 5, 5], "attributes": {"emotion": None}}
    truth = load_truth(save_coco(tmp_path / "t.json", coco([HAPPY, crowd, null])))
    (photo,) = truth.photos
    assert (photo.source, photo.width, photo.height) == ("a.jpg", 200, 100)
    assert photo.faces == (
        TrueFace((10, 20, 40, 60), "happy"),
        TrueFace((0, 0, 5, 5), None),
        TrueFace((1, 1, 6, 6), None),
    )
    assert photo.labels.tolist() == [3, -1, -1]
    assert truth.face_count == 1


def test_emotion_as_category_maps_by_name_not_by_number(tmp_path: Path) -> None:
    rows = [{"bbox": [0, 0, 9, 9], "category_id": 1}, {"bbox": [9, 9, 9, 9], "category_id": 2}]
    truth = load_truth(save_coco(tmp_path / "t.json", coco(rows, names=("surprise", "angry"))))
    assert [face.emotion for face in truth.photos[0].faces] == ["surprise", "angry"]
    assert truth.photos[0].labels.tolist() == [5, 0]


@pytest.mark.parametrize("writer", [write_coco, write_coco_emotions])
def test_what_annotate_writes_can_be_truth(tmp_path: Path, writer: Any) -> None:
    readings = [make_reading("b.jpg", [make_face((1, 2, 30, 40), "sad")]), make_reading("a.jpg")]
    writer(readings, tmp_path / "annotations.json")
    (tmp_path / "results.jsonl").write_text("".join(json.dumps(r.to_dict()) + "\n" for r in readings))
    from_coco, from_lines = load_truth(tmp_path), load_truth(tmp_path / "results.jsonl")
    assert from_coco.photos == from_lines.photos
    assert [photo.source for photo in from_coco.photos] == ["a.jpg", "b.jpg"]
    assert from_coco.photos[1].faces == (TrueFace((1, 2, 30, 40), "sad"),)


@pytest.mark.parametrize(
    ("document", "message"),
    [
        (
            coco([{**HAPPY, "attributes": {"emotion": "joy"}}]),
            r"t.json: annotation 1: unknown emotion 'joy': expected one of angry",
        ),
        (coco([HAPPY, {"bbox": [0, 0, 5, 5]}]), "annotation 2: category 'face' and no attributes.emotion"),
        (coco([{"bbox": [0, 0, 5, 5]}], names=("dog",)), "annotation 1: unknown emotion 'dog'"),
        (coco([{**HAPPY, "category_id": 9, "attributes": {}}]), "category_id 9 is not among the categories"),
        (coco([{**HAPPY, "image_id": 7}]), "annotation 1: image_id 7 is not among the images"),
        (coco([{**HAPPY, "bbox": [0, 0, 0, 5]}]), "annotation 1: expected a box with x1 < x2"),
        (coco([{**HAPPY, "bbox": [0, 0, 5]}]), "not COCO JSON as expected"),
        (coco([HAPPY], width=0), "photo 'a.jpg': expected its size in pixels, got 0 x 100"),
        (coco([HAPPY], file_name=None), "expected the name of a photo, got None"),
        (coco([]), "1 photos, but no face with an emotion"),
        ({"images": []}, "not COCO JSON as expected: KeyError 'categories'"),
        ([1, 2], "not COCO JSON as expected"),
        (
            {"schema": "crowdmood/9", "photo": "a"},
            "t.json:1: expected an object with schema 'crowdmood/1', got 'crowdmood/9'",
        ),
    ],
)
def test_bad_truth_names_the_place(tmp_path: Path, document: object, message: str) -> None:
    with pytest.raises(DataError) as caught:
        load_truth(save_coco(tmp_path / "t.json", document))
    assert message in str(caught.value)
    assert str(caught.value).startswith(str(tmp_path / "t.json"))


def test_a_photo_twice(tmp_path: Path) -> None:
    document = coco([HAPPY])
    document["images"].append({**document["images"][0], "id": 2})
    with pytest.raises(DataError, match=r"photo 'a\.jpg' occurs twice"):
        load_truth(save_coco(tmp_path / "t.json", document))


def test_an_image_id_twice(tmp_path: Path) -> None:
    document = coco([HAPPY])
    document["images"].append({**document["images"][0], "file_name": "b.jpg"})
    with pytest.raises(DataError, match=r"t\.json: image id 1 occurs twice"):
        load_truth(save_coco(tmp_path / "t.json", document))


def test_names_with_the_line_ends_of_other_scripts(tmp_path: Path) -> None:
    readings = [make_reading("a\u2028b\x85c.jpg", [make_face()]), make_reading("d.jpg")]
    write_results(readings, tmp_path / "results.jsonl")
    assert [photo.source for photo in load_truth(tmp_path).photos] == ["a\u2028b\x85c.jpg", "d.jpg"]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("not json\n", "r.jsonl:1: neither COCO JSON nor a line of JSON"),
        ("", "0 photos, but no face"),
        (
            '{"schema": "crowdmood/1", "photo": "a"}\n{"x": 1}',
            "r.jsonl:1: not a photo of schema crowdmood/1: KeyError 'faces'",
        ),
    ],
)
def test_bad_lines(tmp_path: Path, text: str, message: str) -> None:
    (tmp_path / "r.jsonl").write_text(text)
    with pytest.raises(DataError) as caught:
        load_truth(tmp_path / "r.jsonl")
    assert message in str(caught.value)


def test_an_unknown_emotion_in_a_line(tmp_path: Path) -> None:
    row = make_reading("a.jpg", [make_face()]).to_dict()
    row["faces"][0]["emotion"] = "bored"
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"r\.jsonl:1: face 1: unknown emotion 'bored'"):
        load_truth(tmp_path / "r.jsonl")


def test_a_photo_that_was_never_read_is_no_truth(tmp_path: Path) -> None:
    row = make_reading("a.jpg", width=None, height=None, error="damaged").to_dict()
    (tmp_path / "r.jsonl").write_text(json.dumps(row))
    with pytest.raises(DataError, match=r"photo 'a\.jpg' was never read \(damaged\)"):
        load_truth(tmp_path / "r.jsonl")


def test_no_such_file_and_no_such_folder_content(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.json: cannot be read: No such file"):
        load_truth(tmp_path / "gone.json")
    with pytest.raises(DataError, match=r"expected annotations\.json \(COCO\) or results\.jsonl in this folder"):
        load_truth(tmp_path)


def test_missing_photos_are_named(tmp_path: Path) -> None:
    truth = load_truth(save_coco(tmp_path / "t.json", coco([HAPPY])))
    with pytest.raises(DataError, match=r"1 of 1 photos are not in .*: a\.jpg"):
        photo_paths(truth)
    save_photo(tmp_path / "elsewhere" / "a.jpg")
    assert photo_paths(truth, tmp_path / "elsewhere") == [tmp_path / "elsewhere" / "a.jpg"]


def test_photos_are_looked_for_in_images_when_there_is_such_a_folder(tmp_path: Path) -> None:
    save_photo(tmp_path / "images" / "a.jpg")
    truth = load_truth(save_coco(tmp_path / "annotations.json", coco([HAPPY])))
    assert photo_paths(truth) == [tmp_path / "images" / "a.jpg"]


ODD = st.recursive(
    st.none() | st.booleans() | st.integers(-2, 2) | st.integers(10**309, 10**400) | st.floats() | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=4,
)
"""Whatever JSON can hold, and Python's NaN and Infinity."""
DOCUMENTS: list[Any] = [
    coco([HAPPY, {**HAPPY, "iscrowd": 1}]),
    coco([{"bbox": [0, 0, 9, 9], "category_id": 2}], names=("surprise", "angry")),
    make_reading("b.jpg", [make_face(), make_face(emotion_name=None)]).to_dict(),
]


def places(value: Any, before: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    """The way to every value in a document."""
    yield before
    inner = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, below in inner:
        yield from places(below, (*before, key))


def replaced(value: Any, place: tuple[Any, ...], by: Any) -> Any:
    if not place:
        return by
    copy = value.copy()
    copy[place[0]] = replaced(value[place[0]], place[1:], by)
    return copy


@given(data=st.data())
def test_a_document_with_anything_odd_in_it_is_read_or_refused(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    document = data.draw(st.sampled_from(DOCUMENTS))
    for _ in range(2):
        document = replaced(document, data.draw(st.sampled_from(list(places(document)))), data.draw(ODD))
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    path.write_text(json.dumps(document), encoding="utf-8")
    with contextlib.suppress(DataError):
        truth = load_truth(path)
        assert truth.face_count > 0
        assert all(np.isfinite(photo.boxes_xyxy).all() for photo in truth.photos)
    with contextlib.suppress(DataError):
        for reading in read_results(path):
            assert reading.to_dict()["photo"] == reading.source


@given(data=st.binary(max_size=60) | st.text(max_size=60).map(str.encode))
def test_whatever_bytes_are_given_are_refused(data: bytes, tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("truth") / "truth.json"
    path.write_bytes(data)
    with pytest.raises(DataError):
        load_truth(path)
    with contextlib.suppress(DataError):
        assert list(read_results(path)) == []
