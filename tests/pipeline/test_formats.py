"""What goes out as COCO, YOLO, VOC or Dataturks comes back through the readers of `facedet.data`."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion import EMOTIONS
from facedet.data.coco import load_coco, read_coco
from facedet.data.dataturks import read_dataturks
from facedet.data.raw import RawPhoto
from facedet.data.voc import read_voc
from facedet.data.yolo import read_yolo
from pipeline import formats
from pipeline.errors import UsageError
from pipeline.reading import PhotoReading
from tests.pipeline.factories import make_face, make_reading, save_photo

READINGS = [
    make_reading("one.jpg", [make_face((10.25, 20.5, 50.75, 60)), make_face((0, 0, 200, 100), "sad", 0.5)]),
    make_reading("none.png"),
    PhotoReading("bad.jpg", error="the file is empty"),
    make_reading("sub/ü 東 100%.jpg", [make_face((150, 80, 200, 100), None, 0.25)]),
]
WITH_FACES = {"one.jpg": 2, "none.png": 0, "ü 東 100%.jpg": 1}


def pixel_boxes(photo: RawPhoto) -> np.ndarray:
    width, height = photo.declared_wh or (200, 100)
    return photo.corners * [width, height, width, height] if photo.relative else photo.corners


def through_coco(readings: Sequence[PhotoReading], folder: Path) -> list[RawPhoto]:
    formats.write_coco(readings, folder / "coco.json")
    return read_coco(folder / "coco.json", folder)


def through_dataturks(readings: Sequence[PhotoReading], folder: Path) -> list[RawPhoto]:
    formats.write_dataturks(readings, folder / "faces.json")
    return read_dataturks(folder / "faces.json")


def through_voc(readings: Sequence[PhotoReading], folder: Path) -> list[RawPhoto]:
    formats.write_voc(readings, folder / "voc")
    return read_voc(folder / "voc", images=folder)


def through_yolo(readings: Sequence[PhotoReading], folder: Path) -> list[RawPhoto]:
    formats.write_yolo(readings, folder / "yolo")
    for reading in readings:
        if reading.width:
            save_photo(folder / "yolo/images" / reading.source, 20, 10)
    return read_yolo(folder / "yolo", images=folder / "yolo/images")


ROUND_TRIPS: dict[str, tuple[Callable[..., list[RawPhoto]], float]] = {
    "coco": (through_coco, 0.02),
    "dataturks": (through_dataturks, 0.001),
    "voc": (through_voc, 0.5),
    "yolo": (through_yolo, 0.001),
}
"""Way out and back, and how many pixels a corner may move: VOC has whole pixels."""


@pytest.mark.parametrize("name", ROUND_TRIPS)
def test_round_trips_through_the_readers_of_facedet(name: str, tmp_path: Path) -> None:
    way, tolerance = ROUND_TRIPS[name]
    photos = way(READINGS, tmp_path)
    assert len(photos) == 3
    wanted = sorted((reading for reading in READINGS if reading.width), key=lambda reading: len(reading.faces))
    for photo, reading in zip(sorted(photos, key=lambda photo: len(photo.corners)), wanted, strict=True):
        assert len(photo.corners) == len(reading.faces)
        for box, face in zip(pixel_boxes(photo), reading.faces, strict=True):
            assert box == pytest.approx(face.box_xyxy, abs=tolerance)


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_boxes_survive_the_round_trip(data: st.DataObject, tmp_path_factory: pytest.TempPathFactory) -> None:
    width, height = data.draw(st.integers(2, 5000)), data.draw(st.integers(2, 5000))
    faces = []
    for _ in range(data.draw(st.integers(0, 5))):
        x1, y1 = data.draw(st.floats(0, width - 1)), data.draw(st.floats(0, height - 1))
        box = (x1, y1, data.draw(st.floats(x1 + 1, width)), data.draw(st.floats(y1 + 1, height)))
        faces.append(make_face(box, data.draw(st.sampled_from([*EMOTIONS, None]))))
    reading = make_reading("a.jpg", faces, width=width, height=height)
    for name, (way, tolerance) in ROUND_TRIPS.items():
        if name != "yolo":
            photo = way([reading], tmp_path_factory.mktemp(name))[0]
            assert photo.declared_wh == ((width, height) if faces or name != "dataturks" else None)
            boxes = [face.box_xyxy for face in faces]
            assert pixel_boxes(photo) == pytest.approx(np.array(boxes).reshape(-1, 4), abs=2 * tolerance + 0.01)


def test_coco_carries_the_emotion_as_attribute_and_is_what_pycocotools_reads(tmp_path: Path) -> None:
    formats.write_coco(READINGS, tmp_path / "coco.json")
    document = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    assert [a["attributes"]["emotion"] for a in document["annotations"]] == ["happy", "sad", None]
    assert [a["score"] for a in document["annotations"]] == [0.9, 0.5, 0.25]
    assert [image["file_name"] for image in document["images"]] == ["one.jpg", "none.png", "sub/ü 東 100%.jpg"]
    assert [c["name"] for c in document["categories"]] == ["face"]
    assert len(load_coco(tmp_path / "coco.json", tmp_path)) == 3
    coco = pytest.importorskip("pycocotools.coco").COCO(str(tmp_path / "coco.json"))
    assert len(coco.getAnnIds(imgIds=[1])) == 2


def test_coco_with_seven_categories(tmp_path: Path) -> None:
    formats.write_coco_emotions(READINGS, tmp_path / "coco.json")
    document = json.loads((tmp_path / "coco.json").read_text(encoding="utf-8"))
    names = {c["id"]: c["name"] for c in document["categories"]}
    assert tuple(names.values()) == EMOTIONS
    assert [names[a["category_id"]] for a in document["annotations"]] == ["happy", "sad"]


def test_yolo_with_seven_classes(tmp_path: Path) -> None:
    formats.write_yolo_emotions(READINGS, tmp_path)
    assert tuple((tmp_path / "classes.txt").read_text().split()) == EMOTIONS
    lines = (tmp_path / "labels/one.txt").read_text().splitlines()
    assert lines == ["3 0.152500 0.402500 0.202500 0.395000", "4 0.500000 0.500000 1.000000 1.000000"]
    assert (tmp_path / "labels/sub/ü 東 100%.txt").read_text() == ""
    assert not (tmp_path / "labels/bad.txt").exists()


def test_voc_and_dataturks_carry_the_emotion(tmp_path: Path) -> None:
    formats.write_voc(READINGS, tmp_path / "voc")
    root = ElementTree.parse(tmp_path / "voc/one.xml").getroot()
    values = {a.findtext("name"): a.findtext("value") for a in root.iter("attribute")}
    assert values == {"emotion": "sad", "confidence": "0.7", "score": "0.5"}
    formats.write_dataturks(READINGS, tmp_path / "faces.json")
    record = json.loads((tmp_path / "faces.json").read_text(encoding="utf-8").splitlines()[0])
    assert record["annotation"][0]["attributes"] == {"emotion": "happy", "confidence": 0.7, "score": 0.9}
    assert record["annotation"][0]["label"] == ["Face"]


def test_control_characters_in_a_name_make_no_broken_xml(tmp_path: Path) -> None:
    formats.write_voc([make_reading("a\x01<&.jpg")], tmp_path)
    root = ElementTree.parse(next(tmp_path.glob("*.xml"))).getroot()
    assert root.findtext("filename") == "a?<&.jpg"


def test_photos_that_would_share_a_label_file_are_refused() -> None:
    formats.check_stems(["a.jpg", "b.jpg", "sub/a.jpg"])
    with pytest.raises(UsageError, match=r"a\.jpg and a\.png would share one label file"):
        formats.check_stems(["a.jpg", "b.jpg", "a.png"])


@pytest.mark.parametrize("write", [formats.write_coco, formats.write_coco_emotions, formats.write_dataturks])
def test_no_photos(write: Callable[..., None], tmp_path: Path) -> None:
    write([], tmp_path / "file")
    text = (tmp_path / "file").read_text()
    assert text == "" or json.loads(text)["images"] == []
