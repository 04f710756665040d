"""Videos made on the spot: faces keep their track, emotions are smoothed, broken ends are told."""

from __future__ import annotations

import csv
import resource
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from typer.testing import CliRunner

import facedet
from pipeline import video
from pipeline.cli import app
from pipeline.errors import MissingExtra, OutputError, UsageError
from pipeline.journal import STATE_FOLDER, Journal
from pipeline.video import annotate_video
from tests.pipeline.factories import BrightnessClassifier, make_chain, tiny_classifier

pytest.importorskip("trackers")
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning")


class BlockDetector:
    """A face is the bright block; found by its brightness."""

    name = "blocks"

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[facedet.Faces]:
        return [self._one(image) for image in images]

    def _one(self, image: npt.NDArray[np.uint8]) -> facedet.Faces:
        bright = cv2.connectedComponentsWithStats((image[:, :, 1] > 90).astype(np.uint8))[2][1:]
        boxes = [[x, y, x + w, y + h] for x, y, w, h, area in bright.tolist() if area > 400]
        return facedet.Faces.from_raw(np.array(boxes), np.full(len(boxes), 0.9), (image.shape[1], image.shape[0]))


def make_video(path: Path, frames: int = 20, *, fps: float = 10.0, flicker: bool = False) -> Path:
    """Two blocks, one moving right, one standing still; with flicker the second changes its brightness once."""
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter.fourcc(*"MJPG"), fps, (200, 120))
    for i in range(frames):
        frame = np.full((120, 200, 3), 20, np.uint8)
        frame[10:50, 10 + 2 * i : 50 + 2 * i] = 130
        frame[60:100, 100:140] = 120 if flicker and i == 10 else 255
        writer.write(frame)
    writer.release()
    return path


def run(source: Path | str, out: Path, **options: Any) -> video.VideoSummary:
    from pipeline.crowd_pipeline import CrowdPipeline

    chain = make_chain({"blocks": BlockDetector()})
    return annotate_video(str(source), out, pipeline=CrowdPipeline(chain, BrightnessClassifier()), **options)


