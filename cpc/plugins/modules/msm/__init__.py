"""Markov state models: adaptive sampling, in generations of simulations and models that say where the next ones begin.

Simulations are jobs of `openmm::simulate`, models jobs for workers that announce `deeptime`.
"""

from __future__ import annotations

from cpc.plugins.modules.msm.adaptive import adaptive
from cpc.plugins.modules.msm.modelling import model

IMPORTS = ("openmm",)

__all__ = ["adaptive", "model"]
