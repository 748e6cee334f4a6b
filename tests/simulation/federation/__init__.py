"""Many servers in one thread on virtual time: what holds for a network of them, whatever happens."""
