"""Real processes of `crowdmood`: killed, interrupted, on a full disk, at a terminal, two on one output."""

from __future__ import annotations

import json
import os
import pty
import random
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.pipeline.factories import annotate_command, corner_image, encoded, save_photo
from tests.pipeline.truths import coco

ROOT = Path(__file__).resolve().parents[2]


def start(arguments: list[str], **options: Any) -> subprocess.Popen[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", "TERM": "xterm", "COLUMNS": "200"}
    words = [sys.executable, "-m", "pipeline", *arguments]
    pipes = {"stdin": subprocess.DEVNULL, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
    return subprocess.Popen(words, env=environment, **{**pipes, **options})


def hear_ctrl_c() -> None:
    signal.signal(signal.SIGINT, signal.SIG_DFL)  # background jobs start deaf to it


def test_a_real_process(photos: Path, tmp_path: Path, weights: Path) -> None:
    long = "x" * 251 + ".png"
    for name in ("é 東.png", long):
        (photos / name).write_bytes(encoded(corner_image(), "PNG"))
    process = start(annotate_command(photos, tmp_path / "out", weights))
    stdout, stderr = process.communicate(timeout=300)
    assert (process.returncode, stderr) == (0, "")
    assert stdout.startswith("5 photos, ")
    assert (tmp_path / "out/annotated/é 東.png").exists()
    assert (tmp_path / "out/annotated" / long).exists()


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def lines_of(journal: Path) -> int:
    try:
        return journal.read_bytes().count(b"\n")
    except FileNotFoundError:
        return 0


def test_killed_at_random_moments_a_run_ends_with_the_same_bytes(tmp_path: Path, weights: Path) -> None:
    for i in range(60):
        save_photo(tmp_path / f"photos/{i:02d}.png", 320, 240, 4 * i)
    plain = start(annotate_command(tmp_path / "photos", tmp_path / "plain", weights, "--no-timing"))
    plain.communicate(timeout=300)
    assert plain.returncode == 0
    seed = random.randrange(10**6)
    moments = random.Random(seed)
    arguments = annotate_command(
        tmp_path / "photos", tmp_path / "killed", weights, "--no-timing", "--resume", "--workers", "2"
    )
    journal = tmp_path / "killed/.crowdmood/journal.jsonl"
    kills = 0
    for quarter in range(4):
        enough = 1 + 7 * (quarter + moments.random()) / 4  # lines: one that describes the run, then eight blocks
        process = start(arguments)
        while process.poll() is None and lines_of(journal) <= enough:
            time.sleep(0.002)
        if process.poll() is None:
            process.send_signal(signal.SIGKILL)
            kills += 1
        process.communicate(timeout=300)
    last = start(arguments)
    _, stderr = last.communicate(timeout=300)
    assert last.returncode == 0, (seed, stderr)
    assert contents(tmp_path / "killed") == contents(tmp_path / "plain"), f"seed {seed}"
    assert kills > 0, f"seed {seed}: the run was over before it could be killed"


def test_ctrl_c_on_a_real_process(tmp_path: Path, weights: Path) -> None:
    for i in range(80):
        save_photo(tmp_path / f"photos/{i:02d}.png", 640, 480, 3 * i)
    process = start(annotate_command(tmp_path / "photos", tmp_path / "out", weights), preexec_fn=hear_ctrl_c)
    journal = tmp_path / "out/.crowdmood/journal.jsonl"
    while process.poll() is None and not (journal.exists() and b"readings" in journal.read_bytes()):
        time.sleep(0.01)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=300)
    assert process.returncode == 130
    assert "--resume goes on from there" in stderr
    assert "Traceback" not in stderr


def test_ctrl_c_while_paths_are_awaited(tmp_path: Path, weights: Path) -> None:
    process = start(annotate_command("-", tmp_path / "out", weights), stdin=subprocess.PIPE, preexec_fn=hear_ctrl_c)
    assert process.stdin is not None
    process.stdin.write("a.jpg\n" * 20_000)  # more than a pipe holds: the process is reading, or this would not return
    process.stdin.flush()
    time.sleep(1)  # until it waits for more: between two reads Python notes the signal, and goes on to wait
    process.send_signal(signal.SIGINT)
    assert process.wait(timeout=300) == 130
    _, stderr = process.communicate()
    assert stderr == "\nstopped\n"
    assert not (tmp_path / "out").exists()


def test_standard_input_that_ends_within_a_path_or_is_closed(photos: Path, tmp_path: Path, weights: Path) -> None:
    process = start(annotate_command("-", tmp_path / "cut", weights), stdin=subprocess.PIPE)
    stdout, stderr = process.communicate(f"{photos}/0.jpg\n{photos}/1.j", timeout=300)
    assert (process.returncode, stderr) == (1, "")
    assert stdout.startswith("2 photos, 0 faces, 1 error, ")
    assert "1.j: cannot be opened: No such file or directory" in stdout
    closed = start(annotate_command("-", tmp_path / "closed", weights), stdin=None, preexec_fn=lambda: os.close(0))
    _, stderr = closed.communicate(timeout=300)
    assert (closed.returncode, stderr) == (2, "error: standard input: cannot be read: it is closed\n")


def test_a_disk_that_takes_no_more(tmp_path: Path, weights: Path) -> None:
    """A limit on the size of files: writing fails in the system, in the middle of a line of the journal."""
    for i in range(30):
        save_photo(tmp_path / f"photos/{i:02d}.png", 64, 48, 8 * i)
    arguments = annotate_command(tmp_path / "photos", tmp_path / "full", weights, "--no-timing", "--resume")
    limit = lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))  # noqa: E731
    full = start(arguments, preexec_fn=limit)
    _, stderr = full.communicate(timeout=300)
    assert full.returncode == 2
    assert stderr.startswith(f"error: {tmp_path}/full: cannot be written: File too large; ")
    assert stderr.endswith("of 30 photos are done: the same command with --resume goes on from there\n")
    assert not (tmp_path / "full/results.jsonl").exists()
    for out in ("full", "plain"):
        words = annotate_command(tmp_path / "photos", tmp_path / out, weights, "--no-timing", "--resume")
        process = start(words)
        process.communicate(timeout=300)
        assert process.returncode == 0
    assert contents(tmp_path / "full") == contents(tmp_path / "plain")


