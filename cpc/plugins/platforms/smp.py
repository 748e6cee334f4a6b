"""smp: processes on this node, side by side."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from cpc.api import Amounts, GpuPool, Node, Place, Platform, Unavailable


class Smp(Platform):
    """This node's cores, memory and GPUs."""

    name: ClassVar[str] = "smp"
    summary: ClassVar[str] = "processes on this node"

    def __init__(self, node: Node, options: Mapping[str, Any]) -> None:
        super().__init__(node, options)
        self._gpus = GpuPool(node.gpus)

    def total(self) -> Amounts:
        """Cores as told, the node's memory and GPUs."""
        return Amounts(cores=self.cores, gpus=len(self.node.gpus), memory=self.node.memory)

    def acquire(self, key: str, granted: Amounts, directory: str) -> Place:
        """GPUs by number; cores and memory need no names."""
        if granted.gpus > self._gpus.free():
            raise Unavailable(f"{granted.gpus} GPUs were granted, {self._gpus.free()} are free")
        return Place(env=self._gpus.acquire(key, granted.gpus))

    def release(self, key: str) -> None:
        """The GPUs are free again."""
        self._gpus.release(key)

    def by_name(self, granted: Amounts) -> bool:
        """Only GPUs have names."""
        return granted.gpus > 0
