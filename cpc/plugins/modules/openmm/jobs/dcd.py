"""Trajectories in DCD files, as OpenMM and most programs write them: 32-bit coordinates in Å, one record for each axis."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np

COUNT = 8  # where the number of frames stands in the file
CELL = 48  # where it says whether each frame has a unit cell
ANGSTROMS = 10.0  # in a nm


def is_one(path: Path) -> bool:
    """Whether the file is a DCD file."""
    with path.open("rb") as file:
        return file.read(8)[4:] == b"CORD"


def layout(path: Path) -> tuple[int, int, bool]:
    """(bytes before the first frame, number of atoms, whether each frame has a unit cell); ValueError for other files."""
    with path.open("rb") as file:
        start = file.read(92)
        if len(start) < 92 or start[4:8] != b"CORD" or _int(start, 0) != 84:
            raise ValueError(f"{path.name} is not a DCD file")
        title = _int(file.read(4), 0)
        file.seek(92 + 8 + title + 4)
        return 92 + 8 + title + 12, _int(file.read(4), 0), bool(_int(start, CELL))


def frame_type(atoms: int, cell: bool) -> np.dtype[Any]:
    """One frame as it lies in the file."""
    axis = [("begin", "<i4"), ("at", "<f4", (atoms,)), ("end", "<i4")]
    return np.dtype([*([("cell", "V56")] if cell else []), ("x", axis), ("y", axis), ("z", axis)])


def read(path: Path) -> np.ndarray[Any, np.dtype[Any]]:
    """All coordinates, (frames, atoms, 3) in nm. A last frame that was only begun is left out."""
    begin, atoms, cell = layout(path)
    one = frame_type(atoms, cell)
    whole = (path.stat().st_size - begin) // one.itemsize
    raw = np.fromfile(path, one, whole, offset=begin)
    return np.stack([raw[axis]["at"] for axis in "xyz"], axis=2) / np.float32(ANGSTROMS)


def cells(path: Path) -> np.ndarray[Any, np.dtype[Any]] | None:
    """The unit cell of each frame, (frames, 6): edges a, b, c in nm, angles alpha, beta, gamma in degrees; None without one.

    Some programs, OpenMM among them, write the cosines of the angles.
    """
    begin, atoms, cell = layout(path)
    if not cell:
        return None
    raw = np.fromfile(path, frame_type(atoms, cell), offset=begin)["cell"]
    a, gamma, b, beta, alpha, c = np.frombuffer(raw.tobytes(), [("", "<i4"), ("at", "<f8", 6), ("", "<i4")])["at"].T
    angles = np.stack([alpha, beta, gamma], axis=1)
    angles = np.where(abs(angles) <= 1, np.degrees(np.arccos(np.clip(angles, -1, 1))), angles)
    return np.column_stack([a / ANGSTROMS, b / ANGSTROMS, c / ANGSTROMS, angles])


def cut(path: Path, frames: int) -> None:
    """Make the file `frames` frames long; ValueError when there are fewer."""
    begin, atoms, cell = layout(path)
    size = begin + frames * frame_type(atoms, cell).itemsize
    if path.stat().st_size < size:
        raise ValueError(f"{path.name} has fewer than {frames} frames")
    with path.open("r+b") as file:
        file.seek(COUNT)
        file.write(frames.to_bytes(4, "little"))
        file.flush()
        os.truncate(file.fileno(), size)


def _int(data: bytes, at: int) -> int:
    return int.from_bytes(data[at : at + 4], "little")
