# SPDX-License-Identifier: GPL-3.0-or-later
"""dev.py starts with nothing installed, its locks are whole, and its test runner hides no failure."""

import ast
import os
import pathlib
import re
import subprocess
import sys
import textwrap
import time

import pytest

from tools import dev_envs, dev_tests
from tools.dev_tests import Job, Outcome

ROOT = pathlib.Path(__file__).resolve().parents[2]
FIRST = ["dev.py", "tools/dev_envs.py", "tools/dev_tests.py"]
LOCKS = sorted([*(ROOT / "locks").glob("*.txt"), *(ROOT / "wheels").glob("*-cp*.txt")])


@pytest.mark.parametrize("name", FIRST)
def test_what_runs_first_needs_python_3_10_and_its_standard_library_alone(name: str) -> None:
    tree = ast.parse((ROOT / name).read_text("utf8"), feature_version=(3, 10))
    imports = [node for node in ast.walk(tree) if isinstance(node, ast.Import | ast.ImportFrom)]
    names = {alias.name for node in imports if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in imports if isinstance(node, ast.ImportFrom) and node.module and not node.level}
    later = {"tomllib"}  # of the standard library, but newer than 3.10
    assert {name.partition(".")[0] for name in names} - {"tools"} <= sys.stdlib_module_names - later


def test_an_unknown_command_prints_what_there_is() -> None:
    done = subprocess.run([sys.executable, ROOT / "dev.py", "tset"], capture_output=True, text=True)
    assert done.returncode == 2
    assert "dev.py test" in done.stdout


