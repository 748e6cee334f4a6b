"""Modules that ship with the server: XML where they are types alone, Python where they are functions."""
