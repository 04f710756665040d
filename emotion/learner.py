"""A network on its way: itself, its moving average, its optimiser, and where they compute."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from emotion.config import TrainConfig
from emotion.data import FERPLUS_CLASSES
from emotion.distributed import Team
from emotion.errors import ConfigError
from emotion.models import MODELS, load_imagenet
from emotion.muon import Muon, matrices_of
from emotion.run import TrainState
from emotion.sizes import size_faults
from emotion.start import start_from


class WithAuxiliaryHead(nn.Module):
    """A classifier and, in training only, a head that learns the FER+ vote shares from the same features."""

    def __init__(self, network: Any, *, auxiliary: bool) -> None:
        super().__init__()
        self.network = network
        self.auxiliary = nn.Linear(network.feature_width, len(FERPLUS_CLASSES)) if auxiliary else None

    def forward(self, x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        if self.auxiliary is None:
            return self.network(x), None
        features = self.network.features(x)
        return self.network.head(features), self.auxiliary(features)


@dataclass(frozen=True, eq=False)
class Learner:
    """All that changes while training. averaged: the moving average of the model, None when the run keeps none.

    muon: of the convolutions' weights, None when `optimiser` has them too.
    started_from: whose weights it began with: none, imagenet or the identity of a checkpoint.
    """

    config: TrainConfig
    model: Any
    averaged: Any
    optimiser: torch.optim.Optimizer
    muon: Muon | None
    device: torch.device
    started_from: str

    @property
    def judged(self) -> nn.Module:
        """The network that is measured and kept."""
        network: nn.Module = (self.averaged.module if self.averaged is not None else self.model).network
        return network

    @property
    def optimisers(self) -> dict[str, torch.optim.Optimizer]:
        """Name in a saved state -> optimiser, for all that learns."""
        return {"optimiser": self.optimiser, **({} if self.muon is None else {"muon": self.muon})}

    def step(self) -> None:
        """Change the weights by their gradients, and the moving average with them."""
        for optimiser in self.optimisers.values():
            optimiser.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def state(self) -> dict[str, Any]:
        """Everything that a resumed run needs."""
        averaged = {} if self.averaged is None else {"averaged": self.averaged.state_dict()}
        steps = {name: optimiser.state_dict() for name, optimiser in self.optimisers.items()}
        return {"model": self.model.state_dict(), **averaged, **steps}

    def restore(self, saved: dict[str, Any]) -> TrainState:
        """Take over what `state` gave, and return where the run stood."""
        self.model.load_state_dict(saved["model"])
        if self.averaged is not None:
            self.averaged.load_state_dict(saved["averaged"])
        for name, optimiser in self.optimisers.items():
            optimiser.load_state_dict(saved[name])
        return TrainState(**saved["state"])


def build_learner(config: TrainConfig, *, fresh: bool = True, team: Team | None = None) -> Learner:
    """A network at its start, by the seed; when it is not fresh but to be restored, without the weights to start from.

    team: the processes that train it together; None for this one alone.
    Raises ConfigError when it cannot have what the settings ask for, WeightsError for weights that do not fit.
    """
    torch.manual_seed(config.seed)
    network = MODELS[config.model](len(config.classes))
    faults = []
    if config.ferplus_weight > 0 and not hasattr(network, "features"):
        faults.append(
            f"ferplus_weight {config.ferplus_weight}: {config.model} has no features for a second head: expected 0"
        )
    if config.free_upper_at is not None and not hasattr(network, "free_upper"):
        faults.append(f"free_upper_at {config.free_upper_at}: {config.model} has no frozen part: expected None")
    if config.optimiser == "muon" and not matrices_of(network):
        faults.append(
            f"optimiser muon: {config.model} has no convolution with a norm after it: expected adamw, sgd or adam"
        )
    faults += size_faults(network, config.model, config.sizes)
    if faults:
        raise ConfigError(faults)
    started_from = config.weights
    if fresh and config.weights == "imagenet":
        load_imagenet(network)
    device = resolve_device(config.device)
    whole: Any = WithAuxiliaryHead(network, auxiliary=config.ferplus_weight > 0)
    if fresh and config.weights not in ("none", "imagenet"):
        started_from = start_from(whole, config)
    model = whole.to(device).to(memory_format=torch.channels_last)
    averaged = None
    if config.ema_decay > 0:
        average: Any = torch.optim.swa_utils.get_ema_multi_avg_fn
        averaged = torch.optim.swa_utils.AveragedModel(model, multi_avg_fn=average(config.ema_decay), use_buffers=True)
    matrices = matrices_of(model) if config.optimiser == "muon" else []
    muon = Muon(matrices, config.lr, weight_decay=config.weight_decay, team=team or Team()) if matrices else None
    return Learner(config, model, averaged, build_optimiser(model, config, but=matrices), muon, device, started_from)


def build_optimiser(model: nn.Module, config: TrainConfig, *, but: list[torch.Tensor]) -> torch.optim.Optimizer:
    """AdamW, Adam, or SGD with Nesterov momentum, of all weights but those; weight decay not for norms and biases."""
    others = {id(weight) for weight in but}
    learned = [p for p in model.parameters() if id(p) not in others]
    groups: list[dict[str, Any]] = [
        {"params": [p for p in learned if p.ndim > 1], "weight_decay": config.weight_decay},
        {"params": [p for p in learned if p.ndim <= 1], "weight_decay": 0.0},
    ]
    if config.optimiser == "adam":
        return torch.optim.Adam(groups, lr=config.lr)
    if config.optimiser == "sgd":
        return torch.optim.SGD(groups, lr=config.lr, momentum=0.9, nesterov=True)
    return torch.optim.AdamW(groups, lr=config.lr)


def resolve_device(wanted: str) -> torch.device:
    """ "auto" becomes a CUDA device where there is one, else the processor."""
    if wanted == "auto":
        return torch.device("cuda" if torch.cuda.is_available() else "cpu")
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError(["device cuda: this machine has none; expected auto or cpu"])
    return torch.device(wanted)


def resolve_precision(wanted: str, device: torch.device) -> str:
    """ "auto" becomes bfloat16 where the device multiplies it natively, else float32: emulation is 10 times slower."""
    if wanted != "auto":
        return wanted
    if device.type == "cuda":
        native = torch.cuda.is_bf16_supported()
    else:
        probes = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")  # not in every release of torch
        native = any(getattr(torch.cpu, probe, bool)() for probe in probes)
    return "bfloat16" if native else "float32"
