"""Several processes started by torchrun as one team; a single process is a team of one."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")
MEASURING_TIMEOUT = timedelta(hours=6)
"""The others wait this long for the leader to measure."""


@dataclass(frozen=True)
class Team:
    """This process among `size` processes. The leader, rank 0, measures and writes."""

    rank: int = 0
    size: int = 1

    @property
    def leads(self) -> bool:
        """Whether this process measures and writes."""
        return self.rank == 0

    def share(self, value: T | None) -> T:
        """The leader's value, in every process."""
        box: list[Any] = [value]
        if self.size > 1:
            distributed.broadcast_object_list(box, src=0)
        shared: T = box[0]
        return shared

    def wrap(self, model: nn.Module) -> nn.Module:
        """The model with gradients averaged over the team."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model

    def mean(self, values: torch.Tensor) -> torch.Tensor:
        """The team's mean of a tensor."""
        if self.size > 1:
            distributed.all_reduce(values)
        return values / self.size


def asked_size() -> int:
    """The number of processes that torchrun's environment names; 1 without torchrun."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def team() -> Iterator[Team]:
    """The team that torchrun's environment describes (NCCL with CUDA, else gloo); left at the end."""
    if asked_size() == 1:
        yield Team()
        return
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    backend = "nccl" if torch.cuda.is_available() else "gloo"
    distributed.init_process_group(backend, timeout=MEASURING_TIMEOUT)
    try:
        yield Team(distributed.get_rank(), distributed.get_world_size())
    finally:
        distributed.destroy_process_group()
