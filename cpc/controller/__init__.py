"""Controller processes: they run the Python code and the programs behind functions, apart from the server.

`main` is the process, `run` carries out one run of any kind of function (also without a process, in simulations),
`original` and its neighbours are the original's API for modules that were ported.
"""
