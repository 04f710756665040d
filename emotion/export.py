"""A trained checkpoint as one ONNX file that needs no torch: weights, and the card that says how to use them."""

from __future__ import annotations

import dataclasses
import os
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch

from emotion.card import ModelCard
from emotion.checkpoint import HALF_SUFFIX, Checkpoint, load_checkpoint, resized
from emotion.classifier import ExpressionClassifier
from emotion.errors import EmotionError, MissingExtra
from emotion.views import probabilities

if TYPE_CHECKING:
    import onnx

TOLERANCE_FLOAT32 = 1e-4
TOLERANCE_HALF = 2e-2
"""Largest difference of a probability between torch and the exported file."""
HALF_FROM_VALUES = 256
"""Tensors with fewer values stay float32, and so do all norms and biases: they weigh nothing."""


def export(
    run_or_checkpoint: str | Path,
    out: str | Path,
    *,
    half: bool = True,
    temperature: float | None = None,
    test_time: str | None = None,
    input_size: int | None = None,
) -> ModelCard:
    """Write the ONNX file of a run's best checkpoint, or of a checkpoint file, and return its card.

    half: store weights as float16 (computation stays float32; onnxruntime widens them once, when it loads).
    temperature, test_time, input_size: for the card, instead of 1, "none" and the size that the run measured with.
    Before the file gets its name, its probabilities on 16 made faces are compared with torch's: EmotionError when they
    differ by more than the tolerance.
    Raises WeightsError when the checkpoint cannot be read, ConfigError for a size that the network does not take,
    MissingExtra without the onnx package.
    """
    loaded = load_checkpoint(run_or_checkpoint)
    if input_size is not None:
        loaded = resized(loaded, input_size)
    given: dict[str, Any] = {"temperature": temperature, "test_time": test_time}
    card = dataclasses.replace(loaded.card, **{key: value for key, value in given.items() if value is not None})
    checkpoint = dataclasses.replace(loaded, card=card)
    out = Path(out)
    out.parent.mkdir(parents=True, exist_ok=True)
    part = out.with_suffix(".part")
    try:
        _write_onnx(checkpoint, part, half=half)
        _compare_with_torch(checkpoint, part, TOLERANCE_HALF if half else TOLERANCE_FLOAT32)
        os.replace(part, out)
    finally:
        part.unlink(missing_ok=True)
    return card


def _write_onnx(checkpoint: Checkpoint, path: Path, *, half: bool) -> None:
    try:
        import onnx
    except ImportError:
        raise MissingExtra("export needs the onnx package: pip install 'crowdmood[train]'") from None
    card = checkpoint.card
    example = torch.zeros(2, 1, card.input_size, card.input_size)
    axes = {"faces": {0: "n"}, "logits": {0: "n"}}
    with warnings.catch_warnings():
        # The newer, dynamo-based exporter needs one more package and ten times as long for the same graph.
        # PRESERVE keeps the norms apart, so that the file can be trained on; onnxruntime folds them when it loads.
        warnings.simplefilter("ignore")
        torch.onnx.export(
            checkpoint.network, (example,), str(path), input_names=["faces"], output_names=["logits"],
            dynamic_axes=axes, opset_version=17, dynamo=False,
            training=torch.onnx.TrainingMode.PRESERVE, do_constant_folding=False,
        )  # fmt: skip
    model = onnx.load(path)
    if half:
        store_half(model)
    model.producer_name = "crowdmood"
    onnx.helper.set_model_props(model, card.to_properties())
    onnx.checker.check_model(model)
    onnx.save(model, path)


def store_half(model: onnx.ModelProto) -> None:
    """Store the larger float32 initialisers as float16, each followed by a Cast that onnxruntime folds when loading."""
    import onnx

    casts = []
    for tensor in model.graph.initializer:
        if tensor.data_type != onnx.TensorProto.FLOAT:
            continue
        values = onnx.numpy_helper.to_array(tensor)
        if values.ndim < 2 or values.size < HALF_FROM_VALUES or np.abs(values).max() > np.finfo(np.float16).max:
            continue
        wide = tensor.name
        tensor.CopyFrom(onnx.numpy_helper.from_array(values.astype(np.float16), wide + HALF_SUFFIX))
        casts.append(onnx.helper.make_node("Cast", [wide + HALF_SUFFIX], [wide], to=onnx.TensorProto.FLOAT))
    nodes = [*casts, *model.graph.node]
    del model.graph.node[:]
    model.graph.node.extend(nodes)


def _compare_with_torch(checkpoint: Checkpoint, path: Path, tolerance: float) -> None:
    faces = np.random.default_rng(0).integers(0, 256, (16, 48, 48), np.uint8)
    exported = ExpressionClassifier(path.stem, path.read_bytes(), where=str(path))
    difference = float(np.abs(_shares(checkpoint, faces) - _shares(exported, faces)).max())
    if not difference <= tolerance:
        raise EmotionError(
            f"{path}: probabilities differ from torch's by {difference:.3g}: expected at most {tolerance}"
        )


def _shares(scorer: Checkpoint | ExpressionClassifier, faces: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    return probabilities(scorer.logits(faces, test_time="none"))
