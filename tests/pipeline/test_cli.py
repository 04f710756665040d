"""`crowdmood` as users call it: exit codes and output."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pipeline.cli import app
from pipeline.sinks import read_results
from tests.pipeline.factories import annotate_command, save_photo
from tests.pipeline.truths import coco

ROOT = Path(__file__).resolve().parents[2]
runner = CliRunner()


def test_a_good_run(photos: Path, tmp_path: Path, weights: Path) -> None:
    result = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights))
    assert result.exit_code == 0, result.output
    assert result.stdout.startswith("3 photos, 0 faces, 0 errors, ")
    assert result.stderr == ""
    readings = list(read_results(tmp_path / "out/results.jsonl"))
    assert [reading.source for reading in readings] == ["0.jpg", "1.jpg", "2.jpg"]
    assert str(readings[0].emotion_model).startswith("tiny@")


def test_quiet_and_json(photos: Path, tmp_path: Path, weights: Path) -> None:
    quiet = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights, "--quiet"))
    assert (quiet.exit_code, quiet.output) == (0, "")
    result = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights, "--json"))
    summary = json.loads(result.stdout)
    assert (summary["photos"], summary["errors"], summary["out"]) == (3, 0, str(tmp_path / "out"))


def test_one_bad_photo_exits_1_and_the_others_are_there(photos: Path, tmp_path: Path, weights: Path) -> None:
    (photos / "1.jpg").write_text("no photo")
    result = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights))
    assert result.exit_code == 1
    assert "error: 1.jpg: not a JPEG" in result.stdout
    assert [bool(reading.error) for reading in read_results(tmp_path / "out/results.jsonl")] == [False, True, False]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--detector", "yolo"], "error: detector 'yolo': expected one of"),
        (["--format", "xml,csv"], "error: --format xml: expected some of pictures, jsonl, csv"),
        (["--min-score", "2"], "Invalid value"),
        (["--scale", "8"], "Invalid value"),
        (["--min-face", "0"], "Invalid value"),
        (["--emotion", "nobody"], "error: nobody: no such classifier"),
        (["--no-such-option"], "No such option"),
        (["missing.jpg"], "error: missing.jpg: no such file or folder"),
        (["--detector", "missing.onnx"], "error: missing.onnx: no such weight file, and no detector of that name"),
        (["-o", "/dev/null/x"], "error: /dev/null/x: cannot be written: Not a directory"),
    ],
)
def test_bad_usage_exits_2(options: list[str], message: str, photos: Path, tmp_path: Path, weights: Path) -> None:
    result = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights, *options))
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.output
    assert not (tmp_path / "out").exists()


LONG = "x" * 304


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["annotate", LONG], f"error: {LONG}: cannot be opened: File name too long"),
        (["annotate", "a.jpg", "--detector", f"{LONG}.onnx"], f"error: {LONG}.onnx: no such weight file"),
        (["annotate", "a.jpg", "--detector", "haar", "--emotion", f"{LONG}.onnx"], "cannot be read: File name too"),
        (["evaluate", "haar", "--truth", LONG], f"error: {LONG}: cannot be read: File name too long"),
        (["calibrate", "--truth", "t.json", "--detector", f"{LONG}.onnx"], f"error: {LONG}.onnx: no such weight file"),
        (["video", LONG, "--detector", "haar"], f"error: {LONG}: no such video file"),
        (["video", "²", "--detector", "haar"], "error: ²: no such video file"),
        (["video", "9" * 20, "--detector", "haar"], "no such video file"),
        (["report", LONG], f"error: {LONG}: expected the output of a finished"),
        (["convert", LONG, "--format", "csv"], f"error: {LONG}: expected the output of a finished"),
        (["convert", "out", "--format", "pictures", "--photos", LONG], "expected --photos, the folder"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_paths_that_cannot_be_exit_2(
    words: list[str], message: str, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    save_photo(tmp_path / "a.jpg")
    (tmp_path / "t.json").write_text(json.dumps(coco([{"bbox": [0, 0, 9, 9], "attributes": {"emotion": "sad"}}])))
    (tmp_path / "out").mkdir()
    (tmp_path / "out/results.jsonl").write_text("")
    emotion = ["--emotion", str(weights)] if words[0] in ("video", "calibrate") else []
    result = runner.invoke(app, [*words, *emotion])
    assert (result.exit_code, result.stderr.count("\n")) == (2, 1), result.output
    assert message in result.stderr


def test_what_cannot_be_read_is_not_called_unwritable(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(path: Path, *_: object, **__: object) -> object:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    (tmp_path / "results.jsonl").write_text("")
    with monkeypatch.context() as patch:
        patch.setattr(Path, "open", fails)
        for words in (["report", str(tmp_path)], ["convert", str(tmp_path), "--format", "csv"]):
            result = runner.invoke(app, words)
            told = f"error: {tmp_path}/results.jsonl: cannot be read: Permission denied\n"
            assert (result.exit_code, result.stderr) == (2, told)
    (tmp_path / "run.json").write_text("{}")
    monkeypatch.setattr(Path, "read_text", fails)
    result = runner.invoke(app, ["report", str(tmp_path)])
    assert result.stderr == f"error: {tmp_path}/run.json: cannot be read: Permission denied\n"


def test_weights_that_are_damaged_or_not_ours_exit_2(photos: Path, tmp_path: Path, weights: Path) -> None:
    damaged = tmp_path / "damaged.onnx"
    damaged.write_bytes(weights.read_bytes()[:100])
    result = runner.invoke(app, annotate_command(photos, tmp_path / "out", damaged))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "damaged.onnx" in result.stderr
    onnx = pytest.importorskip("onnx")
    foreign = onnx.load(weights)
    del foreign.metadata_props[:]
    onnx.save(foreign, tmp_path / "foreign.onnx")
    result = runner.invoke(app, annotate_command(photos, tmp_path / "out", tmp_path / "foreign.onnx"))
    assert result.exit_code == 2
    assert result.stderr.startswith("error: ")
    assert "foreign.onnx" in result.stderr
    assert not (tmp_path / "out").exists()


def test_a_folder_without_photos_exits_2(tmp_path: Path, weights: Path) -> None:
    result = runner.invoke(app, annotate_command(tmp_path, tmp_path / "out", weights))
    assert result.exit_code == 2
    assert "error: no photos in" in result.stderr


def test_a_detector_that_cannot_load_falls_back_with_a_warning(
    photos: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import facedet

    real = facedet.load_detector

    def load(name: str, **settings: object) -> facedet.FaceDetector:
        if name == "compact":
            raise facedet.WeightsError("compact.onnx: damaged")
        return real(name, **settings)  # type: ignore[arg-type]

    monkeypatch.setattr(facedet, "load_detector", load)
    arguments = annotate_command(photos, tmp_path / "out", weights, "--detector", "compact")
    result = runner.invoke(app, arguments)
    assert result.exit_code == 0
    assert result.stderr == "warning: compact could not be loaded: compact.onnx: damaged; haar is used instead\n"
    readings = list(read_results(tmp_path / "out/results.jsonl"))
    assert {(r.detector, r.fallback_reason) for r in readings} == {
        ("haar", "compact could not be loaded: compact.onnx: damaged")
    }
    strict = runner.invoke(app, [*arguments, "--no-fallback"])
    assert strict.exit_code == 2
    assert strict.stderr == "error: compact could not be loaded: compact.onnx: damaged\n"


def test_an_output_in_use_is_refused(photos: Path, tmp_path: Path, weights: Path) -> None:
    from pipeline.journal import Journal

    with Journal(tmp_path / "out"):
        result = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights))
    assert result.exit_code == 2
    assert "another run is writing here" in result.stderr


def test_ctrl_c_says_how_to_go_on(photos: Path, tmp_path: Path, weights: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from pipeline.journal import Journal

    real = Journal.append

    def interrupted(self: Journal, readings: object) -> None:
        real(self, readings)  # type: ignore[arg-type]
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(Journal, "append", interrupted)
        result = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights))
    assert result.exit_code == 130
    assert "stopped; 0 of 3 photos are done: the same command with --resume goes on" in result.stderr
    resumed = runner.invoke(app, annotate_command(photos, tmp_path / "out", weights, "--resume"))
    assert resumed.exit_code == 0
    assert "note: going on after 3 of 3 photos" in resumed.stderr


def test_help_needs_nothing_heavy() -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom pipeline.cli import app\n"
        "assert CliRunner().invoke(app, ['annotate', '--help']).exit_code == 0\n"
        "print(sorted({'torch', 'cv2', 'numpy', 'onnxruntime', 'PIL'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "[]\n"


def test_annotate_never_imports_torch(photos: Path, tmp_path: Path, weights: Path) -> None:
    code = (
        "import sys\nfrom typer.testing import CliRunner\nfrom pipeline.cli import app\n"
        "result = CliRunner().invoke(app, sys.argv[1:])\n"
        "print(result.exit_code, sorted({'torch', 'torchvision', 'supervision', 'onnx'} & set(sys.modules)))"
    )
    words = [sys.executable, "-c", code, *annotate_command(photos, tmp_path / "out", weights)]
    done = subprocess.run(words, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout == "0 []\n"
