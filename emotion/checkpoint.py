"""Trained weights as torch's: checkpoints of `emotion train`, and what `emotion export` made of them.

A checkpoint is {"network": state_dict, "metadata": {config, metrics, labels, torch, commit}}.
"""

from __future__ import annotations

import dataclasses
import hashlib
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import nn

from emotion.card import ModelCard
from emotion.data.augment import VIEW
from emotion.errors import ConfigError, MissingExtra, WeightsError
from emotion.models import BASELINES, MODELS
from emotion.sizes import size_faults
from emotion.views import mean_logits

BUNDLED = "bundled"
"""Stands for the shipped classifier where weights to start from are asked for."""
NETWORKS = tuple(name for name in MODELS if name not in BASELINES)
"""The architectures that have weights."""
HALF_SUFFIX = ".half"
"""Of the names of those weights in an exported file that are stored as float16."""


@dataclass(frozen=True, eq=False)
class Checkpoint:
    """A trained torch network, in evaluation mode, and its card. Scores faces as an `ExpressionClassifier` does."""

    network: nn.Module
    card: ModelCard
    identity: str

    @torch.inference_mode()
    def logits(self, faces: npt.NDArray[np.uint8], *, test_time: str | None = None) -> npt.NDArray[np.float32]:
        """Raw outputs float32 [N, labels of the card] for faces uint8 [N, 48, 48]."""
        return mean_logits(self._run, faces, card=self.card, test_time=test_time, batch=256)

    def _run(self, batch: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        device = next(self.network.parameters()).device
        inputs = torch.from_numpy(batch).to(device).contiguous(memory_format=torch.channels_last)
        outputs: npt.NDArray[np.float32] = self.network(inputs).float().cpu().numpy()
        return outputs


def load_checkpoint(run_or_file: str | Path) -> Checkpoint:
    """Load a run folder's best checkpoint, or a file as in `checkpoint_path`; of last.pt the moving average.

    Raises WeightsError, naming the file and what was expected, when it is missing, damaged or not ours.
    """
    path = checkpoint_path(run_or_file)
    metadata, state = _read(path)
    config = metadata["config"]
    name, labels = config["model"], tuple(metadata["labels"])
    if name not in NETWORKS:
        raise WeightsError(f"{path}: model {name!r} is unknown: expected one of {', '.join(NETWORKS)}")
    network = MODELS[name](len(labels))
    try:
        network.load_state_dict(state)
    except RuntimeError as error:
        faults = " ".join(line.strip() for line in str(error).splitlines()[1:3])
        raise WeightsError(f"{path}: weights do not fit {name} with {len(labels)} classes: {faults}") from None
    try:
        card = ModelCard(
            name=name, labels=labels, input_size=_input_size(metadata), view=float(config.get("view", VIEW)),
            mean=_constants(network, "mean"), std=_constants(network, "std"), training=metadata,
        )  # fmt: skip
    except (KeyError, TypeError, ValueError) as error:
        raise WeightsError(f"{path}: damaged metadata: {error}") from None
    return Checkpoint(network.eval(), card, identity_of(path))


def resized(checkpoint: Checkpoint, input_size: int) -> Checkpoint:
    """The same network for faces of another size, in pixels. Raises ConfigError when it does not take them."""
    if faults := size_faults(checkpoint.network, checkpoint.card.name, [input_size]):
        raise ConfigError(faults)
    return dataclasses.replace(checkpoint, card=dataclasses.replace(checkpoint.card, input_size=input_size))


def checkpoint_path(run_or_file: str | Path) -> Path:
    """`best.pt` of a run folder, a .pt or .onnx file itself, or BUNDLED. Raises WeightsError when there is none."""
    path = Path(run_or_file)
    if str(run_or_file) == BUNDLED:
        return Path(__file__).parent / "weights" / "default.onnx"
    found = path / "best.pt" if path.is_dir() else path
    if not found.is_file():
        raise WeightsError(
            f"{found}: no such checkpoint: expected a run folder or a .pt file of `emotion train`, an .onnx file of "
            f"`emotion export`, or {BUNDLED}"
        )
    return found


def identity_of(path: Path) -> str:
    """ "<folder>/<file>@<first 12 digits of the file's SHA-256>"."""
    return f"{path.parent.name}/{path.name}@{hashlib.sha256(path.read_bytes()).hexdigest()[:12]}"


def save_whole(value: dict[str, Any], path: Path) -> None:
    """torch.save so that a kill leaves either the old file or the new one."""
    part = path.with_name(path.name + ".part")
    torch.save(value, part)
    os.replace(part, path)


def read_saved(path: Path) -> dict[str, Any]:
    """The entries of a .pt file that `emotion train` may have written, or the same of an exported .onnx file.

    Raises WeightsError when it is damaged, or an entry has not the shape that `emotion train` gives it.
    """
    if path.suffix == ".onnx":
        return _read_exported(path)
    # Early checkpoints hold torch.__version__ as the str subclass that it is; it runs no code when loaded.
    torch.serialization.add_safe_globals([torch.torch_version.TorchVersion])
    try:
        saved = torch.load(path, weights_only=True, map_location="cpu")
    except Exception as error:  # the unpickler meets damage with errors of many kinds, IndexError among them
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: damaged or no checkpoint: expected one of `emotion train` ({reason})") from None
    if not isinstance(saved, dict):
        raise WeightsError(f"{path}: expected a checkpoint of `emotion train`, got a {type(saved).__name__}")
    if faults := _shape_faults(saved):
        raise WeightsError(f"{path}: expected a checkpoint of `emotion train`: {'; '.join(faults)}")
    return saved


def _shape_faults(saved: dict[Any, Any]) -> list[str]:
    """What is wrong with those entries of a .pt file that are there, one sentence each."""
    faults = []
    for entry in ("network", "averaged", "model"):
        values = saved.get(entry, {})
        if not isinstance(values, dict) or not all(isinstance(value, torch.Tensor) for value in values.values()):
            faults.append(f"{entry}: expected tensors by name")
    told = saved.get("metadata", {})
    if not isinstance(told, dict):
        return [*faults, f"metadata: expected entries by name, got a {type(told).__name__}"]
    config, labels = told.get("config", {}), told.get("labels", [])
    if not isinstance(config, dict) or not isinstance(config.get("model", ""), str):
        faults.append("config: expected settings by name, with the name of a model")
    if not isinstance(labels, (list, tuple)) or not all(isinstance(label, str) for label in labels):
        faults.append(f"labels: expected a list of names, got {labels!r}")
    if not isinstance(told.get("metrics", {}), dict):
        faults.append("metrics: expected figures by name")
    return faults


def _read_exported(path: Path) -> dict[str, Any]:
    """A file of `emotion export` as a checkpoint: parameters and running statistics keep their names in the graph."""
    try:
        import onnx
    except ImportError:
        raise MissingExtra(f"{path}: reading it needs the onnx package: pip install 'crowdmood[train]'") from None
    try:
        model = onnx.load(path)
        values = {
            tensor.name.removesuffix(HALF_SUFFIX): torch.from_numpy(onnx.numpy_helper.to_array(tensor).copy())
            for tensor in model.graph.initializer
        }
    except Exception as error:  # what protobuf raises for damaged files has no common class
        reason = str(error).splitlines()[0] if str(error) else type(error).__name__
        raise WeightsError(f"{path}: damaged or no ONNX file: expected one of `emotion export` ({reason})") from None
    card = ModelCard.from_properties({entry.key: entry.value for entry in model.metadata_props}, str(path))
    for node in model.graph.node:  # equal tensors share one
        if node.op_type == "Identity" and node.input[0] in values:
            values[node.output[0]] = values[node.input[0]]
    if any("::" in name for name in values):
        raise WeightsError(f"{path}: its norms are folded away: expected a file that today's `emotion export` made")
    network = {name: value.float() if value.is_floating_point() else value for name, value in values.items()}
    if card.name in NETWORKS:  # the graph does not hold the counters of batches
        fresh = MODELS[card.name](len(card.labels)).state_dict()
        network |= {name: value for name, value in fresh.items() if name.endswith("num_batches_tracked")}
    metadata = {"config": {"model": card.name}, "labels": card.labels, **card.training}
    return {"network": network, "metadata": metadata}


def _read(path: Path) -> tuple[dict[str, Any], dict[str, torch.Tensor]]:
    saved = read_saved(path)
    for entry, inner in (("averaged", "module.network."), ("model", "network.")):  # last.pt
        if entry in saved and "network" not in saved:
            saved["network"] = {k.removeprefix(inner): v for k, v in saved[entry].items() if k.startswith(inner)}
    if not {"network", "metadata"} <= set(saved):
        raise WeightsError(f"{path}: expected a checkpoint of `emotion train` with the entries network and metadata")
    metadata = {**saved["metadata"], "torch": str(saved["metadata"].get("torch", "unknown"))}
    if not {"config", "labels"} <= set(metadata) or "model" not in metadata["config"]:
        raise WeightsError(f"{path}: damaged metadata: expected config, with the model, and labels")
    return metadata, saved["network"]


def _input_size(metadata: dict[str, Any]) -> int:
    """The size that the checkpoint's figures were measured with; early runs told it among their settings alone."""
    size = metadata.get("metrics", {}).get("eval_size")
    return int(metadata["config"]["eval_size"] if size is None else size)


def _constants(network: nn.Module, name: str) -> tuple[float, ...]:
    """A buffer of the network's own standardisation; batch norms call theirs otherwise."""
    for key, value in network.named_buffers():
        if key.rpartition(".")[2] == name:
            return tuple(float(v) for v in value.flatten())
    return ()
