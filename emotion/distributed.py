"""Several processes started by torchrun as one team; a single process is a team of one."""

from __future__ import annotations

import atexit
import gc
import os
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed, nn

T = TypeVar("T")


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
        """The model with gradients averaged over the team. Wrap anew when other parameters begin to learn."""
        return nn.parallel.DistributedDataParallel(model) if self.size > 1 else model


def join_team() -> Team:
    """The team that torchrun's environment describes; a team of one without torchrun."""
    size = int(os.environ.get("WORLD_SIZE", "1"))
    if size == 1:
        return Team()
    if not distributed.is_initialized():
        distributed.init_process_group("nccl" if torch.cuda.is_available() else "gloo")
        atexit.register(_leave)
    if torch.cuda.is_available():
        torch.cuda.set_device(int(os.environ.get("LOCAL_RANK", "0")))
    return Team(distributed.get_rank(), size)


def _leave() -> None:
    """End the group, whose threads may else abort a process that ends well; wrapped models hold it in cycles."""
    gc.collect()
    distributed.destroy_process_group()
