"""The local files of controllers: what they may read, where they may write, and what of that the server keeps.

    projects/PROJECT/files/DIGEST/NAME      files that are values, read-only; a cache
    projects/PROJECT/INSTANCE/run-STEP.RUN         the output directory of one run
    projects/PROJECT/INSTANCE/persistent-STEP.RUN  the persistent directory as one run has left it
    projects/PROJECT/INSTANCE/job-JOB              what a finished job has left

All below the run directory. Nothing here is the only copy of anything but persistent directories: those are on disk, with their
names, before the commit that names them. Everything else is gone when the server starts: a power loss may have left any of it
with its name and without its bytes.
"""

from __future__ import annotations

import contextlib
import os
import shutil
import stat
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, BinaryIO, Protocol, TypeVar

import msgspec

from cpc.core import ids, plain
from cpc.core.digest import CHUNK, Content, of_chunk, of_chunks, of_file
from cpc.core.errors import BadInput, Unavailable
from cpc.core.manifest import Manifest
from cpc.core.offload import Offload
from cpc.core.plain import FileRef
from cpc.core.spec import Input
from cpc.dataflow.answer import PATH, Answer, Job, LocalInput
from cpc.server import keeping

T = TypeVar("T")

_RUN, _PERSISTENT, _JOB = "run", "persistent", "job"


class Reader(Protocol):
    """The bytes of one content."""

    async def read(self, offset: int, length: int) -> bytes: ...


class Files(Protocol):
    """The part of the file service that is needed."""

    def reader(self, content: Content) -> Reader: ...
    def missing(self, project: int, digests: Iterable[bytes]) -> Awaitable[tuple[bytes, ...]]: ...
    def put_chunk(self, project: int, digest: bytes, data: bytes) -> Awaitable[None]: ...


#: The directory of all this, below the run directory.
PROJECTS = "projects"


def place_of(directory: tuple[int, int, str]) -> str:
    """Where, below the run directory, the persistent directory (project, instance, name) is."""
    project, instance, name = directory
    return f"{PROJECTS}/{ids.show(project)}/{ids.show(instance)}/{name}"


@dataclass(frozen=True, slots=True)
class Directories:
    """Where one run may write; "" where its function has no such directory. `persistent_name` is what the commit names.

    `lost`: the former persistent directory is not there, so this one is empty.
    """

    output: str = ""
    persistent: str = ""
    persistent_name: str = ""
    lost: bool = False


