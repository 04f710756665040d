"""Muon: the directions of its steps, and which weights it has."""

from __future__ import annotations

import pytest
import torch

from emotion.config import TrainConfig
from emotion.distributed import Team
from emotion.learner import build_learner
from emotion.muon import AS_ADAM, Muon, orthogonal

SHAPES = [(8, 3, 3, 3), (4, 8, 1, 1), (6, 4, 3, 3)]


def stepped(team: Team) -> list[torch.Tensor]:
    """Three weights after two steps at rate 0.1 by random gradients, the same in every process."""
    rng = torch.Generator().manual_seed(0)
    weights = [torch.randn(shape, generator=rng).requires_grad_() for shape in SHAPES]
    muon = Muon(weights, 0.1, weight_decay=0.5, team=team)
    for _ in range(2):
        for weight in weights:
            weight.grad = torch.randn(weight.shape, generator=rng)
        muon.step()
    return [weight.detach() for weight in weights]


@pytest.mark.parametrize("shape", [(32, 90), (90, 32), (1, 20)])
def test_every_direction_weighs_alike(shape: tuple[int, int]) -> None:
    matrix = torch.randn(shape, generator=torch.Generator().manual_seed(0)) * torch.logspace(-2, 0, shape[1])
    left, _, right = torch.linalg.svd(matrix, full_matrices=False)
    found = orthogonal(matrix)
    assert found.shape == shape
    assert 0.6 < torch.linalg.svdvals(found).min() <= torch.linalg.svdvals(found).max() < 1.3
    assert ((left.T @ found @ right.T).diagonal() > 0.6).all()


def test_a_step_decays_and_is_as_long_as_adams() -> None:
    weight = torch.full((16, 4, 3, 3), 2.0).requires_grad_()
    weight.grad = torch.randn(weight.shape, generator=torch.Generator().manual_seed(1))
    still = torch.ones(2, 2, 3, 3).requires_grad_()  # has no gradient
    Muon([still, weight], 0.01, weight_decay=0.5, team=Team()).step()
    moved = (weight - 2.0 * (1 - 0.01 * 0.5)).square().mean().sqrt()
    assert moved.item() == pytest.approx(0.01 * AS_ADAM, rel=0.25)
    assert torch.equal(still, torch.ones(2, 2, 3, 3))


def test_every_weight_has_one_optimiser() -> None:
    learner = build_learner(TrainConfig(model="fer_resnet", optimiser="muon"))
    adamw, muon = (
        {id(p): p for group in optimiser.param_groups for p in group["params"]}
        for optimiser in learner.optimisers.values()
    )
    assert adamw.keys() | muon.keys() == {id(p) for p in learner.model.parameters()}
    assert not adamw.keys() & muon.keys()
    assert len(muon) == 20
    assert all(p.ndim == 4 and p.shape[1] > 1 for p in muon.values())
