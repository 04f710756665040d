"""Every architecture: its parameters to the last one, its outputs, and that it can learn one batch by heart."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from emotion import WeightsError
from emotion.models import BASELINES, MODELS, load_imagenet
from emotion.models.standardise import IMAGENET_MEAN, IMAGENET_STD, Standardise
from emotion.presets import PRESETS, PUBLISHED
from emotion.summary import parameter_count, summarise
from tests.emotion.factories import make_split

NETWORKS = [name for name in MODELS if name not in BASELINES]


@pytest.mark.parametrize(
    ("name", "classes", "total", "trainable"),
    [
        ("cnn1", 4, 605_060, 605_060),
        ("cnn2", 4, 389_604, 388_644),
        ("vgg16_frozen", 4, 14_887_684, 172_868),
        ("mini_xception", 7, 58_423, 56_951),
    ],
)
def test_parameters_match_the_authors_summaries(name: str, classes: int, total: int, trainable: int) -> None:
    assert parameter_count(MODELS[name](classes)) == (total, trainable)


def test_the_head_of_the_frozen_resnet101_matches() -> None:
    assert parameter_count(MODELS["resnet101_frozen"](4))[1] == 2_138_948


def test_summary_lists_layers_in_the_order_of_the_data() -> None:
    found = summarise(MODELS["cnn1"](4), 48)
    assert [layer.output for layer in found.layers if layer.kind == "Conv2d"] == [
        (64, 48, 48),
        (32, 24, 24),
        (32, 12, 12),
    ]
    assert found.layers[-1].output == (4,)
    assert sum(layer.parameters for layer in found.layers) == found.total


def test_every_model_has_a_recipe_without_faults() -> None:
    assert list(PRESETS) != []
    assert set(PRESETS) == set(MODELS)
    assert {name: recipe.faults() for name, recipe in PRESETS.items()} == {name: [] for name in PRESETS}
    assert all(recipe.model == name for name, recipe in PRESETS.items())
    assert set(PUBLISHED) <= set(MODELS)


def learn_by_heart(
    logits: Callable[[], torch.Tensor], labels: torch.Tensor, optimiser: torch.optim.Optimizer, *, steps: int
) -> None:
    losses = []
    for _ in range(steps):
        loss = F.cross_entropy(logits(), labels)
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
        if losses[-1] < 0.2:
            break
    assert losses[-1] < 0.2, f"loss {losses[0]:.2f} -> {losses[-1]:.2f} in {len(losses)} steps"


@pytest.mark.parametrize("name", NETWORKS)
def test_learns_one_batch_by_heart(name: str) -> None:
    torch.manual_seed(0)
    size = PRESETS[name].final_size
    network = MODELS[name](4).train()
    split = make_split(2).of_classes(("angry", "happy", "sad", "neutral"))
    images = F.interpolate(torch.from_numpy(split.images).unsqueeze(1).float() / 255, (size, size))
    learning = [p for p in network.parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(learning, lr=1e-4 if name == "vgg16" else 2e-3)
    if name in ("vgg16_frozen", "resnet101_frozen", "resnet50_partial"):  # the frozen body answers the same every time
        images = network.body(network.standardise(images)).detach()
        network = network.head
    learn_by_heart(lambda: network(images), torch.from_numpy(split.labels), optimiser, steps=120)


def test_the_freed_blocks_of_resnet50_partial_learn_one_batch_by_heart() -> None:
    """With the head left as it is: what is learned is learned by the freed part."""
    torch.manual_seed(0)
    network = MODELS["resnet50_partial"](4).train()
    network.free_upper()
    split = make_split(2).of_classes(("angry", "happy", "sad", "neutral"))
    *lower, upper = network.body.children()
    with torch.no_grad():
        images = torch.from_numpy(split.images).unsqueeze(1).float() / 255
        features = torch.nn.Sequential(network.standardise, *lower, upper[0])(images)
    optimiser = torch.optim.Adam([p for p in network.body.parameters() if p.requires_grad], lr=1e-3)
    learn_by_heart(lambda: network.head(upper[1:](features)), torch.from_numpy(split.labels), optimiser, steps=60)


def test_frozen_parts_do_not_move_until_they_are_freed() -> None:
    network = MODELS["resnet50_partial"](7).train()
    body = network.body
    assert not any(p.requires_grad for p in body.parameters())
    assert not any(m.training for m in body.modules())
    network.free_upper()
    free = {name for name, p in body.named_parameters() if p.requires_grad}
    assert {name.rsplit(".", 2)[0] for name in free if "downsample" not in name} == {"layer4.1", "layer4.2"}
    assert {name for name, m in body.named_modules() if m.training} >= {"layer4.1.bn1", "layer4.2.bn3"}
    assert not body.layer4[0].training
    assert not network.eval().body.layer4[1].training


class _Source:
    """Stands for torchvision's table of weights."""

    def __init__(self, answer: Any) -> None:
        self.url, self._answer = "weights-server/vgg16.pth", answer

    @property
    def IMAGENET1K_V1(self) -> _Source:  # noqa: N802
        return self

    def get_state_dict(self, *, progress: bool, check_hash: bool) -> dict[str, torch.Tensor]:
        assert check_hash
        if isinstance(self._answer, Exception):
            raise self._answer
        found: dict[str, torch.Tensor] = self._answer
        return found


