"""Choosing a detector by name or file."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest

import facedet
from facedet import detectors
from facedet.errors import ConfigError, WeightsError


class Recorder:
    """A detector that remembers how it was built."""

    name = "recorder"

    def __init__(self, *path: Path, **settings: Any) -> None:
        self.path, self.settings = path, settings

    def detect(self, images: list[npt.NDArray[np.uint8]]) -> list[facedet.Faces]:
        return [facedet.Faces.empty((image.shape[1], image.shape[0])) for image in images]


NOTHING_SET = {"scale": None, "threads": None, "min_score": None, "min_face_px": None}


@pytest.mark.parametrize("name", sorted(facedet.DETECTORS))
def test_every_known_detector_loads_and_takes_a_tiny_photo(name: str) -> None:
    detector = facedet.load_detector(name, threads=1)
    assert detector.name == name
    faces = detector.detect([np.zeros((10, 10, 3), np.uint8)])
    assert [len(f) for f in faces] == [0]


def test_the_default_is_a_known_one() -> None:
    assert facedet.DEFAULT_DETECTOR == "compact"
    assert facedet.DEFAULT_DETECTOR in facedet.DETECTORS
    assert facedet.load_detector().name == facedet.DEFAULT_DETECTOR


def test_settings_reach_the_builder(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.DETECTORS, "recorder", Recorder)
    built = facedet.load_detector("recorder", scale=640, threads=2, min_score=0.25, min_face_px=12)
    assert isinstance(built, Recorder)
    assert built.settings == {"scale": 640, "threads": 2, "min_score": 0.25, "min_face_px": 12}


@pytest.mark.parametrize("as_type", [str, Path])
def test_a_file_is_loaded_by_its_suffix(as_type: type, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.CHECKPOINTS, ".rec", Recorder)
    (tmp_path / "model.REC").touch()
    built = facedet.load_detector(as_type(tmp_path / "model.REC"))
    assert isinstance(built, Recorder)
    assert (built.path, built.settings) == ((tmp_path / "model.REC",), NOTHING_SET)


def test_a_missing_file_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(detectors.CHECKPOINTS, ".rec", Recorder)
    with pytest.raises(WeightsError, match=r"gone\.rec: no such weight file"):
        facedet.load_detector(tmp_path / "gone.rec")


@pytest.mark.parametrize("name", ["", "harr", "HAAR", "model.txt"])
def test_an_unknown_name_lists_the_known(name: str) -> None:
    with pytest.raises(ConfigError) as caught:
        facedet.load_detector(name)
    assert str(caught.value).startswith(f"detector {name!r}: expected one of ")
    assert all(known in str(caught.value) for known in facedet.DETECTORS)


@pytest.mark.parametrize(
    ("settings", "faults"),
    [
        ({"scale": 15}, ["scale 15: expected a long side of at least 16 px"]),
        ({"threads": 0}, ["threads 0: expected at least 1"]),
        ({"min_score": 1.01}, ["min_score 1.01: expected 0 to 1"]),
        ({"min_score": float("nan")}, ["min_score nan: expected 0 to 1"]),
        ({"min_face_px": 0}, ["min_face_px 0: expected at least 1 px"]),
        (
            {"scale": 0, "threads": -1, "min_score": -0.1, "min_face_px": -3},
            ["scale 0:", "threads -1:", "min_score -0.1:", "min_face_px -3:"],
        ),
    ],
)
def test_all_faults_are_told_at_once(settings: dict[str, Any], faults: list[str]) -> None:
    with pytest.raises(ConfigError, match=".*".join(re.escape(fault) for fault in faults)) as caught:
        facedet.load_detector("haar", **settings)
    assert len(caught.value.faults) == len(faults)
