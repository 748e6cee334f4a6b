"""What is installed from a wheel works: the programs start, and the migrations are in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "cpc", "migrations")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel, built from a copy of the sources so that the checkout stays clean."""
    directory = tmp_path_factory.mktemp("wheel")
    source = directory / "source"
    source.mkdir()
    for name in SOURCES:
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(ROOT / name, source / name)
    build = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--wheel-dir", str(directory), str(source)]
    made = subprocess.run(build, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stderr
    (found,) = directory.glob("*.whl")
    return found


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The bin directory of a clean environment with the wheel in it; what it depends on is lent by this one."""
    environment = tmp_path_factory.mktemp("clean")
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(environment)], check=True, timeout=120)
    python = environment / "bin" / "python"
    asked = subprocess.run(
        [python, "-c", "import sysconfig; print(sysconfig.get_path('purelib'))"], capture_output=True, text=True, check=True
    )  # fmt: skip
    packages = Path(asked.stdout.strip())
    install = [sys.executable, "-m", "pip", "--python", str(python), "install", "--quiet", "--no-deps", str(wheel)]
    done = subprocess.run(install, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    # A path file lends packages, but not the editable install of this checkout, which is a path file itself.
    (packages / "lent.pth").write_text(sysconfig.get_path("purelib") + "\n" + sysconfig.get_path("platlib") + "\n")
    return environment / "bin"


def run(program: Path, *arguments: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(program), *arguments], input=stdin, capture_output=True, text=True, timeout=120, cwd=cwd, check=False,
        env={**environment, "CPC_HOME": str(cwd / "home")},
    )  # fmt: skip


def test_the_wheel_holds_the_migrations_and_no_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "cpc/migrations/env.py" in names
    assert "cpc/migrations/versions/0001_first.py" in names
    assert "cpc/py.typed" in names
    assert not [name for name in names if name.startswith(("tests", "demo", "benchmarks"))]


def test_every_package_of_the_sources_is_in_the_wheel(wheel):
    names = set(zipfile.ZipFile(wheel).namelist())
    sources = {str(path.relative_to(ROOT)) for path in (ROOT / "cpc").rglob("*.py")}
    assert sources - names == set()


def test_a_server_is_set_up_and_started_from_the_wheel(installed, tmp_path):
    where = run(installed / "python", "-c", "import cpc; print(cpc.__file__)", cwd=tmp_path)
    assert Path(where.stdout.strip()).is_relative_to(installed.parent), where.stdout + where.stderr
    server = installed / "cpc-server"
    made = run(
        server, "setup", "--port", "0", "--client-port", "0", "-stdin", str(tmp_path / "run"), cwd=tmp_path,
        stdin="correct-horse\n",
    )  # fmt: skip
    assert made.returncode == 0, made.stderr
    started = run(server, "start", cwd=tmp_path)
    try:
        assert started.returncode == 0, started.stderr
        assert run(server, "status", cwd=tmp_path).returncode == 0
    finally:
        run(server, "stop", "--now", cwd=tmp_path)


@pytest.mark.parametrize("program", ["cpc-server", "cpc-worker", "cpcc"])
def test_the_programs_of_the_wheel_start(installed, tmp_path, program):
    shown = run(installed / program, "--help", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "Usage" in shown.stdout


def test_modules_and_their_programs_are_in_it(wheel: Path, installed: Path) -> None:
    names = zipfile.ZipFile(wheel).namelist()
    for name in ("resource.xml", "benchmark.py", "_test/_import.xml", "_test/external_err"):
        assert f"cpc/plugins/modules/{name}" in names
    assert "cpc/controller/original/running.py" in names
    (program,) = installed.parent.rglob("external_err")
    assert os.access(program, os.X_OK)
