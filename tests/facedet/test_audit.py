"""The audit's kinds of findings, its rules, and proposals in the format that came in."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

from facedet.audit import KINDS, Audit, AuditRules, audit, audit_photo
from facedet.audit_files import write_audit, write_proposal
from facedet.data.coco import load_coco
from facedet.data.dataturks import read_dataturks
from facedet.data.load import RawData, load_raw
from facedet.data.raw import RawPhoto, corners_array
from facedet.errors import ConfigError
from facedet.faces import Faces
from tests.facedet.photos import record, write_lines, write_photo

SIZE = (400, 300)
FACE = [100.0, 100.0, 150.0, 150.0]
LOOSE = [80.0, 80.0, 170.0, 170.0]
TIGHT = [115.0, 115.0, 135.0, 135.0]
SHIFTED = [125.0, 110.0, 175.0, 160.0]
FAR = [300.0, 200.0, 340.0, 240.0]


def kinds(
    labels: list[list[float]], found: list[list[float]], *, ignore: bool = False, rules: AuditRules | None = None
) -> list[tuple[str, int]]:
    raw = RawPhoto("a.jpg", corners_array(labels), np.full(len(labels), ignore, np.bool_))
    table = np.array(found, np.float32).reshape(-1, 5)
    faces = Faces.from_raw(table[:, :4], table[:, 4], SIZE)
    return [(f.kind, f.label) for f in audit_photo(raw, faces, rules or AuditRules())]


@pytest.mark.parametrize(
    ("labels", "found", "expected"),
    [
        ([], [], []),
        ([FACE], [[*FACE, 0.9]], []),
        ([FACE], [[*FACE, 0.2]], []),
        ([FACE], [[*FACE, 0.1]], [("undetected", 0)]),
        ([FACE], [], [("undetected", 0)]),
        ([], [[*FACE, 0.9]], [("unlabelled", -1)]),
        ([], [[*FACE, 0.5]], []),
        ([], [[10, 10, 18, 18, 0.9]], []),
        ([FACE], [[*FACE, 0.9], [*FAR, 0.8]], [("unlabelled", -1)]),
        ([LOOSE], [[*FACE, 0.9]], [("loose", 0)]),
        ([TIGHT], [[*FACE, 0.9]], [("tight", 0)]),
        ([SHIFTED], [[*FACE, 0.9]], [("shifted", 0)]),
        ([FACE, FACE], [[*FACE, 0.9]], [("duplicate", 1)]),
        ([[350, 100, 450, 200]], [[350, 100, 400, 200, 0.9]], [("outside", 0)]),
        ([[350, 100, 401, 150]], [[350, 100, 400, 150, 0.9]], []),
        ([[500, 100, 600, 200]], [], [("degenerate", 0)]),
        ([[10, 10, 10, 50], FACE], [[*FACE, 0.9]], [("degenerate", 0)]),
    ],
)
def test_kinds(labels: list[list[float]], found: list[list[float]], expected: list[tuple[str, int]]) -> None:
    assert kinds(labels, found) == expected


def test_an_ignored_label_explains_a_detection_but_is_not_judged() -> None:
    assert kinds([FACE], [[*FACE, 0.9]], ignore=True) == []
    assert kinds([FACE], [], ignore=True) == []
    assert kinds([FACE, FACE], [], ignore=True) == []


def test_a_label_on_an_ignored_one_is_no_duplicate() -> None:
    raw = RawPhoto("a.jpg", corners_array([FACE, FACE, FACE]), np.array([True, False, False]))
    faces = Faces.from_raw([FACE], [0.9], SIZE)
    assert [(f.kind, f.label) for f in audit_photo(raw, faces, AuditRules())] == [("duplicate", 2)]


def test_rules_that_cannot_work_are_all_named() -> None:
    with pytest.raises(ConfigError, match=r"confident 2: expected 0 to 1; ratio 0\.5: expected more than 1"):
        AuditRules(confident=2, ratio=0.5)
    with pytest.raises(ConfigError, match=r"weak 0\.5: expected at most confident"):
        AuditRules(weak=0.5, confident=0.4)


def test_less_confident_detections_are_told_when_asked_for() -> None:
    rules = AuditRules(unsure=0.3)
    assert kinds([FACE], [[*FACE, 0.4], [*FAR, 0.4]], rules=rules) == [("unsure", -1)]
    assert kinds([], [[*FACE, 0.7], [*FAR, 0.29]], rules=rules) == [("unlabelled", -1)]
    for unsure in (0.1, 0.7):
        with pytest.raises(ConfigError, match=r"unsure 0\.\d: expected 0\.15 to confident, 0\.6"):
            AuditRules(unsure=unsure)


class Scripted:
    """Finds what it is told to, whatever the photo."""

    name = "scripted"

    def __init__(self, found: list[list[float]]) -> None:
        self._found = np.array(found, np.float32).reshape(-1, 5)

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        return [Faces.from_raw(self._found[:, :4], self._found[:, 4], (i.shape[1], i.shape[0])) for i in images]


def relative(box: list[float]) -> list[float]:
    return [v / s for v, s in zip(box, SIZE * 2, strict=True)]


def dataturks(folder: Path) -> tuple[RawData, Audit]:
    write_photo(folder / "photos" / "a.jpg", *SIZE)
    (folder / "photos" / "broken.jpg").write_bytes(b"?")
    records = [
        record("a.jpg", [relative(b) for b in (LOOSE, [10, 10, 60, 60], [10, 10, 60, 61])], size=SIZE),
        record("missing.jpg", [[0, 0, 1, 1]]) | {"extras": {"kept": "as it is"}},
        record("broken.jpg", []),
    ]
    del records[2]["annotation"]
    data = load_raw(write_lines(folder / "faces.json", records), images=folder / "photos")
    return data, audit(Scripted([[*FACE, 0.9], [*FAR, 0.8]]), data.photos)


def test_audit_goes_past_missing_and_broken_photos(tmp_path: Path) -> None:
    _, result = dataturks(tmp_path)
    assert set(result.skipped) == {"missing.jpg", "broken.jpg"}
    assert (result.sizes, result.labels) == ({"a.jpg": SIZE}, 3)
    assert set(result.counts) == set(KINDS)
    assert {k: v for k, v in result.counts.items() if v} == {
        "loose": 1, "duplicate": 1, "undetected": 1, "unlabelled": 1
    }  # fmt: skip


def test_findings_and_sheets_are_written(tmp_path: Path) -> None:
    data, result = dataturks(tmp_path)
    written = write_audit(result, data, tmp_path / "audit")
    assert {p.name for p in written} == {
        "findings.jsonl", "loose.jpg", "duplicate.jpg", "undetected.jpg", "unlabelled.jpg"
    }  # fmt: skip
    assert all(p.stat().st_size > 0 for p in written)
    rows = [json.loads(line) for line in written[0].read_text().splitlines()]
    assert {
        "photo": "a.jpg",
        "kind": "unlabelled",
        "label": -1,
        "label_xyxy": None,
        "detection_xyxy": FAR,
        "score": 0.8,
    } in rows


def test_proposal_as_dataturks_json(tmp_path: Path) -> None:
    data, result = dataturks(tmp_path)
    before = data.source.read_text()
    write_proposal(result, data, tmp_path / "proposed.json")
    assert data.source.read_text() == before
    photos = read_dataturks(tmp_path / "proposed.json")
    np.testing.assert_allclose(photos[0].corners * [*SIZE, *SIZE], [FACE, [10, 10, 60, 60], FAR], atol=0.01)
    rows = [json.loads(line) for line in (tmp_path / "proposed.json").read_text().splitlines()]
    notes = [a["notes"] for a in rows[0]["annotation"]]
    assert notes[0].startswith("audit: loose, box of the detector (score 0.90), was [80.0, 80.0")
    assert notes[1:] == [
        "audit: check, the detector finds nothing here", "audit: added, found with score 0.80"
    ]  # fmt: skip
    originals = [json.loads(line) for line in before.splitlines()]
    assert rows[1:] == originals[1:]


def test_records_of_no_use_stay_as_they_are_in_a_proposal(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a.jpg", *SIZE)
    good = record("a.jpg", [relative(LOOSE), relative(FAR)], size=SIZE)
    good["annotation"][0]["notes"] = ["checked", 2]
    good["annotation"][1]["notes"] = {"by": "me"}
    bad: list[Any] = [record("", []) | {"content": content} for content in ("http://x.org/", None)]
    source = write_lines(tmp_path / "f.json", [bad[0], good, 3, bad[1]])
    data = load_raw(source, images=tmp_path / "photos")
    write_proposal(audit(Scripted([[*FACE, 0.9]]), data.photos), data, tmp_path / "p.json")
    rows = [json.loads(line) for line in (tmp_path / "p.json").read_text().splitlines()]
    assert [rows[0], *rows[2:]] == [bad[0], 3, bad[1]]
    notes = [a["notes"] for a in rows[1]["annotation"]]
    assert notes[0].startswith("checked; 2; audit: loose")
    assert notes[1].startswith("{'by': 'me'}; audit: check")


def coco(folder: Path) -> Path:
    write_photo(folder / "images" / "a.jpg", *SIZE)
    boxes: list[Any] = [(LOOSE, 1), (FACE, 2), ([350.0, 100.0, 450.0, 200.0], 1), ([10.0, 10.0, 10.0, 40.0], 1)]
    document = {
        "info": {"kept": True},
        "images": [{"id": 3, "file_name": "a.jpg", "width": SIZE[0], "height": SIZE[1], "split": "val"}],
        "annotations": [
            {"id": i, "image_id": 3, "category_id": c, "bbox": [x1, y1, x2 - x1, y2 - y1], "blur": i}
            for i, ((x1, y1, x2, y2), c) in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "face"}, {"id": 2, "name": "hat"}],
    }
    (folder / "annotations.json").write_text(json.dumps(document))
    return folder


def test_proposal_as_coco_json(tmp_path: Path) -> None:
    data = load_raw(coco(tmp_path))
    found = [[*FACE, 0.9], [350, 100, 400, 200, 0.7], [*FAR, 0.8]]
    result = audit(Scripted(found), data.photos)
    write_proposal(result, data, tmp_path / "proposed.json")
    document = json.loads((tmp_path / "proposed.json").read_text())
    assert document["info"] == {"kept": True}
    by_id = {a["id"]: a for a in document["annotations"]}
    assert set(by_id) == {1, 2, 3, 5}
    assert by_id[1]["bbox"] == [100.0, 100.0, 50.0, 50.0]
    assert by_id[1]["blur"] == 1
    assert "audit: loose" in by_id[1]["audit"]
    assert by_id[2] == json.loads((tmp_path / "annotations.json").read_text())["annotations"][1]
    assert by_id[3]["bbox"] == [350.0, 100.0, 50.0, 100.0]
    assert "clipped to the photo" in by_id[3]["audit"]
    assert by_id[5]["bbox"] == [300.0, 200.0, 40.0, 40.0]
    assert len(load_coco(tmp_path / "proposed.json", tmp_path / "images", split="val").photos[0].boxes_xyxy) == 3


def test_a_photo_that_a_coco_file_lists_twice_is_corrected_as_one(tmp_path: Path) -> None:
    path = coco(tmp_path) / "annotations.json"
    document = json.loads(path.read_text())
    listing = document["images"][0]
    document["images"] += [listing | {"id": "4"}, listing]
    boxes = [(3, FAR), (4, FACE), (3, [200.0, 20.0, 260.0, 80.0]), (4.0, FAR), (9, FACE)]
    document["annotations"] = [
        {"id": i, "image_id": image, "category_id": 1, "bbox": [x1, y1, x2 - x1, y2 - y1]}
        for i, (image, (x1, y1, x2, y2)) in enumerate(boxes, 1)
    ]
    path.write_text(json.dumps(document))
    data = load_raw(tmp_path)
    result = audit(Scripted([[*FACE, 0.9], [*FAR, 0.8], [10, 210, 60, 270, 0.7]]), data.photos)
    kinds = [(f.kind, f.label) for f in result.findings]
    assert kinds == [("duplicate", 3), ("undetected", 1), ("unlabelled", -1)]
    write_proposal(result, data, tmp_path / "proposed.json")
    by_id = {a["id"]: a for a in json.loads((tmp_path / "proposed.json").read_text())["annotations"]}
    assert {i: a.get("audit", "")[:13] for i, a in by_id.items()} == {
        1: "", 2: "", 3: "audit: check,", 5: "", 6: "audit: added,"
    }  # fmt: skip


def test_a_coco_file_without_sizes_is_corrected_in_the_photos_pixels(tmp_path: Path) -> None:
    path = coco(tmp_path) / "annotations.json"
    document = json.loads(path.read_text())
    document["images"] = [{"id": 3, "file_name": "images\\a.jpg"}]
    path.write_text(json.dumps(document))
    data = load_raw(tmp_path)
    write_proposal(audit(Scripted([[*FACE, 0.9]]), data.photos), data, tmp_path / "proposed.json")
    by_id = {a["id"]: a for a in json.loads((tmp_path / "proposed.json").read_text())["annotations"]}
    assert by_id[1]["bbox"] == [100.0, 100.0, 50.0, 50.0]


@pytest.mark.parametrize("shape", ["array", "data"])
def test_a_proposal_keeps_the_shape_that_came_in(tmp_path: Path, shape: str) -> None:
    write_photo(tmp_path / "photos" / "a.jpg", *SIZE)
    one = record("a.jpg", [relative(LOOSE)], size=SIZE)
    document: Any = [one] if shape == "array" else {"data": [one], "kept": "as it is"}
    source = tmp_path / "f.json"
    source.write_text(json.dumps(document))
    data = load_raw(source, images=tmp_path / "photos")
    write_proposal(audit(Scripted([[*FACE, 0.9]]), data.photos), data, tmp_path / "p.json")
    written = json.loads((tmp_path / "p.json").read_text())
    (changed,) = written if shape == "array" else written.pop("data")
    assert shape == "array" or written == {"kept": "as it is"}
    assert changed["annotation"][0]["notes"].startswith("audit: loose")
    assert [p.name for p in tmp_path.iterdir() if p.is_file() and p != source] == ["p.json"]


def test_a_resized_copy_is_audited_at_its_size_and_proposed_at_the_annotations(tmp_path: Path) -> None:
    data = load_raw(coco(tmp_path))
    write_photo(tmp_path / "images" / "a.jpg", SIZE[0] // 2, SIZE[1] // 2)
    result = audit(Scripted([[50, 50, 75, 75, 0.9], [150, 100, 170, 120, 0.8]]), data.photos)
    assert [f.kind for f in result.findings] == ["degenerate", "outside", "loose", "undetected", "unlabelled"]
    write_audit(result, data, tmp_path / "audit")
    write_proposal(result, data, tmp_path / "proposed.json")
    by_id = {a["id"]: a["bbox"] for a in json.loads((tmp_path / "proposed.json").read_text())["annotations"]}
    assert (by_id[1], by_id[5]) == ([100.0, 100.0, 50.0, 50.0], [300.0, 200.0, 40.0, 40.0])
    assert by_id[3] == [350.0, 100.0, 50.0, 100.0]

    records = [record("a.jpg", [relative(FACE)], size=SIZE)]
    data = load_raw(write_lines(tmp_path / "f.json", records), images=tmp_path / "images")
    result = audit(Scripted([[50, 50, 75, 75, 0.9], [150, 100, 170, 120, 0.8]]), data.photos)
    assert [f.kind for f in result.findings] == ["unlabelled"]
    write_proposal(result, data, tmp_path / "p.json")
    (photo,) = read_dataturks(tmp_path / "p.json")
    np.testing.assert_allclose(photo.corners * [*SIZE, *SIZE], [FACE, FAR], atol=0.01)


def test_a_photo_of_another_shape_is_skipped(tmp_path: Path) -> None:
    data = load_raw(coco(tmp_path))
    write_photo(tmp_path / "images" / "a.jpg", SIZE[1], SIZE[0])
    result = audit(Scripted([[*FACE, 0.9]]), data.photos)
    assert (result.findings, result.labels) == ((), 0)
    assert result.skipped == {"a.jpg": "300x400 px, its annotation says (400, 300)"}


def test_what_the_detector_is_unsure_of_is_proposed_as_to_ignore(tmp_path: Path) -> None:
    found, rules = [[*FACE, 0.9], [*FAR, 0.4]], AuditRules(unsure=0.3)
    data = load_raw(coco(tmp_path))
    write_proposal(audit(Scripted(found), data.photos, rules=rules), data, tmp_path / "proposed.json")
    added = json.loads((tmp_path / "proposed.json").read_text())["annotations"][-1]
    assert (added["bbox"], added["iscrowd"]) == ([300.0, 200.0, 40.0, 40.0], 1)
    assert added["audit"] == "audit: to ignore, found with score 0.40"
    photo = load_coco(tmp_path / "proposed.json", tmp_path / "images", split="val").photos[0]
    assert photo.ignore.tolist() == [False, False, True]
    source = write_lines(tmp_path / "f.json", [record("a.jpg", [relative(FACE)], size=SIZE)])
    data = load_raw(source, images=tmp_path / "images")
    write_proposal(audit(Scripted(found), data.photos, rules=rules), data, tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == json.loads(source.read_text())


def test_a_clean_set_is_proposed_as_it_was(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a.jpg", *SIZE)
    source = write_lines(tmp_path / "f.json", [record("a.jpg", [relative(FACE)], size=SIZE)])
    data = load_raw(source, images=tmp_path / "photos")
    write_proposal(audit(Scripted([[*FACE, 0.9]]), data.photos), data, tmp_path / "p.json")
    assert json.loads((tmp_path / "p.json").read_text()) == json.loads(source.read_text())
