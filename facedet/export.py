"""A trained compact detector as one ONNX file that needs no torch."""

from __future__ import annotations

import io
import json
import os
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from facedet.detectors.compact import MODEL_PROPERTY, open_session
from facedet.errors import FacedetError, MissingExtra, WeightsError
from facedet.models.compact import Compact, network_of

METADATA_PROPERTY = "crowdmood.metadata"
PARAMETERS = "crowdmood.parameters"
"""Tensor in which a file in another arithmetic keeps what the network learnt, as the bytes of a NumPy archive."""
TOLERANCE = 1e-2
"""Largest difference in pixels or logits between torch and the exported file."""


def load_compact_checkpoint(path: str | Path) -> tuple[Compact, dict[str, Any]]:
    """The network and its metadata, of a run folder, its best.pt, or a file made by `facedet export`.

    Raises WeightsError when it cannot be read or is of another model.
    """
    path = Path(path)
    file = path / "best.pt" if path.is_dir() else path
    try:
        state, metadata = _of_onnx(file) if file.suffix == ".onnx" else _of_checkpoint(file)
        network = network_of(state)
        network.load_state_dict(state)
    except OSError as error:
        raise WeightsError(f"{file}: cannot be read: {error.strerror}") from None
    except Exception as error:  # what torch and protobuf raise for damaged files has no common class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{file}: expected weights of `facedet train --model compact` ({reason})") from None
    return network.eval(), metadata


def _of_checkpoint(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    saved = torch.load(file, weights_only=True, map_location="cpu")
    return saved["network"], dict(saved["metadata"])


def _of_onnx(file: Path) -> tuple[dict[str, torch.Tensor], dict[str, Any]]:
    """Parameters and running statistics keep their names in the graph; equal ones share a tensor through Identity."""
    import onnx

    model = onnx.load(file)
    values = {t.name: onnx.numpy_helper.to_array(t) for t in model.graph.initializer}
    if PARAMETERS in values:
        with np.load(io.BytesIO(values[PARAMETERS].tobytes())) as kept:
            values = {name: kept[name].astype(np.float32) for name in kept.files}
    for node in model.graph.node:
        if node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    properties = {p.key: p.value for p in model.metadata_props}
    state = network_of(values).state_dict()  # for the batch counters, which the graph does not hold
    state.update({name: torch.from_numpy(values[name].copy()) for name in state if name in values})
    return state, json.loads(properties[METADATA_PROPERTY])


def export_compact(run_or_checkpoint: str | Path, out: str | Path) -> None:
    """Write `out` as ONNX with dynamic batch, height and width, after comparing it with torch on a made picture.

    The file's metadata holds the training metadata. Raises WeightsError, MissingExtra, and FacedetError when the
    outputs differ by more than TOLERANCE.
    """
    network, metadata = load_compact_checkpoint(run_or_checkpoint)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    try:
        write_onnx(network, metadata, part)
        _compare_with_torch(network, part)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)


def write_onnx(network: nn.Module, metadata: dict[str, Any], path: Path) -> None:
    """The graph and its metadata as they are; use `export_compact`, which also checks."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra("export needs the onnx package: pip install 'crowdmood[train]'") from None
    example = torch.zeros(1, 3, 96, 128)
    axes = {"images": {0: "n", 2: "height", 3: "width"}, "points": {0: "n", 1: "p"}}
    with warnings.catch_warnings():
        # The newer, dynamo-based exporter needs one more package; tracing warns of shapes, which stay symbolic here.
        # PRESERVE keeps the norms apart, so that the file can be trained on; onnxruntime folds them when it loads.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            network, (example,), str(path), input_names=["images"], output_names=["points"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    model = onnx.load(path)
    model.producer_name = "crowdmood"
    onnx.helper.set_model_props(model, {MODEL_PROPERTY: "compact", METADATA_PROPERTY: json.dumps(metadata)})
    onnx.checker.check_model(model)
    onnx.save(model, path)


def _compare_with_torch(network: Compact, path: Path) -> None:
    """Another size and batch than the traced one, so that a frozen shape shows."""
    pixels = np.random.default_rng(0).integers(0, 256, (2, 3, 160, 96)).astype(np.float32)
    with torch.inference_mode():
        expected = network(torch.from_numpy(pixels)).numpy()
    session = open_session(path.read_bytes(), str(path), None)
    actual = session.run(None, {session.get_inputs()[0].name: pixels})[0]
    difference = float(np.abs(expected - actual).max()) if expected.shape == actual.shape else float("inf")
    if not difference <= TOLERANCE:
        raise FacedetError(f"{path}: outputs differ from torch's by {difference:.3g}: expected at most {TOLERANCE}")
