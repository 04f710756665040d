"""Which sizes the architectures take."""

from __future__ import annotations

import pytest
import torch

from emotion.config import TrainConfig
from emotion.models import MODELS
from emotion.presets import PRESETS
from emotion.sizes import size_faults


@pytest.mark.parametrize("model", ["simple_cnn", "cnn1", "cnn2", "cnn6", "vgg16_frozen"])
def test_networks_of_one_size_say_which(model: str) -> None:
    network = MODELS[model](4)
    assert size_faults(network, model, PRESETS[model].sizes) == []
    small, large = size_faults(network, model, (24, 96))
    assert small.startswith(f"size 24: {model} does not take faces of 24 px: expected 48 px, its recipe's (")
    assert large.startswith(f"size 96: {model} does not take faces of 96 px: expected 48 px, its recipe's (")


def test_asking_changes_nothing() -> None:
    torch.manual_seed(0)
    network = MODELS["fer_resnet"](7).train()
    before = {key: value.clone() for key, value in network.state_dict().items()}
    chance = torch.get_rng_state()
    assert size_faults(network, "fer_resnet", (24, 32, 44, 64)) == []
    assert network.training
    assert torch.equal(torch.get_rng_state(), chance)
    assert all(torch.equal(value, before[key]) for key, value in network.state_dict().items())


def test_sizes_of_a_run() -> None:
    assert TrainConfig(size_schedule=((0.0, 40), (0.5, 32)), eval_size=44).sizes == (32, 40, 44)
    assert TrainConfig(size_schedule=((0.0, 40),)).sizes == (40,)
