# SPDX-License-Identifier: GPL-3.0-or-later
"""USD files of splats against Pixar's own library, which comes with Blender: what one writes, the other reads."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.backends.common.rotations import normalise
from vivant.backends.gaussian.cloud import Source, SplatCloud
from vivant.backends.gaussian.formats import read_splats, usd
from vivant.backends.gaussian.motion.stg import Stg

NAME = "radiance:sphericalHarmonicsCoefficients"
CONTAINERS = [".usdc", ".usda", ".usdz"]


@pytest.fixture(scope="module")
def pxr():
    """Pixar's library, which Blender as a module does not put on the path."""
    version = "{}.{}".format(*sys.version_info)
    places = pathlib.Path(bpy.utils.resource_path("LOCAL")).glob(f"python/lib/python{version}/site-packages")
    sys.path += [str(place) for place in places]
    return pytest.importorskip("pxr", reason="this Blender has no Python module of USD").__name__


def normal(rng, *shape):
    return rng.normal(size=shape).astype(np.float32)


def random_cloud(degree=2, count=300, moving=False):
    rng = np.random.default_rng(degree)
    family = None
    if moving:
        center, width = rng.uniform(0, 1, count).astype(np.float32), rng.uniform(0.1, 1, count).astype(np.float32)
        family = Stg(normal(rng, count, 3, 3), normal(rng, count, 4), center, width)
    return SplatCloud(
        normal(rng, count, 3),
        normalise(normal(rng, count, 4)),
        np.exp(normal(rng, count, 3) - 3),
        rng.uniform(0, 1, count),
        normal(rng, count, (degree + 1) ** 2, 3),
        family=family,
        source=Source(axes="RUB"),
    )


def value(prim, name, time):
    return np.array(prim.GetAttribute(name).Get(time))


def check_equal(prim, cloud, time):
    np.testing.assert_array_equal(value(prim, "positions", time), cloud.means)
    np.testing.assert_array_equal(np.roll(value(prim, "orientations", time), 1, axis=1), cloud.quats)
    np.testing.assert_array_equal(value(prim, "scales", time), cloud.scales)
    np.testing.assert_array_equal(value(prim, "opacities", time), cloud.opacities)
    np.testing.assert_array_equal(value(prim, NAME, time).reshape(cloud.sh.shape), cloud.sh)


@pytest.mark.parametrize("container", CONTAINERS)
@pytest.mark.parametrize("degree", [0, 3, 4])
def test_its_library_reads_every_number_of_ours(pxr, tmp_path, container, degree):
    from pxr import Usd, UsdGeom

    cloud = random_cloud(degree)
    usd.write(cloud, tmp_path / f"a{container}")
    stage = Usd.Stage.Open(str(tmp_path / f"a{container}"))
    prim = stage.GetDefaultPrim()
    assert prim.GetTypeName() == "ParticleField3DGaussianSplat"
    assert UsdGeom.GetStageUpAxis(stage) == "Y" and UsdGeom.GetStageMetersPerUnit(stage) == 1
    assert prim.GetAttribute("radiance:sphericalHarmonicsDegree").Get() == degree
    assert prim.GetAttribute(NAME).GetMetadata("elementSize") == (degree + 1) ** 2
    assert {str(attribute.GetTypeName()) for attribute in prim.GetAttributes() if attribute.IsAuthored()} == {
        "float3[]", "point3f[]", "quatf[]", "float[]", "int",
    }  # fmt: skip
    check_equal(prim, cloud, Usd.TimeCode.Default())


@pytest.mark.parametrize("container", CONTAINERS)
def test_its_library_plays_our_samples(pxr, tmp_path, container):
    from pxr import Usd

    cloud = random_cloud(1, 60, moving=True)
    times = np.linspace(0, 1, 12)
    usd.write(cloud, tmp_path / f"a{container}", times)
    stage = Usd.Stage.Open(str(tmp_path / f"a{container}"))
    assert (stage.GetStartTimeCode(), stage.GetEndTimeCode(), stage.GetTimeCodesPerSecond()) == (1, 12, 24)
    prim = stage.GetDefaultPrim()
    assert prim.GetAttribute("positions").GetTimeSamples() == list(range(1, 13))
    assert not prim.GetAttribute("scales").GetTimeSamples(), "what stays the same has no samples"
    for code in (1, 7, 12):
        check_equal(prim, cloud.at(times[code - 1]), code)


