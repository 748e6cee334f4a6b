"""Functions that test the network: they add, warn and fail on demand, as Python and as a program of its own."""
