"""Readings as annotations for other tools: COCO, YOLO, Pascal VOC and Dataturks' JSON lines.

Photos that could not be read are left out. Where a format has room for one class only, that is `face`, so that what was
annotated can train a detector again (`facedet prepare`); the emotion goes along as an attribute.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import quote
from xml.etree import ElementTree

from emotion import EMOTIONS
from pipeline.errors import UsageError
from pipeline.reading import FaceReading, PhotoReading
from pipeline.whole_file import whole_file

FACE = "face"
_NO_XML = re.compile("[\x00-\x08\x0b\x0c\x0e-\x1f\ufffe\uffff]")


def write_coco(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """COCO detection JSON with the one category `face`; emotion and confidence are in `attributes`."""
    _write_coco(readings, path, staging=staging, categories=(FACE,), category_of=lambda face: FACE)


def write_coco_emotions(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """COCO detection JSON with seven categories, the emotions; faces too small to be judged are left out."""
    _write_coco(readings, path, staging=staging, categories=EMOTIONS, category_of=lambda face: face.emotion)


def write_yolo(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """A folder with labels/<photo>.txt, lines `0 cx cy w h` in parts of the photo's size, and classes.txt: face."""
    _write_yolo(readings, path, staging=staging, classes=(FACE,), class_of=lambda face: FACE)


