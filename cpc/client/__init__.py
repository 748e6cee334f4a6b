"""The Python SDK: `Client` for the calls of the public API, `Executor` for jobs as futures.

>>> from cpc.client import Client, Executor
>>> with Executor(Client.from_config(), project="folding") as jobs:
...     futures = jobs.map(["./simulate", "--seed", "{seed}"], [{"seed": n} for n in range(16)], inputs=["simulate"])
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from cpc.client.client import Client
    from cpc.client.futures import Executor, JobFailed, JobFuture, JobResult

__all__ = ["Client", "Executor", "JobFailed", "JobFuture", "JobResult"]


def __getattr__(name: str) -> Any:
    """Loaded when first asked for: cpcc starts faster than its SDK."""
    import importlib

    if name not in __all__:
        raise AttributeError(f"module 'cpc.client' has no attribute {name!r}")
    return getattr(importlib.import_module("cpc.client.client" if name == "Client" else "cpc.client.futures"), name)