def test_its_validators_find_nothing(pxr, tmp_path):
    validation = pytest.importorskip("pxr.UsdValidation", reason="this version of USD has no validators")
    from pxr import Usd

    for container in CONTAINERS:
        usd.write(random_cloud(1, 60, moving=True), tmp_path / f"a{container}")
        context = validation.ValidationContext(validation.ValidationRegistry().GetOrLoadAllValidators())
        found = context.Validate(Usd.Stage.Open(str(tmp_path / f"a{container}")))
        assert [error.GetMessage() for error in found] == []


@pytest.mark.parametrize("container", [".usdc", ".usda"])
@pytest.mark.parametrize("half", [False, True])
def test_we_read_what_its_library_writes(pxr, tmp_path, container, half):
    from pxr import Gf, Sdf, Usd, UsdGeom, Vt

    cloud = random_cloud(1, 500)
    kinds = Sdf.ValueTypeNames
    arrays = [
        ("positions", kinds.Point3hArray if half else kinds.Point3fArray, cloud.means),
        ("scales", kinds.Half3Array if half else kinds.Float3Array, cloud.scales),
        ("opacities", kinds.HalfArray if half else kinds.FloatArray, np.round(cloud.opacities, 2)),
        (NAME, kinds.Half3Array if half else kinds.Float3Array, cloud.sh.reshape(-1, 3)),
    ]
    stage = Usd.Stage.CreateNew(str(tmp_path / f"a{container}"))
    UsdGeom.SetStageUpAxis(stage, "Z")
    prim = stage.DefinePrim("/World/Field/Splats", "ParticleField3DGaussianSplat")
    for name, kind, array in arrays:
        given = array.astype(np.float16) if half else array.astype(np.float32)
        array_class = {1: (Vt.FloatArray, Vt.HalfArray), 2: (Vt.Vec3fArray, Vt.Vec3hArray)}[given.ndim][half]
        prim.CreateAttribute(name + "h" * half, kind, False).Set(array_class.FromNumpy(np.ascontiguousarray(given)))
    quats = [(Gf.Quath if half else Gf.Quatf)(*(float(number) for number in quat)) for quat in cloud.quats]
    kind, array_class = (kinds.QuathArray, Vt.QuathArray) if half else (kinds.QuatfArray, Vt.QuatfArray)
    prim.CreateAttribute("orientations" + "h" * half, kind, False).Set(array_class(quats))
    prim.CreateAttribute("radiance:sphericalHarmonicsDegree", kinds.Int, False).Set(1)
    stage.Save()

    again = read_splats(tmp_path / f"a{container}")
    step = 2e-3 if half else 1e-6
    assert again.source.axes == "RFU" and again.degree == 1 and not again.source.repairs
    np.testing.assert_allclose(again.means, cloud.means, rtol=step, atol=step / 100)
    np.testing.assert_allclose(again.scales, cloud.scales, rtol=step)
    np.testing.assert_allclose(again.opacities, np.round(cloud.opacities, 2), atol=step)
    np.testing.assert_allclose(again.sh, cloud.sh, rtol=step, atol=step / 100)
    np.testing.assert_allclose(np.abs(np.einsum("nk,nk->n", again.quats, cloud.quats)), 1, atol=step)


@pytest.mark.parametrize("container", [".usdc", ".usda"])
def test_we_play_samples_that_its_library_writes(pxr, tmp_path, container):
    from pxr import Sdf, Usd, Vt

    rng = np.random.default_rng(0)
    stage = Usd.Stage.CreateNew(str(tmp_path / f"a{container}"))
    prim = stage.DefinePrim("/S", "ParticleField3DGaussianSplat")
    frames = {time: normal(rng, 40, 3) for time in (-3.5, 0.0, 10.0)}
    positions = prim.CreateAttribute("positions", Sdf.ValueTypeNames.Point3fArray, False)
    for time, means in frames.items():
        positions.Set(Vt.Vec3fArray.FromNumpy(means), time)
    opacities = prim.CreateAttribute("opacities", Sdf.ValueTypeNames.FloatArray, False)
    opacities.Set(Vt.FloatArray.FromNumpy(np.full(40, 0.5, np.float32)))
    scales = prim.CreateAttribute("scales", Sdf.ValueTypeNames.Float3Array, False)
    scales.Set(Vt.Vec3fArray.FromNumpy(np.ones((40, 3), np.float32)), 0.0)
    stage.Save()

    cloud = read_splats(tmp_path / f"a{container}")
    assert cloud.family.times.tolist() == [-3.5, 0, 10]
    for time, means in frames.items():
        np.testing.assert_allclose(cloud.at(time).means, means, atol=1e-6)
    for time in (-1.0, 2.5):
        np.testing.assert_allclose(cloud.at(time).means, value(prim, "positions", time), atol=1e-5)