def rows_of(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as stream:
        return list(csv.DictReader(stream))


def frames_of(path: Path) -> int:
    capture, count = cv2.VideoCapture(str(path)), 0
    while capture.read()[0]:
        count += 1
    capture.release()
    return count


def test_faces_are_followed_and_everything_is_written(tmp_path: Path) -> None:
    summary = run(make_video(tmp_path / "v.avi"), tmp_path / "out")
    assert (summary.frames, summary.analysed, summary.tracks, summary.problem) == (20, 20, 2, None)
    assert frames_of(tmp_path / "out/annotated.mp4") == 20
    faces = rows_of(tmp_path / "out/faces.csv")
    assert len(faces) == 40
    moving = [row for row in faces if float(row["y1"]) < 50]
    assert moving[0]["track"] == ""
    assert len({row["track"] for row in moving[1:]}) == 1
    assert float(moving[-1]["x1"]) - float(moving[0]["x1"]) == pytest.approx(38, abs=3)
    tracks = {row["track"]: row for row in rows_of(tmp_path / "out/tracks.csv")}
    still = tracks[[row["track"] for row in faces if float(row["y1"]) > 50][-1]]
    assert (still["emotion"], still["frames"], still["first_s"], still["last_s"]) == ("neutral", "19", "0.1", "1.9")
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["annotated.mp4", "faces.csv", "tracks.csv"]


def test_one_odd_frame_does_not_change_a_smoothed_emotion(tmp_path: Path) -> None:
    run(make_video(tmp_path / "v.avi", flicker=True), tmp_path / "out")
    still = [row for row in rows_of(tmp_path / "out/faces.csv") if float(row["y1"]) > 50]
    assert {row["emotion"] for row in still} == {"neutral"}
    assert float(still[10]["neutral"]) < float(still[9]["neutral"])


@pytest.mark.parametrize(("every", "analysed"), [(3, 7), (20, 1), (50, 1)])
def test_every(every: int, analysed: int, tmp_path: Path) -> None:
    summary = run(make_video(tmp_path / "v.avi"), tmp_path / "out", every=every)
    assert (summary.frames, summary.analysed) == (20, analysed)
    assert {int(row["frame"]) % every for row in rows_of(tmp_path / "out/faces.csv")} == {0}
    assert frames_of(tmp_path / "out/annotated.mp4") == 20


def test_max_frames(tmp_path: Path) -> None:
    summary = run(make_video(tmp_path / "v.avi"), tmp_path / "out", max_frames=5)
    assert (summary.frames, summary.problem) == (5, None)


def test_a_video_that_breaks_off_is_told_and_what_was_seen_is_written(tmp_path: Path) -> None:
    whole = make_video(tmp_path / "v.avi", 40).read_bytes()
    (tmp_path / "broken.avi").write_bytes(whole[: len(whole) // 2])
    summary = run(tmp_path / "broken.avi", tmp_path / "out")
    assert 0 < summary.frames < 40
    assert len(rows_of(tmp_path / "out/faces.csv")) == 2 * summary.frames
    capture = cv2.VideoCapture(str(tmp_path / "broken.avi"))
    promised = int(capture.get(cv2.CAP_PROP_FRAME_COUNT))
    capture.release()
    told = f"the video breaks off after {summary.frames} of {promised} frames"
    assert summary.problem == (told if promised == 40 else None)


def with_broken_frame(path: Path, number: int, frames: int = 40) -> Path:
    """A video one of whose frames is all zeros."""
    data = bytearray(make_video(path, frames).read_bytes())
    place = data.find(b"movi")
    for _ in range(number + 1):
        place = data.find(b"00dc", place + 4)
    size = int.from_bytes(data[place + 4 : place + 8], "little")
    data[place + 8 : place + 8 + size] = bytes(size)
    path.write_bytes(data)
    return path


def test_a_video_that_ends_in_a_broken_frame(tmp_path: Path) -> None:
    summary = run(with_broken_frame(tmp_path / "v.avi", 39), tmp_path / "out")
    assert (summary.frames, summary.promised, summary.tracks) == (39, 40, 2)
    assert frames_of(tmp_path / "out/annotated.mp4") == 39
    assert len(rows_of(tmp_path / "out/faces.csv")) == 2 * 39


def test_a_broken_frame_long_before_the_end(tmp_path: Path) -> None:
    summary = run(with_broken_frame(tmp_path / "v.avi", 20), tmp_path / "out")
    assert summary.problem == "the video breaks off after 20 of 40 frames"
    assert frames_of(tmp_path / "out/annotated.mp4") == 20


@pytest.mark.parametrize(
    ("frames", "promised", "told"), [(0, 0, True), (50, 100, True), (99, 100, False), (9, 0, False)]
)
def test_when_a_video_ended_early(frames: int, promised: int, told: bool) -> None:
    assert (video._ended_early(frames, promised) is not None) == told


def test_ctrl_c_ends_early_and_keeps_what_was_seen(tmp_path: Path) -> None:
    def interrupt(frame: int, total: int) -> None:
        assert total == 20
        if frame == 8:
            raise KeyboardInterrupt

    summary = run(make_video(tmp_path / "v.avi"), tmp_path / "out", on_frame=interrupt)
    assert summary.problem == "stopped by Ctrl-C after 7 frames"
    assert frames_of(tmp_path / "out/annotated.mp4") == 8
    assert len(rows_of(tmp_path / "out/tracks.csv")) == 2


def test_what_is_no_video(tmp_path: Path) -> None:
    (tmp_path / "text.mp4").write_text("no video")
    for name, message in (("text.mp4", "not a video"), ("missing.mp4", "no such video file")):
        with pytest.raises(UsageError, match=message):
            run(tmp_path / name, tmp_path / "out")


def test_a_webcam_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"^97: no webcam of that number answers$"):
        run("97", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_live_window_until_q_is_pressed_or_where_there_is_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    shown: list[tuple[int, ...]] = []
    monkeypatch.setattr(cv2, "imshow", lambda _, picture: shown.append(picture.shape))
    monkeypatch.setattr(cv2, "waitKey", lambda _: ord("q") if len(shown) == 3 else -1)
    summary = run(make_video(tmp_path / "v.avi"), tmp_path / "out", show=True)
    assert (summary.frames, summary.problem, shown) == (3, None, [(120, 200, 3)] * 3)

    def no_screen(*_: object) -> None:
        raise cv2.error("no display")

    monkeypatch.setattr(cv2, "imshow", no_screen)
    with pytest.raises(UsageError, match="--show: no window can be opened here"):
        run(tmp_path / "v.avi", tmp_path / "other", show=True)


def test_an_output_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(OutputError, match="cannot be written"):
        run(make_video(tmp_path / "v.avi", 3), tmp_path / "file")


def test_a_disk_that_takes_no_more_and_an_output_in_use(tmp_path: Path) -> None:
    source, out = make_video(tmp_path / "v.avi"), tmp_path / "out"
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1500, hard))
    try:
        with pytest.raises(
            OutputError, match=r"annotated\.mp4: could not be written whole; is the disk full\?|too large"
        ):
            run(source, out)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert not (out / "annotated.mp4").exists()
    with Journal(out), pytest.raises(OutputError, match="another run is writing here"):
        run(source, out)
    (out / STATE_FOLDER).mkdir()
    (out / STATE_FOLDER / "0123.part.mp4").write_bytes(b"left by a run that was killed")
    run(source, out)
    assert sorted(path.name for path in out.iterdir()) == ["annotated.mp4", "faces.csv", "tracks.csv"]


@pytest.mark.parametrize("name", ["run.json", "results.jsonl", ".crowdmood/journal.jsonl"])
def test_the_folder_of_a_run_over_photos_is_refused(name: str, tmp_path: Path) -> None:
    for path in (tmp_path / "out" / name, tmp_path / "out/faces.csv"):
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text('{"run": {}}\n{"readings": [{}]}\n')
    with pytest.raises(
        OutputError, match=r"out: holds a run over photos, with a faces\.csv of its own: choose another"
    ):
        run(make_video(tmp_path / "v.avi"), tmp_path / "out")
    assert (tmp_path / "out/faces.csv").read_text().startswith('{"run"')
    assert (tmp_path / "out" / name).exists()


def test_without_the_extra_the_error_names_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(__import__("sys").modules, "trackers", None)
    with pytest.raises(MissingExtra, match=r"pip install 'crowdmood\[video\]'"):
        run(make_video(tmp_path / "v.avi", 3), tmp_path / "out")


def test_the_command(tmp_path: Path) -> None:
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    words = ["video", str(make_video(tmp_path / "v.avi", 4)), "-o", str(tmp_path / "out"), "--every", "2"]
    result = CliRunner().invoke(app, [*words, "--emotion", str(weights), "--detector", "haar"])
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("4 frames, 0 faces followed, ")
    assert rows_of(tmp_path / "out/tracks.csv") == []


def test_without_a_folder_photos_and_videos_stay_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    words = ["video", str(make_video(tmp_path / "v.avi", 2)), "--emotion", str(weights), "--detector", "haar"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert (tmp_path / "crowdmood-video/faces.csv").exists()
    assert not (tmp_path / "crowdmood-out").exists()


def test_the_command_tells_of_frames_that_are_missing(tmp_path: Path) -> None:
    weights = tiny_classifier(tmp_path / "tiny.onnx")
    options = ["-o", str(tmp_path / "out"), "--every", "40", "--emotion", str(weights), "--detector", "haar"]
    for broken, code, told in ((39, 0, "39 frames of 40 promised, "), (20, 1, "20 frames of 40 promised, ")):
        source = with_broken_frame(tmp_path / "v.avi", broken)
        result = CliRunner().invoke(app, ["video", str(source), *options])
        assert (result.exit_code, result.stdout[: len(told)]) == (code, told)
    assert "note: the video breaks off after 20 of 40 frames; what was seen is written" in result.stderr
