"""Augmentation of training images: repeatable, in range, and each change changes something."""

from __future__ import annotations

import dataclasses

import pytest
import torch

from emotion.data.augment import Augmentation, augment
from emotion.presets import PLAIN
from tests.emotion.factories import make_split


def test_augmentation_without_ranges_changes_nothing() -> None:
    images = torch.from_numpy(make_split(1).images).unsqueeze(1).float() / 255
    out = augment(images, 48, PLAIN, torch.Generator().manual_seed(0), view=1.0)
    assert torch.allclose(out, images, atol=1e-5)
    centre = augment(images, 44, PLAIN, torch.Generator().manual_seed(0))
    assert torch.allclose(centre, images[..., 2:46, 2:46], atol=1e-5)


def test_augmentation_is_repeatable_and_stays_in_range() -> None:
    images = torch.from_numpy(make_split(2).images).unsqueeze(1).float() / 255
    kept = images.clone()
    first, second = (augment(images, 40, Augmentation(), torch.Generator().manual_seed(3)) for _ in range(2))
    assert torch.equal(first, second)
    assert torch.equal(images, kept)
    assert first.shape == (14, 1, 40, 40)
    assert first.min() >= 0
    assert first.max() <= 1


def test_a_certain_flip_mirrors() -> None:
    images = torch.from_numpy(make_split(1).images).unsqueeze(1).float() / 255
    flipped = augment(images, 48, dataclasses.replace(PLAIN, flip=1.0), torch.Generator(), view=1.0)
    assert torch.allclose(flipped, images.flip(-1), atol=1e-5)


@pytest.mark.parametrize("change", ["low_resolution", "blur", "jpeg", "gamma", "erase"])
def test_each_change_changes_images_and_is_repeatable(change: str) -> None:
    images = torch.from_numpy(make_split(2).images).unsqueeze(1).float() / 255
    how = dataclasses.replace(PLAIN, **{change: 1.0})
    first, second = (augment(images, 48, how, torch.Generator().manual_seed(3), view=1.0) for _ in range(2))
    assert torch.equal(first, second)
    assert (first - images).abs().flatten(1).amax(1).min() > 0.01
    assert (first.min() >= 0, first.max() <= 1) == (True, True)
    if change in ("low_resolution", "blur", "jpeg"):
        assert (first.mean((1, 2, 3)) - images.mean((1, 2, 3))).abs().max() < 0.02


def test_gamma_is_a_power_of_the_grey() -> None:
    images = torch.full((200, 1, 4, 4), 0.5)
    changed = augment(images, 4, dataclasses.replace(PLAIN, gamma=1.0), torch.Generator().manual_seed(0), view=1.0)
    assert (changed - changed[:, :, :1, :1]).abs().max() < 1e-6
    assert changed.min() == pytest.approx(0.25, abs=0.01)
    assert changed.max() == pytest.approx(0.5**0.5, abs=0.01)
