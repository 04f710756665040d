"""What a run's checkpoints say of where they come from."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from facedet.run import environment


def test_the_commit_is_of_the_repository_that_tracks_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package may lie below a repository that is about something else."""
    package = tmp_path / "site-packages" / "facedet"
    package.mkdir(parents=True)
    (package / "run.py").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init"], ["commit", "--allow-empty", "-m", "other"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    monkeypatch.setattr("facedet.run.__file__", str(package / "run.py"))
    assert environment()["commit"] == "unknown"
    for words in (["add", "."], ["commit", "-m", "own"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert environment()["commit"] == head


def test_a_checkpoint_needs_no_git(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert environment()["commit"] == "unknown"
