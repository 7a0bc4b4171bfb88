#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-3.0-or-later
"""Everything a developer of Vivant types.  Needs Python 3.10 or newer and nothing else.

    python3 dev.py demo [--out FOLDER]     import, render and in-between real files; see what comes out
    python3 dev.py test [PATH …]           every test, under Blender 5.2 and 4.5 (--all-blenders: 5.0 and 5.1 too)
    python3 dev.py build                   the extension's zip, checked by installing it, and a repository index
    python3 dev.py build --engine cpu --platform linux-x64 --python 3.11     a zip that brings its engine along
    python3 dev.py bench [NAME …]          one of benchmarks/; without a name: what there is
    python3 dev.py lint                    ruff, mypy, the manifest
    python3 dev.py python ARGS …           Python with bpy 5.2 and this checkout importable as `vivant`
    python3 dev.py lock                    choose new versions of what the environments hold (locks/, wheels/)

The environments (.venv, .venv-4.5, …) are made from the lock files when a command first needs them.
"""

import os
import pathlib
import subprocess
import sys
from collections.abc import Callable

from tools import dev_envs, dev_tests

ROOT = pathlib.Path(__file__).resolve().parent


def run(python: pathlib.Path, *command: str | pathlib.Path) -> int:
    """Run Python with these arguments in the folder the user is in; its exit status."""
    return subprocess.run([python, *command]).returncode


def demo(arguments: list[str]) -> int:
    return run(dev_envs.python("blender-5.2"), ROOT / "tools" / "demo.py", *arguments)


def test(arguments: list[str]) -> int:
    return dev_tests.main(arguments)


def build(arguments: list[str]) -> int:
    return run(dev_envs.python("blender-5.2"), ROOT / "tools" / "dev_build.py", *arguments)


def bench(arguments: list[str]) -> int:
    names = sorted(path.stem for path in (ROOT / "benchmarks").glob("[!_]*.py"))
    if not arguments or arguments[0] not in names:
        print("Benches:", ", ".join(names) or "none yet")
        return 2 if arguments else 0
    return run(dev_envs.python("blender-5.2"), ROOT / "benchmarks" / f"{arguments[0]}.py", *arguments[1:])


def lint(arguments: list[str]) -> int:
    python = dev_envs.python("lint")
    package = dev_envs.checkout_as_package(ROOT / ".cache" / "lint")
    checks: list[list[str | pathlib.Path]] = [
        ["-m", "ruff", "check", *arguments],
        ["-m", "ruff", "format", "--check", *arguments],
        ["-m", "mypy", "-p", "vivant"],
        ["-m", "mypy", "dev.py", *sorted(str(path.relative_to(ROOT)) for path in (ROOT / "tools").glob("dev_*.py"))],
        [ROOT / "tools" / "dev_manifest.py"],
    ]
    environment = {**os.environ, "MYPYPATH": str(package.parent)}
    failed = 0
    for check in checks:
        failed |= subprocess.run([python, *check], cwd=ROOT, env=environment).returncode
    return failed


def python(arguments: list[str]) -> int:
    return run(dev_envs.python("blender-5.2"), *arguments)


def lock(arguments: list[str]) -> int:
    dev_envs.write_locks()
    return 0


COMMANDS: dict[str, Callable[[list[str]], int]] = {
    "demo": demo,
    "test": test,
    "build": build,
    "bench": bench,
    "lint": lint,
    "python": python,
    "lock": lock,
}


def main(arguments: list[str]) -> int:
    """Run one command; 0 when all is well."""
    if not arguments or arguments[0] not in COMMANDS:
        print(__doc__)
        return 0 if arguments[:1] in ([], ["help"], ["-h"], ["--help"]) else 2
    try:
        return COMMANDS[arguments[0]](arguments[1:])
    except dev_envs.Unavailable as problem:
        print(f"dev.py: {problem}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
