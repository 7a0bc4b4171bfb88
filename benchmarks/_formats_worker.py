# SPDX-License-Identifier: GPL-3.0-or-later
"""One Python that reads and writes splat files as it is told, line by line, and says how long each took.

A task is a line of JSON: library, action ("read", "write" or "version"), format, path and, to write, the PLY file that
the library takes its splats from beforehand, untimed.  The answer is a line too: the least seconds of three calls
and what the arrays sum up to, or why there is none.  `benchmarks/formats_speed.py` starts one such process a Python, ours and that of the peers.
"""

from __future__ import annotations

import functools
import importlib.metadata
import json
import pathlib
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np

Arrays = dict[str, Any]
"""means (N, 3), quats (N, 4), scales (N, 3), opacities (N,) and sh, the higher degrees: float32, activated, contiguous."""


def activated(means: Any, quats: Any, log_scales: Any, logits: Any, sh: Any) -> Arrays:
    """What a library gives raw, as renderers take it, by NumPy."""
    quats = np.array(quats, np.float32)
    quats /= np.sqrt(np.einsum("nk,nk->n", quats, quats))[:, None]
    opacities = 1 / (1 + np.exp(-np.asarray(logits, np.float32)))
    arrays = [np.ascontiguousarray(array, np.float32) for array in (means, sh)]
    return {"means": arrays[0], "quats": quats, "scales": np.exp(log_scales), "opacities": opacities, "sh": arrays[1]}


class Vivant:
    @staticmethod
    def version() -> str:
        import re

        import vivant

        manifest = pathlib.Path(vivant.__path__[0]) / "blender_manifest.toml"
        found = re.search(r'^version = "(.*)"', manifest.read_text("utf8"), re.MULTILINE)
        return found[1] if found else ""

    @staticmethod
    def read(path: str, form: str) -> Arrays:
        from vivant.backends.gaussian.formats import read_splats

        cloud = read_splats(path)
        names = ("means", "quats", "scales", "opacities")
        return {name: getattr(cloud, name) for name in names} | {"sh": cloud.sh[:, 1:]}

    @staticmethod
    @functools.cache
    def load(ply: str) -> Any:
        from vivant.backends.gaussian.formats import read_splats

        cloud = read_splats(ply)
        return cloud.replace(means=cloud.means.copy())  # changed, so that nothing is written back as it was read

    @staticmethod
    def write(cloud: Any, path: str, form: str) -> None:
        from vivant.backends.gaussian.formats import files, spz, write_splats

        if form.startswith("SPZ"):
            files.save(pathlib.Path(path), spz.encode(cloud, int(form[-1])))
        else:
            write_splats(cloud, path)


class Gsply:
    """Its default backend, NumPy and Numba, and ISA-L's gzip where that is installed."""

    backend = "python"
    ready = True

    @staticmethod
    def version() -> str:
        return importlib.metadata.version("gsply")

    @classmethod
    def raw(cls, path: str, form: str) -> Any:
        import gsply

        gsply.use_backend(cls.backend)
        if form == "SOG":
            from gsply.sog_reader import sogread

            return sogread(path)
        return gsply.read_spz(path) if form.startswith("SPZ") else gsply.plyread(path)

    @classmethod
    def read(cls, path: str, form: str) -> Arrays:
        import gsply

        data = cls.raw(path, form)
        if cls.ready:
            data = gsply.apply_pre_activations(data, inplace=True)
            data.means, data.sh0, data.shN = (np.ascontiguousarray(array) for array in (data.means, data.sh0, data.shN))
        return {"means": data.means, "quats": data.quats, "scales": data.scales, "opacities": data.opacities, "sh": data.shN}

    @classmethod
    @functools.cache
    def load(cls, ply: str) -> Any:
        import gsply

        raw = gsply.plyread(ply)
        names = ("means", "scales", "quats", "opacities", "sh0", "shN")
        arrays = [np.array(getattr(raw, name), order="C") for name in names]
        means, scales, quats, opacities, sh0, sh = arrays
        linear = (means, np.exp(scales), quats, 1 / (1 + np.exp(-opacities)), sh0, sh)
        return gsply.GSData.from_arrays(*arrays, format="ply"), linear

    @classmethod
    def write(cls, loaded: Any, path: str, form: str) -> None:
        import gsply

        data, linear = loaded
        gsply.use_backend(cls.backend)
        if form == "SOG":
            raise NotImplementedError("has no write of SOG")
        if form.startswith("SPZ"):  # takes logarithms and logits alone
            gsply.write_spz(path, data, version=int(form[-1]))
            return
        if cls.ready:
            means, scales, quats, opacities, sh0, sh = linear
            own = (means, scales.copy(), quats, opacities.copy(), sh0, sh)  # its logarithms are taken in place
            data = gsply.GSData.from_arrays(*own, format="linear")
        gsply.plywrite(path, data, compressed=form == "compressed PLY")


