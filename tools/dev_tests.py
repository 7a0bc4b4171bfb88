# SPDX-License-Identifier: GPL-3.0-or-later
"""Run every test in every environment, each file of Blender tests in a process of its own, and add up.

Standard library of Python 3.10 only.  Blender as a module may crash or be left in a strange state by a test: a process
of its own for every file keeps the rest honest, and a crash or a hang counts as a failure of that file.
"""

import argparse
import os
import pathlib
import signal
import subprocess
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from xml.etree import ElementTree

from . import dev_envs
from .dev_envs import ROOT, say

TIME_LIMIT = 900.0  # seconds for one process
AT_ONCE = min(2, os.cpu_count() or 1)


@dataclass(frozen=True)
class Job:
    """One pytest process: where it runs, and on which file or folder (relative to the checkout)."""

    environment: str
    suite: str
    path: str


@dataclass
class Outcome:
    """What one process did.  `failures` names each failed test, `skips` is (test, reason)."""

    job: Job
    passed: int = 0
    failures: list[str] = field(default_factory=list)
    skips: list[tuple[str, str]] = field(default_factory=list)
    seconds: float = 0.0
    output: str = ""


class Runner:
    """Runs jobs and can stop all of them."""

    def __init__(self) -> None:
        self.processes: set[subprocess.Popen[bytes]] = set()
        self.lock = threading.Lock()

    def run(self, job: Job) -> Outcome:
        """Run one job to its end, its crash or the time limit."""
        start = time.monotonic()
        with tempfile.TemporaryDirectory(prefix="vivant-test-", ignore_cleanup_errors=True) as folder:
            report, log = pathlib.Path(folder, "report.xml"), pathlib.Path(folder, "log.txt")
            user = pathlib.Path(folder, "user")
            user.mkdir()
            command = [str(dev_envs.interpreter(job.environment)), "-m", "pytest", "-q", job.path, f"--junitxml={report}"]
            environment = {**os.environ, "BLENDER_USER_RESOURCES": str(user), "PYTHONUNBUFFERED": "1"}
            with log.open("wb") as output:
                process = subprocess.Popen(
                    command,
                    cwd=ROOT,
                    env=environment,
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=subprocess.STDOUT,
                    start_new_session=os.name != "nt",
                )
                with self.lock:
                    self.processes.add(process)
                try:
                    process.wait(TIME_LIMIT)
                except subprocess.TimeoutExpired:
                    stop(process)
                with self.lock:
                    self.processes.discard(process)
            outcome = read_report(job, report, process.returncode)
            outcome.output = log.read_text("utf8", errors="replace")
        outcome.seconds = time.monotonic() - start
        return outcome

    def stop(self) -> None:
        with self.lock:
            for process in self.processes:
                stop(process)


def stop(process: subprocess.Popen[bytes]) -> None:
    """Kill a process with everything that it started."""
    if os.name == "nt":
        subprocess.run(["taskkill", "/F", "/T", "/PID", str(process.pid)], capture_output=True)
    else:
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def read_report(job: Job, report: pathlib.Path, status: int) -> Outcome:
    """The outcome of a pytest process, from its JUnit report and its exit status; no report means that it crashed."""
    outcome = Outcome(job)
    if report.is_file():
        for case in ElementTree.parse(report).iter("testcase"):
            name = f"{case.get('classname', '').replace('.', '/')}.py::{case.get('name')}".removeprefix(".py::")
            if case.find("failure") is not None or case.find("error") is not None:
                outcome.failures.append(name)
            elif (skip := case.find("skipped")) is not None:
                outcome.skips.append((name, skip.get("message", "")))
            else:
                outcome.passed += 1
    if status == -signal.SIGTERM or (status not in (0, 1, 5) or not report.is_file()):
        how = f"was killed by signal {-status}" if status < 0 else f"ended with status {status}"
        outcome.failures.append(f"{job.path} {how}")
    return outcome


def jobs_for(name: str, suites: list[str], paths: list[str]) -> list[Job]:
    """The processes that run these suites (or, of them, the given files) in an environment."""
    found = []
    for suite in suites:
        folder = f"tests/{suite}"
        files = [path for path in paths or [folder] if f"{path}/".startswith(f"{folder}/")]
        if folder in files and suite != "unit":
            files = sorted(path.relative_to(ROOT).as_posix() for path in (ROOT / folder).glob("test_*.py"))
        found += [Job(name, suite, file) for file in files]
    return found


