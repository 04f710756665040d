"""`compact` with eight-bit convolutions: the same faces in 0.6 to 0.8 of the time (Jacob et al. 2018, after training).

onnxruntime's quantization does the arithmetic; here is what it is told: the photos that show which values occur, which
layers are left alone, and seven bits for weights, whose products no processor's eight-bit multiplication can overflow.
Such a file takes pixels as they are, uint8, and so spares making them float32 and normalising them one by one.
"""

from __future__ import annotations

import io
import json
import os
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from torch import nn

from facedet.data.coco import Photo, spread
from facedet.detectors.compact import MODEL_PROPERTY, input_of, open_session
from facedet.detectors.passes import BLOCK_PX
from facedet.errors import DataError, FacedetError, MissingExtra
from facedet.export import METADATA_PROPERTY, PARAMETERS, load_compact_checkpoint, write_onnx
from facedet.models.compact import PIXEL_MEAN, PIXEL_STD

MOST_PHOTOS = 40
"""Looked at, spread over all: the ranges that they show settle early."""
SIDES_PX = ((1024, 256), (768,))
"""Long sides that the photos are shown at, taking turns: as large, and as small, as the detector's looks are."""
FLOAT_PARTS = ("/stem", "/refine.0", "/heads")
"""Left as they are. Of seven selections on wider_face/dev the one that loses least, 0.898 / 0.883 / 0.765 of run 12's
0.898 / 0.885 / 0.767 (0.895 / 0.881 / 0.759 with all but the last layers in eight bits), in the same time."""
ARITHMETIC_PROPERTY = "crowdmood.arithmetic"
MOST_DIFFERENCE = 0.05
"""Of the scores' mean from the float network's, at the points that it scores 0.05 and more."""


def export_int8(run_or_checkpoint: str | Path, out: str | Path, photos: Sequence[Photo]) -> float:
    """Write `out` as ONNX with eight-bit convolutions; returns the mean difference of the scores.

    photos: such as it is to read; their labels are not used. The file keeps the parameters too, in float16, so that it
    can be trained on. Raises WeightsError, MissingExtra, DataError without photos, and FacedetError when the scores
    differ by more than MOST_DIFFERENCE.
    """
    if len(photos) == 0:
        raise DataError("int8: no photos to see the ranges of values on")
    try:
        import onnx
        from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
        from onnxruntime.quantization.shape_inference import quant_pre_process
    except ImportError:
        raise MissingExtra("int8 needs the onnx package: pip install 'crowdmood[train]'") from None

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self._inputs = _inputs(photos)

        def get_next(self) -> dict[str, npt.NDArray[np.float32]] | None:
            pixels = next(self._inputs, None)
            return None if pixels is None else {"images": pixels.astype(np.float32)}

    network, metadata = load_compact_checkpoint(run_or_checkpoint)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=out.parent) as folder:
        whole, folded, done = (Path(folder) / name for name in ("float.onnx", "folded.onnx", "int8.onnx"))
        write_onnx(network, metadata, whole)
        quant_pre_process(str(whole), str(folded), skip_symbolic_shape=True)
        convolutions = [node.name for node in onnx.load(folded).graph.node if node.op_type == "Conv"]
        quantize_static(
            str(folded), str(done), Reader(), quant_format=QuantFormat.QDQ, per_channel=True, reduce_range=True,
            activation_type=QuantType.QUInt8, weight_type=QuantType.QInt8, op_types_to_quantize=["Conv"],
            nodes_to_exclude=[name for name in convolutions if name.startswith(FLOAT_PARTS)],
            extra_options={"CalibMovingAverage": True},
        )  # fmt: skip
        model = onnx.load(done)
        _take_bytes(model.graph)
        model.producer_name = "crowdmood"
        domains = {node.domain for node in model.graph.node}
        used = [entry for entry in model.opset_import if entry.domain in domains]
        del model.opset_import[:]  # folding writes down all that this onnxruntime knows, which an older one may not
        model.opset_import.extend(used)
        model.graph.initializer.append(onnx.numpy_helper.from_array(_parameters(network), PARAMETERS))
        told = {MODEL_PROPERTY: "compact", METADATA_PROPERTY: json.dumps(metadata), ARITHMETIC_PROPERTY: "int8"}
        onnx.helper.set_model_props(model, told)
        onnx.checker.check_model(model)
        onnx.save(model, done)
        difference = _difference(whole, done, photos)
        if not difference <= MOST_DIFFERENCE:
            raise FacedetError(f"{out}: scores differ by {difference:.3f}: expected at most {MOST_DIFFERENCE}")
        os.replace(done, out)
    return difference


def _take_bytes(graph: Any) -> None:
    """Let a graph that begins by normalising float32 pixels take them as uint8: that is what dequantizing them does."""
    from onnx import TensorProto, helper, numpy_helper

    (pixels,) = graph.input
    subtract = next(node for node in graph.node if pixels.name in node.input)
    divide = next(node for node in graph.node if subtract.output[0] in node.input)
    normalise = helper.make_node("DequantizeLinear", [pixels.name, "pixel_scale", "pixel_zero"], divide.output)
    graph.initializer.append(numpy_helper.from_array(np.array(1 / PIXEL_STD, np.float32), "pixel_scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(PIXEL_MEAN, np.uint8), "pixel_zero"))
    graph.node.remove(subtract)
    graph.node.remove(divide)
    graph.node.insert(0, normalise)
    pixels.type.tensor_type.elem_type = TensorProto.UINT8


def _inputs(photos: Sequence[Photo]) -> Iterator[npt.NDArray[np.uint8]]:
    """What the network is shown, uint8 [1, 3, H, W]."""
    for number, photo in enumerate(spread(photos, MOST_PHOTOS)):
        image = photo.read()
        for side in SIDES_PX[number % len(SIDES_PX)]:
            ratio = side / max(image.shape[:2])
            height, width = (max(1, round(length * ratio / BLOCK_PX)) * BLOCK_PX for length in image.shape[:2])
            pixels = cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)
            yield pixels.transpose(2, 0, 1)[None].astype(np.uint8, copy=False)


def _parameters(network: nn.Module) -> npt.NDArray[np.uint8]:
    """All that a network learnt, as the bytes of a NumPy archive; kernels in float16, which costs training nothing.

    One tensor: onnxruntime warns of each that is not used, where it is not told to be quiet.
    """
    values = {name: value.numpy() for name, value in network.state_dict().items() if value.is_floating_point()}
    archive = io.BytesIO()
    np.savez(archive, **{name: value.astype(np.float16) if value.ndim > 1 else value for name, value in values.items()})
    return np.frombuffer(archive.getvalue(), np.uint8)


def _difference(first: Path, second: Path, photos: Sequence[Photo]) -> float:
    """Mean difference of the scores of two files, at the points that the first scores 0.05 and more; 0 without any."""
    sessions = [open_session(path.read_bytes(), str(path), None) for path in (first, second)]
    inputs = [input_of(session) for session in sessions]
    differences = []
    for pixels in _inputs(photos[:4]):
        logits = [
            session.run(None, {name: pixels.astype(dtype)})[0][..., 0]
            for session, (name, dtype) in zip(sessions, inputs, strict=True)
        ]
        expected, actual = (1 / (1 + np.exp(-logit)) for logit in logits)
        differences.append(np.abs(expected - actual)[expected >= 0.05])
    seen = np.concatenate(differences)
    return float(seen.mean()) if len(seen) else 0.0
