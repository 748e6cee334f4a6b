"""The `resource` module's types, for functions that take them as an input."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from cpc.api.job import Job


@dataclass(frozen=True, slots=True)
class RunDesc:
    """`resource::run_desc`: how much a job needs at least (`min`) and can use at most (`max`), by name: `cores`, `gpus`, …

    Memory is in bytes. What is neither cores, gpus nor memory is passed on as it is, to workers that announce it.
    """

    cpc_type: ClassVar[str] = "resource::run_desc"

    min: dict[str, int] | None = None
    max: dict[str, int] | None = None

    def limit(self, job: Job) -> Job:
        """The job with these limits."""
        least = dict(self.min or {})
        return replace(
            job,
            cores=least.pop("cores", job.cores),
            gpus=least.pop("gpus", job.gpus),
            memory=least.pop("memory", job.memory),
            max_cores=(self.max or {}).get("cores", job.max_cores),
            other={**(job.other or {}), **least} or None,
        )