class GsplyCpp(Gsply):
    backend = "cpp"


class GsplyViews(Gsply):
    """The columns as they lie in the file: logarithms, logits and quaternions of any length, in one table."""

    ready = False


class GaussForge:
    names = {"PLY": "ply", "compressed PLY": "compressed.ply", "splat": "splat", "ksplat": "ksplat", "SOG": "sog"}

    @staticmethod
    def version() -> str:
        return importlib.metadata.version("gaussforge")

    @classmethod
    def raw(cls, path: str, form: str) -> Any:
        import gaussforge

        found = gaussforge.GaussForge().read(pathlib.Path(path).read_bytes(), cls.names.get(form, "spz"))
        if found.get("error"):
            raise ValueError(found["error"])
        return found["data"]

    @classmethod
    def read(cls, path: str, form: str) -> Arrays:
        data = cls.raw(path, form)
        means, quats, scales, logits, sh = (
            np.frombuffer(data[name], np.float32) for name in ("positions", "rotations", "scales", "alphas", "sh")
        )
        return activated(means.reshape(-1, 3), quats.reshape(-1, 4), scales.reshape(-1, 3), logits, sh)

    @classmethod
    @functools.cache
    def load(cls, ply: str) -> Any:
        return cls.raw(ply, "PLY")

    @classmethod
    def write(cls, data: Any, path: str, form: str) -> None:
        import gaussforge

        version = {"spz_version": int(form[-1])} if form.startswith("SPZ") else {}
        found = gaussforge.GaussForge().write(data, cls.names.get(form, "spz"), **version)
        if found.get("error"):
            raise ValueError(found["error"])
        pathlib.Path(path).write_bytes(found["data"])


class PlyFile:
    @staticmethod
    def version() -> str:
        return importlib.metadata.version("plyfile")

    @staticmethod
    def read(path: str, form: str) -> Arrays:
        import plyfile

        rows = plyfile.PlyData.read(path)["vertex"].data
        rest = [name for name in rows.dtype.names if name.startswith("f_rest_")]
        groups = (["x", "y", "z"], [f"rot_{i}" for i in range(4)], [f"scale_{i}" for i in range(3)])
        means, quats, scales, sh = (np.stack([rows[name] for name in names], axis=1) for names in (*groups, rest))
        return activated(means, quats, scales, rows["opacity"], sh)

    @staticmethod
    @functools.cache
    def load(ply: str) -> Any:
        import plyfile

        return plyfile.PlyData.read(ply)["vertex"].data

    @staticmethod
    def write(rows: Any, path: str, form: str) -> None:
        import plyfile

        plyfile.PlyData([plyfile.PlyElement.describe(rows, "vertex")]).write(path)


class Ply2Splat:
    """Its writer takes a PLY file, so reading that is in the time."""

    @staticmethod
    def version() -> str:
        return importlib.metadata.version("ply2splat")

    @staticmethod
    def read(path: str, form: str) -> Arrays:
        import ply2splat

        table = np.frombuffer(ply2splat.load_splat_file(path).to_bytes(), np.uint8).reshape(-1, 32)
        floats = table[:, :24].copy().view(np.float32)
        quats = (table[:, 28:].astype(np.float32) - 128) / 128
        means, scales = (np.ascontiguousarray(floats[:, at : at + 3]) for at in (0, 3))
        return {
            "means": means,
            "quats": quats,
            "scales": scales,
            "opacities": table[:, 27] / np.float32(255),
            "sh": floats[:, :0],
        }

    @staticmethod
    def load(ply: str) -> str:
        return ply

    @staticmethod
    def write(ply: str, path: str, form: str) -> None:
        import ply2splat

        ply2splat.convert(ply, path)


class SogPy:
    """It takes a PLY file, so reading that is in the time."""

    @staticmethod
    def version() -> str:
        return importlib.metadata.version("sogpy")

    @staticmethod
    def load(ply: str) -> str:
        return ply

    @staticmethod
    def write(ply: str, path: str, form: str) -> None:
        import SogPython

        SogPython.convert_ply_to_sog(ply, path)


class PyGltfLib:
    @staticmethod
    def version() -> str:
        return importlib.metadata.version("pygltflib")

    @staticmethod
    def read(path: str, form: str) -> Arrays:
        import pygltflib

        gltf = pygltflib.GLTF2().load(path)
        blob = gltf.binary_blob()
        found = {}
        for name, index in vars(gltf.meshes[0].primitives[0].attributes).items():
            if index is not None:
                accessor = gltf.accessors[index]
                view = gltf.bufferViews[accessor.bufferView]
                width = {"SCALAR": 1, "VEC3": 3, "VEC4": 4}[accessor.type]
                offset = (view.byteOffset or 0) + (accessor.byteOffset or 0)
                if accessor.componentType == pygltflib.FLOAT:
                    found[name] = np.frombuffer(blob, np.float32, accessor.count * width, offset).reshape(-1, width)
        means, quats, scales, logits = (
            found[name] for name in ["POSITION", *(f"KHR_gaussian_splatting:{end}" for end in ("ROTATION", "SCALE", "OPACITY"))]
        )
        sh = [array for name, array in found.items() if ":SH_DEGREE_" in name and ":SH_DEGREE_0" not in name]
        return {"means": means, "quats": quats, "scales": scales, "opacities": logits[:, 0], "sh": np.stack(sh, axis=1)}


