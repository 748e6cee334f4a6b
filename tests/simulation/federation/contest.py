"""What people and operators do in a network of servers that contend, written down beforehand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Load:
    """At `at` seconds somebody submits so many jobs to a server: one core and so many seconds each."""

    server: int
    at: float
    jobs: int
    seconds: float


@dataclass(frozen=True)
class Turn:
    """At `at` seconds a server's operator gives a peer another priority; `share`: the same as whoever has it."""

    at: float
    server: int
    peer: int
    priority: int
    share: bool


@dataclass(frozen=True)
class Leave:
    """At `at` seconds a worker is told to go; it comes back within a minute, and nobody's job has left its room."""

    at: float
    worker: str


@dataclass(frozen=True)
class Contest:
    """All of it."""

    loads: tuple[Load, ...]
    turns: tuple[Turn, ...] = ()
    leaves: tuple[Leave, ...] = ()