class Workspace:
    """Local files of all projects. `offload` runs what blocks in a thread."""

    def __init__(self, root: Path, files: Files, offload: Offload) -> None:
        self.root = root / PROJECTS
        self._files = files
        self._offload = offload
        self._written = 0

    async def start(self) -> None:
        """The directory is there: controllers in a sandbox see those that are there when they begin. What a kill left
        half made, and what can be made again, is gone."""
        await self._in_words(partial(self.root.mkdir, parents=True, exist_ok=True))
        await self._in_words(partial(_sync, self.root.parent))
        await self._in_words(partial(_tidy, self.root))

    # --- what a run may read ---

    async def place(self, project: int, refs: Iterable[FileRef]) -> dict[str, str]:
        """Local paths of files, by digest in hex. Damaged when one cannot be read."""
        found: dict[str, str] = {}
        for ref in refs:
            digest = ref.content.digest.hex()
            if digest not in found:
                found[digest] = str(await self._placed(project, ref.name, ref.content))
        return found

    async def _placed(self, project: int, name: str, content: Content) -> Path:
        directory = self._project(project) / "files" / content.digest.hex()
        path = directory / _base(name)
        if not await self._in_words(partial(_touch, path)):
            await self._write(path, content, 0o444)
        return path

    async def _write(self, path: Path, content: Content, mode: int) -> None:
        """The file under its name once it is whole."""
        self._written += 1
        temporary = path.with_name(f".{self._written}.part")
        await self._in_words(partial(path.parent.mkdir, parents=True, exist_ok=True))
        reader = self._files.reader(content)
        out = await self._in_words(partial(_create, temporary))
        try:
            for index in range(len(content.chunks)):
                data = await reader.read(index * CHUNK, content.chunk_size(index))
                await self._in_words(partial(out.write, data))
        finally:
            await self._in_words(out.close)
        await self._in_words(partial(_name, temporary, path, mode))

    async def outputs(self, project: int, instance: int, job: str, manifest: Manifest) -> str:
        """The directory with everything that a finished job has left; "" when it left nothing."""
        if not manifest.entries:
            return ""
        directory = self._instance(project, instance) / f"{_JOB}-{job}"
        whole = directory.with_name(directory.name + ".whole")
        if await self._in_words(whole.exists):
            return str(directory)
        for entry in manifest.entries:
            path = directory / os.fsdecode(entry.path)
            if entry.content is not None:
                await self._write(path, entry.content, entry.mode & 0o777 | 0o600)
            elif entry.kind == "dir":
                await self._in_words(partial(path.mkdir, parents=True, exist_ok=True))
            else:
                await self._in_words(partial(_link, path, os.fsdecode(entry.target)))
        await self._in_words(whole.touch)
        return str(directory)

    # --- where a run may write ---

    async def prepare(
        self, project: int, instance: int, number: int, run: int, *, output: bool, persistent: bool, former: str
    ) -> Directories:
        """Fresh directories for run `run` of step `number`. `former` names the persistent directory to go on with, or is ""."""
        home = self._instance(project, instance)
        name = f"{_PERSISTENT}-{number}.{run}" if persistent else ""

        def make() -> Directories:
            home.mkdir(parents=True, exist_ok=True)
            made = home / f"{_RUN}-{number}.{run}"
            kept = home / name
            if output:
                _fresh(made, None)
            if persistent:
                _fresh(kept, home / former if former else None)
            gone = persistent and bool(former) and not (home / former).is_dir()
            return Directories(str(made) if output else "", str(kept) if persistent else "", name, gone)

        return await self._in_words(make)

    # --- what the server keeps of it ---

    async def ingest(self, project: int, answer: Answer, directories: Directories) -> Answer:
        """The answer with every file in it stored: `$path` becomes `$file`, local inputs of jobs become inputs. When it
        returns, all is on disk. BadInput for what is not a file below the run's directories.
        """
        places = [one for one in (directories.output, directories.persistent) if one]
        outputs = [(item, await self._value(project, raw, places)) for item, raw in answer.outputs]
        sub_outputs = [(item, await self._value(project, raw, places)) for item, raw in answer.sub_outputs]
        values = [(item, await self._value(project, raw, places)) for item, raw in answer.values]
        jobs = [await self._job(project, job, places) for job in answer.jobs]
        if directories.persistent:
            persistent = Path(directories.persistent)
            await self._in_words(partial(_flush, persistent, self.root))
            left = await self._in_words(partial(keeping.left_out, persistent))
            if left:
                said = f"backups and saved projects do not have all of its directory: {keeping.words(left)}\n"
                answer = msgspec.structs.replace(answer, log=answer.log + said)
        return msgspec.structs.replace(
            answer, outputs=tuple(outputs), sub_outputs=tuple(sub_outputs), values=tuple(values), jobs=tuple(jobs)
        )

    async def _value(self, project: int, raw: Any, places: list[str]) -> Any:
        if isinstance(raw, dict):
            if PATH in raw:
                path = str(raw[PATH])
                content = await self._stored(project, path, places)
                return plain.wire(FileRef(_base(str(raw.get("name") or path)), content))
            return {name: await self._value(project, one, places) for name, one in raw.items()}
        if isinstance(raw, list | tuple):
            return [await self._value(project, one, places) for one in raw]
        return raw

    async def _job(self, project: int, job: Job, places: list[str]) -> Job:
        inputs = [await self._input(project, one, places) for one in job.files]
        spec = msgspec.structs.replace(job.spec, inputs=(*job.spec.inputs, *inputs))
        return msgspec.structs.replace(job, spec=spec, files=())

    async def _input(self, project: int, given: LocalInput, places: list[str]) -> Input:
        if given.local:
            content = await self._stored(project, given.local, places)
        else:
            content = await self._bytes(project, given.data)
        return Input(given.path, content, given.executable)

    async def _bytes(self, project: int, data: bytes) -> Content:
        pieces = [data[start : start + CHUNK] for start in range(0, len(data), CHUNK)]
        content = await self._in_words(partial(of_chunks, pieces))
        for digest in await self._files.missing(project, content.chunks):
            await self._files.put_chunk(project, digest, pieces[content.chunks.index(digest)])
        return content

    async def _stored(self, project: int, path: str, places: list[str]) -> Content:
        file = await self._in_words(partial(_open, path, [*places, str(self._project(project))]))
        try:
            content = await self._in_words(partial(of_file, file))
            for digest in await self._files.missing(project, content.chunks):
                index = content.chunks.index(digest)
                data = await self._in_words(partial(os.pread, file.fileno(), CHUNK, index * CHUNK))
                if of_chunk(data) != digest:
                    raise BadInput(f"{path} changed while it was being stored", "write files before they are given out")
                await self._files.put_chunk(project, digest, data)
        finally:
            file.close()
        return content

    # --- saving and loading ---

    @contextlib.asynccontextmanager
    async def scratch(self, project: int) -> AsyncIterator[Path]:
        """A directory for a while."""
        self._written += 1
        directory = self._project(project) / f".scratch-{self._written}"
        await self._in_words(partial(_fresh, directory, None))
        try:
            yield directory
        finally:
            await self._offload(partial(shutil.rmtree, directory, ignore_errors=True))

    async def hold(self, project: int, instance: int, persistent: str, target: Path) -> bool:
        """Have the files of a persistent directory at `target` too, whatever becomes of it; False when it has gone already."""

        def link() -> bool:
            source = self._instance(project, instance) / persistent
            try:
                shutil.copytree(source, target, symlinks=True, copy_function=os.link)
            except (FileNotFoundError, shutil.Error):
                return False
            return True

        return await self._in_words(link)

    async def adopt(self, project: int, instance: int, persistent: str, source: Path) -> None:
        """What is at `source` is an instance's persistent directory from now on; on disk when this returns."""

        def move() -> None:
            target = self._instance(project, instance) / persistent
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(target, ignore_errors=True)
            if source.is_dir():
                os.replace(source, target)
            else:
                target.mkdir()
            _flush(target, self.root)

        await self._in_words(move)

    async def store(self, project: int, path: Path) -> Content:
        """A file below `scratch` as the project's content."""
        return await self._stored(project, str(path), [])

    # --- cleaning ---

    async def keep(self, project: int, instance: int, persistent: str, jobs: Iterable[str] = ()) -> None:
        """After a commit: of the instance's directories only this persistent one, and those of these jobs, are needed."""
        home = self._instance(project, instance)
        kept = {persistent, *(f"{_JOB}-{job}" for job in jobs), *(f"{_JOB}-{job}.whole" for job in jobs)}
        await self._in_words(lambda: _clean(home, kept))

    async def forget(self, project: int, instance: int) -> None:
        """The instance is gone."""
        await self._offload(lambda: shutil.rmtree(self._instance(project, instance), ignore_errors=True))

    async def forget_project(self, project: int) -> None:
        """The project is gone."""
        await self._offload(lambda: shutil.rmtree(self._project(project), ignore_errors=True))

    async def tidy(self, before: float) -> None:
        """Files that no run has asked for since `before` (seconds since 1970) can be made again when one does."""
        await self._in_words(partial(_tidy, self.root, before))

    def _project(self, project: int) -> Path:
        return self.root / ids.show(project)

    def _instance(self, project: int, instance: int) -> Path:
        return self._project(project) / ids.show(instance)

    async def _in_words(self, call: Callable[[], T]) -> T:
        try:
            found: T = await self._offload(call)
            return found
        except OSError as error:
            raise Unavailable(f"{error.filename or self.root}: {error.strerror}", "see `cpc-server doctor`") from error


