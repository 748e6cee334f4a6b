"""Operators who change their minds in mid-flight."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    pass


ACTS: list[Any] = []
