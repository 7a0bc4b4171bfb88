# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutated checkpoints, networks, settings and splats of trained scenes: read soundly or refused with a sentence.

python3 dev.py python tests/fuzz/fuzz_scenes.py --count 5000 --seed 1
"""

from __future__ import annotations

import argparse
import pathlib
import sys
import tempfile
import time
import tracemalloc
import warnings
from collections import Counter

import numpy as np

from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.formats import read_splats

sys.path.insert(0, str(pathlib.Path(__file__).parent))
sys.path.insert(0, str(pathlib.Path(__file__).parents[1] / "unit"))
import test_network_scenes as scenes
from fuzz_formats import SECONDS, SPARE, check_sound, mutate
from network_weights import control_nodes, deformation_shapes, waves
from torch_files import saved

FLAGS = f"Namespace({scenes.FLAGS.format(False, False)}, apply_rotation=True)"


def seeds(folder: pathlib.Path) -> dict[str, tuple[pathlib.Path, list[pathlib.Path]]]:
    """Sound scenes: by name what is read, and the files of it that are mutated."""
    scenes.scene(folder / "hexplane", scenes.small_hexplane(), beside=True, told=FLAGS)
    scenes.scene(folder / "deformable", waves(deformation_shapes(), 0.05))
    scenes.scene(folder / "nodes", control_nodes(local=True), fea_0=np.zeros(4), fea_1=np.zeros(4), fea_2=np.ones(4))
    (folder / "chkpnt.pth").write_bytes(saved((scenes.capture(count=200)[1], 30000)))
    found = {}
    for name in ("hexplane", "deformable", "nodes"):
        files = [path for path in (folder / name).rglob("*") if path.suffix in (".pth", ".ply") or path.name == "cfg_args"]
        found[name] = folder / name, sorted(files)
    return found | {"checkpoint": (folder / "chkpnt.pth", [folder / "chkpnt.pth"])}


def check(path: pathlib.Path, size: int) -> str:
    """Read a scene of so many bytes and move it; how it ended.  Raises whatever is not allowed to happen."""
    cloud = failure = None
    tracemalloc.start()
    start = time.perf_counter()
    try:
        cloud = read_splats(path)
    except VivantError as error:
        failure = error
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert peak + size <= 4 * size + SPARE, f"{peak:,} bytes for files of {size:,}"
    if cloud is None:
        assert failure and failure.message.endswith(".") and "\n" not in failure.message, f"no sentence: {failure}"
        return type(failure).__name__
    check_sound(cloud)
    return "sound"


def run(name: str, count: int, seed: int, folder: pathlib.Path) -> Counter[str]:
    """Fuzz one kind of scene; outcomes by name.  Raises AssertionError that names the first bad one."""
    path, files = seeds(folder)[name]
    whole = [file.read_bytes() for file in files]
    size = sum(map(len, whole))
    outcomes: Counter[str] = Counter()
    assert check(path, size) == "sound"
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        which = int(rng.integers(len(files)))
        files[which].write_bytes(mutate(whole[which], rng))
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                warnings.simplefilter("ignore", DeprecationWarning)  # of pickletools, about texts in a pickle
                warnings.simplefilter("ignore", SyntaxWarning)  # of ast, about settings
                outcomes[check(path, size)] += 1
        except Exception as error:
            where = f"{name}, seed {seed}, file {index} ({files[which].name})"
            raise AssertionError(f"{where}: {type(error).__name__}: {error}") from error
        files[which].write_bytes(whole[which])
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=1000, help="files a kind of scene")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    for name in ("hexplane", "deformable", "nodes", "checkpoint"):
        with tempfile.TemporaryDirectory() as folder:
            print(name, dict(run(name, options.count, options.seed, pathlib.Path(folder))), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