def write_yolo_emotions(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """As `write_yolo` with seven classes, the emotions; faces too small to be judged are left out."""
    _write_yolo(readings, path, staging=staging, classes=EMOTIONS, class_of=lambda face: face.emotion)


def write_voc(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """A folder with <photo>.xml per photo: objects `face`, whole pixels counted from 1, emotion in <attributes>."""
    for reading in _readable(readings):
        target = path / PurePosixPath(reading.source).with_suffix(".xml")
        with whole_file(target, staging=staging) as stream:
            ElementTree.ElementTree(_voc(reading)).write(stream, encoding="utf-8", xml_declaration=True)


def write_dataturks(readings: Iterable[PhotoReading], path: Path, *, staging: Path | None = None) -> None:
    """Dataturks' JSON lines: `content` is the photo's relative URL, corner points are in parts of its size."""
    with whole_file(path, staging=staging) as stream:
        for reading in _readable(readings):
            stream.write(json.dumps(_dataturks(reading), ensure_ascii=False).encode() + b"\n")


def check_stems(photos: Sequence[str]) -> None:
    """Raises UsageError when two photos differ in their suffix alone, for label files are named without it."""
    stems = Counter(str(PurePosixPath(photo).with_suffix("")) for photo in photos)
    double = [photo for photo in photos if stems[str(PurePosixPath(photo).with_suffix(""))] > 1]
    if double:
        raise UsageError(f"{' and '.join(double[:2])} would share one label file: rename one, or leave that format out")


def _readable(readings: Iterable[PhotoReading]) -> Iterator[PhotoReading]:
    return (reading for reading in readings if reading.width and reading.height)


def _xywh(face: FaceReading) -> list[float]:
    x1, y1, x2, y2 = face.box_xyxy
    return [round(value, 2) for value in (x1, y1, x2 - x1, y2 - y1)]


def _write_coco(
    readings: Iterable[PhotoReading],
    path: Path,
    *,
    staging: Path | None,
    categories: Sequence[str],
    category_of: Callable[[FaceReading], str | None],
) -> None:
    """One annotation at a time; only the photos' names and sizes are kept in memory."""
    ids = {name: number for number, name in enumerate(categories, 1)}
    images: list[dict[str, Any]] = []
    count = 0
    with whole_file(path, staging=staging) as stream:
        named = [{"id": number, "name": name, "supercategory": FACE} for name, number in ids.items()]
        stream.write(f'{{"info": {{"description": "crowdmood"}},\n"categories": {json.dumps(named)},\n'.encode())
        stream.write(b'"annotations": [')
        for number, reading in enumerate(_readable(readings), 1):
            size = {"width": reading.width, "height": reading.height}
            images.append({"id": number, "file_name": reading.source, **size})
            for face in reading.faces:
                category = category_of(face)
                if category is not None:
                    count += 1
                    row = _coco_annotation(face, count, image_id=number, category_id=ids[category])
                    stream.write((b"\n" if count == 1 else b",\n") + json.dumps(row).encode())
        stream.write(b'],\n"images": ' + json.dumps(images, ensure_ascii=False).encode() + b"}\n")


def _coco_annotation(face: FaceReading, number: int, *, image_id: int, category_id: int) -> dict[str, Any]:
    box = _xywh(face)
    data = face.to_dict()
    return {
        "id": number,
        "image_id": image_id,
        "category_id": category_id,
        "bbox": box,
        "area": round(box[2] * box[3], 2),
        "iscrowd": 0,
        "score": data["score"],
        "attributes": {"emotion": data["emotion"], "confidence": data["confidence"]},
    }


def _write_yolo(
    readings: Iterable[PhotoReading],
    path: Path,
    *,
    staging: Path | None,
    classes: Sequence[str],
    class_of: Callable[[FaceReading], str | None],
) -> None:
    with whole_file(path / "classes.txt", staging=staging) as stream:
        stream.write("".join(f"{name}\n" for name in classes).encode())
    for reading in _readable(readings):
        target = path / "labels" / PurePosixPath(reading.source).with_suffix(".txt")
        labelled = [(class_of(face), face) for face in reading.faces]
        lines = [_yolo_line(classes.index(name), face, reading) for name, face in labelled if name is not None]
        with whole_file(target, staging=staging) as stream:
            stream.write("".join(lines).encode())


def _yolo_line(number: int, face: FaceReading, reading: PhotoReading) -> str:
    x1, y1, x2, y2 = face.box_xyxy
    width, height = reading.width or 1, reading.height or 1
    values = ((x1 + x2) / 2 / width, (y1 + y2) / 2 / height, (x2 - x1) / width, (y2 - y1) / height)
    return f"{number} " + " ".join(f"{value:.6f}" for value in values) + "\n"


def _voc(reading: PhotoReading) -> ElementTree.Element:
    root = ElementTree.Element("annotation")
    place = PurePosixPath(reading.source)
    _add(root, "folder", "" if len(place.parts) == 1 else str(place.parent))
    _add(root, "filename", place.name)
    size = ElementTree.SubElement(root, "size")
    for name, value in (("width", reading.width), ("height", reading.height), ("depth", 3)):
        _add(size, name, str(value))
    for face in reading.faces:
        item = ElementTree.SubElement(root, "object")
        for name, text in (("name", FACE), ("pose", "Unspecified"), ("truncated", "0"), ("difficult", "0")):
            _add(item, name, text)
        box = ElementTree.SubElement(item, "bndbox")
        x1, y1, x2, y2 = (round(value) for value in face.box_xyxy)
        corners = {"xmin": x1 + 1, "ymin": y1 + 1, "xmax": max(x2, x1 + 1), "ymax": max(y2, y1 + 1)}
        for name, corner in corners.items():
            _add(box, name, str(corner))
        _add_attributes(item, face)
    return root


def _add_attributes(item: ElementTree.Element, face: FaceReading) -> None:
    data = face.to_dict()
    attributes = ElementTree.SubElement(item, "attributes")
    for name in ("emotion", "confidence", "score"):
        if data[name] is not None:
            attribute = ElementTree.SubElement(attributes, "attribute")
            _add(attribute, "name", name)
            _add(attribute, "value", str(data[name]))


def _add(parent: ElementTree.Element, name: str, text: str) -> None:
    ElementTree.SubElement(parent, name).text = _NO_XML.sub("?", text)


def _dataturks(reading: PhotoReading) -> dict[str, Any]:
    return {
        "content": quote(reading.source),
        "annotation": [_dataturks_face(face, reading) for face in reading.faces],
        "extras": None,
    }


def _dataturks_face(face: FaceReading, reading: PhotoReading) -> dict[str, Any]:
    data = face.to_dict()
    x1, y1, x2, y2 = face.box_xyxy
    width, height = reading.width or 1, reading.height or 1
    corners = ((x1, y1), (x2, y2))
    return {
        "label": ["Face"],
        "notes": data["emotion"] or "",
        "points": [{"x": x / width, "y": y / height} for x, y in corners],
        "imageWidth": width,
        "imageHeight": height,
        "attributes": {name: data[name] for name in ("emotion", "confidence", "score")},
    }
