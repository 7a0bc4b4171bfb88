# SPDX-License-Identifier: GPL-3.0-or-later
"""Runs steps in a real Blender with a window, with Vivant installed from its zip into a scratch user folder.

Steps are a Python file with a generator function `steps(window)`, see window_inside.py; what they
note and photograph ends in a folder.
"""

from __future__ import annotations

import json
import os
import pathlib
import signal
import subprocess
from typing import Any

INSIDE = pathlib.Path(__file__).with_name("window_inside.py")


def run(
    blender: str, archive: pathlib.Path, steps: pathlib.Path, folder: pathlib.Path, timeout: float = 600
) -> tuple[dict[str, Any], str]:
    """What the steps noted, and everything that Blender printed; pictures lie in `folder`.

    Raises RuntimeError with the end of the log when Blender or a step fails, or nothing is left after `timeout` seconds.
    """
    folder.mkdir(parents=True, exist_ok=True)
    command = [blender, "--enable-event-simulate", "--python-exit-code", "3", "--python", str(INSIDE), "--"]
    environment = {
        **os.environ,
        "BLENDER_USER_RESOURCES": str(folder / "user"),
        "MESA_SHADER_CACHE_DIR": str(folder / "shaders"),  # Mesa of several versions in one cache crashed here
    }
    log = folder / "log.txt"
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*command, str(steps), str(folder), str(archive)],
            stdout=output,
            stderr=subprocess.STDOUT,
            env=environment,
            cwd=folder,
            start_new_session=True,
        )
        try:
            status: int | str = process.wait(timeout)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGTERM)  # the program, and the display that a wrapper may have started
            process.wait()
            status = f"no end after {timeout:.0f} s"
    text = log.read_text("utf8", "replace")
    noted = folder / "noted.json"
    if status != 0 or not noted.is_file():
        raise RuntimeError(f"Blender's window: {status}\n{text[-6000:]}")
    return json.loads(noted.read_text("utf8")), text
