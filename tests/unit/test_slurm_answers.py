"""What slurmrestd and later versions of Slurm answer, as facts."""

from __future__ import annotations

from cpc.api import Refused, SeenOutcome, SeenState, Unavailable
from cpc.plugins.schedulers import slurm_json, slurm_words


def test_numbers_and_states_of_later_versions_are_read() -> None:
    assert [slurm_json.number(value) for value in (5, {"set": True, "infinite": False, "number": 7}, None, True)] == [
        5,
        7,
        -1,
        -1,
    ]
    assert slurm_json.number({"set": True, "infinite": True, "number": 7}) == -1
    told = {
        "jobs": [{
            "job_id": {"set": True, "number": 9}, "name": "copernicus.a-1", "comment": "", "user_name": "alice",
            "job_state": ["RUNNING", "COMPLETING"], "state_reason": "None", "nodes": "n1",
            "end_time": {"set": True, "infinite": False, "number": 1000}, "array_job_id": {"set": True, "number": 9},
            "array_task_id": {"set": True, "number": 0},
        }]
    }  # fmt: skip
    (seen,) = slurm_json.seen_in_jobs(told, "alice", 900)
    assert (seen.native, seen.state, seen.left, seen.outcome) == ("9_0", SeenState.RUNNING, 100, None)
    assert list(slurm_json.seen_in_jobs(told, "bob", 900)) == []
    waiting = {**told["jobs"][0], "job_state": ["PENDING"], "array_task_id": None, "array_task_string": "0,2-3%1"}
    assert [one.native for one in slurm_json.seen_in_jobs({"jobs": [waiting]}, "alice", 0)] == ["9_0", "9_2", "9_3"]


def test_a_success_that_accounting_invents_is_not_told() -> None:
    record = {
        "jobs": [{
            "job_id": 1, "name": "copernicus.a-1", "comment": {"job": None}, "state": {"current": "FAILED", "reason": "None"},
            "exit_code": {"status": "SUCCESS", "return_code": 0}, "time": {"start": 1, "end": 2, "submission": 1},
        }]
    }  # fmt: skip
    (seen,) = slurm_json.seen_in_records(record, "alice")
    assert (seen.outcome, seen.exit) == (SeenOutcome.FAILED, -1)


def test_errors_of_slurmrestd_are_the_right_kind() -> None:
    assert isinstance(slurm_words.failure("Invalid partition name specified", "x", 500), Refused)
    assert isinstance(
        slurm_words.failure("Unable to contact slurm controller (connect failure)", "x", 500), Unavailable
    )
    assert isinstance(slurm_words.failure("", "x", 503), Unavailable)
