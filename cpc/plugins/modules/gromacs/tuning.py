"""How many cores a simulation can use: by its size alone, before it has run."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from cpc.api import BadInput

PARTICLES_PER_CORE = 250
CELL = 1.2  # nm: smaller domains than this do not pay


@dataclass(frozen=True, slots=True)
class Size:
    """Particles, and the edges of the box in nm (0: no box)."""

    particles: int
    box: tuple[float, float, float] = (0.0, 0.0, 0.0)


def size(path: Path, name: str) -> Size:
    """Of a structure in .gro or .pdb (told by `name`); BadInput when it cannot be read."""
    lines = path.read_text(errors="replace").splitlines()
    try:
        return _pdb(lines) if name.lower().endswith(".pdb") else _gro(lines)
    except (ValueError, IndexError):
        raise BadInput(f"{name} cannot be read as a structure", "give a .gro or .pdb file") from None


def cores(size: Size) -> int:
    """The most cores that pay: a core for 250 particles, and no more domains than cells of 1.2 nm fit into the box."""
    by_particles = size.particles // PARTICLES_PER_CORE
    cells = 1
    for edge in size.box:
        cells *= max(1, int(edge / CELL))
    return max(1, min(by_particles, cells) if any(size.box) else by_particles)


def _gro(lines: list[str]) -> Size:
    number = int(lines[1])
    edges = [float(word) for word in lines[2 + number].split()[:3]]
    return Size(number, (edges[0], edges[1], edges[2]))


def _pdb(lines: list[str]) -> Size:
    number = 0
    box = (0.0, 0.0, 0.0)
    for line in lines:
        if line.startswith("CRYST1"):
            box = (float(line[6:15]) / 10, float(line[15:24]) / 10, float(line[24:33]) / 10)
        elif line.startswith(("ATOM", "HETATM")):
            number += 1
        elif line.startswith("ENDMDL"):
            break
    if not number:
        raise ValueError("no atoms")
    return Size(number, box)
