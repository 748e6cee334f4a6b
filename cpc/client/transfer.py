"""Files up and down: only chunks that the server lacks are sent, every byte that arrives is checked, nothing is half there."""

from __future__ import annotations

import hashlib
import http.client
import os
from collections.abc import Callable, Iterable
from pathlib import Path

import msgspec

from cpc.client.client import Client
from cpc.core import manifest
from cpc.core.digest import CHUNK, Content, of_file
from cpc.core.errors import BadInput, Conflict, Damaged, Unavailable
from cpc.core.views import FileView, UploadView

PART = 8 << 20
TRIES = 10

Progress = Callable[[int, int], None]  # bytes done, bytes in all


def _quiet(_done: int, _all: int) -> None:
    """Progress that nobody watches."""


def upload(client: Client, path: Path | str, project: str | None = None, progress: Progress = _quiet) -> Content:
    """Have a file's content on the server; its address, for `JobSpec.inputs`. Goes on where an earlier try stopped."""
    try:
        with open(path, "rb") as file:
            content = of_file(file)
            if content.size:
                _send(client, file, content, client._in(project), progress)
    except OSError as error:
        raise BadInput(f"cannot read {path}: {error.strerror}") from error
    return content


def _send(client: Client, file: object, content: Content, project: str, progress: Progress) -> None:
    body = {"digest": content.digest.hex(), "size": content.size, "chunks": [one.hex() for one in content.chunks]}
    state = client._change(UploadView, "POST", f"{project}/uploads", body)
    while not state.done:
        progress(state.received, content.size)
        start = state.received - state.received % CHUNK
        file.seek(start)  # type: ignore[attr-defined]
        data: bytes = file.read(PART)  # type: ignore[attr-defined]
        headers = {"Content-Type": "application/octet-stream"}
        answer = client.transport.request("PUT", f"/uploads/{state.id}", data, headers, offset=start)
        state = msgspec.json.decode(answer.read(), type=UploadView)
    progress(content.size, content.size)


def fetch(
    client: Client, job: str, directory: Path | str, patterns: Iterable[str] = (), *,
    attempt: int | None = None, force: bool = False, progress: Progress = _quiet,
) -> list[Path]:  # fmt: skip
    """A job's outputs into a directory; the paths written. Nothing outside it is touched, no other file replaced."""
    wanted = tuple(patterns)
    files = [
        file for file in client.outputs(job, attempt) if not wanted or manifest.wanted(_raw_path(file), wanted)
    ]  # fmt: skip
    total = sum(file.size for file in files)
    done = 0
    written: list[Path] = []
    root = Path(directory)
    root.mkdir(parents=True, exist_ok=True)
    for file in files:
        target = _target(root, _raw_path(file))
        if file.kind == "dir":
            target.mkdir(parents=True, exist_ok=True)
        elif file.kind == "link":
            _link(target, file.target, force)
        else:
            before = done
            _download(client, file, target, force, lambda got: progress(before + got, total))  # noqa: B023
            done += file.size
        written.append(target)
    progress(total, total)
    return written


def read(client: Client, job: str, path: str, attempt: int | None = None) -> bytes:
    """One output, whole, in memory."""
    files = [file for file in client.outputs(job, attempt) if file.path == path]
    if not files:
        raise BadInput(f"job {job} has no output {path!r}")
    data = client.transport.request("GET", _address(files[0])).read()
    _check(files[0], hashlib.sha256(data).hexdigest())
    return data


def _raw_path(file: FileView) -> bytes:
    import urllib.parse

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
            raise Conflict(f"{place} exists already", "use --force to replace it")
        place.unlink()
    place.symlink_to(target)


def _download(client: Client, file: FileView, target: Path, force: bool, progress: Callable[[int], None]) -> None:
    if target.is_symlink() or target.exists():
        if target.is_file() and not target.is_symlink() and _digest(target) == file.digest:
            progress(file.size)
            return
        if not force:
            raise Conflict(f"{target} exists with other content", "use --force to replace it, or -o DIRECTORY")
    temporary = target.with_name(f".{target.name}.part")
    whole = hashlib.sha256()
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "wb") as out:
            _copy(client, file, out.write, whole.update, progress)
        _check(file, whole.hexdigest())
        os.chmod(temporary, file.mode & 0o777)
        os.replace(temporary, target)
    except OSError as error:
        raise BadInput(f"cannot write {target}: {error.strerror}") from error
    finally:
        temporary.unlink(missing_ok=True)


def _copy(
    client: Client, file: FileView, write: Callable[[bytes], object], update: Callable[[bytes], None],
    progress: Callable[[int], None],
) -> None:  # fmt: skip
    """All bytes of a file, going on after a lost connection."""
    done = 0
    for left in reversed(range(TRIES)):
        if done == file.size:
            return
        try:
            headers = {"Range": f"bytes={done}-"} if done else {}
            answer = client.transport.request("GET", _address(file), None, headers)
            while piece := answer.read(1 << 20):
                write(piece)
                update(piece)
                done += len(piece)
                progress(done)
        except (OSError, http.client.HTTPException) as error:
            client.close()
            if not left:
                raise Unavailable(f"the transfer of {file.path} broke off: {error}") from error
    if done != file.size:
        raise Unavailable(f"the transfer of {file.path} broke off at {done} of {file.size} bytes")


def _check(file: FileView, digest: str) -> None:
    if digest != file.digest:
        raise Damaged(f"{file.path} did not arrive as the server has it", "fetch it again")


def _digest(path: Path) -> str:
    with open(path, "rb") as file:
        return of_file(file).digest.hex()
