"""The crowd mosaic: its truth is where the faces are, nobody covers a face, equal seeds make equal files."""

from __future__ import annotations

import importlib
import sys
from collections import deque
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import cv2
import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from emotion import EMOTIONS
from pipeline.truth import load_truth, photo_paths

SCRIPTS = Path(__file__).resolve().parents[2] / "datasets" / "crowd_mosaic"
MODULES = ("person", "scene", "prepare_crowd_mosaic")


@pytest.fixture(scope="module", autouse=True)
def scripts() -> Iterator[None]:
    """The scripts import each other by name, as when one of them is run."""
    sys.path.insert(0, str(SCRIPTS))
    yield
    sys.path.remove(str(SCRIPTS))
    for name in MODULES:
        sys.modules.pop(name, None)


def module(name: str) -> ModuleType:
    return importlib.import_module(name)


def faces(count: int, seed: int = 0) -> npt.NDArray[np.uint8]:
    """Smooth patterns, so that resizing changes little, in the middle greys, so that tinting clips nothing."""
    noise = np.random.default_rng(seed).uniform(40, 180, (count, 4, 4)).astype(np.float32)
    return np.stack([cv2.resize(n, (48, 48), interpolation=cv2.INTER_LINEAR) for n in noise]).astype(np.uint8)


@pytest.fixture
def fer(tmp_path: Path) -> Path:
    """A FER-2013 CSV: 12 PublicTest images, one of them of a single grey."""
    images = faces(12)
    images[5] = 99
    rows = [f"{i % 7},{' '.join(map(str, image.ravel()))},PublicTest" for i, image in enumerate(images)]
    (tmp_path / "fer2013.csv").write_text("\n".join(["emotion,pixels,Usage", *rows]) + "\n")
    return tmp_path / "fer2013.csv"


def make(fer: Path, out: Path, *options: str) -> Path:
    size = ("--width", "400", "--height", "300", "--max-face", "60", "--faces-per-photo", "4")
    script = module("prepare_crowd_mosaic")
    assert script.main(script.parse([str(fer), "--out", str(out), *size, *options])) == 0
    return out


@pytest.mark.parametrize("side", [24, 48, 97, 200])
def test_the_face_is_left_as_it_is(side: int) -> None:
    face = faces(1)[0]
    painted = module("person").paint_person(face, side, np.random.default_rng(0))
    x, y = painted.face_xy
    assert painted.alpha.shape[::-1] == module("person").person_size_wh(side)
    inner = slice(side // 8, side - side // 8)
    square = painted.bgr[y : y + side, x : x + side].round().astype(np.uint8)
    expected = cv2.resize(face, (side, side), interpolation=cv2.INTER_AREA if side < 48 else cv2.INTER_CUBIC)
    difference = cv2.cvtColor(square, cv2.COLOR_BGR2GRAY).astype(int) - expected
    assert np.abs(difference[inner, inner]).max() <= 2
    assert painted.alpha[y : y + side, x : x + side][inner, inner].min() == 1
    assert painted.alpha[0, 0] == 0


def test_truth_is_where_the_faces_are(fer: Path, tmp_path: Path) -> None:
    truth = load_truth(make(fer, tmp_path / "out"))
    assert truth.face_count == 11  # without the single grey
    labels = np.concatenate([photo.labels for photo in truth.photos])
    assert sorted(labels.tolist()) == sorted(i % 7 for i in range(12) if i != 5)
    originals = {EMOTIONS[i % 7]: [image for k, image in enumerate(faces(12)) if k % 7 == i] for i in range(7)}
    for photo, path in zip(truth.photos, photo_paths(truth), strict=True):
        grey = cv2.imread(str(path), cv2.IMREAD_GRAYSCALE)
        assert grey is not None
        assert grey.shape == (photo.height, photo.width) == (300, 400)
        for face in photo.faces:
            x1, y1, x2, y2 = (int(value) for value in face.box_xyxy)
            assert 24 <= x2 - x1 == y2 - y1 <= 60
            found = cv2.resize(grey[y1:y2, x1:x2], (48, 48), interpolation=cv2.INTER_AREA).astype(float)
            candidates = originals[str(face.emotion)]
            assert min(np.abs(found - c)[8:40, 8:40].mean() for c in candidates) < 4


def test_both_truth_files_say_the_same_and_equal_seeds_make_equal_files(fer: Path, tmp_path: Path) -> None:
    one, two, other = (make(fer, tmp_path / n, "--seed", s) for n, s in (("a", "3"), ("b", "3"), ("c", "4")))
    assert load_truth(one / "annotations.json").photos == load_truth(one / "results.jsonl").photos
    files = sorted(path.relative_to(one) for path in one.rglob("*") if path.is_file())
    assert len(files) >= 4
    assert all((one / name).read_bytes() == (two / name).read_bytes() for name in files)
    assert (one / "annotations.json").read_bytes() != (other / "annotations.json").read_bytes()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.integers(8, 120), min_size=1, max_size=25), st.integers(0, 1000))
def test_nobody_covers_a_face_and_no_face_is_lost(sides: list[int], seed: int) -> None:
    scene, person = module("scene"), module("person")
    waiting = deque(enumerate(sides))
    placed = scene.place_faces(waiting, (320, 240), 12, np.random.default_rng(seed))
    assert sorted([p.face for p in placed] + [face for face, _ in waiting]) == list(range(len(sides)))
    for mine in placed:
        x1, y1, x2, y2 = mine.square_xyxy
        assert 0 <= x1 < x2 <= 320
        assert 0 <= y1 < y2 <= 240
        width, height = person.person_size_wh(x2 - x1)
        left, top = x1 - round(person.LEFT * (x2 - x1)), y1 - round(person.ABOVE * (x2 - x1))
        for other in placed:
            a, b, c, d = other.square_xyxy
            apart = left + width <= a or left >= c or top + height <= b or top >= d
            assert apart or other is mine


def test_bad_arguments(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    script = module("prepare_crowd_mosaic")
    assert script.main(script.parse([str(tmp_path / "gone.csv"), "--out", str(tmp_path / "out")])) == 2
    assert capsys.readouterr().err.startswith(f"error: {tmp_path / 'gone.csv'}: no such file")
    assert not (tmp_path / "out").exists()
    with pytest.raises(SystemExit, match="2"):
        script.parse(["--min-face", "50", "--max-face", "40"])
    assert "expected 8 <= --min-face <= --max-face" in capsys.readouterr().err
