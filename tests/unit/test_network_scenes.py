# SPDX-License-Identifier: GPL-3.0-or-later
"""Folders of scenes that networks move, and checkpoints of trainers, made in the test and read again."""

import contextlib
import pathlib
import sys

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.gaussian.axes import change_axes, to_blender
from vivant.backends.gaussian.covariance import covariances
from vivant.backends.gaussian.edit.colour import recoloured
from vivant.backends.gaussian.formats import Overrides, checkpoint, decode, network_scene, ply, read_splats
from vivant.backends.gaussian.motion.control_nodes import ControlNodes
from vivant.backends.gaussian.motion.deformation import Deformable
from vivant.backends.gaussian.motion.hexplane import HexPlane
from vivant.backends.gaussian.motion.ndgs import Ndgs
from vivant.backends.gaussian.motion.refined import Refined
from vivant.backends.gaussian.motion.rotor4d import Rotor4D, cut

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from network_weights import control_nodes, deformation_shapes, golden_hexplane, hexplane_shapes, still_cloud, waves
from torch_files import Named, saved

LENGTHS = np.float32([0.5, 1, 2, 3])


def write_ply(path, cloud, lengths=None, **columns):
    """A 3DGS PLY with quaternions of given lengths and more columns."""
    names = [
        "x",
        "y",
        "z",
        "f_dc_0",
        "f_dc_1",
        "f_dc_2",
        "opacity",
        "scale_0",
        "scale_1",
        "scale_2",
        *(f"rot_{i}" for i in range(4)),
    ]
    quats = cloud.quats * (np.ones(len(cloud)) if lengths is None else lengths)[:, None]
    table = [cloud.means, cloud.sh[:, 0], ply.logit(cloud.opacities)[:, None], np.log(cloud.scales), quats, *columns.values()]
    names += columns
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(cloud)}"]
    header += [f"property float {name}" for name in names] + ["end_header", ""]
    path.parent.mkdir(parents=True, exist_ok=True)
    rows = np.column_stack([np.asarray(part, np.float32).reshape(len(cloud), -1) for part in table])
    path.write_bytes("\n".join(header).encode() + rows.astype("<f4").tobytes())


def scene(folder, weights, iteration=30000, beside=False, told="", **columns):
    """A trained scene's folder."""
    cloud = still_cloud(coefficients=1)
    splats = folder / "point_cloud" / f"iteration_{iteration}" / "point_cloud.ply"
    write_ply(splats, cloud, LENGTHS, **columns)
    network = splats.with_name("deformation.pth") if beside else folder / "deform" / f"iteration_{iteration}" / "deform.pth"
    network.parent.mkdir(parents=True, exist_ok=True)
    network.write_bytes(saved(weights))
    if told:
        (folder / "cfg_args").write_text(told)
    return cloud


@pytest.mark.parametrize("screw", [False, True])
def test_a_folder_of_deformable_3d_gaussians_moves_by_its_network(tmp_path, screw):
    cloud = scene(tmp_path, waves(deformation_shapes(screw=screw), 0.05))
    read = network_scene.read(tmp_path)
    assert isinstance(read.family, Deformable)
    np.testing.assert_allclose(read.quats, cloud.quats, atol=1e-6)
    if not screw:
        shifts = read.at(0.25).means - read.means
        np.testing.assert_allclose(
            shifts[:2], [(-0.076047, -0.137858, -0.168671), (-0.075981, -0.137837, -0.168700)], atol=2e-6
        )


def small_hexplane(channels=4):
    weights = waves(hexplane_shapes(8, channels, 4, 3), 0.05)
    weights["deformation_net.grid.aabb"] = golden_hexplane()["deformation_net.grid.aabb"]
    return weights


FLAGS = "no_dx=False, no_ds=False, no_dr=False, no_do={}, no_dshs={}"


def test_a_folder_of_4d_gs_changes_what_its_settings_say(tmp_path):
    scene(tmp_path, small_hexplane(), beside=True, told=f"Namespace({FLAGS.format(False, True)}, lambda_x=-0.5, f=lambda: 1)")
    read = network_scene.read(tmp_path)
    assert isinstance(read.family, HexPlane)
    assert read.family.heads == ("pos_deform", "scales_deform", "rotations_deform", "opacity_deform")
    np.testing.assert_allclose(read.family.lengths, LENGTHS, rtol=1e-6)
    assert read.source.warnings == ()


