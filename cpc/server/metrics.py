"""Figures for Prometheus: names, labels and where they come from.

What is a state (how many jobs wait) is asked of the services at scrape time as one `Figures`. What happens (a request, a
job that has waited so long) is counted here when it happens. Labels take few values: no job, user or address is one.
"""

from __future__ import annotations

from collections import Counter as Count
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from prometheus_client import CollectorRegistry, Counter, Histogram, disable_created_metrics
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, Metric
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4, generate_latest

from cpc.server.spread import Spread

KIND = CONTENT_TYPE_PLAIN_0_0_4.encode()

disable_created_metrics()  # type: ignore[no-untyped-call]  # they would tell when a label was first seen, on a clock of their own
TOP_PROJECTS = 20
OTHER = "other"

_LONG = (1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 12 * 3600, 86400, 3 * 86400, 7 * 86400)
_STAGE = (0.1, 0.5, 1, 5, 15, 60, 300, 900, 3600, 4 * 3600, 86400)
_SHORT = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 10, 60)

_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """How things stand now. Keys of two are labels in the order of the name; sizes in bytes, times in seconds.

    Counters (`submitted` … `transferred`) count since the server's start. What is None or empty is not shown.
    """

    release: str
    started: float  # seconds since 1970
    jobs: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (project, state)
    pending_reasons: Mapping[str, int] = field(default_factory=dict)
    oldest_pending: float = 0.0
    workers: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (state, platform)
    cores: Mapping[str, int] = field(default_factory=dict)  # total, allocated
    memory: Mapping[str, int] = field(default_factory=dict)
    gpus: Mapping[str, int] = field(default_factory=dict)
    desired_workers: int | None = None
    projects: int = 0
    storage: Mapping[str, int] = field(default_factory=dict)  # by area
    storage_free: int = 0
    heartbeat_age: float = 0.0
    submitted: int = 0
    finished: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (project, outcome)
    retried: Mapping[str, int] = field(default_factory=dict)  # by reason
    workers_connected: int = 0
    workers_lost: int = 0
    heartbeats_received: int = 0
    heartbeats_missed: int = 0
    transferred: Mapping[str, int] = field(default_factory=dict)  # by direction: in, out
    peer_cores: Mapping[tuple[str, str], int] = field(default_factory=dict)  # (lent or borrowed, server's id)
    peer_questions: Mapping[str, int] = field(default_factory=dict)  # asked, called
    last_backup: float | None = None
    certificate_expiry: float | None = None


