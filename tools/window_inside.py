# SPDX-License-Identifier: GPL-3.0-or-later
"""Inside the Blender that window.py starts: installs the zip, then goes through steps from a timer.

A step file defines `steps(window)`, a generator that yields the seconds to let Blender draw before it goes on.
"""

from __future__ import annotations

import faulthandler
import json
import os
import pathlib
import runpy
import shutil
import subprocess
import sys
import time
import traceback
from collections.abc import Callable, Iterator
from typing import Any

import bpy

PACKAGE = "bl_ext.user_default.vivant"


class Window:
    """The one window and its 3D viewport, as steps use them."""

    def __init__(self, folder: pathlib.Path, archive: pathlib.Path) -> None:
        self.folder, self.archive = folder, archive
        self.noted: dict[str, Any] = {}

    @property
    def area(self) -> bpy.types.Area:
        return next(area for area in bpy.context.window_manager.windows[0].screen.areas if area.type == "VIEW_3D")

    @property
    def space(self) -> bpy.types.SpaceView3D:
        return self.area.spaces.active

    def region(self, kind: str = "WINDOW") -> bpy.types.Region:
        return next(region for region in self.area.regions if region.type == kind)

    def call(self, operator: Callable[..., set[str]], *arguments: str, **properties: object) -> set[str]:
        """Call an operator as if from the 3D viewport."""
        window = bpy.context.window_manager.windows[0]
        with bpy.context.temp_override(window=window, area=self.area, region=self.region()):
            return operator(*arguments, **properties)

    def press(self, key: str) -> None:
        """Press and let go of a key with the mouse in the viewport's corner, where it hides little."""
        x, y = self.region().x + 12, self.region().y + 12
        for value in ("PRESS", "RELEASE"):
            bpy.context.window_manager.windows[0].event_simulate(type=key, value=value, x=x, y=y)

    def show_tab(self, name: str = "Vivant") -> None:
        """Open the sidebar at a tab; before, the sidebar must have been drawn once."""
        self.region("UI").active_panel_category = name
        self.area.tag_redraw()

    def redraw(self) -> None:
        for area in bpy.context.window_manager.windows[0].screen.areas:
            area.tag_redraw()

    def photograph(self, name: str) -> None:
        """A picture of the window as NAME.png, the mouse out of the way."""
        bpy.context.window_manager.windows[0].cursor_warp(1, 1)
        bpy.ops.screen.screenshot(filepath=str(self.folder / f"{name}.png"))

    def view(self) -> dict[str, Any]:
        """Where the viewport lies in the photographs, from the bottom left, and what it looks through."""
        region, seen = self.region(), self.space.region_3d
        return {
            "corner": (region.x, region.y),
            "size": (region.width, region.height),
            "view": [list(row) for row in seen.view_matrix],
            "projection": [list(row) for row in seen.window_matrix],
        }


def install(archive: pathlib.Path) -> None:
    """Install and enable the zip, as a user does; by hand where Blender's installer cannot start its Python."""
    if subprocess.run([sys.executable, "-c", ""], capture_output=True).returncode == 0:
        bpy.ops.extensions.package_install_files(filepath=str(archive), repo="user_default", enable_on_install=True)
    else:
        folder = pathlib.Path(bpy.utils.user_resource("EXTENSIONS", path="user_default/vivant", create=True))
        shutil.unpack_archive(archive, folder)
        bpy.ops.extensions.repo_refresh_all()
        bpy.ops.preferences.addon_enable(module=PACKAGE)
    if PACKAGE not in bpy.context.preferences.addons:
        raise RuntimeError("Vivant is not enabled")


def follow(window: Window, steps: Iterator[float]) -> Callable[[], float | None]:
    """The timer's function; it ends Blender after the last step, or after one that failed."""

    def tick() -> float | None:
        try:
            return next(steps)
        except StopIteration:
            (window.folder / "noted.json").write_text(json.dumps(window.noted), "utf8")
            bpy.ops.wm.quit_blender()
        except BaseException:
            traceback.print_exc()
            sys.stdout.flush()
            sys.stderr.flush()
            os._exit(3)  # an exception in a timer would leave the window open
        return None

    return tick


def main() -> None:
    faulthandler.enable()  # a crash shows where Python was
    steps, folder, archive = map(pathlib.Path, sys.argv[sys.argv.index("--") + 1 :])
    bpy.context.preferences.view.show_splash = False  # in a timer it would be too late
    window = Window(folder, archive)
    started = time.perf_counter()
    install(archive)
    window.noted["install_seconds"] = time.perf_counter() - started
    generator = runpy.run_path(str(steps))["steps"](window)
    bpy.app.timers.register(follow(window, generator), first_interval=1.0, persistent=True)


main()
