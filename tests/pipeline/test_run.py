"""Whole runs over folders: outputs, bad photos, locks and blocks."""

from __future__ import annotations

import errno
import json
import os
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from emotion import Expressions
from pipeline import stages
from pipeline.errors import OutputError, UsageError
from pipeline.journal import STATE_FOLDER, Journal
from pipeline.photos import Photo
from pipeline.reading import PhotoReading
from pipeline.run import annotate
from pipeline.sinks import read_results
from pipeline.sources import Source, find_photos
from pipeline.summary import Summary
from tests.pipeline.factories import FailingDetector, SquareDetector, make_pipeline, make_reading, save_photo
from tests.pipeline.runs import SETTINGS, Stop, contents, run, save_photos


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_photos(tmp_path / "photos")


def test_a_run_writes_everything_in_order(photos: Path, tmp_path: Path) -> None:
    seen: list[str] = []
    summary = run(photos, tmp_path / "out", on_reading=lambda reading: seen.append(reading.source))
    names = [source.name for source in find_photos([photos])]
    readings = list(read_results(tmp_path / "out/results.jsonl"))
    assert [reading.source for reading in readings] == names == seen
    assert [reading.source for reading in readings if reading.error] == ["0/bad.jpg"]
    pictures = {path.removeprefix("annotated/") for path in contents(tmp_path / "out") if path.startswith("annotated/")}
    assert pictures == set(names) - {"0/bad.jpg"}
    assert (summary.photos, summary.errors) == (31, 1)
    assert summary.faces == sum(len(reading.faces) for reading in readings) > 0
    assert not (tmp_path / "out" / STATE_FOLDER).exists()
    assert json.loads((tmp_path / "out/run.json").read_text())["photos"] == 31


def test_same_name_in_two_folders_does_not_collide(tmp_path: Path) -> None:
    for folder, value in (("a", 10), ("b", 250)):
        save_photo(tmp_path / "in" / folder / "same.jpg", value=value)
    run(tmp_path / "in", tmp_path / "out")
    readings = list(read_results(tmp_path / "out/results.jsonl"))
    assert [(reading.source, reading.faces[0].emotion) for reading in readings] == [
        ("a/same.jpg", "angry"),
        ("b/same.jpg", "neutral"),
    ]
    assert (tmp_path / "out/annotated/a/same.jpg").read_bytes() != (tmp_path / "out/annotated/b/same.jpg").read_bytes()


def test_files_of_other_photos_are_told_and_kept(photos: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, formats=("jsonl", "voc", "yolo"))
    notes: list[str] = []
    run(photos, tmp_path / "out", settings=settings, on_note=notes.append)
    assert notes == []
    run(photos / "1", tmp_path / "out", settings=settings, on_note=notes.append)
    out = tmp_path / "out"
    assert [note.partition(" also holds ")[0] for note in notes] == [
        str(out / "voc"), str(out / "yolo/labels"), str(out / "annotated")
    ]  # fmt: skip
    assert notes[0].endswith("also holds 30 files of other photos, such as 0/00.xml")
    assert (out / "voc/0/00.xml").is_file()


def test_outputs_of_an_earlier_run_are_told_and_kept(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", settings=replace(SETTINGS, formats=("jsonl", "csv", "coco", "yolo")))
    (tmp_path / "out/report.html").write_text("")
    notes: list[str] = []
    settings = replace(SETTINGS, formats=("jsonl", "csv"), pictures=False)
    run(photos, tmp_path / "out", settings=settings, on_note=notes.append)
    told = f"{tmp_path}/out also holds annotated, report.html, coco.json, yolo, which this run has not written"
    assert notes == [told]
    assert (tmp_path / "out/coco.json").exists()


def test_two_photos_of_one_picture_are_refused(tmp_path: Path) -> None:
    for name in ("a.heic", "a.heic.jpg"):
        (tmp_path / "photos").mkdir(exist_ok=True)
        (tmp_path / "photos" / name).write_bytes(b"")
    with pytest.raises(UsageError, match="would share one picture"):
        run(tmp_path / "photos", tmp_path / "out")


def test_a_picture_where_another_has_its_folder_is_refused_before_the_run(tmp_path: Path) -> None:
    sources = [Source(f"http://h/photo{tail}", f"h/photo{tail}") for tail in ("", "/1.jpg")]
    with pytest.raises(
        UsageError, match=r"^h/photo would stand where h/photo/1\.jpg has its folder: rename one, or give"
    ):
        annotate(sources, tmp_path / "out", settings=SETTINGS, pipelines=[make_pipeline()])
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["x" * 252, "é" * 126])
def test_a_label_file_whose_name_would_be_too_long_is_refused_before_the_run(name: str, tmp_path: Path) -> None:
    photo = save_photo(tmp_path / "a.jpg").rename(tmp_path / name)
    settings = replace(SETTINGS, formats=("jsonl", "voc"), pictures=False)
    with pytest.raises(UsageError, match="would get a label file whose name has 256 bytes, 255 at most can be: rename"):
        run(photo, tmp_path / "out", settings=settings)
    run(photo, tmp_path / "out", settings=replace(settings, formats=("jsonl", "coco")))


