"""The model, its optimiser and one step of learning."""

from __future__ import annotations

import math
import resource
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from facedet.checkpoint import Checkpoint, load_into, read_checkpoint
from facedet.compact_run import initial_weights
from facedet.detectors.faster_rcnn import find_faces, native_bfloat16, network_size_wh
from facedet.engines.config import FasterRCNNConfig
from facedet.engines.distributed import Team
from facedet.engines.samples import Sample
from facedet.errors import TrainingDiverged
from facedet.faces import Faces
from facedet.model_zoo import fetch_zoo_file
from facedet.models.faster_rcnn import FASTER_RCNNS, FasterRCNN
from facedet.train import parameter_groups

LOW_SCORE = 0.02
"""Detections below take no part in AP; lower than a detector's own threshold, for the end of the curve."""


def empty_model(config: FasterRCNNConfig) -> FasterRCNN:
    """The model as a builder leaves it, its first stages frozen."""
    torch.manual_seed(config.seed)
    settings: dict[str, Any] = {} if config.model == "faster_rcnn_compact_fpn" else {"norm": config.normalisation()}
    return FASTER_RCNNS[config.model](
        preset=config.preset, freeze_at=config.frozen_stages(), min_score=LOW_SCORE, **settings
    )


def start_model(config: FasterRCNNConfig) -> tuple[FasterRCNN, list[str]]:
    """The model with its start weights, and what did not fit, in sentences. Raises WeightsError, ConfigError."""
    model = empty_model(config)
    if config.weights == "none":
        return model, []
    return model, load_into(model, _start_checkpoint(config)).sentences()


def _start_checkpoint(config: FasterRCNNConfig) -> Checkpoint:
    path = Path(config.weights)
    if config.weights == "bundled" or path.suffix == ".onnx":
        return Checkpoint(path, initial_weights(config.weights) or {}, partial_names=True)
    if config.weights in ("coco", "imagenet"):
        path = fetch_zoo_file(config.model, config.weights)
    return read_checkpoint(path)


class Learner:
    """Takes steps of stochastic gradient descent with momentum, as Detectron2 does, alone or in a team."""

    def __init__(self, model: FasterRCNN, config: FasterRCNNConfig, team: Team) -> None:
        self.config = config
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.model = model.to(self.device, memory_format=torch.channels_last)  # type: ignore[call-overload]
        # Weight decay for everything but the parameters of norms, as in Detectron2.
        groups = parameter_groups(model, config.weight_decay, spared=lambda name, parameter: ".norm." in name)
        self.optimiser = torch.optim.SGD(groups, lr=config.lr, momentum=config.momentum)
        self.precision = precision(config, self.device)
        self.scaler = torch.amp.GradScaler(self.device.type, enabled=self.precision is torch.float16)
        self._team = team
        self._wrapped = team.wrap(self.model)

    def learn(self, samples: Sequence[Sample], step: int) -> dict[str, float]:
        """Take one step; the team's mean losses by name, "loss" their sum, and the gradient's "norm".

        The random numbers of a step follow from seed, step and rank alone. Raises TrainingDiverged, in every process.
        """
        self.model.train()
        seed = np.random.SeedSequence([self.config.seed, 2, step, self._team.rank]).generate_state(1)[0]
        torch.manual_seed(int(seed))
        rate = self.config.rate(step)
        for group in self.optimiser.param_groups:
            group["lr"] = rate
        targets = [{name: tensor.to(self.device) for name, tensor in s.target.items()} for s in samples]
        with torch.autocast(self.device.type, self.precision, enabled=self.precision is not torch.float32):
            losses: Mapping[str, Tensor] = self._wrapped([s.image.to(self.device) for s in samples], targets)
        total = torch.stack(list(losses.values())).sum()
        parts = self._checked(losses, step)
        self.optimiser.zero_grad(set_to_none=True)
        self.scaler.scale(total).backward()  # type: ignore[no-untyped-call]
        self.scaler.unscale_(self.optimiser)
        limit = self.config.clip_norm or math.inf
        norm = nn.utils.clip_grad_norm_((p for p in self.model.parameters() if p.requires_grad), limit)
        self.scaler.step(self.optimiser)
        self.scaler.update()
        return {**parts, "gradient_norm": float(norm), "rate": rate}

    def _checked(self, losses: Mapping[str, Tensor], step: int) -> dict[str, float]:
        means = self._team.mean(torch.stack([loss.detach().float() for loss in losses.values()])).tolist()
        parts = dict(zip(losses, means, strict=True))
        if not math.isfinite(sum(means)):
            text = ", ".join(f"{name} {value}" for name, value in parts.items())
            raise TrainingDiverged(f"step {step}: loss {sum(means)} ({text}); try a lower rate or a longer warm-up")
        return {"loss": sum(means), **parts}

    def detect(self, images: Sequence[npt.NDArray[np.uint8]]) -> list[Faces]:
        """Faces by the model as it is, at the test scale: the learner is a detector, for measuring."""
        self.model.eval()
        with torch.inference_mode():
            return [find_faces(self.model, [image], self._size_wh)[0] for image in images]

    def _size_wh(self, width: int, height: int) -> tuple[int, int]:
        return network_size_wh(width, height, short_px=self.config.test_short_px, long_px=self.config.test_long_px)

    def state(self) -> dict[str, Any]:
        """Optimiser and scaler, to resume with."""
        return {"optimizer": self.optimiser.state_dict(), "scaler": self.scaler.state_dict()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Take up what `state` gave."""
        self.optimiser.load_state_dict(state["optimizer"])
        self.scaler.load_state_dict(state["scaler"])


def precision(config: FasterRCNNConfig, device: torch.device) -> torch.dtype:
    """The type of multiplications: as configured; "auto" is bfloat16 where native, float16 on other GPUs."""
    if config.precision != "auto":
        dtype: torch.dtype = getattr(torch, config.precision)
        return dtype
    if native_bfloat16(device):
        return torch.bfloat16
    return torch.float16 if device.type == "cuda" else torch.float32


def peak_memory_mib(device: torch.device) -> float:
    """The most memory used so far: of the GPU, else of this process."""
    if device.type == "cuda":
        return float(torch.cuda.max_memory_allocated(device)) / 2**20
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
