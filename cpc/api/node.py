"""What a compute node has, as platforms are told."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """One GPU. `id`: what CUDA_VISIBLE_DEVICES (kind "nvidia") or ROCR_VISIBLE_DEVICES (kind "amd") calls it."""

    id: str
    kind: str = "nvidia"
    name: str = ""


@dataclass(frozen=True, slots=True)
class Node:
    """A node as the worker may use it. Memory in bytes: `memory` altogether, `available` now. `notes`: for people."""

    host: str
    cores: int
    memory: int
    available: int
    gpus: tuple[Gpu, ...] = ()
    notes: tuple[str, ...] = ()
