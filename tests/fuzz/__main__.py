"""Coverage-guided fuzzing without end: `python -m tests.fuzz --seconds 600`, or one target: `python -m tests.fuzz frame`.

Each target gets its share of the time in a process of its own, and goes on from its corpus; what it finds on the way is kept in
a scratch directory. The bytes that break something are printed with the command that shows it again.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
from pathlib import Path

from tests.fuzz.examples import corpus
from tests.fuzz.targets import TARGETS

MEMORY = 1024  # MiB
ONE_INPUT = 20  # seconds


def main() -> int:
    """0 when nothing broke."""
    parser = argparse.ArgumentParser(prog="fuzz", description=__doc__)
    parser.add_argument("target", nargs="*", choices=[*TARGETS, []], help="which (default: all)")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long, shared by the targets (default: 60)")
    parser.add_argument("--seed", type=int, default=0, help="of the first changes (default: by the time of day)")
    parser.add_argument("--show", type=Path, help="run a target on the bytes in this file")
    parser.add_argument("--within", action="store_true", help=argparse.SUPPRESS)
    chosen, rest = parser.parse_known_args()
    names = chosen.target or list(TARGETS)
    if chosen.show:
        for name in names:
            TARGETS[name](chosen.show.read_bytes())
        print("nothing broke")
        return 0
    if chosen.within:
        return _within(names[0], rest)
    broken = [name for name in names if not _guided(name, chosen.seconds / len(names), chosen.seed)]
    print(f"{len(names)} targets; broken: {', '.join(broken) or 'none'}")
    return 1 if broken else 0


def _guided(name: str, seconds: float, seed: int) -> bool:
    """Whether a target stands so many seconds."""
    with tempfile.TemporaryDirectory(prefix="cpc-fuzz-") as scratch:
        found = Path(scratch) / "found"
        found.mkdir()
        begin = Path(scratch) / "begin"
        begin.mkdir()
        for number, data in enumerate(corpus(name)):
            (begin / str(number)).write_bytes(data)
        command = [
            sys.executable, "-m", "tests.fuzz", name, "--within", f"-max_total_time={max(1, round(seconds))}", "-max_len=8192",
            f"-rss_limit_mb={MEMORY}", f"-timeout={ONE_INPUT}", f"-seed={seed}", f"-artifact_prefix={scratch}/broken-",
            "-print_final_stats=1", "-verbosity=0", str(found), str(begin),
        ]  # fmt: skip
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        tries = next((line.split()[-1] for line in done.stderr.splitlines() if "number_of_executed_units" in line), "?")
        print(f"{name}: {tries} tries in {seconds:.0f} s, {len(list(found.iterdir()))} new ways found", flush=True)
        for path in sorted(Path(scratch).glob("broken-*")):
            kept = Path(tempfile.gettempdir()) / f"cpc-fuzz-{name}-{path.name}"
            kept.write_bytes(path.read_bytes())
            print(f"broken by {path.read_bytes()[:200]!r}\nagain: python -m tests.fuzz {name} --show {kept}")
        if done.returncode:
            print("\n".join(done.stderr.splitlines()[-40:]), flush=True)
        return done.returncode == 0


def _within(name: str, arguments: list[str]) -> int:
    """In the process of its own. Only our own code is watched: the libraries are C, or not ours to mend."""
    import atheris

    act = TARGETS[name]
    for module in [name for name in sys.modules if name.startswith("cpc.")]:
        _watch(atheris, sys.modules[module])
    atheris.Setup([sys.argv[0], *arguments], atheris.instrument_func(act))
    atheris.Fuzz()
    return 0


def _watch(atheris: object, module: object) -> None:
    """Count which lines of a module are reached."""
    import types

    for holder in (module, *(kind for kind in vars(module).values() if isinstance(kind, type))):
        if getattr(holder, "__module__", getattr(holder, "__name__", "")) != getattr(module, "__name__", ""):
            continue
        for name, value in list(vars(holder).items()):
            if isinstance(value, types.FunctionType) and value.__module__ == getattr(module, "__name__", ""):
                try:
                    setattr(holder, name, atheris.instrument_func(value))  # type: ignore[attr-defined]
                except (AttributeError, TypeError):
                    continue


if __name__ == "__main__":
    sys.exit(main())
