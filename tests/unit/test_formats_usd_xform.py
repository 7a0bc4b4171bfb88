# SPDX-License-Identifier: GPL-3.0-or-later
"""Transforms on a USD file's splats and above them; where Pixar's own library is installed, it is the oracle."""

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.formats import read_splats, write_splats
from vivant.backends.gaussian.formats.usd import SCHEMA

SPLATS = """            point3f[] positions = [(1, 2, 3), (0, 0, 1)]
            quatf[] orientations = [(1, 0, 0, 0), (1, 0, 0, 0)]
            float3[] scales = [(0.1, 0.2, 0.3), (0.1, 0.1, 0.1)]
            float[] opacities = [0.5, 0.6]
            color3f[] primvars:displayColor = [(1, 0, 0), (0, 1, 0)]
"""
KINDS = {"translate": "double3", "scale": "float3", "orient": "quatf", "transform": "matrix4d"}


def stage(own="", above="", metres=1.0):
    """A stage of two splats within two prims, the outer one without a type."""
    return f"""#usda 1.0
(
    metersPerUnit = {metres}
    upAxis = "Y"
)

def "World" (
    kind = "group"
)
{{
{above}
    def Xform "Room"
    {{
        def {SCHEMA} "Splats"
        {{
{own}
{SPLATS}        }}
        def Scope "Other"
        {{
        }}
    }}
}}
"""


def operations(**named):
    """Lines of attributes, and of their order."""
    lines = []
    for name, value in named.items():
        kind = KINDS.get(name.partition("__")[0], "float3" if len(name) == len("rotateXYZ") else "float")
        lines.append(f"{kind} xformOp:{name.replace('__', ':')} = {value}")
    order = ", ".join(f'"xformOp:{name.replace("__", ":")}"' for name in named)
    return "\n".join([*lines, f"uniform token[] xformOpOrder = [{order}]"])


def read(tmp_path, text):
    (tmp_path / "a.usda").write_text(text)
    return read_splats(tmp_path / "a.usda")


POINTS = np.array([[1.0, 2, 3], [0, 0, 1]])


def test_a_prim_is_where_its_own_and_all_outer_transforms_put_it(tmp_path):
    own = operations(translate="(1, 0, 0)", rotateZ="90", scale="(2, 2, 2)")
    above = operations(translate="(0, 10, 0)")
    cloud = read(tmp_path, stage(own, above))
    turn = np.array([[0, -1, 0], [1, 0, 0], [0, 0, 1]])
    np.testing.assert_allclose(cloud.means, POINTS @ (2 * turn).T + (1, 10, 0), atol=1e-6)
    expected = 4 * turn @ np.diag([0.01, 0.04, 0.09]) @ turn.T
    np.testing.assert_allclose(covariances(cloud.quats, cloud.scales)[0], expected, atol=1e-6)
    assert not cloud.source.warnings


def test_the_stage_s_unit_scales_its_transforms_too(tmp_path):
    cloud = read(tmp_path, stage(operations(translate="(100, 0, 0)"), metres=0.01))
    np.testing.assert_allclose(cloud.means, POINTS / 100 + (1, 0, 0), atol=1e-6)


def test_pivots_are_undone_and_stacks_reset(tmp_path):
    own = """double3 xformOp:translate:pivot = (1, 2, 3)
float3 xformOp:rotateXYZ = (0, 0, 180)
uniform token[] xformOpOrder = [
    "!resetXformStack!", "xformOp:translate:pivot", "xformOp:rotateXYZ", "!invert!xformOp:translate:pivot"
]"""
    cloud = read(tmp_path, stage(own, operations(scale="(5, 5, 5)")))
    np.testing.assert_allclose(cloud.means, [[1, 2, 3], [2, 4, 1]], atol=1e-6)


def test_sampled_transforms_move_the_cloud(tmp_path):
    own = """double3 xformOp:translate.timeSamples = {
    1: (0, 0, 0),
    5: (4, 0, 8),
}
uniform token[] xformOpOrder = ["xformOp:translate"]"""
    cloud = read(tmp_path, stage(own))
    assert cloud.family.time_range == (1, 5)
    for time, shift in ((1, (0, 0, 0)), (3.5, (2.5, 0, 5)), (5, (4, 0, 8))):
        np.testing.assert_allclose(cloud.at(time).means, POINTS + shift, atol=1e-6)


