"""The original's API for modules that were ported to Python 3: `cpc.dataflow`, `cpc.command`, `cpc.util` as they knew them.

`running` puts the names in place, within controller processes only, never in the server.
"""