def test_two_processes_on_one_output(tmp_path: Path, weights: Path) -> None:
    for i in range(40):
        save_photo(tmp_path / f"photos/{i:02d}.png", 320, 240, 3 * i)
    first = start(annotate_command(tmp_path / "photos", tmp_path / "out", weights))
    while first.poll() is None and not (tmp_path / "out/.crowdmood/journal.jsonl").exists():
        time.sleep(0.01)
    first.send_signal(signal.SIGSTOP)
    second = start(annotate_command(tmp_path / "photos", tmp_path / "out", weights))
    _, stderr = second.communicate(timeout=300)
    first.send_signal(signal.SIGKILL)
    told = f"error: {tmp_path}/out: another run is writing here; wait for it, or choose another folder\n"
    assert (second.returncode, stderr) == (2, told)
    first.communicate(timeout=300)


@contextmanager
def terminal() -> Iterator[tuple[int, list[bytes]]]:
    """A terminal to write to, and what was written on it once this is over."""
    screen, end = pty.openpty()
    seen: list[bytes] = []
    try:
        yield end, seen
    finally:
        os.close(end)
        try:
            while block := os.read(screen, 65536):
                seen.append(block)
        except OSError:  # nobody holds the other end any more
            pass
        os.close(screen)


def test_a_progress_bar_on_a_terminal_only(photos: Path, tmp_path: Path, weights: Path) -> None:
    rows = [{"bbox": [0, 0, 40, 40], "attributes": {"emotion": "happy"}}]
    (photos / "truth.json").write_text(json.dumps(coco(rows, file_name="0.jpg", width=100, height=60)))
    measure = ["evaluate", "haar", "--truth", str(photos / "truth.json"), "--emotion", str(weights)]
    annotate = annotate_command(photos, tmp_path / "out", weights)
    for words, bar in ((measure, b"2/2"), (annotate, b"3/3"), ([*annotate, "--quiet"], None)):
        with terminal() as (end, seen):
            process = start(words, stderr=end)
            process.communicate(timeout=300)
            assert process.returncode == 0
        screen = b"".join(seen)
        assert bar in screen if bar else screen == b""
    process = start(measure)
    stdout, stderr = process.communicate(timeout=300)
    assert (stdout.startswith("1 photos, 1 faces"), stderr) == (True, "")
