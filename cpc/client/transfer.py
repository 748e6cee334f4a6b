"""Files up and down: only chunks that the server lacks are sent, every byte that arrives is checked, nothing is half there."""

from __future__ import annotations

import contextlib
import hashlib
import os
import stat
import urllib.parse
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import BinaryIO

import msgspec

from cpc.client.client import Client
from cpc.core import manifest
from cpc.core.digest import CHUNK, Content, of_file
from cpc.core.errors import BadInput, Conflict, Damaged, Unavailable
from cpc.core.views import FileView, UploadView

PART = 8 << 20
PIECE = 1 << 20
TRIES = 10

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def _quiet(_done: int, _all: int) -> None:
    """Progress that nobody watches."""


# --- up ---


def address(path: Path | str) -> Content:
    """A local file's address; reads all of it. BadInput for what is not a readable file."""
    try:
        with _open(path) as file:
            return of_file(file)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error


def upload(client: Client, path: Path | str, project: str | None = None, progress: Progress = _quiet) -> Content:
    """Have a file's content on the server; its address, for `JobSpec.inputs`. Goes on where an earlier try stopped."""
    content = address(path)
    send(client, path, content, project, progress)
    return content


def send(
    client: Client, path: Path | str, content: Content, project: str | None = None, progress: Progress = _quiet
) -> None:
    """Send a file whose address is known already."""
    if not content.size:
        return
    body = {"digest": content.digest.hex(), "size": content.size, "chunks": [one.hex() for one in content.chunks]}
    state = client.announce(body, project)
    if not state.done:
        try:
            with _open(path) as file:
                _send(client, file, content, state, progress)
        except OSError as error:
            raise BadInput(f"cannot read {path}: {error.strerror}") from error
    progress(content.size, content.size)


def _send(client: Client, file: BinaryIO, content: Content, state: UploadView, progress: Progress) -> None:
    """Part after part, from where the server has it. A part that is sent twice is the same part: it has an offset."""
    stuck = 0
    while not state.done:
        progress(state.received, content.size)
        start = state.received - state.received % CHUNK
        file.seek(start)
        data = file.read(PART)
        headers = {"Content-Type": "application/octet-stream"}
        answer = client.transport.whole("PUT", f"/uploads/{state.id}", data, headers, offset=start)
        before, state = state, msgspec.json.decode(answer, type=UploadView)
        stuck = 0 if state.done or state.received > before.received else stuck + 1
        if stuck == TRIES or not data:
            raise BadInput(f"{file.name} has changed while it was sent", "try again when nobody writes to it")


def _open(path: Path | str) -> BinaryIO:
    """A regular file; a pipe or device would never end, or be gone when it is read again."""
    handle = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    file = os.fdopen(handle, "rb")
    kind = os.fstat(handle).st_mode
    if not stat.S_ISREG(kind):
        file.close()
        raise BadInput(f"cannot read {path}: it is {'a directory' if stat.S_ISDIR(kind) else 'not a file'}")
    return file


# --- down ---


def fetch(
    client: Client, job: str, directory: Path | str, patterns: Iterable[str] = (), *,
    attempt: int | None = None, force: bool = False, lenient: bool = False, progress: Progress = _quiet,
) -> list[Path]:  # fmt: skip
    """A job's outputs into a directory; the paths written. Nothing outside it is touched, no other file replaced.

    A pattern that matches nothing is BadInput, unless `lenient`.
    """
    files = matching(client, job, patterns, attempt, lenient=lenient)
    total = sum(file.size for file in files)
    done = 0
    written: list[Path] = []
    root = Path(directory)
    _check_paths(files)
    for file in files:
        try:
            root.mkdir(parents=True, exist_ok=True)
            target = _target(root, raw_path(file))
            if file.kind == "dir":
                target.mkdir(exist_ok=True)
            elif file.kind == "link":
                _link(target, file.target, force)
            else:
                download(client, file, target, force, _after(done, total, progress))
        except OSError as error:
            place = os.fsdecode(error.filename) if error.filename else root
            raise BadInput(f"cannot write {place}: {error.strerror}") from error
        done += file.size
        written.append(target)
    progress(total, total)
    return written


def _after(done: int, total: int, progress: Progress) -> Callable[[int], None]:
    """Tells of one file as a part of all: so much was done before it."""
    return lambda got: progress(done + got, total)


def _check_paths(files: list[FileView]) -> None:
    """BadInput, before anything is written, when a path or a link leads out of the directory."""
    for file in files:
        path = raw_path(file)
        if file.kind == "link":
            manifest.check(manifest.Manifest((manifest.Entry(path, "link", target=os.fsencode(file.target)),)))