def test_a_file_of_an_earlier_run_where_a_picture_has_its_folder_is_one_error(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "out/annotated").mkdir(parents=True)
    (tmp_path / "out/annotated/2").write_text("in the way")
    run(photos, tmp_path / "out")
    errors = {r.error for r in read_results(tmp_path / "out/results.jsonl") if r.source.startswith("2/")}
    assert errors == {"the annotated picture cannot be written: File exists"}


@pytest.mark.parametrize(
    ("name", "is_folder"), [("faces.csv", True), ("run.json", True), ("voc", False), ("annotated", False)]
)
def test_what_stands_in_the_way_is_told_before_the_run(
    name: str, is_folder: bool, photos: Path, tmp_path: Path
) -> None:
    path = tmp_path / "out" / name
    path.parent.mkdir()
    path.mkdir() if is_folder else path.write_text("")
    kind = "folder" if is_folder else "file"
    with pytest.raises(OutputError, match=f"{name}: cannot be written: a {kind} has that name"):
        run(photos, tmp_path / "out", settings=replace(SETTINGS, formats=("jsonl", "csv", "voc")))
    assert [path.name for path in (tmp_path / "out").iterdir()] == [name]


def test_no_pictures(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out", settings=replace(SETTINGS, pictures=False))
    assert set(contents(tmp_path / "out")) == {"results.jsonl", "faces.csv", "run.json"}


@pytest.mark.parametrize("workers", [2, 3])
def test_workers_write_the_same_bytes(workers: int, photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "one")
    run(photos, tmp_path / "many", settings=replace(SETTINGS, workers=workers))
    assert contents(tmp_path / "one") == contents(tmp_path / "many")


def test_two_runs_on_one_output_are_refused(photos: Path, tmp_path: Path) -> None:
    with Journal(tmp_path / "out"), pytest.raises(OutputError, match="another run is writing here"):
        run(photos, tmp_path / "out")
    run(photos, tmp_path / "out")


def test_a_run_that_ends_leaves_the_lock_of_the_next_one(tmp_path: Path) -> None:
    with Journal(tmp_path) as first:
        first.begin({})
        first.finish()
        second = Journal(tmp_path)
    with second, pytest.raises(OutputError, match="another run is writing here"):
        Journal(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_an_output_that_cannot_be_written(photos: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    for out in (tmp_path / "file", tmp_path / "file/below"):
        with pytest.raises(OutputError, match="cannot be written"):
            run(photos, out)


def test_a_picture_that_cannot_be_written_is_one_error(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = stages.write_picture

    def long_name(reading: PhotoReading, *args: Any, **kwargs: Any) -> Path:
        if reading.source == "1/01.jpg":
            raise OSError(errno.ENAMETOOLONG, os.strerror(errno.ENAMETOOLONG))
        return real(reading, *args, **kwargs)

    monkeypatch.setattr(stages, "write_picture", long_name)
    assert run(photos, tmp_path / "out").errors == 2
    reading = next(r for r in read_results(tmp_path / "out/results.jsonl") if r.source == "1/01.jpg")
    assert reading.error == "the annotated picture cannot be written: File name too long"
    assert reading.faces


def test_a_photo_whose_reading_fails_is_one_error(photos: Path, tmp_path: Path) -> None:
    (photos / "1/broken.jpg").symlink_to("/proc/self/mem")  # opens, but what it begins with cannot be read
    assert run(photos, tmp_path / "out").errors == 2
    reading = next(r for r in read_results(tmp_path / "out/results.jsonl") if r.source == "1/broken.jpg")
    assert reading.error == "cannot be read: Input/output error"


def test_a_classifier_that_fails_is_told_for_each_photo_with_faces(photos: Path, tmp_path: Path) -> None:
    reader = make_pipeline()

    def broken(crops: Sequence[object]) -> Expressions:
        if crops:
            raise MemoryError
        return Expressions.empty()

    reader.classifier.classify = broken  # type: ignore[method-assign]
    assert run(photos, tmp_path / "out", pipelines=[reader]).errors == 31
    errors = {reading.error for reading in read_results(tmp_path / "out/results.jsonl")}
    assert errors == {"the file is empty", "brightness@0123456789ab failed: MemoryError"}


def test_a_photo_over_the_pixel_limit_is_one_error(photos: Path, tmp_path: Path) -> None:
    save_photo(photos / "large.png", 300, 200)
    assert run(photos, tmp_path / "out", settings=replace(SETTINGS, max_pixels=50_000)).errors == 2


def test_fallback_is_counted_and_told(photos: Path, tmp_path: Path) -> None:
    reader = make_pipeline({"squares": FailingDetector(limit=80), "haar": SquareDetector()})
    summary = run(photos, tmp_path / "out", pipelines=[reader])
    readings = list(read_results(tmp_path / "out/results.jsonl"))
    told = [reading for reading in readings if reading.fallback_reason == "squares failed: out of luck"]
    assert summary.fallbacks == len(told) == sum((reading.width or 0) > 80 for reading in readings) > 0
    assert "another detector stepped in" in summary.to_text()


def test_without_timing_there_is_none(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "a")
    run(photos, tmp_path / "b", settings=replace(SETTINGS, timing=True))
    assert {reading.elapsed_ms for reading in read_results(tmp_path / "a/results.jsonl")} == {None}
    assert all((reading.elapsed_ms or 0) > 0 for reading in read_results(tmp_path / "b/results.jsonl"))


def test_blocks_are_bounded_by_photos_and_pixels(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for i, width in enumerate([10, 10, 10, 10, 90, 10, 200, 10]):
        save_photo(tmp_path / f"{i}.png", width, 10)
    monkeypatch.setattr(stages, "BLOCK_PHOTOS", 3)
    monkeypatch.setattr(stages, "BLOCK_PIXELS", 1000)
    sources = find_photos([tmp_path])
    sizes = [(len(block.sources), block.pixels) for block in stages.blocks_of(sources, max_pixels=10**6)]
    assert sizes == [(3, 300), (2, 1000), (1, 100), (1, 2000), (1, 100)]
    assert [len(block.sources) for block in stages.blocks_of(sources, max_pixels=1000)] == [3, 2, 3]


def test_a_stopped_run_does_not_wait_for_photos_that_are_slow(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real, begun = Source.load, []
    second_block, ended = threading.Event(), threading.Event()

    def slow(self: Source, **limits: Any) -> Photo:
        begun.append(self.name)
        if len(begun) > stages.BLOCK_PHOTOS:
            second_block.set()
            ended.wait(10)
            time.sleep(0.1)
        return real(self, **limits)

    def stop(reading: PhotoReading) -> None:
        assert second_block.wait(10)
        ended.set()
        raise Stop

    monkeypatch.setattr(Source, "load", slow)
    with pytest.raises(Stop):
        run(photos, tmp_path / "out", on_reading=stop, settings=replace(SETTINGS, pictures=False))
    assert stages.BLOCK_PHOTOS < len(begun) < 2 * stages.BLOCK_PHOTOS


def test_the_summary_in_words_and_as_json() -> None:
    readings = [make_reading(f"{i}.jpg", error=f"reason {i}") for i in range(7)]
    summary = Summary(seconds=2.0, measured=7).add(readings)
    text = summary.to_text()
    assert text.startswith("7 photos, 0 faces, 7 errors, 3.5 photos per second (2.0 s)")
    assert "error: 0.jpg: reason 0" in text
    assert "... and 2 more errors, in results.jsonl" in text
    assert summary.to_dict()["errors"] == 7
    assert Summary().to_text().startswith("0 photos, 0 faces, 0 errors, 0.0 photos per second")