@pytest.mark.parametrize(("channels", "moves"), [(4, False), (16, True)])
def test_4d_gs_without_settings_says_what_was_assumed(tmp_path, channels, moves):
    scene(tmp_path, small_hexplane(channels), beside=True)
    read = network_scene.read(tmp_path)
    assert ("shs_deform" in read.family.heads) == ("opacity_deform" in read.family.heads) == moves
    assert "does not say whether opacities and colours move" in read.source.warnings[0]
    with pytest.raises(VivantError, match="network") if moves else contextlib.nullcontext():
        recoloured(read, np.eye(3) / 2)


@pytest.mark.parametrize("told", ["", f"Namespace({FLAGS.format(True, True)})"])
def test_the_user_knows_better_what_a_network_of_4d_gs_moves(tmp_path, told):
    scene(tmp_path, small_hexplane(), beside=True, told=told)
    read = read_splats(tmp_path, Overrides(opacities_move=True, colours_move=False))
    assert "opacity_deform" in read.family.heads and "shs_deform" not in read.family.heads
    assert not read.source.warnings
    assert Overrides.of(read.source.details["overrides"]) == Overrides(opacities_move=True, colours_move=False)


def test_settings_are_parsed_and_never_run(tmp_path):
    trap = tmp_path / "sprung"
    text = f"Namespace(a=1, b='text', c=True, d=-2.5, e=[1], f=__import__('os').system('touch {trap}'), g=None)"
    (tmp_path / "cfg_args").write_text(text)
    assert network_scene.settings(tmp_path / "cfg_args") == {"a": 1, "b": "text", "c": True, "d": -2.5, "e": [1], "g": None}
    assert not trap.exists()
    for broken in ("", "Namespace(", "x" * 300_000, "(" * 5000, "Namespace(a=-None)", "\0"):
        (tmp_path / "cfg_args").write_text(broken)
        assert network_scene.settings(tmp_path / "cfg_args") == {}
    assert network_scene.settings(tmp_path / "nothing") == {}


@pytest.mark.parametrize("masked", [False, True])
def test_a_folder_of_sc_gs_follows_its_nodes(tmp_path, masked):
    features = {f"fea_{i}": np.linspace(0, 0.1, 4) for i in range(2)}
    if masked:
        features["fea_2"] = np.float32([-100, 100, 0, 0])
    scene(tmp_path, control_nodes(), **features)
    read = network_scene.read(tmp_path)
    assert isinstance(read.family, ControlNodes)
    assert not read.extras
    assert read.source.warnings == ()
    expected = [0, 1, 0.5, 0.5] if masked else [1, 1, 1, 1]
    np.testing.assert_allclose(read.family.share.sum(axis=1), expected, atol=1e-6)
    moved = read.at(0.25).means - read.means
    assert np.abs(moved[1]).max() > 1e-3
    assert masked == bool(np.abs(moved[0]).max() < 1e-6)


def test_nodes_whose_features_do_not_fit_are_refused(tmp_path):
    scene(tmp_path, control_nodes(), fea_0=np.zeros(4))
    with pytest.raises(BrokenFile, match="1 columns of features"):
        network_scene.read(tmp_path)


def test_a_scene_is_found_from_its_folder_and_from_files_in_it(tmp_path):
    for iteration in (7000, 30000):
        scene(tmp_path, waves(deformation_shapes(), 0.05), iteration)
    (tmp_path / "point_cloud" / "coarse_iteration_3000").mkdir()
    last, first = (tmp_path / "point_cloud" / f"iteration_{i}" / "point_cloud.ply" for i in (30000, 7000))
    for path in (tmp_path, tmp_path / "point_cloud", last, last.parent, tmp_path / "deform" / "iteration_30000" / "deform.pth"):
        assert network_scene.find(path).splats == last
    assert network_scene.find(first).splats == first
    assert network_scene.find(tmp_path / "deform" / "iteration_7000" / "deform.pth").splats == first
    assert network_scene.find(tmp_path.parent) is None


def test_bytes_are_what_they_are_wherever_the_program_runs(tmp_path, monkeypatch):
    scene(tmp_path, waves(deformation_shapes(), 0.05))
    file = tmp_path / "point_cloud" / "iteration_30000" / "point_cloud.ply"
    monkeypatch.chdir(tmp_path)
    assert decode(np.frombuffer(file.read_bytes(), np.uint8)).source.format == ply.NAME


