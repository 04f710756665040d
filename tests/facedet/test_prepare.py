"""Prepared folders: what is kept, repaired, dropped and counted; stable splits; loading and counting."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from facedet.data.checks import pixel_scale, repair_boxes
from facedet.data.coco import SPLITS, load_coco, read_coco, split_of, write_coco
from facedet.data.dataturks import read_dataturks
from facedet.data.download import DownloadRules
from facedet.data.load import load_data, load_raw, load_training
from facedet.data.prepare import PrepareOptions, prepare, unique_names
from facedet.data.raw import RawPhoto, corners_array, locate_photos
from facedet.data.stats import stats
from facedet.data.voc import read_voc
from facedet.errors import DataError
from pipeline import formats
from pipeline.reading import FaceReading, PhotoReading
from tests.facedet.drawn_faces import drawn_dataset
from tests.facedet.photos import record, write_lines, write_photo

PATIENT = settings(deadline=None, max_examples=40, suppress_health_check=[HealthCheck.too_slow])
NO_DOWNLOAD = PrepareOptions(download=False)


def raw(corners: list[list[float]], *, relative: bool = False, declared: tuple[int, int] | None = None) -> RawPhoto:
    return RawPhoto("a.jpg", corners_array(corners), np.zeros(len(corners), np.bool_), relative, declared_wh=declared)


@pytest.mark.parametrize(
    ("corners", "expected", "counted"),
    [
        ([], [], {}),
        ([[10, 20, 30, 40]], [[10, 20, 30, 40]], {}),
        ([[30, 40, 10, 20]], [[10, 20, 30, 40]], {"box_repaired_corners_swapped": 1}),
        ([[-5, 20, 30, 40]], [[0, 20, 30, 40]], {"box_repaired_clipped": 1}),
        ([[90, 70, 130, 90]], [[90, 70, 120, 80]], {"box_repaired_clipped": 1}),
        ([[-0.5, 0, 120.5, 80]], [[0, 0, 120, 80]], {}),
        ([[120, 10, 150, 40]], [], {"box_dropped_outside": 1}),
        ([[-30, 10, 0, 40]], [], {"box_dropped_outside": 1}),
        ([[10, 20, 10, 40]], [], {"box_dropped_degenerate": 1}),
        ([[10, 20, 30, 20.5]], [], {"box_dropped_degenerate": 1}),
        ([[119.5, 10, 150, 40]], [], {"box_dropped_degenerate": 1}),
        ([[np.nan, 20, 30, 40], [10, np.inf, 30, 40]], [], {"box_dropped_not_finite": 2}),
        ([[10, 20, 30, 40], [10, 20, 30, 40.1]], [[10, 20, 30, 40]], {"box_dropped_duplicate": 1}),
        ([[10, 20, 30, 40], [12, 20, 32, 40]], [[10, 20, 30, 40], [12, 20, 32, 40]], {}),
    ],
)
def test_boxes_are_repaired_or_dropped_and_counted(
    corners: list[list[float]], expected: list[list[float]], counted: dict[str, int]
) -> None:
    counts: Counter[str] = Counter()
    boxes, ignore = repair_boxes(raw(corners), (120, 80), (1.0, 1.0), counts)
    np.testing.assert_allclose(boxes, np.array(expected, np.float32).reshape(-1, 4))
    assert ignore.shape == (len(expected),)
    assert {k: v for k, v in counts.items() if v} == counted


@PATIENT
@given(
    corners=st.lists(st.lists(st.floats(-300, 300, width=32), min_size=4, max_size=4), max_size=6),
    size=st.tuples(st.integers(1, 200), st.integers(1, 200)),
)
def test_repaired_boxes_are_always_inside(corners: list[list[float]], size: tuple[int, int]) -> None:
    counts: Counter[str] = Counter()
    boxes, _ = repair_boxes(raw(corners), size, (1.0, 1.0), counts)
    assert ((boxes >= 0) & (boxes <= [*size, *size])).all()
    assert ((boxes[:, 2:] - boxes[:, :2]) >= 0.99).all()
    assert len(boxes) + sum(v for k, v in counts.items() if "dropped" in k) == len(corners)


@pytest.mark.parametrize(
    ("declared", "relative", "scale"),
    [
        (None, False, (1, 1)),
        ((120, 80), False, (1, 1)),
        ((240, 160), False, (0.5, 0.5)),
        ((240, 160), True, (1, 1)),
        ((80, 120), False, None),
        ((121, 80), False, (120 / 121, 1)),
        ((0, 0), False, None),
    ],
)
def test_photos_of_another_size(
    declared: tuple[int, int] | None, relative: bool, scale: tuple[float, float] | None
) -> None:
    assert pixel_scale(raw([], relative=relative, declared=declared), (120, 80)) == scale


def source(folder: Path, count: int = 30) -> Path:
    """Dataturks JSON with `count` photos present, one missing, one broken, one of another shape."""
    for i in range(count):
        write_photo(folder / "photos" / f"{i}.jpg")
    (folder / "photos" / "broken.jpg").write_bytes(b"\xff\xd8\xff no more")
    write_photo(folder / "photos" / "turned.jpg", 80, 120)
    records = [record(f"{i}.jpg", [[0.1, 0.2, 0.5, 0.6], [0.6, 0.2, 0.9, 0.6]]) for i in range(count)]
    extra = [record(name, [[0.1, 0.2, 0.5, 0.6]]) for name in ("missing.jpg", "broken.jpg", "turned.jpg")]
    return write_lines(folder / "faces.json", records + extra)


def options(folder: Path) -> PrepareOptions:
    return PrepareOptions(images=folder / "photos", download=False)


def test_prepare_dataturks(tmp_path: Path) -> None:
    report = prepare(read_dataturks(source(tmp_path)), tmp_path / "out", options=options(tmp_path))
    expected = {
        "photos_read": 33, "photos_kept": 30, "photos_left_out": 3, "photos_missing": 1, "photos_unreadable": 1,
        "photos_of_another_shape": 1, "faces": 60,
    }  # fmt: skip
    assert {k: v for k, v in report.counts.items() if v} == expected
    assert set(report.left_out) == {"missing.jpg", "broken.jpg", "turned.jpg"}
    assert "80x120 px, its annotation says (120, 80)" in report.left_out["turned.jpg"]
    assert sum(row["photos"] for row in report.splits.values()) == 30
    assert json.loads((tmp_path / "out" / "report.json").read_text())["counts"] == report.counts
    assert len(report.sha256) == 30
    data = load_data(tmp_path / "out")
    assert (len(data), data.face_count) == (30, 60)
    assert all(photo.path.is_file() for photo in data.photos)
    np.testing.assert_allclose(data.photos[0].boxes_xyxy, [[12, 16, 60, 48], [72, 16, 108, 48]], atol=0.01)
    parts = [load_data(tmp_path / "out", split=s) for s in SPLITS if report.splits[s]["photos"]]
    assert sorted(p.name for part in parts for p in part.photos) == [p.name for p in data.photos]


def test_prepare_again_changes_nothing(tmp_path: Path) -> None:
    raws = read_dataturks(source(tmp_path, 5))
    first = prepare(raws, tmp_path / "out", options=options(tmp_path))
    text = (tmp_path / "out" / "annotations.json").read_text()
    assert prepare(raws, tmp_path / "out", options=options(tmp_path)) == first
    from_before = prepare(raws, tmp_path / "out", options=NO_DOWNLOAD)
    assert (from_before.counts["photos_kept"], from_before.splits) == (5, first.splits)
    assert (tmp_path / "out" / "annotations.json").read_text() == text


def test_dead_links_are_listed_and_the_rest_goes_on(tmp_path: Path) -> None:
    path = source(tmp_path, 2)
    lines = [json.loads(line) for line in path.read_text().splitlines()]
    lines[2]["content"] = "file:///etc/missing.jpg"
    write_lines(path, lines)
    report = prepare(read_dataturks(path), tmp_path / "out", options=PrepareOptions(images=tmp_path / "photos"))
    assert report.counts["photos_kept"] == 2
    assert list(report.dead_links) == ["file:///etc/missing.jpg"]
    assert "expected an http or https URL" in report.dead_links["file:///etc/missing.jpg"]


def test_photos_of_an_earlier_run_are_used_when_their_links_have_died(tmp_path: Path) -> None:
    raws = [replace(raw, url=f"http://127.0.0.1:9/{raw.name}") for raw in read_dataturks(source(tmp_path, 3))]
    prepare(raws, tmp_path / "out", options=options(tmp_path))
    (tmp_path / "fewer").mkdir()
    (tmp_path / "photos" / "0.jpg").rename(tmp_path / "fewer" / "0.jpg")
    quick = DownloadRules(attempts=1, connect_timeout_s=1)
    again = prepare(raws, tmp_path / "out", options=PrepareOptions(images=tmp_path / "fewer", rules=quick))
    assert again.counts["photos_kept"] == 3
    assert "http://127.0.0.1:9/2.jpg" in again.dead_links


def test_percent_decoded_photos_are_found(tmp_path: Path) -> None:
    write_photo(tmp_path / "photos" / "a b.jpg")
    path = write_lines(tmp_path / "f.json", [record("a%20b.jpg", [[0.1, 0.2, 0.5, 0.6]])])
    assert prepare(read_dataturks(path), tmp_path / "out", options=options(tmp_path)).counts["faces"] == 1


def test_relative_urls_are_followed_and_a_name_alone_only_where_it_is_one_photos(tmp_path: Path) -> None:
    for name in ("x/a b.jpg", "y/a b.jpg", "c.jpg"):
        write_photo(tmp_path / "photos" / name)
    contents = ["x/a%20b.jpg", "y/a%20b.jpg", "z/a%20b.jpg", "gone/c.jpg", "../../c.jpg", "a" * 300 + ".jpg"]
    records = [record("", [[0.1, 0.2, 0.5, 0.6]]) | {"content": content} for content in contents]
    report = prepare(
        read_dataturks(write_lines(tmp_path / "f.json", records[:4] + records[5:])), tmp_path / "out",
        options=options(tmp_path),
    )  # fmt: skip
    assert set(report.left_out) == {"z/a b.jpg", "a" * 176 + ".jpg"}
    assert [p.name for p in load_data(tmp_path / "out").photos] == ["gone/c.jpg", "x/a b.jpg", "y/a b.jpg"]
    raws = read_dataturks(write_lines(tmp_path / "f.json", records[4:5]))
    assert locate_photos(tmp_path / "photos", raws) == {"c.jpg": tmp_path / "photos" / "c.jpg"}


@pytest.mark.parametrize("form", ["voc", "dataturks", "coco"])
def test_what_annotate_writes_comes_back_with_photos_of_one_name_apart(tmp_path: Path, form: str) -> None:
    boxes = {"a.jpg": (10.0, 20.0, 50.0, 60.0), "p q/a.jpg": (30.0, 5.0, 70.0, 45.0), "r/a.jpg": (1.0, 2.0, 31.0, 42.0)}
    for name in boxes:
        write_photo(tmp_path / "photos" / name)
    readings = [annotated(name, box) for name, box in boxes.items()]
    getattr(formats, f"write_{form}")(readings, tmp_path / "labels")
    raws = {
        "voc": lambda: read_voc(tmp_path / "labels", images=tmp_path / "photos"),
        "dataturks": lambda: read_dataturks(tmp_path / "labels"),
        "coco": lambda: read_coco(tmp_path / "labels", tmp_path / "photos"),
    }[form]()
    assert prepare(raws, tmp_path / "out", options=options(tmp_path)).counts["photos_kept"] == 3
    data = load_data(tmp_path / "out")
    assert {photo.name: photo.boxes_xyxy.round().tolist() for photo in data.photos} == {
        name: [list(box)] for name, box in boxes.items()
    }
    assert all(photo.path.is_file() for photo in data.photos)


def annotated(name: str, box: tuple[float, float, float, float]) -> PhotoReading:
    return PhotoReading(name, 120, 80, faces=(FaceReading(box, 0.9, None),))


def test_nothing_left_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"no photo is left of 1, see report.json; the first: a\.jpg: no such photo here"
    ):
        prepare([raw([[1, 2, 30, 40]])], tmp_path / "out", options=NO_DOWNLOAD)
    assert list(json.loads((tmp_path / "out" / "report.json").read_text())["left_out"]) == ["a.jpg"]
    with pytest.raises(DataError, match="fotos: expected a folder of photos"):
        prepare([raw([])], tmp_path / "other", options=PrepareOptions(images=tmp_path / "fotos"))
    assert not (tmp_path / "other").exists()


@pytest.mark.parametrize("name", ["../a.jpg", "/tmp/a.jpg"])
def test_names_stay_inside_the_prepared_folder(tmp_path: Path, name: str) -> None:
    photo = RawPhoto(name, corners_array([]), np.zeros(0, np.bool_), path=write_photo(tmp_path / "a.jpg"))
    with pytest.raises(DataError, match="must not lead out of"):
        prepare([photo], tmp_path / "out", options=NO_DOWNLOAD)
    assert not (tmp_path / "out" / "annotations.json").exists()


@pytest.mark.parametrize("fractions", [(0.5, 0.5), (0.5, 0.6, 0.1), (-0.1, 1.0, 0.1)])
def test_split_fractions_that_cannot_be(fractions: tuple[float, ...]) -> None:
    with pytest.raises(DataError, match="expected three numbers of at least 0 with sum 1"):
        split_of("a", fractions=fractions)


@PATIENT
@given(
    st.sets(st.text(min_size=1), min_size=1, max_size=20), st.sets(st.text(min_size=1), max_size=20), st.integers(0, 9)
)
def test_added_photos_move_no_other(names: set[str], added: set[str], seed: int) -> None:
    before = {name: split_of(name, seed=seed) for name in names}
    after = {name: split_of(name, seed=seed) for name in names | added}
    assert {name: after[name] for name in names} == before


def test_split_follows_the_fractions_and_the_seed() -> None:
    splits = [Counter(split_of(f"{i}.jpg", seed=seed) for i in range(2000)) for seed in (0, 1)]
    for counts in splits:
        assert counts["train"] == pytest.approx(1600, abs=80)
        assert counts["val"] == pytest.approx(200, abs=60)
    assert any(split_of(f"{i}.jpg", seed=0) != split_of(f"{i}.jpg", seed=1) for i in range(50))
    assert split_of("a.jpg", fractions=(0, 0, 1)) == "test"


def test_a_splits_name_in_the_source_is_kept(tmp_path: Path) -> None:
    photo = write_photo(tmp_path / "a.jpg")
    raws = [RawPhoto("a.jpg", corners_array([]), np.zeros(0, np.bool_), path=photo, split="test")]
    report = prepare(raws, tmp_path / "out", options=PrepareOptions(download=False, fractions=(1, 0, 0)))
    assert report.splits["test"]["photos"] == 1


def test_photos_of_one_name() -> None:
    twice = [raw([[1, 2, 3, 4]]), raw([[5, 6, 7, 8]])]
    other = RawPhoto("a.jpg", corners_array([]), np.zeros(0, np.bool_), url="http://elsewhere/a.jpg")
    joined, counts = unique_names([*twice, other])
    assert len(joined) == 1
    np.testing.assert_array_equal(joined[0].corners, [[1, 2, 3, 4], [5, 6, 7, 8]])
    assert counts == {"photos_listed_twice_joined": 1, "photos_left_out_same_name": 1}


def test_coco_round_trip(tmp_path: Path) -> None:
    prepare(read_dataturks(source(tmp_path, 3)), tmp_path / "out", options=options(tmp_path))
    first = load_data(tmp_path / "out")
    write_coco(first, tmp_path / "copy.json", splits={p.name: "val" for p in first.photos})
    again = load_coco(tmp_path / "copy.json", first.images_dir, split="val")
    for a, b in zip(first.photos, again.photos, strict=True):
        assert (a.path, a.name, a.width, a.height) == (b.path, b.name, b.width, b.height)
        np.testing.assert_array_equal(a.boxes_xyxy, b.boxes_xyxy)
        np.testing.assert_array_equal(a.ignore, b.ignore)


def test_load_data_names_what_it_expects(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"expected a folder with annotations\.json and images/"):
        load_data(tmp_path)
    with pytest.raises(DataError, match=r"expected a folder with .*, a COCO JSON file or Dataturks' JSON"):
        load_raw(tmp_path)
    data = drawn_dataset(tmp_path / "set", photos=1)
    write_coco(data, tmp_path / "elsewhere.json")
    with pytest.raises(DataError, match=r"elsewhere\.json: expected its photos in .*images; .*--images"):
        load_data(tmp_path / "elsewhere.json")


def test_training_takes_train_splits_and_whole_sets_without_splits(tmp_path: Path) -> None:
    split = drawn_dataset(tmp_path / "split", photos=3, splits=("train", "val", "test"))
    whole = drawn_dataset(tmp_path / "whole", photos=2)
    write_coco(whole, tmp_path / "whole" / "annotations.json")
    train, val = load_training([tmp_path / "whole", tmp_path / "split"])
    assert [p.path for p in train.photos] == [whole.photos[0].path, whole.photos[1].path, split.photos[0].path]
    assert val is not None
    assert [p.path for p in val.photos] == [split.photos[1].path]
    assert load_training([tmp_path / "whole"])[1] is None
    _, chosen = load_training([tmp_path / "split"], val=tmp_path / "whole")
    assert chosen is not None
    assert len(chosen) == 2


def test_no_photo_is_trained_and_measured_on(tmp_path: Path) -> None:
    write_coco(drawn_dataset(tmp_path / "set", photos=2), tmp_path / "set" / "annotations.json")
    with pytest.raises(DataError, match="2 photos would be trained and measured on"):
        load_training([tmp_path / "set"], val=tmp_path / "set")


@pytest.mark.parametrize("linked", [True, False])
def test_a_photo_of_two_prepared_folders_is_not_trained_and_measured_on(tmp_path: Path, linked: bool) -> None:
    source = drawn_dataset(tmp_path / "source", photos=3)
    names = [photo.name for photo in source.photos]
    for out, chosen in (("one", names[:2]), ("two", names[1:])):
        photos = [replace(raw([]), name=f"{out}_{name}", path=source.images_dir / name) for name in chosen]
        prepare(photos, tmp_path / out, options=PrepareOptions(download=False, fractions=(1, 0, 0)))
    copied = tmp_path / "two" / "images" / f"two_{names[1]}"
    if linked:
        (tmp_path / "two" / "report.json").unlink()
    else:
        pixels = copied.read_bytes()
        copied.unlink()
        copied.write_bytes(pixels)
    document = json.loads((tmp_path / "two" / "annotations.json").read_text())
    document["images"] = [{**image, "split": "val"} for image in document["images"]]
    (tmp_path / "two" / "annotations.json").write_text(json.dumps(document))
    with pytest.raises(DataError, match=rf"1 photos would be trained and measured on, the first is .*{copied.name}"):
        load_training([tmp_path / "one"], val=tmp_path / "two")


def test_copies_within_a_prepared_folder_may_be_trained_and_measured_on(tmp_path: Path) -> None:
    pixels = write_photo(tmp_path / "0.jpg").read_bytes()
    (tmp_path / "1.jpg").write_bytes(pixels)
    photos = [replace(raw([]), name=f"{i}.jpg", path=tmp_path / f"{i}.jpg", split=SPLITS[i]) for i in range(2)]
    prepare(photos, tmp_path / "out", options=NO_DOWNLOAD)
    train, val = load_training([tmp_path / "out"])
    assert (len(train), len(val or ())) == (1, 1)


def test_load_raw_dataturks_needs_photos(tmp_path: Path) -> None:
    path = source(tmp_path, 1)
    with pytest.raises(DataError, match="name their folder with --images"):
        load_raw(path)
    data = load_raw(path, images=tmp_path / "photos")
    assert data.form == "dataturks"
    assert [p.path is not None for p in data.photos] == [True, False, True, True]


def test_stats(tmp_path: Path) -> None:
    prepare(read_dataturks(source(tmp_path, 4)), tmp_path / "out", options=options(tmp_path))
    figures = json.loads(json.dumps(stats(load_data(tmp_path / "out"))))
    assert (figures["photos"], figures["faces"], figures["faces_ignored"]) == (4, 8, 0)
    assert figures["faces_per_photo"]["2-5"] == 4
    assert figures["face_size_px"]["32-64"] == 8
    assert figures["photo_width_px_percentiles"]["50"] == 120
