"""Prometheus' own tool finds nothing wrong with /metrics. Needs promtool (Debian: apt-get install prometheus)."""

from __future__ import annotations

import os
import shutil
import subprocess

import pytest

from tests.helpers.http_wire import House


def test_promtool_finds_nothing_wrong_with_the_figures() -> None:
    promtool = os.environ.get("CPC_TEST_PROMTOOL") or shutil.which("promtool")
    if promtool is None:
        pytest.skip("promtool is not installed (Debian: apt-get install prometheus)")
    house = House()
    house.metrics.queue_wait.observe(3)
    house.metrics.staged("in", 2)
    house.metrics.transaction.observe(0.01)
    for path in ("/api/v1/jobs/57", "/nix"):
        house.ask("GET", path)
    text = house.ask("GET", "/metrics").body
    house.close()
    found = subprocess.run([promtool, "check", "metrics"], input=text, capture_output=True, check=False, timeout=60)
    assert (found.returncode, found.stderr.decode(), found.stdout.decode()) == (0, "", "")
