"""Dataturks JSON and the names of its photos: what is read, and what is refused with which message."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from facedet.data.dataturks import read_dataturks
from facedet.data.prepare import PrepareOptions, prepare
from facedet.data.raw import name_of_url
from facedet.errors import DataError
from tests.facedet.photos import record, write_lines, write_photo

ONE = [[0.1, 0.2, 0.5, 0.6]]


@pytest.mark.parametrize("shape", ["lines", "one line", "data", "array", "array with BOM", "blank lines"])
def test_dataturks_shapes(tmp_path: Path, shape: str) -> None:
    records = [record("a.jpg", ONE), record("b.jpg", [])][: 1 if shape == "one line" else 2]
    text = {
        "data": json.dumps({"data": records}, indent=2),
        "array": json.dumps(records, indent=2),
        "array with BOM": "\ufeff" + json.dumps(records),
        "blank lines": "\n\n".join(json.dumps(r) for r in records) + "\n\n",
    }.get(shape, "\n".join(json.dumps(r) for r in records))
    path = tmp_path / "faces.json"
    path.write_text(text, encoding="utf-8")
    photos = read_dataturks(path)
    assert [p.name for p in photos] == ["a.jpg", "b.jpg"][: len(records)]
    np.testing.assert_allclose(photos[0].corners, ONE)
    assert photos[0].relative
    assert photos[0].declared_wh == (120, 80)


@pytest.mark.parametrize(
    ("change", "faces"),
    [
        ({}, 1),
        ({"label": "Face"}, 1),
        ({"label": ["face"]}, 1),
        ({"label": ["Dog", "FACE "]}, 1),
        ({"label": ["Dog"]}, 0),
        ({"label": []}, 0),
        ({"label": None}, 0),
        ({"points": [{"x": 0.5, "y": 0.6}, {"x": 0.1, "y": 0.2}]}, 1),
        ({"points": [{"x": 0.5, "y": 0.2}, {"x": 0.1, "y": 0.6}]}, 1),
        ({"points": [[0.1, 0.2], [0.5, 0.6]]}, 1),
        ({"points": [{"x": x, "y": y} for x, y in ((0.5, 0.6), (0.1, 0.6), (0.1, 0.2), (0.5, 0.2))]}, 1),
    ],
)
def test_dataturks_labels_and_corners(tmp_path: Path, change: dict[str, Any], faces: int) -> None:
    one = record("a.jpg", ONE)
    one["annotation"][0] |= change
    (photo,) = read_dataturks(write_lines(tmp_path / "f.json", [one]))
    np.testing.assert_allclose(photo.corners, np.array(ONE * faces).reshape(-1, 4))


@pytest.mark.parametrize("annotation", ["absent", None, []])
def test_dataturks_without_annotation(tmp_path: Path, annotation: Any) -> None:
    one = record("a.jpg", []) | {"annotation": annotation}
    if annotation == "absent":
        del one["annotation"]
    (photo,) = read_dataturks(write_lines(tmp_path / "f.json", [one]))
    assert photo.corners.shape == (0, 4)
    assert photo.declared_wh is None


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "line|at least one record"),
        ("[]", "at least one record"),
        ("{}", "record 1: expected an object whose 'content'"),
        ('[{"content": 3}]', "record 1: expected an object whose 'content'"),
        ('{"content": "http://x/a.jpg"}\n{"content": ', "line 2: expected one JSON record per line"),
        ('{"content": "http://x/"}', "expected a URL that ends in a file name"),
        ('{"content": "http://x/a.jpg", "annotation": [3]}', "record 1"),
    ],
)
def test_dataturks_bad_files(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "bad.json"
    path.write_text(text)
    with pytest.raises(DataError, match=message) as error:
        read_dataturks(path)
    assert "bad.json" in str(error.value)


def test_a_bad_record_or_face_does_not_stop_the_others(tmp_path: Path) -> None:
    sizes = record("a.jpg", ONE * 2)
    sizes["annotation"][1]["imageWidth"] = 999
    pointless = record("b.jpg", ONE * 4)
    for annotation, points in zip(pointless["annotation"], ([], [{"x": 0.1, "y": 0.2}], None), strict=False):
        annotation["points"] = points
    records = [sizes, record("", ONE), {"content": None}, 3, pointless]
    path = write_lines(tmp_path / "f.json", records)
    photos = read_dataturks(path)
    assert [photo.fault for photo in photos] == [
        "record 1 (http://photos.invalid/set/a.jpg): its annotations disagree on the photo's size: "
        "[(120, 80), (999, 80)]",
        "record 2 (http://photos.invalid/set/): 'http://photos.invalid/set/': expected a URL that ends in a file name",
        "record 3: expected an object whose 'content' is the photo's URL",
        "record 4: expected an object whose 'content' is the photo's URL",
        "",
    ]
    write_photo(tmp_path / "photos" / "b.jpg")
    report = prepare(photos, tmp_path / "out", options=PrepareOptions(images=tmp_path / "photos", download=False))
    expected = {"records_of_no_use": 4, "photos_kept": 1, "faces": 1, "box_dropped_not_finite": 3}
    assert expected.items() <= report.counts.items()
    assert report.left_out["record 1"] == photos[0].fault


def test_lines_end_only_where_json_says_so(tmp_path: Path) -> None:
    one = record("a.jpg", ONE) | {"extras": "two\u2028lines\x85"}
    path = tmp_path / "f.json"
    path.write_text("\r\n".join([json.dumps(one, ensure_ascii=False)] * 2), encoding="utf-8", newline="")
    assert [photo.name for photo in read_dataturks(path)] == ["a.jpg", "a.jpg"]


def test_missing_and_binary_files(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"none\.json: cannot read"):
        read_dataturks(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"binary\.json: expected UTF-8"):
        read_dataturks(tmp_path / "binary.json")


@pytest.mark.parametrize(
    ("url", "name"),
    [
        ("http://h/a/b___0-26.jpg.jpeg", "b___0-26.jpg.jpeg"),
        ("http://h/a.jpg?x=/../../etc", "a.jpg"),
        ("http://h/%2e%2e%2fpasswd", "%2e%2e%2fpasswd"),
        ("http://h/a\\..\\b.jpg", "a_.._b.jpg"),
        ("http://h/..jpg", "jpg"),
        ("http://h/a:b*.jpg", "a_b_.jpg"),
        ("http://h/" + "x" * 400 + ".jpg", "x" * 176 + ".jpg"),
        ("http://h/" + "é" * 300 + ".jpg", "é" * 88 + ".jpg"),
        ("http://h/" + "群" * 100 + ".jpg", "群" * 58 + ".jpg"),
        ("http://h/\ud800a.jpg", "a.jpg"),
        ("sub/a%20b.jpg", "sub/a b.jpg"),
        ("sub/%3Fa%25.jpg", "sub/_a%.jpg"),
        ("../%2e%2e/./sub//a.jpg", "sub/a.jpg"),
        ("/home/me/sub/a.jpg", "a.jpg"),
    ],
)
def test_names_of_urls_are_safe(url: str, name: str) -> None:
    assert name_of_url(url) == name


@pytest.mark.parametrize("url", ["", "http://h", "http://h/", "http://h/..", "http://h/.", "http://[::1/a.jpg"])
def test_urls_without_a_name(url: str) -> None:
    with pytest.raises(DataError, match="expected a URL"):
        name_of_url(url)