def _base(name: str) -> str:
    """A file name that stays in its directory."""
    base = name.replace("\0", "").rpartition("/")[2][-200:]
    return base if base not in ("", ".", "..") else "file"


def _create(path: Path) -> BinaryIO:
    return path.open("wb")


def _name(temporary: Path, path: Path, mode: int) -> None:
    os.chmod(temporary, mode)
    os.replace(temporary, path)


def _link(path: Path, target: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    with contextlib.suppress(FileExistsError):
        path.symlink_to(target)


def _fresh(directory: Path, former: Path | None) -> None:
    """An empty directory, or a copy of the former one; what a run that was cut short has left there goes."""
    shutil.rmtree(directory, ignore_errors=True)
    if former is not None and former.is_dir():
        shutil.copytree(former, directory, symlinks=True)
    else:
        directory.mkdir(parents=True)


def _touch(path: Path) -> bool:
    """Whether the file is there; it is asked for now."""
    try:
        os.utime(path)
    except FileNotFoundError:
        return False
    return True


def _tidy(root: Path, before: float | None = None) -> None:
    """Remove cached files (those last asked for before a time, or all), and at a start what was half made."""
    for cached in root.glob("*/files/*"):
        newest = max((file.stat().st_mtime for file in cached.iterdir()), default=0.0)
        if before is None or newest < before:
            shutil.rmtree(cached, ignore_errors=True)
    if before is None:
        for left in (*root.glob("*/.scratch-*"), *root.glob(f"*/*/{_JOB}-*"), *root.glob(f"*/*/{_RUN}-*")):
            _remove(left)


def _open(path: str, places: list[str]) -> BinaryIO:
    """A regular file below one of the places, open; no link leads out of them."""
    real = os.path.realpath(path)
    if not any(os.path.commonpath([os.path.realpath(place), real]) == os.path.realpath(place) for place in places):
        raise BadInput(f"{path} is not in one of the run's directories", "write files into the output directory")
    try:
        fd = os.open(real, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK)
    except FileNotFoundError:
        raise BadInput(f"there is no file {path}") from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise BadInput(f"{path} is not a file")
    return os.fdopen(fd, "rb")


def _tree(directory: Path) -> Iterator[Path]:
    for where, directories, files in os.walk(directory):
        yield from (Path(where, name) for name in files)
        yield from (Path(where, name) for name in directories)
    yield directory


def _flush(directory: Path, root: Path) -> None:
    """Everything in it is on disk, and so are the names by which it is reached from `root`."""
    for path in _tree(directory):
        if not path.is_symlink() and (path.is_file() or path.is_dir()):
            _sync(path)
    for above in directory.parents:
        _sync(above)
        if above == root:
            break


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def _clean(home: Path, kept: set[str]) -> None:
    with contextlib.suppress(FileNotFoundError):
        for path in list(home.iterdir()):
            if path.name not in kept:
                _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
