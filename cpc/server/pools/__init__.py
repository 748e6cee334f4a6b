"""Pools: what the server does to ask batch systems and clouds for workers."""