def matching(
    client: Client, job: str, patterns: Iterable[str] = (), attempt: int | None = None, *, lenient: bool = False
) -> list[FileView]:
    """The outputs whose path is one of the patterns; all without any."""
    wanted = tuple(patterns)
    files = client.outputs(job, attempt)
    if not wanted:
        return files
    for pattern in wanted:
        if not lenient and not any(manifest.wanted(raw_path(file), (pattern,)) for file in files):
            raise BadInput(f"job {job} has no output that matches {pattern!r}", f"see `cpcc fetch --list {job}`")
    return [file for file in files if manifest.wanted(raw_path(file), wanted)]


def read(client: Client, job: str, path: str, attempt: int | None = None) -> bytes:
    """One output, whole, in memory."""
    files = [file for file in client.outputs(job, attempt) if file.path == path]
    if not files:
        raise BadInput(f"job {job} has no output {path!r}", f"see `cpcc fetch --list {job}`")
    data = client.transport.whole("GET", _address(files[0]))
    _check(files[0], hashlib.sha256(data).hexdigest())
    return data


def raw_path(file: FileView) -> bytes:
    """The path as bytes, checked: it cannot lead out of the directory that it is unpacked in."""
    quoted = file.url.partition("?")[0].partition("/outputs/")[2]
    return manifest.safe_path(urllib.parse.unquote_to_bytes(quoted))


def _address(file: FileView) -> str:
    return file.url.removeprefix("/api/v1")


def _target(root: Path, path: bytes) -> Path:
    """Where a path goes: below `root`, and not through a link that lies there already."""
    place = root
    for part in path.split(b"/"):
        if place != root and place.is_symlink():
            raise Conflict(f"{place} is a link: nothing is written through it", "fetch into an empty directory")
        place = place / os.fsdecode(part)
    place.parent.mkdir(parents=True, exist_ok=True)
    return place


def _link(place: Path, target: str, force: bool) -> None:
    if place.is_symlink() and os.readlink(place) == target:
        return
    if place.is_symlink() or place.exists():
        if not force:
            raise Conflict(f"{place} exists already", "use --force to replace it, or -o DIRECTORY")
        place.unlink()
    place.symlink_to(target)


def download(client: Client, file: FileView, target: Path, force: bool, progress: Callable[[int], None]) -> None:
    """One file to `target`, whole and checked. Conflict when something else is there, unless `force`."""
    if target.is_symlink() or target.exists():
        if target.is_file() and not target.is_symlink() and _digest(target) == file.digest:
            progress(file.size)
            return
        if target.is_dir() and not target.is_symlink():
            raise Conflict(f"{target} is a directory here, and a file in the results", "choose another with -o")
        if not force:
            raise Conflict(f"{target} exists with other content", "use --force to replace it, or -o DIRECTORY")
    temporary = target.with_name(f".{target.name[:200]}.{os.getpid()}.part")
    try:
        descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            copy(client, file, out, progress)
            os.fchmod(out.fileno(), file.mode & 0o755)
        os.replace(temporary, target)
    finally:
        with contextlib.suppress(FileNotFoundError):
            temporary.unlink()


def copy(client: Client, file: FileView, out: BinaryIO, progress: Callable[[int], None]) -> None:
    """All bytes of a file into one that can be read back, going on after a lost connection; checked when all are here."""
    done = 0
    whole = hashlib.sha256()
    problem: Unavailable | None = None
    for _ in range(TRIES):
        if done == file.size:
            break
        try:
            headers = {"Range": f"bytes={done}-", "If-Range": f'"{file.digest}"'} if done else {}
            answer = client.transport.request("GET", _address(file), None, headers)
            if done and answer.status != 206:  # all of it again
                out.seek(0)
                out.truncate()
                done, whole = 0, hashlib.sha256()
            while done < file.size and (piece := answer.read(min(PIECE, file.size - done))):
                out.write(piece)
                whole.update(piece)
                done += len(piece)
                progress(done)
            if done < file.size:
                client.close()
        except Unavailable as error:
            problem = error
            client.close()
    if done < file.size:
        raise problem or Unavailable(
            f"the transfer of {file.path} broke off at {done} of {file.size} bytes", "fetch it again"
        )
    _check(file, whole.hexdigest())


def _check(file: FileView, digest: str) -> None:
    if digest != file.digest:
        raise Damaged(f"{file.path} did not arrive as the server has it", "fetch it again")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return of_file(file).digest.hex()
