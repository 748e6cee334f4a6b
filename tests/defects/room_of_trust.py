"""Defects of trust: who may do what, who is let in, and what is believed."""

from tests.defects.defect import defect

_TRUST = "tests/unit/test_wire_trust.py::"
_ACCOUNTS = "tests/unit/test_accounts.py::"

TRUST = (
    defect(
        "rights-of-whoever-asked-first", "cpc.server.gate:Gate.check", "known != who or known is None", "known is None",
        promise="a role is checked for the one that it is asked for",
        caught_by="tests/unit/test_gate.py::test_a_unit_that_checks_for_another_gets_no_more_than_the_other_may",
    ),
    defect(
        "revoked-session-may-go-on", "cpc.server.bundles:Bundles._revoke", "put_out(tx, row.id)", "pass",
        promise="a revoked worker is out at once, open sessions too",
        caught_by="tests/acceptance/test_trust.py::test_a_revoked_bundle_puts_its_worker_out_at_once_and_nobody_else",
    ),
    defect(
        "revoked-key-let-in", "cpc.wire.tls:_check", "if why is not None:", "if why is None and now < 0:",
        promise="a revoked identity is refused",
        caught_by=_TRUST + "test_a_revoked_identity_is_told_why_and_others_come_in",
    ),
    defect(
        "authority-vouches-for-others", "cpc.wire.tls:_check", "root is None or", "root is None and",
        promise="an authority vouches for its own server id and nothing else",
        caught_by=_TRUST + "test_an_authority_vouches_for_its_own_id_and_nothing_else",
    ),
    defect(
        "expired-certificate-let-in", "cpc.wire.tls:_check", "not_after + CLOCK_SLACK < now", "not_after + CLOCK_SLACK < 0",
        promise="a certificate is good until its date",
        caught_by=_TRUST + "test_dates_are_checked_by_the_clock_that_was_handed_in",
    ),
    defect(
        "role-table-not-asked", "cpc.server.jobs:Jobs.cancel", "call.who, Act.JOB_CANCEL, id)", "call.who, Act.JOB_SHOW, id)",
        promise="every call asks the table of roles for its own act",
        caught_by="tests/acceptance/test_people.py::test_owner_member_viewer_and_stranger_may_do_what_the_table_says",
    ),
    defect(
        "ended-session-goes-on", "cpc.server.gate:Gate._current", "found.expires <= tx.now", "found.expires <= 0",
        promise="a login that has ended opens nothing",
        caught_by="tests/unit/test_gate.py::test_a_session_whose_time_is_over_is_out_even_with_an_old_principal",
    ),
    defect(
        "password-rate-limit-off", "cpc.server.logins:Tries.begin", "len(times) >= most:", "len(times) >= most * 1000:",
        promise="passwords cannot be tried without end",
        caught_by=_ACCOUNTS + "test_tries_are_limited_and_the_limit_ends",
    ),
    defect(
        "path-traversal-accepted", "cpc.core.manifest:safe_path", 'b".." in parts', "False",
        promise="no path of a result or checkpoint leads out of its directory",
        caught_by="tests/unit/test_agent_files.py::test_a_checkpoint_that_leads_out_of_the_directory_is_refused",
    ),
    defect(
        "link-leads-out", "cpc.core.manifest:_check_link", "if depth < 0:", "if depth < -1000:",
        promise="no link of a result leads out of its directory",
        caught_by="tests/unit/test_client_transfer.py::test_a_link_that_leads_out_is_not_made",
    ),
    defect(
        "log-tail-of-an-old-attempt", "cpc.server.views:detail", "for one in reversed(about.history)",
        "for one in about.history",
        promise="the last lines shown are those of the last attempt",
        caught_by="tests/acceptance/test_limits.py::test_a_failing_job_is_tried_as_often_as_it_was_told",
    ),
    defect(
        "fetched-bytes-not-checked", "cpc.client.transfer:_check", "digest != file.digest", "not digest",
        promise="what is fetched is what the job wrote",
        caught_by="tests/unit/test_client_transfer.py::test_bytes_that_are_not_the_servers_are_never_kept",
    ),
    defect(
        "lost-reply-asked-under-a-new-key", "cpc.client.transport:Transport._once", '{"Accept": "application/json", **headers}',
        '{"Accept": "application/json", **headers, **({"Idempotency-Key": os.urandom(16).hex()} if method != "GET" else {})}',
        promise="a call whose reply was lost is not carried out twice",
        caught_by="tests/unit/test_client_transport.py::test_a_lost_reply_is_asked_for_again_with_the_same_key",
    ),
    defect(
        "watcher-loses-an-event", "cpc.server.events:Events._newer", "row.number <= position", "row.number <= position + 1",
        promise="who resumes a watch by number loses and repeats nothing",
        caught_by="tests/unit/test_events.py::test_a_stream_gives_what_was_and_then_what_comes",
    ),
    defect(
        "unused-bits-do-not-count", "cpc.wire.identity:_signed", "- 1] == 0", "- 1] >= 0",
        promise="every bit of a certificate counts",
        caught_by="tests/unit/test_wire_identity.py::test_every_bit_of_a_certificate_counts",
    ),
    defect(
        "links-lead-out-of-archives", "cpc.server.keeping:make", "if not stays(path, target)", "if False",
        promise="no link of a saved project or backup leads out",
        caught_by="tests/unit/test_archive.py::test_links_that_no_saved_project_holds_are_refused",
    ),
    defect(
        "flood-taken-for-a-crowd", "cpc.wire.pace:Pace._counted", "each.good > now - PROMPT", "each.count",
        promise="who floods the door with handshakes keeps nobody waiting outside",
        caught_by="tests/unit/test_wire_pace.py::test_machines_get_in_while_one_address_floods_the_door_with_handshakes",
    ),
)  # fmt: skip
