"""Defects of what is durable: the writer, its transactions, answers, chunks and references."""

from tests.defects.defect import defect

_WRITER = "tests/unit/test_writer.py::"
_RECENT = "tests/unit/test_recent.py::"
_DISK = "tests/unit/test_store_disk.py::"

STORE = (
    # --- the writer ---
    defect(
        "units-on-disk-decided-again", "cpc.store.writer:Writer._failed", "decided, left = batch[: len(error.before.outcomes)],",
        "decided, left = [], batch or", promise="a unit that is on disk is not decided again after the connection broke",
        caught_by=_WRITER
        + "test_of_units_decided_one_by_one_each_is_on_disk_once_when_the_connection_breaks_between_them",
    ),
    defect(
        "acknowledge-before-commit", "cpc.store.writer:Writer._together", "self._database.commit()", "self._owed = True",
        also=((
            "cpc.store.writer:Writer._batch", "result = self._reconnect(doubtful) if",
            "if getattr(self, '_owed', False):\n"
            "            self._owed = False\n"
            "            self._database.commit()\n"
            "        result = self._reconnect(doubtful) if",
        ),),
        promise="when a call returns, its effect is on disk", caught_by="seeds 0-19",
        quick=True,
    ),
    defect(
        "reply-before-the-commit", "cpc.store.transaction:Tx.after", "self.effects.append(effect)", "effect()",
        promise="effects leave after the commit, never before",
        caught_by=_WRITER + "test_effects_run_after_the_commit_and_never_for_what_was_undone",
    ),
    defect(
        "memory-not-rolled-back", "cpc.queue.index:Index.end", "self.journal.note(self.load, run)", "pass",
        promise="what is undone in the database is undone in memory",
        caught_by="tests/unit/test_queue_index.py::test_a_rollback_leaves_memory_as_it_was",
    ),
    defect(
        "lost-commit-reply-taken-for-a-yes", "cpc.store.writer:Writer._reconnect", "and seq == self._seq + 1", "",
        promise="after a lost reply to COMMIT the database is asked", caught_by="seeds 0-59",
    ),
    defect(
        "writer-fence-not-checked", "cpc.store.writer:Writer._claim", "!= 1", "> 1",
        promise="one server writes to a database, or none",
        caught_by=_WRITER + "test_a_second_server_on_the_database_stops_the_first",
    ),
    defect(
        "event-number-gap", "cpc.store.transaction:Numbers.take_event",
        "self._journal.note(self._put_back_event, self.event - 1)", "pass",
        promise="the event log has no gap: who has read up to a number has all", caught_by="seeds 0-59",
    ),
    defect(
        "guilty-unit-takes-its-neighbours", "cpc.store.writer:Writer._one_by_one", "if len(units) == 1:", "if units:",
        promise="a refused unit fails alone", caught_by=_WRITER + "test_a_refusal_in_a_batch_leaves_the_others_alone",
    ),
    defect(
        "answer-kept-in-a-later-commit", "cpc.server.gate:Gate.write", "self._keep(tx, call, value, secret)",
        "self._store.write(lambda later: self._keep(later, call, value, secret))",
        promise="a call that was answered is never carried out twice", caught_by="seeds 0-59",
    ),
    defect(
        "key-not-kept", "cpc.server.gate:Gate._keep", "if not call.key:", "if call.key:",
        promise="a repeated call gets the same answer",
        caught_by="tests/simulation/test_stories.py::test_a_repeated_submission_is_one_submission",
    ),
    # --- files ---
    defect(
        "file-referenced-before-fsync", "cpc.store.chunks:ChunkFiles.write", "self.disk.sync(directory)", "pass",
        promise="a file on record is on disk, whatever happens to the power", caught_by="seeds 0-59",
    ),
    defect(
        "result-accepted-without-its-files", "cpc.server.settling:_refer", "bool(lacking)", "False",
        promise="an accepted result has all its files",
        caught_by="tests/unit/test_settling.py::test_a_result_whose_chunks_are_missing_is_sent_again",
    ),
    defect(
        "collector-takes-what-is-pinned", "cpc.store.chunks:_DELETE", ", ~_used", "",
        also=(("cpc.store.chunks:_DOOM", ", ~_used", ""),),
        promise="a chunk that somebody refers to is not removed",
        caught_by="tests/unit/test_files_collection.py::test_what_another_project_still_uses_stays",
    ),
    defect(
        "chunk-not-verified-on-upload", "cpc.store.chunks:check", "of_chunk(piece) != digest", "of_chunk(piece) == digest[:1]",
        promise="bytes that are not the chunk of their name are refused",
        caught_by="tests/unit/test_uploads.py::test_wrong_bytes_are_refused_by_the_name_of_the_chunk",
    ),
    defect(
        "recent-chunks-without-bound", "cpc.core.recent:Recent.keep", "while self.size > self._most:", "while self.size < 0:",
        promise="what has just come is in memory up to a bound",
        caught_by=_RECENT + "test_the_oldest_go_when_there_is_no_room",
    ),
    defect(
        "recent-chunks-for-ever", "cpc.store.chunkstore:ChunkStore.collect",
        "self._recent.expire(self._clock.monotonic())", "pass",
        promise="a server to which nothing comes gives that memory back",
        caught_by=_RECENT + "test_memory_is_given_back_when_nothing_comes",
    ),
    defect(
        "removed-chunk-kept-in-memory", "cpc.store.chunkstore:ChunkStore._remove", "self._recent.forget(gone)", "pass",
        promise="a chunk that was removed is nowhere", caught_by=_RECENT + "test_what_is_removed_is_not_kept",
    ),
    defect(
        "end-of-a-chunk-not-written", "cpc.store.disk:RealDisk.create", "done = self._write_direct(file, data) if",
        "done = max(self._write_direct(file, data), len(data) & -BLOCK) if",
        promise="a file holds what was given, however its file system is written", quick=True,
        caught_by=_DISK + "test_a_file_system_that_has_no_such_writes_gets_others",
    ),
    defect(
        "download-keeps-the-server", "cpc.server.http.download:Download._write", "await flow.let_others()", "pass",
        promise="a download from memory lets others have their turn",
        caught_by="tests/unit/test_http_downloads.py::test_a_reader_who_is_slow_slows_the_reading_and_one_who_stops_is_cut_off",
    ),
    defect(
        "hash-is-enough", "cpc.store.references:add_many", "if one.used}", "if one}",
        promise="knowing the hash of another project's file gives nothing",
        caught_by="tests/unit/test_chunks_references.py::test_knowing_a_hash_of_another_project_gives_nothing",
    ),
    defect(
        "quota-not-charged", "cpc.store.references:_write", "grow(tx, project, sum(", "grow(tx, project, 0 * sum(",
        promise="a project is charged for what it keeps", caught_by="seeds 0-59",
    ),
    defect(
        "quota-not-checked", "cpc.store.references:check_quota", "storage + more > quota", "storage > quota",
        promise="a project gets no more than its quota", caught_by="tests/unit/test_uploads.py::test_the_quota_stops_uploads",
    ),
    defect(
        "disk-fills-between-two-looks", "cpc.server.storage:Storage.took", "self.space.free - size", "self.space.free",
        promise="intake pauses before the disk is full",
        caught_by="tests/unit/test_storage.py::test_what_is_written_between_two_looks_counts",
    ),
    defect(
        "live-submission-purged", "cpc.store.history:purge", '{"id": array}) is None', '{"id": array}) == ()',
        promise="nothing that is not finished is forgotten",
        caught_by="tests/unit/test_retention.py::test_a_submission_with_live_jobs_cannot_be_purged",
    ),
    defect(
        "restore-begins-no-new-life", "cpc.store.copying:new_life", "+ 1", "+ 0",
        promise="a restored server has a life of its own",
        caught_by="tests/integration/test_server_backup.py::test_a_backup_of_a_running_server_is_a_server_elsewhere",
    ),
    defect(
        "names-of-directories-not-flushed", "cpc.server.workspace:_flush", "_sync(above)", "pass",
        promise="a power loss leaves what functions keep, with its names",
        caught_by="tests/unit/test_workspace.py",
    ),
    defect(
        "results-unpacked-for-ever", "cpc.server.workspace:_tidy", 'root.glob(f"*/*/{_JOB}-*")', 'root.glob("*/*/nothing")',
        promise="what a power loss may have emptied is unpacked again",
        caught_by="tests/unit/test_workspace.py",
    ),
    defect(
        "oldest-of-one-priority-only", "cpc.store.figures:oldest_waiting", "rows[-1][0] if len(rows) == FIRST else None", "None",
        promise="the oldest job that waits is found, whatever its priority",
        caught_by="tests/unit/test_figures.py::test_the_oldest_job_that_waits_is_found_behind_others_of_its_class_and_priority",
    ),
    defect(
        "damaged-file-said-to-be-here", "cpc.store.uploads:announce", "and chunks.are_sound(tx, content.chunks)", "",
        promise="a file that is damaged is taken when it is sent again",
        caught_by="tests/unit/test_uploads.py::test_of_a_damaged_file_only_the_damaged_pieces_are_sent_again",
    ),
    defect(
        "a-look-is-taken-for-the-server", "cpc.server.config:Lock.taken", "fcntl.LOCK_SH", "fcntl.LOCK_EX",
        promise="who only looks whether a server runs is not taken for it",
        caught_by="tests/unit/test_server_locks.py::test_who_only_looks_is_not_taken_for_the_server",
    ),
    defect(
        "log-with-a-gap", "cpc.server.commands.log:show", "lines, file = end_of(path, count)",
        "lines, file = end_of(path, count)[0], path.open('rb')\n    file.seek(0, os.SEEK_END)",
        promise="whoever follows the log gets each line once",
        caught_by="tests/unit/test_server_ground.py::test_whoever_follows_a_log_gets_each_line_once",
    ),
)  # fmt: skip
