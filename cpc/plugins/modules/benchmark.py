"""Jobs that do nothing, to see what the network around them costs. Times are in seconds, stamps in Unix time."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from cpc.api import File, Job, Step, controller, function


@dataclass
class ExecTime:
    """When a job was asked for, and when its end was known."""

    roundtrip_time: int
    start_timestamp: int
    end_timestamp: int


class Statistics(NamedTuple):
    """Of many such jobs: from the first start to the last end, and the mean of their round trips."""

    start_time: int | None = None
    end_time: int | None = None
    total_time: int | None = None
    average_time: float | None = None
    csv_result: File | None = None


@controller(outputs={"exec_time": ExecTime})
def sleep(step: Step, *, sleep_time: int) -> None:
    """One job that sleeps for so many seconds."""
    now = int(time.time())
    if step.fresh:
        step.state["start"] = now
        step.submit(Job([sleep_time], executable="benchmark/sleep"))
        return
    job = step.finished[-1]
    if not job.succeeded:
        step.fail(job.failure())
    start = step.state["start"]
    step.output("exec_time", ExecTime(now - start, start, now))


@function
def result_collector(num_samples: int, sleep_time_array: list[ExecTime | None]) -> Statistics:
    """Statistics of `num_samples` jobs, as soon as so many have ended."""
    times = [one for one in sleep_time_array if one is not None]
    if not times or len(times) < num_samples:
        return Statistics()
    start, end = min(one.start_timestamp for one in times), max(one.end_timestamp for one in times)
    lines = [f"{one.start_timestamp},{one.end_timestamp},{one.roundtrip_time}\n" for one in times]
    Path("result.csv").write_text("start_timestamp,end_timestamp,roundtrip_time\n" + "".join(lines))
    average = sum(one.roundtrip_time for one in times) / len(times)
    return Statistics(start, end, end - start, average, File("result.csv"))


@function(output="sum")
def multi_add(terms: list[float]) -> float:
    """The sum of all terms, exact but for its last rounding."""
    return math.fsum(terms)
