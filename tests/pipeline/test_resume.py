"""Runs that end early, by a kill or a full disk, and go on to the same bytes."""

from __future__ import annotations

import errno
import os
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from pipeline import stages
from pipeline.errors import OutputError
from pipeline.journal import STATE_FOLDER, Journal
from tests.pipeline.factories import SquareDetector, make_pipeline, save_photo
from tests.pipeline.runs import SETTINGS, Stop, contents, run, save_photos, stop_after


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    return save_photos(tmp_path / "photos")


@pytest.mark.parametrize("count", [1, 8, 9, 20, 31])
def test_a_stopped_run_resumes_to_the_same_bytes(count: int, photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    out = tmp_path / "stopped"
    with pytest.raises(Stop):
        run(photos, out, on_reading=stop_after(count))
    assert not (out / "results.jsonl").exists()
    notes: list[str] = []
    summary = run(photos, out, resume=True, on_note=notes.append)
    assert contents(out) == contents(tmp_path / "whole")
    assert summary.photos == 31
    assert summary.measured < 31
    assert notes[0].startswith("going on after ")


def test_resume_on_a_fresh_output_is_a_plain_run(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "plain")
    run(photos, tmp_path / "resumed", resume=True)
    assert contents(tmp_path / "plain") == contents(tmp_path / "resumed")


@pytest.mark.parametrize("cut", [1, 5, 300])
def test_a_journal_cut_off_by_a_kill_counts_up_to_its_last_whole_line(cut: int, photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "whole")
    out = tmp_path / "out"
    with pytest.raises(Stop):
        run(photos, out, on_reading=stop_after(17))
    journal = out / STATE_FOLDER / "journal.jsonl"
    journal.write_bytes(journal.read_bytes()[:-cut])
    (out / STATE_FOLDER / ".0123.part").write_bytes(b"half a picture")
    run(photos, out, resume=True)
    assert contents(out) == contents(tmp_path / "whole")


def test_resume_on_a_finished_output_has_nothing_to_do(photos: Path, tmp_path: Path) -> None:
    run(photos, tmp_path / "out")
    before = contents(tmp_path / "out")
    notes: list[str] = []
    summary = run(photos, tmp_path / "out", resume=True, on_note=notes.append)
    assert (summary.photos, summary.errors, summary.measured) == (31, 1, 0)
    assert notes[0].endswith("finished: nothing is left to do")
    assert contents(tmp_path / "out") == before
    (tmp_path / "out/faces.csv").unlink()
    assert run(photos, tmp_path / "out", resume=True).measured == 31
    assert contents(tmp_path / "out") == before


def test_resume_refuses_other_settings_and_other_photos(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(photos, tmp_path / "out", on_reading=stop_after(10))
    with pytest.raises(OutputError, match=r"holds another unfinished run: min_score None is now 0\.5"):
        run(photos, tmp_path / "out", resume=True, settings=replace(SETTINGS, min_score=0.5))
    save_photo(photos / "new.jpg")
    with pytest.raises(OutputError, match="photos 31 is now 32, photos_sha256"):
        run(photos, tmp_path / "out", resume=True)


def test_resume_knows_photos_of_the_same_names_from_each_other(photos: Path, tmp_path: Path) -> None:
    for i in range(30):
        save_photo(tmp_path / f"others/{i % 3}/{i:02d}.jpg", 200, 100, 8 * i)
    save_photo(tmp_path / "others/0/bad.jpg")
    with pytest.raises(Stop):
        run(photos, tmp_path / "out", on_reading=stop_after(10))
    with pytest.raises(OutputError, match="holds another unfinished run: photos_sha256"):
        run(tmp_path / "others", tmp_path / "out", resume=True)
    run(photos, tmp_path / "out", resume=True)
    assert run(tmp_path / "others", tmp_path / "out", resume=True).measured == 31
    assert run(tmp_path / "others", tmp_path / "out", resume=True).measured == 0
    save_photo(tmp_path / "others/0/00.jpg", 240, 100)
    assert run(tmp_path / "others", tmp_path / "out", resume=True).measured == 31


def test_resume_knows_a_detector_file_by_its_content(photos: Path, tmp_path: Path) -> None:
    weights = tmp_path / "squares.onnx"
    weights.write_bytes(b"first")
    pipelines = [make_pipeline({str(weights): SquareDetector()})]
    run(photos, tmp_path / "out", pipelines=pipelines)
    assert run(photos, tmp_path / "out", pipelines=pipelines, resume=True).measured == 0
    weights.write_bytes(b"second")
    assert run(photos, tmp_path / "out", pipelines=pipelines, resume=True).measured == 31


@pytest.mark.parametrize("lost", ["annotated/1/01.jpg", "voc/1/01.xml", "run.json"])
def test_resume_brings_back_what_was_deleted(lost: str, photos: Path, tmp_path: Path) -> None:
    settings = replace(SETTINGS, formats=("jsonl", "voc"))
    run(photos, tmp_path / "out", settings=settings)
    before = contents(tmp_path / "out")
    (tmp_path / "out" / lost).unlink()
    run(photos, tmp_path / "out", settings=settings, resume=True)
    assert contents(tmp_path / "out") == before


def test_a_plain_run_gives_up_an_unfinished_one_and_says_so(photos: Path, tmp_path: Path) -> None:
    with pytest.raises(Stop):
        run(photos, tmp_path / "out", on_reading=stop_after(10))
    notes: list[str] = []
    summary = run(photos, tmp_path / "out", on_note=notes.append)
    assert notes[0].startswith("an unfinished run with 16 photos is given up")
    assert summary.measured == 31


def test_a_full_disk_ends_the_run_and_keeps_what_is_done(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole")
    real, count = stages.write_picture, 0

    def full(*args: Any, **kwargs: Any) -> Path:
        nonlocal count
        count += 1
        if count > 20:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(*args, **kwargs)

    monkeypatch.setattr(stages, "write_picture", full)
    with pytest.raises(OutputError, match="No space left on device"):
        run(photos, tmp_path / "out")
    monkeypatch.setattr(stages, "write_picture", real)
    assert run(photos, tmp_path / "out", resume=True).measured < 31
    assert contents(tmp_path / "out") == contents(tmp_path / "whole")


def test_a_disk_that_is_full_from_the_start(photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(Journal, "_write", full)
    with pytest.raises(OutputError, match=r"out: cannot be written: No space left on device"):
        run(photos, tmp_path / "out")


def test_a_full_disk_while_the_results_are_written(
    photos: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run(photos, tmp_path / "whole")

    def full(*args: object) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr("pipeline.whole_file.os.replace", full)
        with pytest.raises(OutputError, match=r"out: cannot be written: No space left on device"):
            run(photos, tmp_path / "out", settings=replace(SETTINGS, pictures=False))
    assert not (tmp_path / "out/results.jsonl").exists()
    summary = run(photos, tmp_path / "out", settings=replace(SETTINGS, pictures=False), resume=True)
    assert summary.measured == 0
    assert (tmp_path / "out/results.jsonl").read_bytes() == (tmp_path / "whole/results.jsonl").read_bytes()
