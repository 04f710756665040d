"""The folder of a run: which runs it takes, what it resumes, and what its checkpoints say of themselves."""

from __future__ import annotations

import dataclasses
import subprocess
from pathlib import Path

import pytest
import torch
from typer.testing import CliRunner

from emotion import ConfigError, WeightsError
from emotion.checkpoint import load_checkpoint
from emotion.cli import app
from emotion.data import load_fer2013
from emotion.data.augment import Augmentation
from emotion.distributed import Team
from emotion.presets import KERAS
from emotion.run import Run, metadata
from emotion.train import train
from tests.emotion.factories import make_split, write_checkpoint, write_votes, write_zip

TINY = dataclasses.replace(KERAS, model="mini_xception", epochs=1, batch_size=7, augmentation=Augmentation())


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    splits = {"train": make_split(3, 1), "public": make_split(2, 2)}
    return write_zip(tmp_path_factory.mktemp("data") / "archive.zip", splits)


def test_a_folder_takes_one_run_only(data: Path, tmp_path: Path) -> None:
    config = TINY
    train(config, data, tmp_path / "run")
    with pytest.raises(ConfigError, match="holds a run already: resume it or choose another folder"):
        train(config, data, tmp_path / "run")
    with pytest.raises(ConfigError, match=r"lr 0\.5: the run in .* has 0\.001, and resumes only with the same"):
        train(dataclasses.replace(config, lr=0.5), data, tmp_path / "run", resume=True)
    (tmp_path / "run" / "last.pt").write_bytes(b"damaged")
    with pytest.raises(WeightsError, match=r"last\.pt: damaged"):
        train(config, data, tmp_path / "run", resume=True)
    (tmp_path / "run" / "config.json").write_text('{"model": ')
    with pytest.raises(ConfigError, match=r"config\.json: damaged: expected the settings of the run"):
        train(config, data, tmp_path / "run", resume=True)


@pytest.mark.parametrize("settings", ["[1]", "{", '{"augmentation": 3}'])
def test_damaged_settings_are_told(tmp_path: Path, settings: str) -> None:
    (tmp_path / "last.pt").touch()
    (tmp_path / "config.json").write_text(settings)
    (fault,) = Run(tmp_path).faults(TINY, resume=True)
    assert fault.startswith(f"{tmp_path / 'config.json'}: damaged: expected the settings of the run (")


def test_a_run_resumes_on_its_own_data_only(data: Path, tmp_path: Path) -> None:
    config, run = TINY, tmp_path / "run"
    train(config, data, run)
    other = write_zip(tmp_path / "other.zip", {"train": make_split(3, 9), "public": make_split(2, 2)})
    with pytest.raises(ConfigError, match=r"--data .*: not what the run in .* has, and it resumes only with the same"):
        train(config, other, run, resume=True)
    forget(run, "data")
    train(config, other, run, resume=True)


def forget(run: Path, *names: str) -> None:
    """Leave last.pt as runs of a time that kept less have it."""
    saved = torch.load(run / "last.pt", weights_only=True)
    for name in names:
        del saved["state"][name]
    torch.save(saved, run / "last.pt")


def test_a_run_resumes_with_its_own_teachers_only(data: Path, tmp_path: Path) -> None:
    teacher = write_checkpoint(tmp_path / "teacher", "mini_xception")
    config = dataclasses.replace(TINY, teacher=(str(teacher.parent),))
    train(config, data, tmp_path / "run")
    train(config, data, tmp_path / "run", resume=True)
    write_checkpoint(teacher.parent, "mini_xception", seed=1)
    with pytest.raises(ConfigError, match=r"^--teacher or .*: not what the run in .* has, and it resumes only with"):
        train(config, data, tmp_path / "run", resume=True)
    forget(tmp_path / "run", "taught")
    train(config, data, tmp_path / "run", resume=True)