@pytest.mark.parametrize("lock", LOCKS, ids=lambda path: path.name)
def test_every_line_of_a_lock_is_pinned_hashed_and_names_no_address(lock: pathlib.Path) -> None:
    text = lock.read_text("utf8")
    assert "://" not in text
    entries = [line for line in text.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
    assert entries
    for entry in entries:
        assert re.match(r"[a-z0-9-]+==[0-9][^ ]* .*--hash=sha256:[0-9a-f]{64}", entry), entry


def test_no_lock_brings_cuda_but_those_that_say_so() -> None:
    for lock in LOCKS:
        assert ("nvidia-" in lock.read_text("utf8")) == ("cuda" in lock.name)


def test_the_engine_that_users_install_has_the_versions_that_are_tested() -> None:
    def pins(path: pathlib.Path) -> set[str]:
        return set(re.findall(r"^[a-z0-9-]+==[0-9.]+", path.read_text("utf8"), re.M))

    assert pins(ROOT / "wheels" / "engine.txt") <= pins(ROOT / "locks" / "engine.txt") | {dev_envs.TORCH}


def test_a_missing_system_library_is_named_with_its_package() -> None:
    advice = dev_envs.library_advice("ImportError: libXrender.so.1: cannot open shared object file: No such file or directory")
    assert "Install libxrender1 (apt) or libXrender (dnf)" in advice
    assert dev_envs.library_advice("ImportError: no such module") == ""


def test_the_running_python_is_found() -> None:
    version = "{}.{}".format(*sys.version_info)
    found = dev_envs.find_python(version)
    assert subprocess.run([found, "--version"], capture_output=True, text=True).stdout.startswith(f"Python {version}")


def test_a_checkout_of_any_name_is_importable_as_vivant(tmp_path: pathlib.Path) -> None:
    checkout = tmp_path / "my moving splats" / "née-2"
    (checkout / "backends").mkdir(parents=True)
    (checkout / "__init__.py").write_text("")
    (checkout / "backends" / "__init__.py").write_text("here = True")
    (tmp_path / "_vivant_checkout.py").write_text(dev_envs.FINDER.format(root=str(checkout)), "utf8")
    code = "import _vivant_checkout, vivant.backends; print(vivant.backends.here)"
    done = subprocess.run([sys.executable, "-S", "-c", code], capture_output=True, text=True, cwd=tmp_path)
    assert done.stdout.strip() == "True", done.stderr


@pytest.fixture
def run(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch):
    """Run a test file of these lines through the runner of `dev.py test`."""
    monkeypatch.setattr(dev_envs, "interpreter", lambda name: pathlib.Path(sys.executable))

    def run(code: str) -> Outcome:
        path = tmp_path / "test_something.py"
        path.write_text(textwrap.dedent(code))
        return dev_tests.Runner().run(Job("blender-5.2", "unit", str(path)))

    return run


def test_passes_failures_and_skips_are_counted(run) -> None:
    outcome = run("""
        import pytest
        def test_good(): pass
        def test_better(): pass
        def test_bad(): assert 1 == 2
        def test_not_here(): pytest.skip("needs a moon")
    """)
    assert (outcome.passed, len(outcome.failures)) == (2, 1)
    assert "test_bad" in outcome.failures[0]
    assert [reason for _, reason in outcome.skips] == ["needs a moon"]
    assert "assert 1 == 2" in outcome.output


@pytest.mark.skipif(os.name == "nt", reason="signals are a POSIX thing")
def test_a_crash_is_a_failure(run) -> None:
    outcome = run("""
        import os, signal
        def test_good(): pass
        def test_crash(): os.kill(os.getpid(), signal.SIGSEGV)
    """)
    assert outcome.failures
    assert "signal 11" in outcome.failures[0]


def test_a_status_that_contradicts_the_report_is_a_failure(run) -> None:
    outcome = run("""
        import atexit, os
        atexit.register(os._exit, 139)
        def test_good(): pass
    """)
    assert outcome.passed == 1
    assert "status 139" in outcome.failures[0]


@pytest.mark.skipif(os.name == "nt", reason="looks for the child in /proc's way")
def test_a_hang_is_a_failure_and_takes_its_children_along(run, tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dev_tests, "TIME_LIMIT", 3.0)
    start = time.monotonic()
    outcome = run(f"""
        import pathlib, subprocess, time
        def test_hang():
            child = subprocess.Popen(["sleep", "100"])
            pathlib.Path({str(tmp_path / "child")!r}).write_text(str(child.pid))
            time.sleep(100)
    """)
    assert time.monotonic() - start < 30
    assert "signal 9" in outcome.failures[0]
    child = int((tmp_path / "child").read_text())
    state = subprocess.run(["ps", "-o", "stat=", "-p", str(child)], capture_output=True, text=True).stdout.strip()
    assert state[:1] in ("", "Z")


def outcomes(failures: list[str]) -> list[Outcome]:
    return [
        Outcome(Job("blender-5.2", "unit", "tests/unit"), passed=3, skips=[("test_moon", "needs a moon")]),
        Outcome(Job("blender-4.5", "unit", "tests/unit"), passed=2, failures=failures),
    ]


def test_the_last_line_is_the_total(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert dev_tests.report(outcomes([]), []) == 0
    printed = capsys.readouterr().out
    assert printed.splitlines()[-1] == "5 passed, 0 failed, 1 skipped"
    assert "needs a moon" in printed
    assert dev_tests.report(outcomes(["test_bad"]), []) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "5 passed, 1 failed, 1 skipped"


def test_a_blender_that_cannot_be_had_is_said_and_fails_on_a_build_server(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("CI", raising=False)
    assert dev_tests.report(outcomes([]), ["blender-4.5: no Python 3.11"]) == 0
    printed = capsys.readouterr().out
    assert "no Python 3.11" in printed
    assert printed.splitlines()[-1] == "5 passed, 0 failed, 2 skipped"
    monkeypatch.setenv("CI", "true")
    assert dev_tests.report(outcomes([]), ["blender-4.5: no Python 3.11"]) == 1


def test_no_test_at_all_is_a_failure(capsys: pytest.CaptureFixture[str]) -> None:
    assert dev_tests.report([], ["everything: nothing is here"]) == 1
    assert capsys.readouterr().out.splitlines()[-1] == "0 passed, 1 failed, 0 skipped"


def test_every_file_of_blender_tests_has_a_process_of_its_own() -> None:
    jobs = dev_tests.jobs_for("blender-5.2", ["unit", "blender"], [])
    files = {f"tests/blender/{path.name}" for path in (ROOT / "tests" / "blender").glob("test_*.py")}
    assert {job.path for job in jobs} == {"tests/unit"} | files
    chosen = dev_tests.jobs_for("blender-5.2", ["unit", "blender"], ["tests/blender", "tests/unit/test_dev.py"])
    assert {job.path for job in chosen} == {"tests/unit/test_dev.py"} | files
