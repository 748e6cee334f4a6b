"""Molecular dynamics with GROMACS 2022 or newer: preparing runs, running them as checkpointed jobs, analysing what they leave.

Every tool is a job for a worker that announces `gromacs/gmx`, every simulation one for `gromacs/mdrun`.
"""

from __future__ import annotations

from cpc.plugins.modules.gromacs.analysis import eneconv, g_bar, g_energy, trjconv, trjconv_split
from cpc.plugins.modules.gromacs.many import grompp_mdruns, grompps, mdruns
from cpc.plugins.modules.gromacs.preparing import extract_mdp, grompp, merge_mdp, pdb2gmx
from cpc.plugins.modules.gromacs.running import mdrun
from cpc.plugins.modules.gromacs.tuned import mdrun_tune

__all__ = [
    "eneconv",
    "extract_mdp",
    "g_bar",
    "g_energy",
    "grompp",
    "grompp_mdruns",
    "grompps",
    "mdrun",
    "mdrun_tune",
    "mdruns",
    "merge_mdp",
    "pdb2gmx",
    "trjconv",
    "trjconv_split",
]
