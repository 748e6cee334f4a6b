"""The benchmarks run at tiny sizes and say what they measured. How fast it was is not asserted: machines differ."""

from __future__ import annotations

import json
import math
import subprocess
import sys
from pathlib import Path

import pytest

from tests.helpers.real_programs import PATIENCE

ROOT = Path(__file__).resolve().parents[2]
SIZES = {
    "w1_throughput": 6, "w2_latency": 2, "w3_chain": 3, "w4_payload": 1, "w5_depth": 50,
    "s1_workers": 4, "s2_depth": 100, "s3_restart": 240, "d1_engine": 300, "f2_gateway": 10,
    "f5_nodes": 2, "p1_autoscaler": 1,
}  # fmt: skip
MEASURED = {
    "w1_throughput": "jobs_s", "w2_latency": "median_ms", "w3_chain": "hops_s", "w4_payload": "mib_s", "w5_depth": "jobs_s",
    "s1_workers": "join_s", "s2_depth": "jobs_s", "s3_restart": "ready_s", "d1_engine": "chain_us_each",
    "f2_gateway": "inputs_home_most_mib", "f5_nodes": "most_mib", "p1_autoscaler": "all",
}  # fmt: skip


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", *words]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE, check=False)


@pytest.mark.parametrize("name", SIZES)
def test_a_benchmark_measures_a_whole_system_and_prints_its_table(name: str) -> None:
    done = run(f"benchmarks.{name}", "--size", str(SIZES[name]), "--runs", "1", "--json")
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert all(math.isfinite(value) and value >= 0 for key, value in found["median"].items() if key != "bytes_a_job")
    assert found["median"][MEASURED[name]] > 0
    assert not found["median"].get("retries"), "a simulated worker stays connected"


def test_all_benchmarks_are_found_by_name() -> None:
    done = run("benchmarks", "w9")
    assert done.returncode == 2
    assert "there are w1, w2, w3, w4, w5, s1, s2, s3, s4, d1, d2, f1, f2, f3, f4, f5, p1" in done.stderr


def test_throughput_is_measured_on_postgresql_too() -> None:
    done = run("benchmarks.w1_throughput", "--size", "4", "--runs", "1", "--postgresql")
    assert done.returncode == 0, done.stderr
    assert "W1 throughput, 4 jobs, PostgreSQL" in done.stdout
    assert "of floor" in done.stdout
