"""Projects as dataflow networks, pure: types, values, paths, functions, instances, connections, and what a change leads to.

Nothing here reads a clock, a file or a socket. The server keeps it on disk and carries out what it says should happen.
"""