def test_imagenet_weights_go_into_the_body(monkeypatch: pytest.MonkeyPatch) -> None:
    network = MODELS["vgg16_frozen"](4)
    state = {f"features.{key}": torch.full_like(value, 0.25) for key, value in network.body.state_dict().items()}
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda name: _Source({**state, "classifier.0.bias": 0}))
    load_imagenet(network)
    assert all((value == 0.25).all() for value in network.body.state_dict().values())


def test_imagenet_weights_that_cannot_be_had_are_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    source = _Source(OSError("no route to host"))
    monkeypatch.setattr("torchvision.models.get_model_weights", lambda name: source)
    with pytest.raises(WeightsError, match=r"weights of vgg16 cannot be had .*no route.* with --weights none"):
        load_imagenet(MODELS["vgg16_frozen"](4))
    with pytest.raises(WeightsError, match="has no ImageNet weights: train it with --weights none"):
        load_imagenet(MODELS["cnn1"](4))
    source = _Source({})
    with pytest.raises(WeightsError, match=r"weights of vgg16: no value for 0\.weight"):
        load_imagenet(MODELS["vgg16_frozen"](4))


def test_a_file_that_is_not_what_its_name_says_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("torch.hub.get_dir", lambda: str(tmp_path))
    file = tmp_path / "checkpoints" / "resnet18-f37072fd.pth"
    file.parent.mkdir()
    file.write_bytes(b"garbage")
    with pytest.raises(WeightsError, match=r"resnet18-f37072fd\.pth: damaged .* begins with f37072fd, got \w{8}:"):
        load_imagenet(MODELS["resnet18"]())


def test_inception_sees_what_torchvision_feeds_its_weights() -> None:
    """torchvision sets transform_input for these weights, over inputs standardised as ImageNet's."""
    seen: list[torch.Tensor] = []
    network = MODELS["inception_v3"]().eval()
    network.body.Conv2d_1a_3x3.register_forward_pre_hook(lambda module, inputs: seen.append(inputs[0]))
    grey = torch.rand(2, 1, 75, 75)
    with torch.inference_mode():
        network(grey)
        network.body.transform_input = True
        network.body(Standardise(IMAGENET_MEAN, IMAGENET_STD)(grey))
    torch.testing.assert_close(seen[0], seen[1])


@pytest.mark.parametrize("name", BASELINES)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_baselines_fit(name: str, tmp_path: Path) -> None:
    split = make_split(6)
    pixels = split.images.reshape(len(split), -1) / 255
    estimator = BASELINES[name]().fit(pixels, split.labels)
    assert np.mean(estimator.predict(pixels) == split.labels) > 0.8
