"""Chaos on real processes: a running ensemble, one fault after another by a seed, and the promises looked at after each."""