class UsdCore:
    @staticmethod
    def version() -> str:
        return importlib.metadata.version("usd-core")

    @staticmethod
    def read(path: str, form: str) -> Arrays:
        from pxr import Usd

        stage = Usd.Stage.Open(path)
        prim = next(prim for prim in stage.Traverse() if prim.HasAttribute("positions"))
        names = ("positions", "orientations", "scales", "opacities", "radiance:sphericalHarmonicsCoefficients")
        means, quats, scales, opacities, sh = (np.array(prim.GetAttribute(name).Get(), np.float32) for name in names)
        return {
            "means": means,
            "quats": quats,
            "scales": scales,
            "opacities": opacities,
            "sh": sh.reshape(len(means), -1, 3)[:, 1:],
        }

    @staticmethod
    @functools.cache
    def load(ply: str) -> Arrays:
        import plyfile

        rows = plyfile.PlyData.read(ply)["vertex"].data
        arrays = PlyFile.read(ply, "PLY")
        base = np.stack([rows[f"f_dc_{i}"] for i in range(3)], axis=1)[:, None]
        rest = arrays["sh"].reshape(len(rows), 3, -1).transpose(0, 2, 1)
        return arrays | {"sh": np.concatenate([base, rest], axis=1).reshape(-1, 3)}

    @staticmethod
    def write(arrays: Arrays, path: str, form: str) -> None:
        from pxr import Sdf, Usd, Vt

        pathlib.Path(path).unlink(missing_ok=True)
        stage = Usd.Stage.CreateNew(path)
        prim = stage.DefinePrim("/splats", "ParticleField3DGaussianSplat")
        types = Sdf.ValueTypeNames
        for name, kind, value in (
            ("positions", types.Point3fArray, Vt.Vec3fArray.FromNumpy(arrays["means"])),
            ("orientations", types.QuatfArray, Vt.QuatfArray.FromNumpy(np.roll(arrays["quats"], -1, axis=1))),
            ("scales", types.Float3Array, Vt.Vec3fArray.FromNumpy(arrays["scales"])),
            ("opacities", types.FloatArray, Vt.FloatArray.FromNumpy(arrays["opacities"])),
            ("radiance:sphericalHarmonicsCoefficients", types.Float3Array, Vt.Vec3fArray.FromNumpy(arrays["sh"])),
        ):
            prim.CreateAttribute(name, kind).Set(value)
        stage.GetRootLayer().Save()


LIBRARIES: dict[str, Any] = {
    "Vivant": Vivant,
    "gsply": Gsply,
    "gsply C++": GsplyCpp,
    "gsply views": GsplyViews,
    "gaussforge": GaussForge,
    "plyfile": PlyFile,
    "ply2splat": Ply2Splat,
    "sogpy": SogPy,
    "pygltflib": PyGltfLib,
    "usd-core": UsdCore,
}


CALLS, ENOUGH = 3, 3.0
"""Calls a task, and seconds after which there is no further one."""


def timed(call: Callable[[], Any]) -> tuple[float, Any]:
    """The least time of a few calls, each without what the one before it left in memory, and the last one's result."""
    least, spent, result = float("inf"), 0.0, None
    for _ in range(CALLS):
        result = None
        start = time.perf_counter()
        result = call()
        took = time.perf_counter() - start
        least, spent = min(least, took), spent + took
        if spent > ENOUGH:
            break
    return least, result


def answer(task: dict[str, Any]) -> dict[str, Any]:
    library = LIBRARIES[task["library"]]
    if task["action"] == "version":
        return {"version": library.version()}
    if not hasattr(library, task["action"]):
        return {"absent": f"has no {task['action']}"}
    if task["action"] == "read":
        seconds, arrays = timed(lambda: library.read(task["path"], task["format"]))
        sums = {name: float(np.abs(arrays[name]).mean(dtype=np.float64)) if arrays[name].size else 0.0 for name in arrays}
        return {"seconds": seconds, "count": len(arrays["means"]), "sums": sums}
    data = library.load(task["source"])
    return {"seconds": timed(lambda: library.write(data, task["path"], task["format"]))[0]}


def main() -> None:
    for line in sys.stdin:
        try:
            found = answer(json.loads(line))
        except Exception as error:  # of whatever kind a library raises: it is told, and the next task may go well
            found = {"absent": f"{type(error).__name__}: {str(error)[:200]}"}
        print("ANSWER", json.dumps(found), flush=True)


if __name__ == "__main__":
    main()