def test_a_scene_without_a_known_network_is_named(tmp_path):
    scene(tmp_path, {"something.weight": np.ones(3)})
    with pytest.raises(UnsupportedFormat, match="no method that Vivant knows"):
        network_scene.read(tmp_path)
    (tmp_path / "deform" / "iteration_30000" / "deform.pth").write_bytes(b"\x80\x02}q\x00.")
    with pytest.raises(UnsupportedFormat, match=r"before 1\.6"):
        network_scene.read(tmp_path)


def capture(dimensions=4, count=6, turning=True, seed=1):
    """What the trainers' capture() gives, by name and as the tuple."""
    random = np.random.default_rng(seed)

    def normal(*shape):
        return random.normal(size=(count, *shape)).astype(np.float32)

    named = {"xyz": normal(3), "features_dc": normal(1, 3), "features_rest": normal(15, 3), "scaling": normal(3) * 0.1 - 2}
    named |= {"rotation": normal(4), "opacity": normal(1)}
    state = (3, *named.values(), np.zeros(count, np.float32), np.zeros((count, 1), np.float32))
    optimiser = {"state": {0: {"exp_avg": normal(3)}}, "param_groups": [{"lr": 1e-4, "betas": (0.9, 0.999)}]}
    if dimensions == 3:
        return named, (*state, np.zeros((count, 1)), optimiser, 4.5)
    named |= {"t": random.uniform(0.1, 0.9, (count, 1)).astype(np.float32), "scaling_t": normal(1) - 2, "rotation_r": normal(4)}
    more = (named["t"], named["scaling_t"], named["rotation_r"], turning, None, 0)
    number = Named("numpy.core.multiarray", "scalar", "f8", b"")
    return named, (*state, np.zeros((count, 1)), np.zeros((count, 1)), optimiser, number, *more)


def read_checkpoint(value):
    return checkpoint.decode(np.frombuffer(saved(value), np.uint8))


