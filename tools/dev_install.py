# SPDX-License-Identifier: GPL-3.0-or-later
"""Install a zip of Vivant into a scratch user folder of the running bpy, use it, remove it.

    BLENDER_USER_RESOURCES=SCRATCH python tools/dev_install.py ZIP [MODULE …]

Each MODULE must be importable once the extension is enabled, and come from the wheels that the zip brought; the engine
must find them too (every engine has safetensors).
Exit status 0 when all went well; what Blender prints is for the caller to judge.
"""

import importlib
import os
import pathlib
import random
import struct
import sys
import time

import bpy

import addon_utils  # isort: skip  (there once bpy is imported)

PACKAGE = "bl_ext.user_default.vivant"


def write_splats(path: pathlib.Path, count: int) -> None:
    """A .splat file (32 bytes a splat: position, scale, colour, quaternion) of random splats."""
    pick = random.Random(8)
    with path.open("wb") as file:
        for _ in range(count):
            file.write(
                struct.pack("<6f", *(pick.uniform(-1, 1) for _ in range(3)), *(pick.uniform(0.01, 0.1) for _ in range(3)))
            )
            file.write(bytes(pick.randrange(256) for _ in range(4)) + bytes([255, 128, 128, 128]))


def check(sound: bool, what: str) -> None:
    if not sound:
        sys.exit(f"{bpy.app.version_string}: {what}")


def main(archive: str, modules: list[str]) -> None:
    scratch = pathlib.Path(bpy.utils.resource_path("USER"))
    bpy.ops.extensions.package_install_files(filepath=archive, repo="user_default", enable_on_install=True)
    check(addon_utils.check(PACKAGE) == (True, True), "the zip does not install and enable")

    for name in modules:
        origin = importlib.import_module(name).__file__ or ""
        check(pathlib.Path(origin).is_relative_to(scratch), f"{name} does not come from the zip but from {origin}")
    if modules:
        bpy.ops.vivant.engine_test()
        found = importlib.import_module(f"{PACKAGE}.preferences").findings
        check("safetensors" in str(found), f"the engine does not find the zip's wheels: {found}")

    splats = scratch / "hundred.splat"
    write_splats(splats, 100)
    check(bpy.ops.vivant.splats_import(filepath=str(splats)) == {"FINISHED"}, "splats_import does not finish")
    clouds = [ob for ob in bpy.data.objects if ob.type == "POINTCLOUD"]
    check(len(clouds) == 1, f"splats_import made {len(clouds)} point clouds instead of one")
    check(len(clouds[0].data.points) == 100, f"the point cloud has {len(clouds[0].data.points)} points instead of 100")

    milliseconds = []
    for _ in range(3):
        addon_utils.disable(PACKAGE, default_set=True)
        check(not hasattr(bpy.types, "VIVANT_OT_splats_import"), "disabling leaves operators behind")
        for name in [name for name in sys.modules if name.startswith(PACKAGE)]:
            del sys.modules[name]  # so that enabling has to import everything, as it does when Blender starts
        start = time.process_time()
        addon_utils.enable(PACKAGE, default_set=True)
        milliseconds.append((time.process_time() - start) * 1000)
        check(addon_utils.check(PACKAGE) == (True, True), "does not enable again")
    check(modules != [] or min(milliseconds) < 100, f"enabling takes {min(milliseconds):.0f} ms of processor time")
    index = next(i for i, repo in enumerate(bpy.context.preferences.extensions.repos) if repo.module == "user_default")
    bpy.ops.extensions.package_uninstall(repo_index=index, pkg_id="vivant")
    check(addon_utils.check(PACKAGE) == (False, False), "does not uninstall")
    print(f"installed in Blender {bpy.app.version_string}, enabled in {min(milliseconds):.0f} ms, imported, removed")


if __name__ == "__main__":
    main(sys.argv[1], sys.argv[2:])
    sys.stdout.flush()
    os._exit(0)  # bpy 4.5 may wait for its own threads for ever when its process exits in the ordinary way
