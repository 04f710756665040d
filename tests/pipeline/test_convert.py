"""`crowdmood convert`: the formats of a finished run, corrected emotions, and pictures drawn again."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.convert import convert
from pipeline.errors import DataError, UsageError
from pipeline.reading import PhotoReading
from pipeline.run import RunSettings, annotate
from pipeline.sinks import to_line, write_results
from pipeline.sources import find_photos
from tests.pipeline.factories import make_face, make_pipeline, make_reading, save_photo

runner = CliRunner()


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """A finished run over two photos, one of them not there, and one that could not be read."""
    save_photo(tmp_path / "photos/a/1.png", 200, 100)
    readings = [
        make_reading("a/1.png", [make_face(), make_face((60, 10, 90, 40), None)]),
        make_reading("b/1.jpg", [make_face()]),
        make_reading("c.jpg", width=None, height=None, error="the file is empty"),
    ]
    write_results(readings, tmp_path / "out/results.jsonl")
    return tmp_path / "out"


def test_every_format_is_written_as_by_the_run_itself(tmp_path: Path) -> None:
    for i in range(3):
        save_photo(tmp_path / f"photos/{i % 2}/{i}.png", 200, 100, 60 * i)
    formats = ("csv", "coco", "coco-emotions", "yolo", "yolo-emotions", "voc", "dataturks")
    settings = RunSettings(detector="squares", formats=("jsonl", *formats))
    annotate(find_photos([tmp_path / "photos"]), tmp_path / "run", settings=settings, pipelines=[make_pipeline()])
    convert(tmp_path / "run", [*formats, "pictures"], to=tmp_path / "again", photos=tmp_path / "photos")
    first, again = (
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        for folder in (tmp_path / "run", tmp_path / "again")
    )
    assert len(again) == 4 + 2 * 4 + 3 + 3
    assert again == {path: content for path, content in first.items() if path in again}


def test_photos_that_could_not_be_read_are_left_out(out: Path) -> None:
    written = convert(out, ["csv", "coco", "coco-emotions", "yolo", "voc", "dataturks"])
    assert [path.name for path in written] == [
        "faces.csv", "coco.json", "coco_emotions.json", "yolo", "voc", "dataturks.json"
    ]  # fmt: skip
    assert len(json.loads((out / "coco.json").read_text())["annotations"]) == 3
    assert len(json.loads((out / "coco_emotions.json").read_text())["annotations"]) == 2
    assert (out / "voc/a/1.xml").is_file()
    assert len((out / "yolo/labels/a/1.txt").read_text().splitlines()) == 2


def test_an_emotion_corrected_by_hand_counts(out: Path) -> None:
    path = out / "results.jsonl"
    path.write_text(path.read_text().replace('"emotion": "happy"', '"emotion": "fear"', 1))
    convert(path, ["coco-emotions"], to=out / "more")
    document = json.loads((out / "more/coco_emotions.json").read_text())
    first = document["annotations"][0]
    names = {row["id"]: row["name"] for row in document["categories"]}
    assert (names[first["category_id"]], first["attributes"]) == ("fear", {"emotion": "fear", "confidence": 0.05})
    face = PhotoReading.from_dict(json.loads(path.read_text().splitlines()[0])).faces[0]
    assert (face.corrected, face.emotion, face.confidence) == ("fear", "fear", 0.05)


def test_an_emotion_that_nobody_knows_is_refused(out: Path) -> None:
    path = out / "results.jsonl"
    path.write_text(path.read_text().replace('"emotion": "happy"', '"emotion": "joy"', 1))
    with pytest.raises(DataError, match=r"results\.jsonl line 1: .*expected the emotion as one of angry, disgust"):
        convert(out, ["csv"])


def test_pictures_are_drawn_on_the_photos(out: Path) -> None:
    words = ["convert", str(out), "--format", "pictures,csv", "--photos", str(out.parent / "photos")]
    result = runner.invoke(app, words)
    assert (result.exit_code, result.stdout.split()) == (1, [str(out / "annotated"), str(out / "faces.csv")])
    assert result.stderr == "note: b/1.jpg: cannot be opened: No such file or directory\n"
    with Image.open(out / "annotated/a/1.png") as picture:
        assert picture.size == (200, 100)
        assert len(np.unique(np.asarray(picture))) > 1
    save_photo(out.parent / "photos/b/1.jpg", 100, 200)
    result = runner.invoke(app, words)
    assert result.stderr == "note: b/1.jpg: is 100 x 200 pixels, but was read at 200 x 100\n"
    save_photo(out.parent / "photos/b/1.jpg", 200, 100)
    assert runner.invoke(app, words).exit_code == 0


@pytest.mark.parametrize("name", ["../x.jpg", "/x.jpg"])
def test_names_that_lead_out_are_refused(name: str, out: Path) -> None:
    (out / "results.jsonl").write_text(to_line(make_reading(name)) + "\n")
    with pytest.raises(DataError, match="expected a relative path without"):
        convert(out, ["voc"])
    assert [path.name for path in out.iterdir()] == ["results.jsonl"]


def test_an_emotion_needs_its_probabilities(out: Path) -> None:
    path = out / "results.jsonl"
    path.write_text(path.read_text().replace('"emotion": null', '"emotion": "fear"', 1))
    with pytest.raises(DataError, match="expected no emotion without probabilities"):
        convert(out, ["csv"])


def test_what_cannot_be_converted(out: Path, tmp_path: Path) -> None:
    for photos in (None, tmp_path / "none"):
        with pytest.raises(UsageError, match="expected --photos"):
            convert(out, ["csv", "pictures"], photos=photos)
    assert not (out / "faces.csv").exists()
    result = runner.invoke(app, ["convert", str(out), "--format", "jsonl"])
    assert (result.exit_code, "expected some of pictures" in result.stderr) == (2, True)
    with pytest.raises(DataError, match=r"found no results\.jsonl"):
        convert(tmp_path, ["csv"])
    (out / "results.jsonl").write_text(f"{to_line(make_reading('a.jpg'))}\n{to_line(make_reading('a.png'))}\n")
    with pytest.raises(UsageError, match="would share one label file"):
        convert(out, ["voc"])
    result = runner.invoke(app, ["convert", str(out), "--format", "xml"])
    assert (result.exit_code, "--format xml: expected some of" in result.stderr) == (2, True)
    (tmp_path / "file").write_text("")
    result = runner.invoke(app, ["convert", str(out), "--format", "csv", "--to", str(tmp_path / "file")])
    assert (result.exit_code, "cannot be written" in result.stderr) == (2, True)
