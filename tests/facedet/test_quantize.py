"""Eight-bit files of compact: the faces of the float network, its parameters for training, and errors."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import onnx
import pytest
import torch
from typer.testing import CliRunner

from facedet.boxes import iou_matrix
from facedet.cli import app
from facedet.detectors.compact import load_compact
from facedet.errors import DataError
from facedet.export import export_compact, load_compact_checkpoint
from facedet.quantize import export_int8

ROOT = Path(__file__).resolve().parents[2]
SHIPPED = ROOT / "facedet" / "weights" / "compact.onnx"


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The example photo, halved, as a data set of one face."""
    folder = tmp_path_factory.mktemp("crowd")
    (folder / "images").mkdir()
    image = cv2.resize(cv2.imread(str(ROOT / "examples" / "crowd.jpg")), None, fx=0.5, fy=0.5)
    cv2.imwrite(str(folder / "images" / "crowd.png"), image)
    truth = {
        "images": [{"id": 1, "file_name": "crowd.png", "width": image.shape[1], "height": image.shape[0]}],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 1, "bbox": [10, 10, 20, 20], "iscrowd": 0}],
        "categories": [{"id": 1, "name": "face"}],
    }
    (folder / "annotations.json").write_text(json.dumps(truth))
    return folder


def test_an_eight_bit_file_finds_the_same_faces_and_can_be_trained_on(crowd: Path, tmp_path: Path) -> None:
    whole, small = tmp_path / "float.onnx", tmp_path / "int8.onnx"
    export_compact(SHIPPED, whole)
    done = CliRunner().invoke(app, ["export", str(SHIPPED), "-o", str(small), "--int8", str(crowd)])
    assert done.exit_code == 0, done.output
    assert "MB, int8; scores differ by 0.0" in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["float.onnx", "int8.onnx"]
    model = onnx.load(small)
    assert onnx.TensorProto.INT8 in {tensor.data_type for tensor in model.graph.initializer}
    assert [(entry.domain, entry.version) for entry in model.opset_import] == [("", 17)]
    assert [entry.type.tensor_type.elem_type for entry in model.graph.input] == [onnx.TensorProto.UINT8]

    image = cv2.imread(str(crowd / "images" / "crowd.png"))
    expected, found = (load_compact(path, threads=1).detect([image])[0] for path in (whole, small))
    assert len(expected) > 40
    assert abs(len(found) - len(expected)) <= 0.1 * len(expected)
    overlap = iou_matrix(expected.boxes_xyxy, found.boxes_xyxy).max(1)
    assert (overlap > 0.8).mean() > 0.9

    (network, told), (again, told_again) = load_compact_checkpoint(whole), load_compact_checkpoint(small)
    assert told_again == told
    for name, value in network.state_dict().items():
        torch.testing.assert_close(again.state_dict()[name], value, rtol=1e-3, atol=1e-6)


def test_eight_bits_need_photos(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="int8: no photos to see the ranges of values on"):
        export_int8(SHIPPED, tmp_path / "int8.onnx", [])
    assert list(tmp_path.iterdir()) == []


def test_the_shipped_file_is_small_and_holds_what_it_was_made_of() -> None:
    assert SHIPPED.stat().st_size < 5e6
    assert {p.key: p.value for p in onnx.load(SHIPPED).metadata_props}["crowdmood.arithmetic"] == "int8"
    network, _ = load_compact_checkpoint(SHIPPED)
    with torch.inference_mode():
        pixels = np.full((1, 3, 96, 96), 114, np.float32)
        assert torch.isfinite(network(torch.from_numpy(pixels))).all()
