# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged camera files of every format: each ends in a VivantError or in sound cameras, soon and in little memory.

    python3 dev.py python tests/fuzz/fuzz_cameras.py --count 5000 --seed 1

A failure prints the seed and the number of the file.
"""

from __future__ import annotations

import argparse
import copy
import json
import pathlib
import struct
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from fuzz_formats import mutate

from vivant.backends.common.camera_files import FORMATS, read_cameras, write_cameras
from vivant.backends.common.cameras import Camera, CameraSet, View, intrinsics
from vivant.backends.common.errors import VivantError

SECONDS = 3.0
SPARE = 64 << 20
NAMES = {"INRIA": "cameras.json", "TRANSFORMS": "transforms.json", "SUPERSPLAT": "settings.json"}
KINDS = (*FORMATS, "COLMAP binary", "splatv")


def seed(kind: str) -> dict[str, bytes]:
    """The files of a sound set of cameras."""
    views = []
    for index in range(6):
        pose = np.eye(4)
        pose[:3, 3] = (index, 1, -3)
        camera = Camera(intrinsics(500, 500, 320, 240), pose, 640, 480)
        views.append(View(camera, f"p{index}.png", time=index / 5))
    cameras = CameraSet(tuple(views), path=kind == "SUPERSPLAT")
    if kind == "COLMAP binary":
        lens = struct.pack("<QiiQQ8d", 1, 1, 4, 640, 480, 500, 500, 320, 240, 0.1, 0.01, 0, 0)
        poses = struct.pack("<Q", 6)
        for index in range(6):
            poses += (
                struct.pack("<i7di", index + 1, 1, 0, 0, 0, index, 1, 3, 1) + b"p.png\0" + struct.pack("<Qddq", 1, 5, 6, -1)
            )
        return {"cameras.bin": lens, "images.bin": poses}
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder) / NAMES.get(kind, "cameras.json")
        write_cameras(cameras, path.parent if kind == "COLMAP" else path, None if kind != "splatv" else "INRIA")
        files = {each.name: each.read_bytes() for each in path.parent.iterdir()}
    if kind == "splatv":
        text = json.dumps([{"type": "splat", "size": 64, "cameras": json.loads(files["cameras.json"])}]).encode()
        return {"a.splatv": b"\x4b\x67\x00\x00" + len(text).to_bytes(4, "little") + text + bytes(64)}
    return files


ODD = (
    None,
    True,
    "x",
    "",
    [],
    {},
    [[]],
    [None] * 3,
    0,
    -1,
    1e308,
    -1e-308,
    10**400,
    0.5,
    [1e200] * 3,
    float("nan"),
    float("inf"),
)


def swap(data: bytes, rng: np.random.Generator) -> bytes:
    """Sound JSON in which one to three values are something else."""
    content = json.loads(data)
    for _ in range(rng.integers(1, 4)):
        node, depth = content, rng.integers(1, 7)
        while isinstance(node, dict | list) and node:
            key = list(node)[rng.integers(len(node))] if isinstance(node, dict) else int(rng.integers(len(node)))
            depth -= 1
            if depth <= 0 or not isinstance(node[key], dict | list) or not node[key]:
                node[key] = copy.copy(ODD[rng.integers(len(ODD))])
                break
            node = node[key]
    return json.dumps(content).encode()


def check_sound(found: CameraSet) -> None:
    """Raise AssertionError where cameras break what every set promises."""
    assert len(found) > 0
    for view in found.views:
        camera = view.camera
        assert np.isfinite(camera.intrinsics).all() and np.isfinite(camera.camera_to_world).all()
        turn = camera.camera_to_world[:3, :3]
        assert np.allclose(turn @ turn.T, np.eye(3), atol=1e-9) and np.linalg.det(turn) > 0
        assert camera.width > 0 and camera.height > 0 and (np.diag(camera.intrinsics) > 0).all()
        assert view.time is None or np.isfinite(view.time)
        assert not view.image


def run(kind: str, count: int, start: int) -> Counter[str]:
    """Fuzz one format; outcomes by name.  Raises AssertionError that names the first bad file."""
    outcomes: Counter[str] = Counter()
    sound = seed(kind)
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for index in range(-1, count):
            files = dict(sound)
            if index >= 0:
                rng = np.random.default_rng([start, index])
                chosen = sorted(files)[rng.integers(len(files))]
                inside = chosen.endswith(".json") and rng.random() < 0.5
                files[chosen] = swap(files[chosen], rng) if inside else mutate(files[chosen], rng)
            for name, content in files.items():
                (folder / name).write_bytes(content)
            opened = folder / next(iter(files)) if len(files) == 1 else folder
            failure = None
            if index % 20 == 0:
                tracemalloc.start()
            began = time.process_time()
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    check_sound(read_cameras(opened))
                outcome = "sound"
            except VivantError as error:
                outcome, failure = type(error).__name__, error
            except Exception as error:
                raise AssertionError(f"{kind}, seed {start}, file {index}: {type(error).__name__}: {error}") from error
            assert index >= 0 or outcome == "sound", f"{kind}: the seed file ends in {outcome}"
            assert time.process_time() - began < SECONDS, f"{kind}, seed {start}, file {index}: slow"
            if failure:
                assert failure.message.endswith(".") and "\n" not in failure.message, f"{kind}, {index}: {failure.message!r}"
            if index % 20 == 0:
                peak = tracemalloc.get_traced_memory()[1]
                tracemalloc.stop()
                assert peak <= 4 * sum(map(len, files.values())) + SPARE, f"{kind}, seed {start}, file {index}: {peak:,} bytes"
            outcomes[outcome] += 1
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="files a format")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for kind in KINDS:
        outcomes = run(kind, options.count, options.seed)
        print(f"{kind}, seed {options.seed}: {', '.join(f'{n} {name}' for name, n in sorted(outcomes.items()))}", flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
