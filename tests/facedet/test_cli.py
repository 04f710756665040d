"""The commands end to end on made data, and what users read when something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import pytest
from typer.testing import CliRunner, Result

from facedet.cli import app
from tests.facedet.photos import record, write_lines, write_photo
from tests.facedet.test_evaluate import wider_folder


def run(*words: object) -> Result:
    return CliRunner().invoke(app, [str(w) for w in words])


def source(folder: Path, count: int = 4) -> Path:
    for i in range(count):
        write_photo(folder / "photos" / f"{i}.jpg")
    return write_lines(folder / "f.json", [record(f"{i}.jpg", [[0.1, 0.2, 0.6, 0.9]]) for i in range(count)])


@pytest.fixture
def prepared(tmp_path: Path) -> Path:
    words = ("prepare", "dataturks", source(tmp_path), "--images", tmp_path / "photos", "--no-download")
    result = run(*words, "--out", tmp_path / "out", "--split", "0,1,0")
    assert result.exit_code == 0, result.output
    assert "photos kept" in result.output
    return tmp_path / "out"


def test_stats(prepared: Path) -> None:
    result = run("stats", prepared, "--json")
    assert json.loads(result.stdout)["faces"] == 4
    assert "faces" in run("stats", prepared, "--split", "val").output


def test_show(prepared: Path, tmp_path: Path) -> None:
    result = run("show", prepared, "--out", tmp_path / "sheet.png", "--photos", 3)
    assert result.exit_code == 0, result.output
    assert "3 of 4 photos" in result.output
    sheet = cv2.imread(str(tmp_path / "sheet.png"))
    assert sheet is not None
    assert sheet.shape == (338, 960, 3)


def test_evaluate_coco_with_plots(prepared: Path, tmp_path: Path) -> None:
    result = run("evaluate", "--detector", "haar", "--data", prepared, "--json", "--plots", tmp_path / "plots")
    assert result.exit_code == 0, result.output
    report = json.loads(result.stdout)
    assert (report["detector"], report["photos"], report["faces"]) == ("haar", 4, 4)
    assert set(report["metrics"]) >= {"AP", "AP30", "AP50", "AP75", "AP_small", "AR"}
    assert {p.name for p in (tmp_path / "plots").iterdir()} == {
        "pr.png", "misses.jpg", "false_alarms.jpg", "photos.jpg"
    }  # fmt: skip


def test_evaluate_wider_at_a_scale(tmp_path: Path) -> None:
    folder = wider_folder(tmp_path / "dev")
    words = ("evaluate", "--detector", "haar", "--data", folder, "--protocol", "wider", "--scale", 64)
    report = json.loads(run(*words, "--json").stdout)
    assert set(report["metrics"]) == {"easy", "medium", "hard"}
    assert report["scale"] == "native, long side at most 64 px"
    assert "wider" in run(*words).output


def test_evaluate_tells_right_and_wrong_by_score(prepared: Path) -> None:
    words = ("evaluate", "--detector", "haar", "--data", prepared, "--min-score", 0)
    rows = json.loads(run(*words, "--json").stdout)["by_score"]
    assert [row["score"] for row in rows] == [0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9]
    assert all(row["right"] + row["missed"] == 4 for row in rows)
    assert "background" in run(*words).output
    large_only = json.loads(run(*words, "--min-true-px", 1000, "--json").stdout)
    assert large_only["faces"] == 0
    assert large_only["by_score"][0]["recall"] is None


def test_audit_with_a_proposal(tmp_path: Path) -> None:
    words = ("audit", source(tmp_path), "--images", tmp_path / "photos", "--detector", "haar", "--json")
    refused = run(*words, "--confident", 0.5, "--unsure", 0.7)
    assert (refused.exit_code, "unsure 0.7: expected 0.15 to confident, 0.5" in refused.stderr) == (2, True)
    onto_itself = run(*words, "--propose", source(tmp_path))
    assert (onto_itself.exit_code, "expected another file than the annotations" in onto_itself.stderr) == (2, True)
    result = run(*words, "--out", tmp_path / "audit", "--propose", tmp_path / "proposed.json")
    assert result.exit_code == 0, result.output
    figures = json.loads(result.stdout)
    assert (figures["photos"], figures["labels"]) == (4, 4)
    assert figures["findings"]["undetected"] == 4
    assert (tmp_path / "audit" / "undetected.jpg").is_file()
    assert "the detector finds nothing here" in (tmp_path / "proposed.json").read_text()


def test_what_an_audit_cannot_write_is_told_before_the_first_photo(
    prepared: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*words: object, **options: object) -> None:
        raise AssertionError("the photos were looked at")

    a_file, a_folder = prepared / "annotations.json", prepared / "images"
    monkeypatch.setattr("facedet.audit.audit", fail)
    for words, message in (
        (("--out", a_file), f"error: {a_file}: File exists"),
        (("--propose", a_folder), f"error: {a_folder}: expected a file to write the proposal to, found a folder"),
        (("--propose", a_file / "p.json"), f"error: {a_file}: File exists"),
    ):
        result = run("audit", prepared, "--detector", "haar", *words)
        assert (result.exit_code, result.stderr.splitlines()[-1]) == (2, message)
    monkeypatch.undo()
    monkeypatch.setattr("facedet.audit_files.write_audit", fail)
    with pytest.raises(AssertionError):
        CliRunner().invoke(
            app, ["audit", str(prepared), "--detector", "haar", "-o", str(tmp_path / "a"), "--propose",
            str(tmp_path / "new" / "p.json")], catch_exceptions=False,
        )  # fmt: skip
    assert (tmp_path / "new" / "p.json").is_file()


@pytest.mark.parametrize("form", ["wider", "voc", "yolo", "webfaces", "coco"])
def test_prepare_every_format(tmp_path: Path, form: str) -> None:
    where, options = tmp_path / "in", []
    write_photo(where / "images" / "a.jpg")
    if form == "wider":
        where = wider_folder(tmp_path / "dev")
    elif form == "voc":
        box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>40</xmax><ymax>50</ymax></bndbox>"
        (where / "a.xml").write_text(f"<annotation><object><name>face</name>{box}</object></annotation>")
    elif form == "yolo":
        (where / "labels").mkdir()
        (where / "labels" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    elif form == "webfaces":
        options = ["--images", where / "images"]
        where = where / "list.txt"
        where.write_text("a.jpg 40 30 60 30 50 40 50 50\n")
    else:
        image = {"id": 1, "file_name": "a.jpg", "width": 120, "height": 80}
        box = {"id": 1, "image_id": 1, "category_id": 1, "bbox": [1, 2, 30, 40]}
        text = json.dumps({"images": [image], "annotations": [box], "categories": [{"id": 1, "name": "face"}]})
        where = where / "annotations.json"
        where.write_text(text)
    result = run("prepare", form, where, *options, "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert json.loads(run("stats", tmp_path / "out", "--json").stdout)["faces"] == 1


def test_prepare_tells_of_annotations_without_an_image(tmp_path: Path) -> None:
    write_photo(tmp_path / "images" / "a.jpg")
    boxes = [{"id": i, "image_id": i, "category_id": 1, "bbox": [1, 2, 30, 40]} for i in (1, 2)]
    document = {"images": [{"id": 1, "file_name": "a.jpg"}], "annotations": boxes}
    (tmp_path / "f.json").write_text(json.dumps(document | {"categories": [{"id": 1, "name": "face"}]}))
    result = run("prepare", "coco", tmp_path / "f.json", "--out", tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "note: 1 of 2 annotations of faces have no image, the first is annotation 2 with" in result.stderr


@pytest.mark.parametrize("form", ["voc", "yolo"])
def test_what_is_prepared_inside_its_source_is_no_source_of_photos(tmp_path: Path, form: str) -> None:
    write_photo(tmp_path / "in" / "images" / "a.jpg")
    (tmp_path / "in" / "images" / "a.txt").write_text("0 0.5 0.5 0.2 0.2\n")
    box = "<bndbox><xmin>2</xmin><ymin>3</ymin><xmax>40</xmax><ymax>50</ymax></bndbox>"
    (tmp_path / "in" / "a.xml").write_text(f"<annotation><object><name>face</name>{box}</object></annotation>")
    for out in ("out", "out", "another", "stopped", "stopped"):
        result = run("prepare", form, tmp_path / "in", "--out", tmp_path / "in" / out)
        assert result.exit_code == 0, result.output
        counts = json.loads((tmp_path / "in" / out / "report.json").read_text())["counts"]
        assert (counts["photos_kept"], counts["faces"]) == (1, 1)
        if out == "stopped":
            (tmp_path / "in" / out / "annotations.json").unlink()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (("stats", "nowhere"), "error: nowhere: expected a folder with annotations.json"),
        (("evaluate", "--data", "nowhere"), "error: nowhere: expected"),
        (("audit", "nowhere"), "error: nowhere: cannot read"),
        (("prepare", "voc", "nowhere", "-o", "out"), "error: nowhere: expected Pascal VOC XML files"),
        (("prepare", "dataturks", "nowhere.json", "-o", "out"), "error: nowhere.json: cannot read"),
        *(
            (("prepare", form, ".", "-o", "out", "--images", "nope"), "error: nope: expected a folder of photos")
            for form in ("voc", "yolo", "webfaces", "coco")
        ),
        (("prepare", "wider", ".", "-o", "out", "--split", "a,b"), "error: --split 'a,b': expected three numbers"),
        (("prepare", "yolo", ".", "-o", "out", "--split", "1,1,1"), "error: "),
        (("prepare", "yolo", ".", "-o", "out", "--split", "nan,0.5,0.5"), "error: --split 'nan,0.5,0.5': expected"),
    ],
)
def test_errors_are_one_line_with_exit_code_2(
    words: tuple[str, ...], message: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = run(*words)
    assert result.exit_code == 2
    assert result.stderr.startswith(message)
    assert len(result.stderr.strip().splitlines()) == 1
    assert not (tmp_path / "out").exists()


def test_files_that_cannot_be_written_are_errors_of_one_line(prepared: Path, tmp_path: Path) -> None:
    a_file = prepared / "annotations.json"
    for words, message in (
        (("evaluate", "--detector", "haar", "--data", prepared, "--plots", a_file), f"error: {a_file}: File exists"),
        (("audit", prepared, "--detector", "haar", "--propose", a_file / "p.json"), f"error: {a_file}: File exists"),
        (("show", prepared, "--out", a_file / "x.png"), f"error: {a_file / 'x.png'}: cannot be written: File exists"),
    ):
        result = run(*words)
        assert result.exit_code == 2
        assert result.stderr.splitlines()[-1].startswith(message)
    assert len(json.loads(a_file.read_text())["images"]) == 4


def test_prepare_does_not_overwrite_what_is_not_its_own(prepared: Path, tmp_path: Path) -> None:
    words = ("prepare", "dataturks", tmp_path / "f.json", "--images", tmp_path / "photos", "--out", prepared)
    assert run(*words).exit_code == 0
    before = (prepared / "annotations.json").read_bytes()
    itself = run("prepare", "coco", prepared / "annotations.json", "--out", prepared)
    assert "annotations.json: would be overwritten while it is read: expected another folder" in itself.stderr
    (prepared / "report.json").unlink()
    assert "annotations.json: is there already, without the report.json" in run(*words).stderr
    assert (prepared / "annotations.json").read_bytes() == before


@pytest.mark.parametrize("words", [("show", "x"), ("train", "--model", "compact", "--data", "x", "--out", "y")])
def test_a_seed_below_zero_is_refused(words: tuple[str, ...]) -> None:
    result = run(*words, "--seed", -1)
    assert (result.exit_code, "'--seed'" in result.stderr) == (2, True)


def test_unknown_names_are_errors(prepared: Path) -> None:
    assert "detector 'hare'" in run("evaluate", "--detector", "hare", "--data", prepared).stderr
    assert (
        "protocol: expected one of"
        in run("evaluate", "--detector", "haar", "--data", prepared, "--protocol", "x").stderr
    )
    assert "no photo of split 'train'" in run("evaluate", "--data", prepared, "--split", "train").stderr
    assert "expected a suffix of an image format" in run("show", prepared, "--out", prepared / "x.txt").stderr