def test_a_checkpoint_of_4dgs_moves_as_its_four_dimensional_gaussians_do():
    named, state = capture()
    cloud = read_checkpoint((state, 30000))
    assert isinstance(cloud.family, Rotor4D)
    scales = np.exp(np.column_stack([named["scaling"], named["scaling_t"]]))
    _, sizes, velocity, variance = cut(named["rotation"], named["rotation_r"], scales)
    np.testing.assert_allclose(cloud.family.velocity, velocity, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(np.sort(cloud.scales), np.sort(sizes), rtol=1e-4)
    np.testing.assert_allclose(cloud.family.width, np.sqrt(2 * variance), rtol=1e-4)
    np.testing.assert_array_equal(cloud.family.center, named["t"][:, 0])
    np.testing.assert_array_equal(cloud.means, named["xyz"])
    np.testing.assert_allclose(cloud.sh[:, 1:], named["features_rest"], atol=1e-6)
    np.testing.assert_allclose(cloud.sh[:, 0], named["features_dc"][:, 0], atol=1e-6)


def test_a_4dgs_checkpoint_without_turns_keeps_its_shapes_and_one_of_3dgs_stands_still():
    named, state = capture(turning=False)
    cloud = read_checkpoint((state, 1))
    np.testing.assert_allclose(cloud.scales, np.exp(named["scaling"]), rtol=1e-5)
    assert not cloud.family.velocity.any()
    named, state = capture(3)
    cloud = read_checkpoint((state, 1))
    assert cloud.family is None
    np.testing.assert_allclose(cloud.opacities, 1 / (1 + np.exp(-named["opacity"][:, 0])), rtol=1e-5)


def test_checkpoints_in_dictionaries_are_read_too():
    named, _ = capture()
    assert isinstance(read_checkpoint(named).family, Rotor4D)
    splats = {
        "means": named["xyz"],
        "scales": named["scaling"],
        "quats": named["rotation"],
        "opacities": named["opacity"][:, 0],
    }
    splats |= {"sh0": named["features_dc"], "shN": named["features_rest"]}
    cloud = read_checkpoint({"step": 29999, "splats": splats})
    np.testing.assert_array_equal(cloud.means, named["xyz"])
    assert cloud.degree == 3


@pytest.mark.parametrize(
    "value",
    [
        {"linear.0.weight": np.ones(3, np.float32)},
        {"mlp1.weight": np.ones(3, np.float32), "mlp2.weight": np.ones(3, np.float32)},
        [1, 2],
        (1, 2),
        np.ones(3),
        {"xyz": np.ones((3, 3), np.float32)},
        capture()[0] | {"opacity": np.ones((5, 1), np.float32)},
        capture()[0] | {"xyz": np.ones((6, 4), np.float32)},
        capture()[0] | {"features_rest": np.ones((6, 15, 2), np.float32)},
        capture()[0] | {"rotation": np.ones((6, 4), np.int64)},
    ],
)
def test_files_without_splats_and_with_odd_shapes_are_refused(value):
    with pytest.raises(VivantError):
        read_checkpoint(value)


def test_all_of_it_is_opened_as_any_other_file_is(tmp_path):
    scene(tmp_path / "moving", waves(deformation_shapes(), 0.05))
    for path in (tmp_path / "moving", tmp_path / "moving" / "point_cloud" / "iteration_30000" / "point_cloud.ply"):
        assert isinstance(read_splats(path).family, Deformable)
    (tmp_path / "chkpnt30000.pth").write_bytes(saved((capture()[1], 30000)))
    assert isinstance(read_splats(tmp_path / "chkpnt30000.pth").family, Rotor4D)
    (tmp_path / "network.pth").write_bytes(saved(waves(deformation_shapes(), 0.05)))
    with pytest.raises(UnsupportedFormat, match="network of a scene without its splats"):
        read_splats(tmp_path / "network.pth")


def test_full_spacetime_gaussians_are_read_with_the_network_beside_them(tmp_path):
    cloud = still_cloud(coefficients=1)
    columns = {
        name: np.zeros(4) for name in ("f_dc_3", "f_dc_4", "f_dc_5", "f_t_0", "f_t_1", "f_t_2", "trbf_center", "trbf_scale")
    }
    columns |= {f"motion_{i}": np.zeros(4) for i in range(9)} | {f"omega_{i}": np.zeros(4) for i in range(4)}
    write_ply(tmp_path / "full.ply", cloud, **columns)
    assert read_splats(tmp_path / "full.ply").family.decoder is None
    layers = {"mlp1.weight": np.ones((6, 12, 1, 1)), "mlp2.weight": np.ones((3, 6, 1, 1))}
    (tmp_path / "full.pt").write_bytes(saved(layers))
    read = read_splats(tmp_path / "full.ply")
    assert read.family.decoder is not None
    assert not any("(.pt)" in text for text in read.source.warnings)
    np.testing.assert_array_equal(read.family.decoder.hidden, layers["mlp1.weight"][:, :, 0, 0])
    np.testing.assert_array_equal(read.family.decoder.output, layers["mlp2.weight"][:, :, 0, 0])
    assert np.abs(read.at(0.5, camera=(5, 5, 5)).sh - read.at(0.5).sh).max() > 0.1
    (tmp_path / "full.pt").write_bytes(saved({"mlp1.weight": np.ones(3)}))
    with pytest.raises(BrokenFile, match=r"full\.pt"):
        read_splats(tmp_path / "full.ply")


def refined_columns(count=4, seed=9):
    """7D Gaussians, raw."""
    random = np.random.default_rng(seed)
    names = ["mean_view_0", "mean_view_1", "mean_view_2", "mean_time_0", "lambda_opc", "lambda_opc_time"]
    columns = {name: random.normal(size=count) for name in names}
    columns |= {f"scale_{i}": random.normal(-1.5, 0.3, count) for i in range(7)}
    return columns | {f"l_triangle_{i}": random.normal(size=count) for i in range(21)}


def refinement(size=0.05, waves=6, width=64, seed=2):
    random = np.random.default_rng(seed)
    weights = {}
    for name, outputs in {"mean": 3, "time": 1, "view": 3, "shape": 28}.items():
        for place, (rows, inputs) in {0: (width, 7 + 2 * waves), 2: (outputs, width)}.items():
            weights[f"refine.{name}.{place}.weight"] = (size * random.normal(size=(rows, inputs))).astype(np.float32)
            weights[f"refine.{name}.{place}.bias"] = (size * random.normal(size=rows)).astype(np.float32)
    return weights


def refined_scene(folder, weights):
    cloud = still_cloud(coefficients=1)
    columns = refined_columns()
    names = [f"scale_{i}" for i in range(3)]
    write_ply(
        folder / "seven.ply", cloud.replace(scales=np.exp(np.column_stack([columns.pop(name) for name in names]))), **columns
    )
    (folder / "seven.pt").write_bytes(saved(weights))
    return folder / "seven.ply"


def test_a_refinement_that_says_nothing_leaves_7d_gaussians_as_they_are(tmp_path):
    path = refined_scene(tmp_path, {name: 0 * value for name, value in refinement().items()})
    refined = read_splats(path)
    assert isinstance(refined.family, Refined)
    path.with_suffix(".pt").unlink()
    plain = read_splats(path)
    assert isinstance(plain.family, Ndgs)
    for time, camera in ((0.3, (2, 1, -4)), (0.9, None)):
        a, b = refined.at(time, camera), plain.at(time, camera)
        np.testing.assert_allclose(a.means, b.means, atol=1e-5)
        np.testing.assert_allclose(a.opacities, b.opacities, atol=1e-5)
        np.testing.assert_allclose(covariances(a.quats, a.scales), covariances(b.quats, b.scales), rtol=1e-4, atol=1e-6)


def test_a_refined_splat_is_the_cut_of_its_corrected_covariance(tmp_path):
    """Against the formulas written out for each splat, with an inverse instead of a factor, in float64."""
    weights = refinement()
    cloud = read_splats(refined_scene(tmp_path, weights))
    time, camera = 0.4, np.array([1.0, -2.0, -5.0])
    moved = cloud.at(time, camera)
    raw = {name: np.float32(column).astype(float) for name, column in refined_columns().items()}
    waves = np.ravel([(np.sin(np.pi * time * 2**k), np.cos(np.pi * time * 2**k)) for k in range(6)])
    for i in range(4):
        view = np.array([raw[f"mean_view_{k}"][i] for k in range(3)])
        view /= np.linalg.norm(view)
        best = 1 / (1 + np.exp(-raw["mean_time_0"][i]))
        seen = np.concatenate([cloud.means[i], [best], view, waves])
        said = {}
        for name in ("mean", "time", "view", "shape"):
            hidden = weights[f"refine.{name}.0.weight"] @ seen + weights[f"refine.{name}.0.bias"]
            said[name] = weights[f"refine.{name}.2.weight"] @ np.maximum(hidden, 0) + weights[f"refine.{name}.2.bias"]
        sizes = np.exp([raw[f"scale_{k}"][i] + said["shape"][k] for k in range(7)])
        factor = np.eye(7)
        factor[np.tril_indices(7, -1)] = [
            2 / (1 + np.exp(-raw[f"l_triangle_{k}"][i] - said["shape"][7 + k])) - 1 for k in range(21)
        ]
        factor = np.diag(sizes) @ factor
        whole = factor @ factor.T
        mean = cloud.means[i] + said["mean"]
        away = np.append((mean - camera) / np.linalg.norm(mean - camera), time)
        view = view + said["view"]
        away -= np.append(view / np.linalg.norm(view), best + said["time"][0])
        np.testing.assert_allclose(moved.means[i], mean + whole[:3, 3:] @ np.linalg.inv(whole[3:, 3:]) @ away, atol=2e-4)
        shape = np.linalg.inv(np.linalg.inv(whole)[:3, :3])
        np.testing.assert_allclose(covariances(moved.quats[i : i + 1], moved.scales[i : i + 1])[0], shape, rtol=2e-3, atol=1e-5)
        share = 1 / (1 + np.exp(-np.array([raw["lambda_opc"][i], raw["lambda_opc_time"][i]])))
        power = share[0] * away[:3] @ np.linalg.inv(whole[3:6, 3:6]) @ away[:3] + share[1] * away[3] ** 2 / whole[6, 6]
        np.testing.assert_allclose(moved.opacities[i], cloud.opacities[i] * np.exp(-power), atol=1e-4)


def test_refined_splats_move_alike_in_every_frame(tmp_path):
    cloud = read_splats(refined_scene(tmp_path, refinement()))
    camera = np.array([1.0, -2.0, -5.0])
    for axes in ("RUB", "RFU"):
        turned = change_axes(cloud, axes)
        there = to_blender(axes).T @ to_blender("RDF") @ camera
        again, moved = change_axes(turned.at(0.6, there), "RDF"), cloud.at(0.6, camera)
        np.testing.assert_allclose(again.means, moved.means, atol=1e-5)
        np.testing.assert_allclose(again.opacities, moved.opacities, atol=1e-5)
        np.testing.assert_allclose(covariances(again.quats, again.scales), covariances(moved.quats, moved.scales), atol=1e-5)
    np.testing.assert_allclose(cloud.select([2, 0]).at(0.6, camera).means, cloud.at(0.6, camera).means[[2, 0]], atol=1e-6)