def test_a_run_resumes_with_its_own_votes_for_publictest_only(data: Path, tmp_path: Path) -> None:
    train_names, public_names = (load_fer2013(data, split).names for split in ("train", "public"))
    config, votes = dataclasses.replace(TINY, labels="ferplus"), tmp_path / "votes.csv"

    def write(winner: str) -> None:
        winners = ["anger"] * len(train_names) + [winner] * len(public_names)
        write_votes(votes, (*train_names, *public_names), winners)

    write("fear")
    train(config, data, tmp_path / "run", ferplus=votes)
    write("sadness")
    with pytest.raises(ConfigError, match=r"^--teacher or PublicTest's votes in --ferplus: not what the run in"):
        train(config, data, tmp_path / "run", ferplus=votes, resume=True)


def test_a_run_resumes_in_as_many_processes_only(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    config = dataclasses.replace(TINY, batch_size=6)
    train(config, data, tmp_path / "run")
    monkeypatch.setattr("emotion.train.join_team", lambda: Team(rank=1, size=2))
    with pytest.raises(ConfigError, match=r"^2 processes: not what the run in .* has, and it resumes only with the"):
        train(config, data, tmp_path / "run", resume=True)
    forget(tmp_path / "run", "processes")
    train(config, data, tmp_path / "run", resume=True)


@pytest.mark.parametrize("resume", [False, True])
def test_a_run_without_its_last_state_is_not_begun_anew(data: Path, tmp_path: Path, resume: bool) -> None:
    run = tmp_path / "run"
    train(dataclasses.replace(TINY, epochs=2), data, run)
    (run / "last.pt").unlink()
    before = {path.name: path.read_bytes() for path in run.iterdir()}
    words = ["train", "--data", str(data), "-o", str(run), "--config", str(run / "config.json")]
    result = CliRunner().invoke(app, [*words, "--resume"] if resume else words)
    assert result.exit_code == 2
    expected = "last.pt is missing: cannot resume; the log has 2 epochs" if resume else "holds a run already"
    assert expected in result.stderr
    assert {path.name: path.read_bytes() for path in run.iterdir()} == before


def test_a_run_killed_before_its_first_state_was_saved_resumes(data: Path, tmp_path: Path) -> None:
    run, config = tmp_path / "run", dataclasses.replace(TINY, epochs=2)
    train(config, data, run)
    (run / "last.pt").unlink()
    log = run / "log.jsonl"
    log.write_text(log.read_text().splitlines(keepends=True)[0])
    train(config, data, run, resume=True)
    assert (run / "last.pt").is_file()
    assert len(log.read_text().splitlines()) == 2


@pytest.mark.parametrize("resume", [False, True])
def test_a_checkpoint_that_came_otherwise_is_not_overwritten(data: Path, tmp_path: Path, resume: bool) -> None:
    best = write_checkpoint(tmp_path / "mean", "mini_xception")
    before = best.read_bytes()
    with pytest.raises(ConfigError, match=r"best\.pt is there without the log of a run: choose another folder"):
        train(TINY, data, best.parent, resume=resume)
    assert best.read_bytes() == before
    assert [path.name for path in best.parent.iterdir()] == ["best.pt"]


def test_a_run_needs_no_git(data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert load_checkpoint(train(TINY, data, tmp_path / "run")).card.training["commit"] == "unknown"


def test_the_commit_is_of_the_repository_that_tracks_the_code(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installed package may lie below a repository that is about something else."""
    package = tmp_path / "site-packages" / "emotion"
    package.mkdir(parents=True)
    (package / "run.py").touch()
    git = ["git", "-C", str(tmp_path), "-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init"], ["commit", "--allow-empty", "-m", "other"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    monkeypatch.setattr("emotion.run.__file__", str(package / "run.py"))
    assert metadata(TINY, {})["commit"] == "unknown"
    for words in (["add", "."], ["commit", "-m", "own"]):
        subprocess.run([*git, *words], check=True, capture_output=True)
    head = subprocess.run([*git, "rev-parse", "HEAD"], check=True, capture_output=True, text=True).stdout.strip()
    assert metadata(TINY, {})["commit"] == head
