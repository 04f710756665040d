"""Pictures, results.jsonl and faces.csv: whole, in order, with the same content."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import cv2
import numpy as np
import pytest

from pipeline.errors import DataError, PhotoError
from pipeline.photos import load_photo
from pipeline.reading import PhotoReading
from pipeline.sinks import read_results, write_csv, write_picture, write_results
from pipeline.whole_file import whole_file
from tests.pipeline.factories import grey_image, make_face, make_reading

READINGS = [
    make_reading("b/ü.jpg", [make_face(), make_face((0, 0, 20, 20), "sad", 0.5)]),
    PhotoReading("a.jpg", error="the file is empty", elapsed_ms=1.0),
    make_reading('東, "x".jpg', [make_face(emotion_name=None)]),
]


def test_results_keep_order_and_content(tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_results(READINGS, path)
    assert list(read_results(path)) == READINGS
    assert "東" in path.read_text(encoding="utf-8")


def test_no_photos_make_empty_files(tmp_path: Path) -> None:
    write_results([], tmp_path / "r")
    write_csv([], tmp_path / "c")
    assert (tmp_path / "r").read_bytes() == b""
    assert (tmp_path / "c").read_text().startswith("photo,width,")


def test_csv_says_the_same_as_the_results(tmp_path: Path) -> None:
    write_csv(READINGS, tmp_path / "faces.csv")
    with (tmp_path / "faces.csv").open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    faces = [(reading, face) for reading in READINGS for face in reading.faces]
    assert len(rows) == len(faces) == 3
    for row, (reading, face) in zip(rows, faces, strict=True):
        data = face.to_dict()
        assert row["photo"] == reading.source
        assert row["detector"] == reading.detector
        assert [float(row[key]) for key in ("x1", "y1", "x2", "y2")] == data["box_xyxy"]
        assert row["emotion"] == (data["emotion"] or "")
        assert row["happy"] == ("" if face.too_small else str(data["probabilities"]["happy"]))
        assert row["too_small"] == str(face.too_small).lower()


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "png", "webp", "bmp", "tif", "gif", "unknown"])
def test_pictures_in_the_format_of_their_name(suffix: str, tmp_path: Path) -> None:
    reading = make_reading(f"sub/x.{suffix}", [make_face((20, 20, 60, 50))], width=100, height=60)
    path = write_picture(reading, grey_image(), tmp_path)
    assert path == tmp_path / f"sub/x.{suffix}"
    photo = load_photo(path)
    assert photo.size_wh == (100, 60)
    assert photo.pixels_bgr.std() > 1


def test_a_picture_too_large_for_its_format(tmp_path: Path) -> None:
    reading = make_reading("x.webp", width=20_000, height=2)
    with pytest.raises(PhotoError, match=r"cannot be written as \.webp"):
        write_picture(reading, np.zeros((2, 20_000, 3), np.uint8), tmp_path)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", r"line 2: Expecting"),
        ("[]", r"line 2: expected an object"),
        (json.dumps({"schema": "x"}), "line 2: .*'x'"),
    ],
)
def test_a_damaged_line_is_named(line: str, message: str, tmp_path: Path) -> None:
    path = tmp_path / "results.jsonl"
    write_results(READINGS[:1], path)
    with path.open("a") as stream:
        stream.write(line + "\n")
    with pytest.raises(DataError, match=message):
        list(read_results(path))


def test_a_file_is_whole_or_the_old_one(tmp_path: Path) -> None:
    path = tmp_path / "deep" / "file"
    with whole_file(path) as stream:
        stream.write(b"old")
        assert not path.exists()
    with pytest.raises(TypeError), whole_file(path) as stream:
        stream.writelines([b"half", None])  # type: ignore[list-item]
    assert path.read_bytes() == b"old"
    assert [p.name for p in path.parent.iterdir()] == ["file"]


def test_readings_that_fail_midway_leave_no_file(tmp_path: Path) -> None:
    def broken() -> object:
        yield READINGS[0]
        raise OSError(28, "No space left on device")

    for write in (write_results, write_csv):
        with pytest.raises(OSError, match="No space left"):
            write(broken(), tmp_path / "x")  # type: ignore[arg-type]
    assert list(tmp_path.iterdir()) == []


def test_pictures_decode_to_what_was_drawn(tmp_path: Path) -> None:
    reading = make_reading("x.png", [make_face((20, 20, 60, 50), "angry")], width=100, height=60)
    picture = cv2.imread(str(write_picture(reading, grey_image(), tmp_path)))
    assert picture[45, 20].tolist() == [0, 94, 213]
