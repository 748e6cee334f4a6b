"""Calls to the people's door: routes, strict questions, errors in words, keys."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from cpc.core.errors import BadInput, CopernicusError, OverQuota, RateLimited, Unavailable
from cpc.core.spec import JobSpec
from cpc.core.views import Page
from cpc.server.http.route import Nothing, route
from cpc.server.http.router import Router
from cpc.server.http.routes import ROUTES
from cpc.server.roles import Act
from tests.helpers.http_wire import House, logged

API = "/api/v1"
JOBS = f"{API}/projects/villin/jobs"


@pytest.fixture
def house() -> Iterator[House]:
    house = House()
    yield house
    house.close()


def test_anyone_may_ask_what_the_server_is_and_learns_its_authority(house: House) -> None:
    reply = house.ask("GET", f"{API}/server", user="")
    assert reply.status == 200
    assert reply.json["name"] == "test"
    assert reply.headers["x-copernicus-authority"] == "MAA="
    assert reply.headers["content-type"] == "application/json"
    assert reply.headers["x-content-type-options"] == "nosniff"


def test_without_a_token_only_what_is_for_anyone_answers(house: House) -> None:
    for declared in ROUTES:
        path = declared.path.replace("...", "").format_map({"project": "villin", "id": "57", "path": "a"} | _ANY)
        reply = house.ask(declared.method, path, user="")
        if declared.who.value == "anyone":
            assert reply.status != 401 or declared.path == "/metrics", declared.path
        else:
            assert reply.status == 401, declared.path
            assert reply.json["code"] == "not-logged-in"
            assert reply.headers["www-authenticate"].startswith("Bearer")


_ANY = {"name": "x", "user": "alice", "digest": "ab", "pool": "hpc", "node": "n1"}


def test_a_wrong_token_is_refused_in_words(house: House) -> None:
    reply = house.ask("GET", f"{API}/whoami", user="mallory")
    assert (reply.status, reply.json["code"]) == (401, "not-logged-in")
    assert reply.json["hint"]


def test_the_scheme_of_a_token_may_be_written_in_small_letters(house: House) -> None:
    assert house.ask("GET", f"{API}/whoami", Authorization="bearer bob-token").json["name"] == "bob"


def test_login_gives_a_token_and_a_wrong_password_none(house: House) -> None:
    good = house.ask("POST", f"{API}/login", {"user": "alice", "password": "alice-password"}, user="")
    assert good.json["token"] == "alice-token"
    bad = house.ask("POST", f"{API}/login", {"user": "alice", "password": "x"}, user="")
    assert (bad.status, bad.json["code"]) == (401, "not-logged-in")


def test_an_unknown_path_is_not_found_and_an_unknown_method_names_the_known_ones(house: House) -> None:
    for path in ("/", "/nix", f"{API}", f"{API}/", f"{API}/users/", f"{API}//users", f"{API}/projects//jobs"):
        reply = house.ask("GET", path)
        assert (reply.status, reply.json["code"]) == (404, "not-found"), path
    reply = house.ask("PUT", f"{API}/users")
    assert reply.status == 405
    assert reply.headers["allow"] == "GET, POST, HEAD, OPTIONS"


def test_options_tells_the_methods_without_a_login(house: House) -> None:
    reply = house.ask("OPTIONS", f"{API}/jobs/57", user="")
    assert (reply.status, reply.body) == (204, b"")
    assert reply.headers["allow"] == "DELETE, GET, PATCH, HEAD, OPTIONS"
    assert house.ask("OPTIONS", f"{API}/nix", user="").status == 404
    assert house.ask("OPTIONS", "*", user="").status == 204


def test_head_is_get_without_the_body(house: House) -> None:
    client = house.client()
    get = client.ask("GET", f"{API}/jobs/57")
    head = client.ask("HEAD", f"{API}/jobs/57")
    assert (head.status, head.body) == (200, b"")
    assert head.headers["content-length"] == str(len(get.body))
    assert client.ask("GET", f"{API}/whoami").status == 200, "the connection goes on"


def test_a_fixed_word_goes_before_a_parameter(house: House) -> None:
    router = Router(ROUTES)
    assert router.find("GET", b"/api/v1/jobs/57/logs/follow")[0].name == "jobs.follow"
    assert router.find("GET", b"/api/v1/jobs/57/outputs")[0].name == "jobs.outputs"
    found, values = router.find("GET", b"/api/v1/jobs/57%5B3%5D/outputs/a/b%20c%FF")
    assert (found.name, values) == ("jobs.output", {"id": "57[3]", "path": b"a/b c\xff"})


def test_two_routes_of_one_method_and_path_are_a_mistake() -> None:
    with pytest.raises(ValueError, match="declared twice"):
        Router([ROUTES[0], ROUTES[0]])


def test_a_handler_must_take_what_its_path_names() -> None:
    with pytest.raises(TypeError, match="do not go with"):

        @route("GET", "/jobs/{id}", act=Act.JOB_SHOW)
        async def handler(ask: object, name: str) -> Nothing:
            return Nothing()


def test_array_elements_are_named_in_brackets_plain_or_encoded(house: House) -> None:
    house.services.jobs.put("57[3]", JobSpec(argv=("x",)))
    assert house.ask("GET", f"{API}/jobs/57[3]").json["id"] == "57[3]"
    assert house.ask("GET", f"{API}/jobs/57%5B3%5D").json["id"] == "57[3]"


def test_an_answer_says_whether_it_is_a_job_or_an_array(house: House) -> None:
    house.services.jobs.put_array("60", 5)
    assert house.ask("GET", f"{API}/jobs/57").json["kind"] == "job"
    assert house.ask("GET", f"{API}/jobs/60").json["kind"] == "array"


@pytest.mark.parametrize(
    ("body", "words"),
    [
        ({"spec": {"argv": ["x"]}, "dryrun": True}, "unknown field 'dryrun'"),
        ({"spec": {"argv": ["x"], "cores": 2}}, "unknown field 'cores' - at '$.spec'"),
        ({"spec": {"argv": ["x"], "need": {"core": 2}}}, "unknown field 'core' - at '$.spec.need'"),
        ({"spec": {"argv": ["x"], "inputs": [{"path": "a", "x": 1}]}}, "unknown field 'x' - at '$.spec.inputs[0]'"),
        ({"spec": {"argv": "x"}}, "Expected 'array', got 'str' - at '$.spec.argv'"),
        ({"spec": {"argv": [1]}}, "Expected 'str', got 'int' - at '$.spec.argv[0]'"),
        ({}, "missing required field 'spec'"),
        ([], "Expected 'object'"),
        ({"spec": {"argv": ["a\0b"]}}, "NUL character"),
        ({"spec": {"argv": []}}, "no command"),
    ],
)
def test_a_body_that_is_not_what_was_asked_for_is_refused_with_the_place(
    house: House, body: object, words: str
) -> None:
    reply = house.ask("POST", JOBS, body)
    assert (reply.status, reply.json["code"]) == (400, "bad-input")
    assert words in reply.json["message"]


@pytest.mark.parametrize(
    "raw", [b"{", b"\xff", b'{"spec": "\xff"}', b"[" * 10000, b'{"spec":1}{', b'{"a": NaN}', b'"\\ud800"']
)
def test_a_body_that_is_not_json_is_refused(house: House, raw: bytes) -> None:
    reply = house.ask("POST", JOBS, raw=raw, Content_Type="application/json")
    assert (reply.status, reply.json["code"]) == (400, "bad-input")


def test_json_must_be_marked_as_json(house: House) -> None:
    reply = house.ask("POST", JOBS, raw=b"{}", Content_Type="text/plain")
    assert reply.status == 400
    assert "application/json" in reply.json["hint"]


def test_a_call_without_a_body_takes_an_empty_object_and_nothing_else(house: House) -> None:
    client = house.client()
    assert client.ask("POST", f"{API}/jobs/57/fail-attempt").json == {}
    assert client.ask("POST", f"{API}/jobs/57/fail-attempt", {}).json == {}
    assert client.ask("POST", f"{API}/logout", {}).json == {}
    reply = client.ask("POST", f"{API}/logout", {"all": True})
    assert (reply.status, reply.json["message"]) == (400, "this call takes no body")


@pytest.mark.parametrize(
    ("query", "words"),
    [
        ("limit=0", "limit"),
        ("limit=1001", "limit"),
        ("limit=x", "limit"),
        ("limit=1&limit=2", "twice"),
        ("colour=red", "unknown field 'colour'"),
        ("name=%00", "NUL"),
        ("name=%ff", "UTF-8"),
        ("state=waiting,sleeping", "state"),
        ("since=99999999999999999999999999", "since"),
    ],
)
def test_a_query_that_is_not_what_was_asked_for_is_refused_by_name(house: House, query: str, words: str) -> None:
    reply = house.ask("GET", f"{JOBS}?{query}")
    assert (reply.status, reply.json["code"]) == (400, "bad-input")
    assert words in reply.json["message"]


def test_a_query_parameter_is_left_out_and_not_null(house: House) -> None:
    assert house.ask("GET", f"{API}/jobs/57/outputs?attempt=2").status == 200
    assert house.ask("GET", f"{API}/jobs/57/outputs?attempt=Null").status == 400


def test_a_call_without_a_query_refuses_one(house: House) -> None:
    assert house.ask("GET", f"{API}/whoami?x=1").status == 400


def test_lists_come_in_pages(house: House) -> None:
    for number in range(60, 65):
        house.services.jobs.put(str(number), JobSpec(argv=("x",)))
    first = house.ask("GET", f"{JOBS}?state=waiting,running&limit=4").json
    rest = house.ask("GET", f"{JOBS}?state=waiting&limit=4&after={first['next']}").json
    assert [job["id"] for job in first["items"] + rest["items"]] == ["57", "60", "61", "62", "63", "64"]
    assert rest["next"] == ""
    assert house.ask("GET", f"{JOBS}?state=failed").json["items"] == []


def test_the_same_key_gets_the_same_answer_and_another_call_with_it_a_conflict(house: House) -> None:
    ask = {"spec": {"argv": ["x"]}}
    first = house.ask("POST", JOBS, ask, Idempotency_Key="k1")
    again = house.ask("POST", JOBS, ask, Idempotency_Key="k1")
    assert first.json == again.json
    assert len(house.world.jobs) == 2
    other = house.ask("POST", JOBS, {"spec": {"argv": ["y"]}}, Idempotency_Key="k1")
    assert (other.status, other.json["code"]) == (409, "conflict")
    elsewhere = house.ask("POST", f"{API}/jobs/57/cancel", {}, Idempotency_Key="k1")
    assert elsewhere.status == 409
    assert house.ask("POST", JOBS, ask).json["id"] != first.json["id"], "without a key each call counts"


def test_a_key_that_is_too_long_or_not_printable_is_refused(house: House) -> None:
    for key in ("k" * 65, "k\x7f", "schl\xfcssel"):
        assert house.ask("POST", JOBS, {"spec": {"argv": ["x"]}}, Idempotency_Key=key).status == 400


def test_roles_are_the_services_business_and_their_refusals_come_through(house: House) -> None:
    reply = house.ask("POST", JOBS, {"spec": {"argv": ["x"]}}, user="bob")
    assert (reply.status, reply.json["code"]) == (403, "denied")
    assert house.ask("POST", f"{API}/projects/secret/jobs", {"spec": {"argv": ["x"]}}).status == 404


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (BadInput("x"), 400),
        (RateLimited("x"), 429),
        (Unavailable("x", "y"), 503),
        (OverQuota("x"), 507),
        (CopernicusError("x"), 500),
    ],
)
def test_an_error_has_its_status_code_and_words(house: House, error: CopernicusError, status: int) -> None:
    house.world.failing = error
    reply = house.ask("GET", f"{API}/users")
    assert reply.status == status
    assert reply.json == {"code": error.code, "message": error.message, "hint": error.hint}
    assert ("retry-after" in reply.headers) == (status in (429, 503))


def test_a_defect_shows_a_number_and_no_traceback(house: House) -> None:
    house.world.failing = RuntimeError("secret detail")
    client = house.client()
    with logged() as events:
        reply = client.ask("GET", f"{API}/users")
    assert (reply.status, reply.json["code"]) == (500, "error")
    assert b"secret" not in reply.body
    assert b"Traceback" not in reply.body
    assert reply.headers["x-request-id"] in reply.json["message"]
    [event] = [event for event in events if "log_failure" in event]
    assert event["id"] == reply.headers["x-request-id"]
    assert "secret detail" in str(event["log_failure"])
    house.world.failing = None
    assert client.ask("GET", f"{API}/users").status == 200


def test_every_noun_answers_a_simple_call(house: House) -> None:
    client = house.client()
    expected = {
        f"{API}/status": "workers", f"{API}/projects": "items", f"{API}/projects/villin": "name",
        f"{API}/projects/villin/arrays": "items", f"{API}/jobs": "items", f"{API}/jobs/57/why": "reasons",
        f"{API}/jobs/57/logs": "data", f"{API}/jobs/57/outputs": "items", f"{API}/workers": "items",
        f"{API}/workers/w1": "name", f"{API}/heartbeats": "items", f"{API}/bundles": "items", f"{API}/events": "items",
        f"{API}/pools": "items", f"{API}/pools/hpc": "scheduler", f"{API}/pools/hpc/why": "reasons",
        f"{API}/allocations?pool=hpc&live=true": "items", f"{API}/allocations/7": "token", f"{API}/nodes?pool=hpc": "items",
        f"{API}/nodes/n1": "workers", f"{API}/tokens": "items", f"{API}/users": "items", f"{API}/jobs/57/wait?timeout=0": "state",
    }  # fmt: skip
    for path, field in expected.items():
        assert field in client.ask("GET", path).json, path
    assert client.ask("GET", f"{API}/allocations/7/probe", user="cpc-admin").json["done"] is True
    assert client.ask("GET", f"{API}/allocations/7/probe").status == 403
    for path in (f"{API}/settings", f"{API}/audit", f"{API}/pools/hpc/doctor"):
        assert "items" in client.ask("GET", path, user="cpc-admin").json
        assert client.ask("GET", path).status == 403


def test_every_change_reaches_its_service(house: House) -> None:
    client = house.client()

    def change(method: str, path: str, body: object, user: str = "cpc-admin") -> dict[str, object]:
        reply = client.ask(method, API + path, body, user=user)
        assert reply.status == 200, (path, reply.body)
        answer = json.loads(reply.body)
        assert isinstance(answer, dict)
        return answer

    assert change("POST", "/users", {"name": "carol", "password": "x"})["name"] == "carol"
    assert change("PATCH", "/users/carol", {"disabled": True})["name"] == "carol"
    assert change("DELETE", "/users/carol", None) == {}
    assert change("POST", "/tokens", {"name": "ci", "scope": "read"}, "alice")["token"] == "secret"
    assert change("DELETE", "/tokens/ci", None, "alice") == {}
    assert change("POST", "/projects", {"name": "new"}, "alice")["owner"] == "alice"
    assert change("PATCH", "/projects/new", {"quota": 5})["name"] == "new"
    assert change("PUT", "/projects/new/members/bob", {"role": "viewer"}, "alice") == {"user": "bob", "role": "viewer"}
    assert change("DELETE", "/projects/new/members/bob", None, "alice") == {}
    assert change("DELETE", "/projects/new", None, "alice") == {}
    assert change("POST", "/jobs/57/cancel", {"reason": "why not"}, "alice") == {"cancelled": 1}
    assert change("POST", "/jobs/57/retry", {}, "alice")["id"] == "57"
    assert change("PATCH", "/jobs/57", {"priority": 3}, "alice") == {}
    assert change("DELETE", "/jobs/57", None, "alice") == {}
    assert change("POST", "/workers/w1/drain", {"reason": "disk"})["name"] == "w1"
    assert change("POST", "/workers/w1/resume", None)["name"] == "w1"
    new = {"name": "hpc", "scheduler": "slurm", "settings": {"cores": 4, "environment": {"A": "b"}}}
    assert change("POST", "/pools/plan", new)["call"] == "sbatch"
    assert change("POST", "/pools", new)["settings"] == {"cores": 4, "environment": {"A": "b"}}
    assert change("PATCH", "/pools/hpc", {"settings": {"idle": 60}})["settings"] == {"idle": 60.0}
    assert change("POST", "/pools/hpc/pause", {"reason": "fan"})["note"] == "fan"
    assert change("POST", "/pools/hpc/resume", {})["state"] == "active"
    assert [one["native"] for one in change("POST", "/pools/hpc/forget", {})["left"]] == ["4711"]
    assert change("POST", "/pools/hpc/probe", {"node": "n1"})["done"] is False
    assert change("POST", "/allocations/7/cancel", {"reason": "wrong"})["words"] == "wrong"
    assert change("POST", "/nodes/n1/drain", {"reason": "fan"})["reason"] == "fan"
    assert change("POST", "/nodes/n1/resume", {})["state"] == "idle"
    assert change("DELETE", "/pools/hpc?cancel=true", None) == {}
    assert change("POST", "/bundles", {"name": "lab", "role": "worker"})["bundle"] == "a bundle"
    assert change("DELETE", "/bundles/lab", None) == {}
    assert change("PUT", "/settings/heartbeat_time", {"value": "60"})["value"] == "60"
    assert change("POST", "/server/reload", {}) == {}
    assert change("POST", "/server/stop", {}) == {}
    assert house.services.stopping


def test_the_page_of_a_list_is_what_the_views_say() -> None:
    assert Page.__struct_fields__ == ("items", "next")
