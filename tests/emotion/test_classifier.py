"""The classifier behind the seam: any crop in, seven probabilities out, and errors that name the file."""

from __future__ import annotations

import hashlib
import subprocess
import sys
from importlib import resources
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest

import emotion
from emotion import EMOTIONS, DataError, WeightsError, load_classifier
from emotion.card import ModelCard
from emotion.views import centre_view, grey_faces
from tests.emotion.factories import make_split, write_onnx

FACES = make_split(2)


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_onnx(tmp_path_factory.mktemp("weights") / "linear.onnx")


def test_no_crops_give_no_expressions(weights: Path) -> None:
    assert len(load_classifier(weights).classify([])) == 0


def test_the_right_emotion_for_grey_and_colour_and_any_size(weights: Path) -> None:
    classifier = load_classifier(weights, threads=1)
    expected = [EMOTIONS[k] for k in FACES.labels]
    grey = list(FACES.images)
    colour = [cv2.cvtColor(f, cv2.COLOR_GRAY2BGR) for f in grey]
    large = [cv2.resize(f, (211, 190), interpolation=cv2.INTER_NEAREST) for f in grey]
    small = [cv2.resize(f, (24, 24), interpolation=cv2.INTER_AREA) for f in grey]
    for crops in (grey, colour, large, small):
        result = classifier.classify(crops)
        assert result.labels == expected
        assert result.probabilities.shape == (14, 7)
    assert np.allclose(classifier.classify(colour).probabilities, classifier.classify(grey).probabilities, atol=1e-6)


def test_batches_do_not_change_results(weights: Path) -> None:
    classifier = load_classifier(weights)
    many = list(FACES.images) * 10
    together = classifier.classify(many).probabilities
    alone = np.concatenate([classifier.classify([crop]).probabilities for crop in many[:14]])
    assert len(together) == 140
    assert np.allclose(together[:14], alone, atol=1e-6)
    assert np.allclose(together[126:], alone, atol=1e-6)


def test_identity_is_name_and_hash(weights: Path) -> None:
    digest = hashlib.sha256(weights.read_bytes()).hexdigest()
    assert load_classifier(str(weights)).identity == f"linear@{digest[:12]}"


def test_temperature_and_labels_come_from_the_file(tmp_path: Path, weights: Path) -> None:
    soft = load_classifier(write_onnx(tmp_path / "soft.onnx", temperature=4.0)).classify(list(FACES.images))
    sharp = load_classifier(weights).classify(list(FACES.images))
    assert soft.labels == sharp.labels
    assert (soft.confidences < sharp.confidences).all()
    four = ("surprise", "neutral", "happy", "sad")
    result = load_classifier(write_onnx(tmp_path / "four.onnx", four)).classify(list(FACES.of_classes(four).images))
    assert result.labels == [four[k] for k in FACES.of_classes(four).labels]
    assert (result.probabilities[:, [EMOTIONS.index(e) for e in ("angry", "disgust", "fear")]] == 0).all()


@pytest.mark.parametrize("mode", ["flip", "ten"])
def test_test_time_views_average_mirrored_faces(weights: Path, mode: str) -> None:
    classifier = load_classifier(weights, test_time=mode)
    mirrored = [np.ascontiguousarray(face[:, ::-1]) for face in FACES.images]
    plain = classifier.classify(list(FACES.images)).probabilities
    assert np.allclose(classifier.classify(mirrored).probabilities, plain, atol=1e-5)
    once = load_classifier(weights).classify(list(FACES.images)).probabilities
    assert not np.allclose(once, plain, atol=1e-3)


@pytest.mark.parametrize(
    "crop",
    [np.zeros((0, 5), np.uint8), np.zeros((5, 5, 4), np.uint8), np.zeros((5, 5), np.float32), np.zeros(5, np.uint8)],
)
def test_a_wrong_crop_is_named(weights: Path, crop: np.ndarray) -> None:
    with pytest.raises(DataError, match=r"crop 1: expected uint8 \[H, W\] grey or \[H, W, 3\] BGR"):
        load_classifier(weights).classify([FACES.images[0], crop])


def test_centre_view_is_the_middle_of_the_face() -> None:
    view = centre_view(FACES.images, 44, view=44 / 48)
    assert view.dtype == np.float32
    assert np.array_equal(view[:, 0], FACES.images[:, 2:46, 2:46].astype(np.float32) / np.float32(255))
    assert centre_view(FACES.images, 75, view=1.0).shape == (14, 1, 75, 75)


def test_shrinking_averages_pixels() -> None:
    board = (np.indices((96, 96)).sum(0) % 2 * 254).astype(np.uint8)
    assert (grey_faces([board]) == 127).all()


def test_missing_files_and_names() -> None:
    with pytest.raises(WeightsError, match=r"nowhere.onnx: no such classifier: expected a shipped one"):
        load_classifier("/tmp/nowhere.onnx")
    with pytest.raises(WeightsError, match=r"^nosuchname: no such classifier: expected a shipped one"):
        load_classifier("nosuchname")


def test_damaged_and_foreign_files(tmp_path: Path, weights: Path) -> None:
    for name, content in {"empty": b"", "text": b"hello", "cut": weights.read_bytes()[:900]}.items():
        path = tmp_path / f"{name}.onnx"
        path.write_bytes(content)
        with pytest.raises(WeightsError, match=rf"{name}.onnx: .*expected .*made by `emotion export`"):
            load_classifier(path)
    model = onnx.load(weights)
    del model.metadata_props[:]
    onnx.save(model, tmp_path / "foreign.onnx")
    with pytest.raises(WeightsError, match=r"foreign.onnx: not an expression classifier: .* found None"):
        load_classifier(tmp_path / "foreign.onnx")


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("view", None, "metadata 'view' is missing"),
        ("temperature", "0", "damaged metadata: temperature 0: expected 0.01 to 100"),
        ("labels", '["happy", "glad"]', "damaged metadata: labels .*expected different names out of angry"),
        ("labels", '["happy", "sad"]', "7 outputs for 2 labels"),
        ("mean", "{", "damaged metadata"),
    ],
)
def test_damaged_cards(tmp_path: Path, weights: Path, key: str, value: str | None, message: str) -> None:
    model = onnx.load(weights)
    properties = {p.key: p.value for p in model.metadata_props if p.key != key or value is not None}
    onnx.helper.set_model_props(model, properties if value is None else {**properties, key: value})
    path = tmp_path / "card.onnx"
    onnx.save(model, path)
    with pytest.raises(WeightsError, match=message):
        load_classifier(path)


def test_card_survives_the_file(weights: Path) -> None:
    card = ModelCard("net", ("happy", "sad"), 48, 1.0, mean=(0.5,), std=(0.25,), training={"epochs": 3})
    assert ModelCard.from_properties(card.to_properties(), "here") == card


def test_importing_and_classifying_needs_no_torch(weights: Path) -> None:
    program = (
        "import sys, numpy, emotion; "
        f"emotion.load_classifier({str(weights)!r}).classify([numpy.zeros((48, 48), numpy.uint8)]); "
        "print('torch' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_the_shipped_classifier_is_small() -> None:
    shipped = resources.files("emotion") / "weights" / "default.onnx"
    assert len(shipped.read_bytes()) <= 12e6


def test_shipped_classifiers_are_listed() -> None:
    for name in emotion.shipped_classifiers():
        assert load_classifier(name).identity.startswith(f"{name}@")
