"""What batch systems should be asked for: allocations, nodes, limits. Pure: facts and the time come in, decisions go out."""