def test_transforms_that_are_listed_but_not_there_or_unknown_are_refused(tmp_path):
    with pytest.raises(BrokenFile, match="listed, but not there"):
        read(tmp_path, stage('uniform token[] xformOpOrder = ["xformOp:translate"]'))
    with pytest.raises(UnsupportedFormat, match="skew"):
        read(tmp_path, stage('float3 xformOp:skew = (1, 2, 3)\nuniform token[] xformOpOrder = ["xformOp:skew"]'))
    with pytest.raises(BrokenFile, match="no 3 numbers"):
        read(tmp_path, stage(operations(translate="(1, 2)")))
    text = operations(scale="(1, 0, 1)").replace('"xformOp:scale"', '"!invert!xformOp:scale"')
    with pytest.raises(BrokenFile, match="inverse"):
        read(tmp_path, stage(text))


def test_a_file_with_transforms_is_written_back_byte_for_byte(tmp_path):
    cloud = read(tmp_path, stage(operations(rotateY="30")))
    with pytest.raises(ValueError, match="read-only"):
        cloud.means[0] = 0
    write_splats(cloud, tmp_path / "b.usda")
    assert (tmp_path / "b.usda").read_bytes() == (tmp_path / "a.usda").read_bytes()


@pytest.mark.parametrize("extension", [".usda", ".usdc"])
@pytest.mark.parametrize("seed", range(12))
def test_pixar_s_library_puts_every_stack_of_transforms_at_the_same_place(tmp_path, extension, seed):
    pxr = pytest.importorskip("pxr")
    from pxr import Gf, Usd, UsdGeom

    rng = np.random.default_rng(seed)
    path = str(tmp_path / f"a{extension}")
    made = Usd.Stage.CreateNew(path)
    UsdGeom.SetStageUpAxis(made, "Y")
    UsdGeom.SetStageMetersPerUnit(made, 1.0)
    prims = [UsdGeom.Xform.Define(made, "/A"), UsdGeom.Xform.Define(made, "/A/B")]
    splats = made.DefinePrim("/A/B/S", SCHEMA)
    prims.append(UsdGeom.Xformable(splats))
    points = rng.normal(size=(5, 3)).astype(np.float32)
    UsdGeom.Points(splats).CreatePointsAttr()
    splats.GetAttribute("positions").Set(points) if splats.HasAttribute("positions") else splats.CreateAttribute(
        "positions", pxr.Sdf.ValueTypeNames.Point3fArray
    ).Set(points)
    orders = ["XYZ", "XZY", "YXZ", "YZX", "ZXY", "ZYX"]
    sampled = seed % 3 == 0
    for prim in prims:
        for index in range(rng.integers(0, 5)):
            whole = rng.random() < 0.3  # small whole numbers are stored in another way
            numbers = rng.integers(-3, 4, 16).astype(float) + 0.0 if whole else rng.normal(size=16)
            kind, suffix = rng.integers(6), f"s{index}"
            if kind == 0:
                op, values = prim.AddTranslateOp(opSuffix=suffix), lambda n: Gf.Vec3d(*n[:3])
            elif kind == 1:
                op, values = prim.AddScaleOp(opSuffix=suffix), lambda n: Gf.Vec3f(*(np.abs(n[:3]) + 1))
            elif kind == 2:
                op, values = prim.AddOrientOp(opSuffix=suffix), lambda n: Gf.Quatf(*(n[:4] / np.linalg.norm(n[:4] + 1e-9)))
            elif kind == 3:
                diagonal = lambda n: Gf.Matrix4d(*np.diag([*(np.abs(n[:3]) + 1), 1]).ravel())  # noqa: E731
                general = lambda n: Gf.Matrix4d(*np.column_stack([n.reshape(4, 4)[:, :3], [0, 0, 0, 1]]).ravel())  # noqa: E731
                op, values = prim.AddTransformOp(opSuffix=suffix), diagonal if whole else general
            elif kind == 4:
                op = getattr(prim, f"AddRotate{'XYZ'[rng.integers(3)]}Op")(opSuffix=suffix)
                values = lambda n: float(50 * n[0])  # noqa: E731
            else:
                op = getattr(prim, f"AddRotate{orders[rng.integers(6)]}Op")(opSuffix=suffix)
                values = lambda n: Gf.Vec3f(*(30 * n[:3]))  # noqa: E731
            if sampled and kind != 2:
                op.Set(values(numbers), 1)
                op.Set(values(numbers + 1), 4)
            else:
                op.Set(values(numbers))
    made.GetRootLayer().Save()
    cloud = read_splats(path)
    for time in (1, 2, 3, 4) if cloud.family else (1,):
        world = np.array(prims[-1].ComputeLocalToWorldTransform(time))
        expected = points @ world[:3, :3] + world[3, :3]
        found = cloud.at(time).means
        np.testing.assert_allclose(found, expected, rtol=2e-5, atol=2e-5 * np.abs(expected).max())
