"""A small box of water for GROMACS, and what is in a trajectory."""

from __future__ import annotations

import os
import re
import subprocess
from pathlib import Path

TOPOLOGY = """#include "amber99sb-ildn.ff/forcefield.itp"
#include "amber99sb-ildn.ff/spce.itp"
[ system ]
water
[ molecules ]
SOL {number}
"""

_COMMON = """cutoff-scheme = Verlet
coulombtype   = PME
rcoulomb      = 0.9
rvdw          = 0.9
"""

EM = f"""integrator    = steep
nsteps        = 50
{_COMMON}"""

MD = f"""integrator    = md
dt            = 0.002
nsteps        = 1000
nstxout-compressed = 100
nstenergy     = 50
nstcalcenergy = 10
nstlog        = 1000
{_COMMON}tcoupl        = v-rescale
tc-grps       = System
tau-t         = 0.1
ref-t         = 300
gen-vel       = yes
gen-temp      = 300
gen-seed      = 42
ld-seed       = 42
constraints   = h-bonds
"""


def gmx(folder: Path, *words: str) -> str:
    """Run a tool in `folder`; what it printed."""
    return subprocess.run(
        ["gmx", "-quiet", *words], cwd=folder, check=True, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ).stdout


def times_of(trajectory: os.PathLike[str]) -> list[float]:
    """The times, ps, of all frames of an .xtc file."""
    path = Path(trajectory)
    link = path.with_name(f"{path.name}.xtc")  # GROMACS goes by the ending of the name
    if not link.exists():
        link.symlink_to(path)
    said = gmx(path.parent, "dump", "-f", link.name)
    return [round(float(found), 4) for found in re.findall(r"time=\s*(\S+)", said)]
