"""Copernicus 3: a job server and worker network for ensembles of simulations."""

__version__ = "3.0.0.dev0"
