"""/metrics and /health: the names that were promised, labels of few values, and who may read them."""

from __future__ import annotations

import re
from collections.abc import Iterator

import pytest
from prometheus_client import CollectorRegistry, Histogram, generate_latest
from prometheus_client.parser import text_string_to_metric_families

from cpc.server.metrics import TOP_PROJECTS, Figures, Metrics
from cpc.server.spread import Spread
from tests.helpers.http_wire import House

PROMISED = {
    "jobs": "gauge", "jobs_submitted": "counter", "jobs_finished": "counter", "jobs_retried": "counter",
    "job_queue_wait_seconds": "histogram", "job_run_seconds": "histogram", "job_stage_seconds": "histogram",
    "queue_oldest_pending_seconds": "gauge", "jobs_pending_reason": "gauge", "workers": "gauge",
    "workers_connected": "counter", "workers_lost": "counter", "worker_cores": "gauge", "worker_memory_bytes": "gauge",
    "worker_gpus": "gauge", "desired_workers": "gauge", "heartbeats_received": "counter",
    "heartbeats_missed": "counter", "heartbeat_age_seconds_max": "gauge", "projects": "gauge",
    "transfer_bytes": "counter", "storage_bytes": "gauge", "storage_free_bytes": "gauge", "http_requests": "counter",
    "http_request_duration_seconds": "histogram", "db_transaction_seconds": "histogram",
    "backup_last_success_timestamp_seconds": "gauge", "tls_certificate_expiry_timestamp_seconds": "gauge",
    "build_info": "gauge", "start_time_seconds": "gauge",
}  # fmt: skip


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def test_the_figures_have_the_promised_names_and_kinds(house: House) -> None:
    reply = house.ask("GET", "/metrics", user="")
    assert reply.headers["content-type"].startswith("text/plain; version=0.0.4")
    found = {family.name: family.type for family in text_string_to_metric_families(reply.body.decode())}
    assert found == {f"copernicus_{name}": kind for name, kind in PROMISED.items()}


def test_the_figures_of_the_services_are_shown(house: House) -> None:
    text = house.ask("GET", "/metrics").body.decode()
    assert 'copernicus_jobs{project="villin",state="waiting"} 1.0' in text
    assert "copernicus_jobs_submitted_total 3.0" in text
    assert 'copernicus_jobs_finished_total{outcome="ok",project="villin"} 2.0' in text
    assert 'copernicus_build_info{version="3.0"} 1.0' in text


def test_calls_are_counted_by_route_and_not_by_what_was_asked_for(house: House) -> None:
    for path in ("/api/v1/jobs/57", "/api/v1/jobs/58", "/nix/1", "/nix/2"):
        house.ask("GET", path)
    house.ask("BREW", "/nix")
    text = house.ask("GET", "/metrics").body.decode()
    assert 'copernicus_http_requests_total{code="200",method="GET",route="/api/v1/jobs/{id}"} 1.0' in text
    assert 'copernicus_http_requests_total{code="404",method="GET",route="/api/v1/jobs/{id}"} 1.0' in text
    assert 'copernicus_http_requests_total{code="404",method="GET",route="unknown"} 2.0' in text
    assert 'method="other",route="unknown"} 1.0' in text
    assert "nix" not in text
    assert 'duration_seconds_count{route="/api/v1/jobs/{id}"} 2.0' in text


def test_many_projects_become_the_largest_and_the_rest() -> None:
    jobs = {(f"p{number}", "running"): number for number in range(1, 101)}
    text = Metrics().render(Figures(release="3", started=0, jobs=jobs)).decode()
    shown = dict(re.findall(r'copernicus_jobs\{project="(\w+)",state="running"\} ([\d.]+)', text))
    assert len(shown) == TOP_PROJECTS + 1
    assert float(shown["p100"]) == 100
    assert sum(map(float, shown.values())) == 5050


def test_a_name_with_odd_letters_is_written_safely() -> None:
    text = Metrics().render(Figures(release='3"\n\\', started=0)).decode()
    [family] = [found for found in text_string_to_metric_families(text) if found.name == "copernicus_build_info"]
    assert family.samples[0].labels == {"version": '3"\n\\'}


def test_what_services_observe_is_shown() -> None:
    metrics = Metrics()
    metrics.queue_wait.observe(3)
    metrics.staged("in", 2)
    text = metrics.render(Figures(release="3", started=0)).decode()
    assert 'copernicus_job_queue_wait_seconds_bucket{le="5.0"} 1.0' in text
    assert 'copernicus_job_stage_seconds_count{direction="in"} 1.0' in text


def test_a_histogram_for_many_values_is_written_as_the_librarys_own() -> None:
    bounds, values = (0.1, 1, 2.5), [0.05, 0.1, 1.0, 2.0, 2.5, 7.0]
    texts = []
    for kind in (Histogram, Spread):
        registry = CollectorRegistry(auto_describe=False)
        if kind is Histogram:
            theirs = Histogram("x_seconds", "What", buckets=bounds, registry=registry)
            for value in values:
                theirs.observe(value)
        else:
            ours = Spread("x_seconds", "What", bounds)
            registry.register(ours)
            ours.observe_all(values)
        texts.append(generate_latest(registry))
    assert texts[0] == texts[1]


def test_this_machine_needs_no_token_unless_the_setting_says_so_and_others_do(house: House) -> None:
    far = house.client("192.0.2.7")
    assert far.ask("GET", "/metrics", user="").status == 401
    assert far.ask("GET", "/metrics", user="bob").status == 200
    assert far.ask("GET", "/metrics", user="mallory").status == 401
    near = house.client("::1")
    assert near.ask("GET", "/metrics", user="").status == 200
    house.world.metrics_open = False
    assert near.ask("GET", "/metrics", user="").status == 401


def test_health_says_what_is_wrong(house: House) -> None:
    client = house.client("192.0.2.7")
    good = client.ask("GET", "/health", user="")
    assert (good.status, good.json) == (200, {"status": "ok", "reasons": []})
    house.world.reasons = ("the database is away",)
    bad = client.ask("GET", "/health", user="")
    assert (bad.status, bad.json) == (503, {"status": "failing", "reasons": ["the database is away"]})
