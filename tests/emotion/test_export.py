"""Export: the ONNX file says what torch says, carries its card, and replaces files whole."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch

from emotion import ConfigError, EmotionError, WeightsError, load_classifier
from emotion import export as export_module
from emotion.checkpoint import load_checkpoint
from emotion.export import export
from emotion.views import probabilities
from tests.emotion.factories import make_split, write_checkpoint

FACES = make_split(2).images


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_checkpoint(tmp_path_factory.mktemp("runs") / "made").parent


@pytest.mark.parametrize(("half", "tolerance"), [(False, 1e-5), (True, 2e-3)])
def test_exported_network_equals_torch(tmp_path: Path, run: Path, half: bool, tolerance: float) -> None:
    out = tmp_path / "sub" / "net.onnx"
    card = export(run, out, half=half, temperature=1.5, test_time="flip")
    classifier = load_classifier(out)
    assert classifier.card == card
    assert (card.temperature, card.test_time, card.input_size) == (1.5, "flip", 44)
    assert card.mean == pytest.approx((0.508,))
    assert card.training["metrics"] == {"epoch": 1}
    expected = probabilities(load_checkpoint(run).logits(FACES, test_time="flip"), temperature=1.5)
    assert np.abs(classifier.classify(list(FACES)).probabilities - expected).max() < tolerance
    assert [p.name for p in out.parent.iterdir()] == ["net.onnx"]


def test_another_input_size(tmp_path: Path, run: Path) -> None:
    card = export(run, tmp_path / "net.onnx", input_size=40)
    assert card.input_size == 40
    checkpoint = load_checkpoint(run)
    expected = probabilities(dataclasses.replace(checkpoint, card=card).logits(FACES))
    assert np.abs(load_classifier(tmp_path / "net.onnx").classify(list(FACES)).probabilities - expected).max() < 2e-3


def test_a_size_that_the_network_does_not_take(tmp_path: Path) -> None:
    run = write_checkpoint(tmp_path / "run", "cnn1").parent
    with pytest.raises(ConfigError, match="size 40: cnn1 does not take faces of 40 px: expected 48 px, its recipe's"):
        export(run, tmp_path / "net.onnx", input_size=40)
    assert [p.name for p in tmp_path.iterdir()] == ["run"]


def test_half_is_stored_and_computed_in_float32(tmp_path: Path, run: Path) -> None:
    export(run, tmp_path / "half.onnx")
    export(run, tmp_path / "full.onnx", half=False)
    sizes = [(tmp_path / f"{name}.onnx").stat().st_size for name in ("half", "full")]
    assert sizes[0] < 0.55 * sizes[1]
    model = onnx.load(tmp_path / "half.onnx")
    large = [t for t in model.graph.initializer if np.prod(t.dims) >= 256]
    assert {t.data_type for t in large if len(t.dims) > 1} == {onnx.TensorProto.FLOAT16}
    assert {t.data_type for t in large if len(t.dims) == 1} == {onnx.TensorProto.FLOAT}, "norms are exact"
    assert model.graph.output[0].type.tensor_type.elem_type == onnx.TensorProto.FLOAT


def test_values_beyond_float16_stay_float32() -> None:
    tensor = onnx.numpy_helper.from_array(np.full((20, 15), 1e6, np.float32), "big")
    node = onnx.helper.make_node("Identity", ["big"], ["out"])
    out = onnx.helper.make_tensor_value_info("out", onnx.TensorProto.FLOAT, [20, 15])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [], [out], [tensor]))
    export_module.store_half(model)
    assert [(t.name, t.data_type) for t in model.graph.initializer] == [("big", onnx.TensorProto.FLOAT)]


def test_an_unequal_export_is_refused_and_leaves_nothing(
    tmp_path: Path, run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(export_module, "TOLERANCE_HALF", -1.0)
    with pytest.raises(EmotionError, match="probabilities differ from torch's by"):
        export(run, tmp_path / "net.onnx")
    assert list(tmp_path.iterdir()) == []


def test_checkpoint_faults(tmp_path: Path, run: Path) -> None:
    with pytest.raises(WeightsError, match=r"best.pt: no such checkpoint: expected a run folder"):
        export(tmp_path, tmp_path / "x.onnx")
    (tmp_path / "text.pt").write_text("text")
    with pytest.raises(WeightsError, match=r"text.pt: damaged or no checkpoint"):
        load_checkpoint(tmp_path / "text.pt")
    torch.save({"model": {}}, tmp_path / "other.pt")
    with pytest.raises(WeightsError, match=r"other.pt: expected a checkpoint of `emotion train` with the entries"):
        load_checkpoint(tmp_path / "other.pt")
    saved = torch.load(run / "best.pt", weights_only=True)
    saved["metadata"]["labels"] = ["happy", "sad", "neutral", "surprise"]
    torch.save(saved, tmp_path / "four.pt")
    with pytest.raises(WeightsError, match=r"four.pt: weights do not fit fer_resnet with 4 classes: size mismatch"):
        load_checkpoint(tmp_path / "four.pt")
    saved["metadata"]["config"]["model"] = "nothing"
    torch.save(saved, tmp_path / "unknown.pt")
    with pytest.raises(WeightsError, match=r"model 'nothing' is unknown: expected one of .*fer_resnet"):
        load_checkpoint(tmp_path / "unknown.pt")