class Metrics:
    """One server's registry. Services call `observe` on the histograms they know about."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry(auto_describe=False)
        self.queue_wait = self._spread("job_queue_wait_seconds", "From submission to the first start", _LONG)
        self.run = self._spread("job_run_seconds", "How long attempts ran", _LONG)
        stage = self._histogram("job_stage_seconds", "Transfer of an attempt's files", _STAGE, ("direction",))
        self._staged = {direction: stage.labels(direction) for direction in ("in", "out")}
        self.transaction = self._histogram("db_transaction_seconds", "One batch of the writer", _SHORT)
        self._http = Counter(
            "copernicus_http_requests", "Answered requests", ("route", "method", "code"), registry=self.registry
        )
        self._http_time = self._histogram("http_request_duration_seconds", "Head to answer", _SHORT, ("route",))
        self._counters: dict[tuple[str, str, int], Counter] = {}
        self._times: dict[str, Histogram] = {}
        self._figures: Figures | None = None
        self.registry.register(self)

    def _histogram(self, name: str, text: str, buckets: Iterable[float], labels: Iterable[str] = ()) -> Histogram:
        return Histogram("copernicus_" + name, text, labels, buckets=tuple(buckets), registry=self.registry)

    def _spread(self, name: str, text: str, bounds: Sequence[float]) -> Spread:
        made = Spread("copernicus_" + name, text, bounds)
        self.registry.register(made)
        return made

    def staged(self, direction: str, seconds: float) -> None:
        """The files of an attempt were under way for so long, "in" to the worker or "out" from it."""
        self._staged[direction].observe(seconds)

    def http(self, route: str, method: bytes, code: int, seconds: float) -> None:
        """Count a request. `route` is the template, so that there are not more of them than are declared."""
        verb = method.decode("ascii", "replace")
        key = (route, verb if verb in _METHODS else OTHER, code)
        counter = self._counters.get(key)
        if counter is None:
            counter = self._counters[key] = self._http.labels(key[0], key[1], str(code))
        counter.inc()
        time = self._times.get(route)
        if time is None:
            time = self._times[route] = self._http_time.labels(route)
        time.observe(max(0.0, seconds))

    def render(self, figures: Figures) -> bytes:
        """Everything in the text format."""
        self._figures = figures
        try:
            return generate_latest(self.registry)
        finally:
            self._figures = None

    def collect(self) -> Iterator[Metric]:
        """For the registry: the figures at hand."""
        if self._figures is not None:
            yield from _families(self._figures)


def _families(now: Figures) -> Iterator[Metric]:
    top = _top_projects(now)
    yield _gauge("jobs", "Jobs by state", _fold(now.jobs, top), "project", "state")
    yield _gauge("jobs_pending_reason", "Why jobs wait", now.pending_reasons, "reason")
    yield _gauge("queue_oldest_pending_seconds", "Age of the oldest job that waits", now.oldest_pending)
    yield _counter("jobs_submitted", "Jobs submitted", now.submitted)
    yield _counter("jobs_finished", "Jobs that have ended", _fold(now.finished, top), "project", "outcome")
    yield _counter("jobs_retried", "Attempts that were followed by another", now.retried, "reason")
    yield _gauge("workers", "Workers by state", now.workers, "state", "platform")
    yield _counter("workers_connected", "Worker sessions begun", now.workers_connected)
    yield _counter("workers_lost", "Worker sessions lost", now.workers_lost)
    yield _gauge("worker_cores", "Cores of all workers", now.cores, "state")
    yield _gauge("worker_memory_bytes", "Memory of all workers", now.memory, "state")
    yield _gauge("worker_gpus", "GPUs of all workers", now.gpus, "state")
    if now.desired_workers is not None:
        yield _gauge("desired_workers", "Workers that would have work now", now.desired_workers)
    yield _counter("heartbeats_received", "Heartbeats of workers", now.heartbeats_received)
    yield _counter("heartbeats_missed", "Leases that ended without a heartbeat", now.heartbeats_missed)
    yield _gauge("heartbeat_age_seconds_max", "Longest silence of a connected worker", now.heartbeat_age)
    yield _gauge("projects", "Projects", now.projects)
    yield _counter("transfer_bytes", "Bytes of files taken and given", now.transferred, "direction")
    yield _gauge("storage_bytes", "Disk in use by area", now.storage, "area")
    yield _gauge("storage_free_bytes", "Disk that is free", now.storage_free)
    if now.peer_questions:
        yield _gauge(
            "peer_cores", "Cores that work for another server, or its for us", now.peer_cores, "direction", "server"
        )
        yield _counter(
            "peer_questions", "Peers asked for work, and called because there is some", now.peer_questions, "kind"
        )
    if now.last_backup is not None:
        yield _gauge("backup_last_success_timestamp_seconds", "When the last backup was complete", now.last_backup)
    if now.certificate_expiry is not None:
        text = "When the first of the server's certificates expires"
        yield _gauge("tls_certificate_expiry_timestamp_seconds", text, now.certificate_expiry)
    yield _gauge("build_info", "Release of the server", {now.release: 1}, "version")
    yield _gauge("start_time_seconds", "When the server started", now.started)


Values = float | Mapping[str, int] | Mapping[tuple[str, str], int]


def _gauge(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _fill(GaugeMetricFamily("copernicus_" + name, text, labels=labels), values)


def _counter(name: str, text: str, values: Values, *labels: str) -> Metric:
    return _fill(CounterMetricFamily("copernicus_" + name, text, labels=labels), values)


def _fill(family: GaugeMetricFamily | CounterMetricFamily, values: Values) -> Metric:
    if isinstance(values, Mapping):
        for key, value in values.items():
            family.add_metric([key] if isinstance(key, str) else list(key), value)
    else:
        family.add_metric([], values)
    return family


def _top_projects(now: Figures) -> frozenset[str]:
    """The projects with most jobs; the rest are shown as one."""
    sizes: Count[str] = Count()
    for figures in (now.jobs, now.finished):
        for (project, _), number in figures.items():
            sizes[project] += number
    return frozenset(project for project, _ in sizes.most_common(TOP_PROJECTS))


def _fold(figures: Mapping[tuple[str, str], int], top: frozenset[str]) -> Mapping[tuple[str, str], int]:
    folded: Count[tuple[str, str]] = Count()
    for (project, label), number in figures.items():
        folded[project if project in top else OTHER, label] += number
    return folded