def main(arguments: list[str]) -> int:
    """`dev.py test`: 0 when nothing failed in any environment that could be made here."""
    parser = argparse.ArgumentParser("dev.py test", description="Run the tests; without a path, all of them.")
    parser.add_argument("--all-blenders", action="store_true", help="5.0 and 5.1 too, not only the two LTS versions")
    parser.add_argument("paths", nargs="*", metavar="PATH", help="a file or folder of tests/")
    options = parser.parse_args(arguments)
    paths = [pathlib.Path(path).resolve().relative_to(ROOT).as_posix() for path in options.paths]

    names = ["blender-5.2", "blender-4.5"] + ["blender-5.1", "blender-5.0"] * options.all_blenders
    first = names[0]
    jobs: list[Job] = []
    missing: list[str] = []
    for name in names:
        suites = ["unit", "blender"] + ["fuzz"] * (name == first)
        try:
            dev_envs.python(name)
            dev_envs.check_blender(name)
        except dev_envs.NoBlender as problem:
            missing.append(f"{name}, tests in Blender: {problem}")
            suites.remove("blender")
        except dev_envs.Unavailable as problem:
            missing.append(f"{name}: {problem}")
            continue
        jobs += jobs_for(name, suites, paths)
    jobs.sort(key=lambda job: job.suite != "unit")  # the longest first, so that both cores end together
    windows = jobs_for(first, ["gui"], paths) if dev_envs.interpreter(first).exists() else []
    return report(run_all(jobs, windows), missing)


def run_all(jobs: list[Job], windows: list[Job]) -> list[Outcome]:
    """Run jobs side by side, then those that need the screen one after another; print each as it ends."""
    runner, outcomes = Runner(), []
    signal.signal(signal.SIGTERM, signal.default_int_handler)  # whoever stops us, the processes end too
    say(f"{len(jobs) + len(windows)} test processes, {AT_ONCE} at a time")
    try:
        for batch, at_once in ((jobs, AT_ONCE), (windows, 1)):
            with ThreadPoolExecutor(at_once) as pool:
                try:
                    for ended in as_completed([pool.submit(runner.run, job) for job in batch]):
                        outcomes.append(ended.result())
                        show(outcomes[-1], len(outcomes), len(jobs) + len(windows))
                except BaseException:
                    pool.shutdown(wait=False, cancel_futures=True)
                    raise
    except BaseException:
        runner.stop()
        raise
    return outcomes


def show(outcome: Outcome, done: int, total: int) -> None:
    """One line for a process; its output too when something failed."""
    if outcome.failures:
        print(f"\n{outcome.output.rstrip()}\n")
    print(
        f"[{done}/{total}] {outcome.job.environment:<12} {outcome.job.path:<44} "
        f"{outcome.passed} passed, {len(outcome.failures)} failed, {len(outcome.skips)} skipped, {outcome.seconds:.1f} s",
        flush=True,
    )


def report(outcomes: list[Outcome], missing: list[str]) -> int:
    """Print the summary, whose last line is the total; the exit status.

    An environment that this machine cannot have counts as skipped, and as failed on a build server (CI=true), where
    nobody would read that half of the tests did not run.
    """
    print(f"\n{'':<22}{'passed':>8}{'failed':>8}{'skipped':>9}{'seconds':>9}")
    for environment, suite in sorted({(outcome.job.environment, outcome.job.suite) for outcome in outcomes}, reverse=True):
        rows = [outcome for outcome in outcomes if (outcome.job.environment, outcome.job.suite) == (environment, suite)]
        counts = sum(r.passed for r in rows), sum(len(r.failures) for r in rows), sum(len(r.skips) for r in rows)
        seconds = sum(r.seconds for r in rows)
        print(f"{environment:<13}{suite:<9}{counts[0]:>8}{counts[1]:>8}{counts[2]:>9}{seconds:>9.0f}")

    reasons: dict[str, list[str]] = {}
    for outcome in outcomes:
        for name, reason in outcome.skips:
            reasons.setdefault(reason, []).append(f"{name} ({outcome.job.environment})")
    if reasons or missing:
        print("\nSkipped, and why:")
    for problem in missing:
        print(f"  {problem}")
    for reason, names in reasons.items():
        print(f"  {len(names)} × {reason}")
        print("".join(f"      {name}\n" for name in names), end="")

    failures = [f"{name} ({outcome.job.environment})" for outcome in outcomes for name in outcome.failures]
    skipped = sum(len(names) for names in reasons.values())
    passed = sum(outcome.passed for outcome in outcomes)
    if os.environ.get("CI") == "true" or not passed:
        failures += missing
    else:
        skipped += len(missing)
    if failures:
        print("\nFailed:")
        print("".join(f"  {name}\n" for name in failures), end="")
    print(f"\n{passed} passed, {len(failures)} failed, {skipped} skipped")
    sys.stdout.flush()
    return 1 if failures or not passed else 0
