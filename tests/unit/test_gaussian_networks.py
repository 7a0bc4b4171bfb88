# SPDX-License-Identifier: GPL-3.0-or-later
"""Network families against values that the projects' own PyTorch modules gave for weights made by a rule."""

import os
import pathlib
import sys
import tracemalloc

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.motion.control_nodes import ControlNodes, Nodes
from vivant.backends.gaussian.motion.deformation import Deformable, DeformationNetwork, screwed
from vivant.backends.gaussian.motion.hexplane import HEADS, HexPlane, HexPlaneNetwork

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from network_weights import POINTS, control_nodes, deformation_shapes, golden_hexplane, still_cloud, waves

TIME = 0.25


def hexplane(**options):
    return HexPlane(
        points=POINTS, lengths=np.ones(len(POINTS), np.float32), network=HexPlaneNetwork.of(golden_hexplane()), **options
    )


@pytest.mark.parametrize(
    ("blender", "parameters", "shifts"),
    [
        (False, 506_378, [(-0.076047, -0.137858, -0.168671), (-0.075981, -0.137837, -0.168700)]),
        (True, 522_280, [(-0.076055, -0.137879, -0.168702), (-0.075858, -0.137733, -0.168638)]),
    ],
)
def test_the_deformation_network_answers_as_the_original_does(blender, parameters, shifts):
    shapes = deformation_shapes(blender)
    assert sum(np.prod(shape) for shape in shapes.values()) == parameters
    answers = DeformationNetwork.of(waves(shapes, 0.05))(POINTS, TIME)
    np.testing.assert_allclose(answers["gaussian_warp"][:2], shifts, atol=2e-6)
    if not blender:
        np.testing.assert_allclose(answers["gaussian_rotation"][0], (0.137252, 0.177241, 0.181263, 0.149444), atol=2e-6)
        np.testing.assert_allclose(answers["gaussian_scaling"][0], (0.180047, 0.115856, 0.037042), atol=2e-6)


def test_hexplanes_answer_as_the_original_does():
    family = hexplane(heads=tuple(HEADS))
    hidden = family.network.hidden(POINTS, family.network.still(POINTS), TIME)
    np.testing.assert_allclose(hidden[0, :4], (0.055012, 0.104338, 0.152603, 0.199326), atol=2e-6)
    answers = family.answers(TIME)
    expected = [(18.881284, 20.509707, 21.859894), (18.900943, 20.541894, 21.904171), (18.173674, 19.852040, 21.261135)]
    np.testing.assert_allclose(answers["pos_deform"][:3], expected, rtol=3e-6)
    np.testing.assert_allclose(answers["scales_deform"][0], (21.19691, 22.488765, 23.475907), rtol=3e-6)
    np.testing.assert_allclose(answers["opacity_deform"][0], 22.823154, rtol=3e-6)


def test_a_deformed_cloud_has_its_network_s_answers_added_after_activation():
    cloud = still_cloud()
    network = DeformationNetwork.of(waves(deformation_shapes(), 0.05))
    moved = Deformable(points=POINTS, lengths=np.ones(4, np.float32), network=network).at(cloud, TIME)
    answers = network(POINTS, TIME)
    np.testing.assert_allclose(moved.means, cloud.means + answers["gaussian_warp"], atol=1e-6)
    np.testing.assert_allclose(moved.scales, cloud.scales + answers["gaussian_scaling"], atol=1e-6)
    quats = cloud.quats + answers["gaussian_rotation"]
    np.testing.assert_allclose(moved.quats, quats / np.linalg.norm(quats, axis=1, keepdims=True), atol=1e-6)
    np.testing.assert_array_equal(moved.opacities, cloud.opacities)
    assert moved.family is None


def test_a_screw_without_turning_is_a_shift_and_one_about_z_turns():
    none, up = np.float32([[0, 0, 1e-6]]), np.float32([[0, 0, np.pi / 2]])
    np.testing.assert_allclose(screwed(np.float32([[1, 2, 3]]), none, np.float32([[1, 2, 3]])), [[2, 4, 6]], atol=1e-4)
    np.testing.assert_allclose(screwed(np.float32([[1, 0, 5]]), up, np.float32([[0, 0, 0]])), [[0, 1, 5]], atol=1e-4)


def test_hexplane_changes_are_added_before_activation_and_only_those_of_its_heads():
    cloud = still_cloud()
    lengths = np.float32([0.5, 1, 2, 3])
    family = HexPlane(
        points=POINTS / 9, lengths=lengths, network=HexPlaneNetwork.of(quiet(golden_hexplane())), heads=tuple(HEADS)
    )
    answers, moved = family.answers(TIME), family.at(cloud, TIME)
    assert np.abs(answers["rotations_deform"]).max() > 1e-3
    np.testing.assert_allclose(np.log(moved.scales), np.log(cloud.scales) + answers["scales_deform"], atol=1e-5)
    quats = cloud.quats * lengths[:, None] + answers["rotations_deform"]
    np.testing.assert_allclose(moved.quats, quats / np.linalg.norm(quats, axis=1, keepdims=True), atol=1e-6)
    logits = np.log(cloud.opacities / (1 - cloud.opacities)) + answers["opacity_deform"][:, 0]
    np.testing.assert_allclose(moved.opacities, 1 / (1 + np.exp(-logits)), atol=1e-6)
    np.testing.assert_allclose(moved.sh, cloud.sh + answers["shs_deform"].reshape(-1, 16, 3), atol=1e-6)
    still = HexPlane(points=POINTS, lengths=lengths, network=family.network, heads=("pos_deform",)).at(cloud, TIME)
    for name in ("quats", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(still, name), getattr(cloud, name))


def quiet(weights):
    """The same network with answers a hundred times smaller."""
    return {name: value / 100 if name.endswith((".3.weight", ".3.bias")) else value for name, value in weights.items()}


def follow(weights, points=POINTS, lengths=None):
    nodes = Nodes.of(weights)
    hyper = np.zeros((len(points), nodes.places.shape[1] - 3), np.float32)
    index, share = nodes.nearest(np.concatenate([points, hyper], axis=1))
    lengths = np.ones(len(points), np.float32) if lengths is None else lengths
    return ControlNodes(points=points, lengths=lengths, nodes=nodes, index=index, share=share)


def test_splats_follow_their_nearest_nodes_as_in_the_original():
    weights = control_nodes(4) | {
        "nodes": np.float32([[0, 0, 0, 0.01, 0.01], [0.5, 0, 0, 0.01, 0.01], [0, 1, 0, 0.01, 0.01], [3, 3, 3, 0.01, 0.01]]),
        "_node_radius": np.float32([-1, -1.2, -0.8, 0]),
        "_node_weight": np.float32([[0], [0.5], [-0.5], [0]]),
    }
    nodes = Nodes.of(weights)
    index, share = nodes.nearest(np.float32([[0.2, 0.1, 0, 0.01, 0.01]]))
    by_node = dict(zip(index[0], share[0], strict=True))
    np.testing.assert_allclose([by_node[i] for i in range(3)], (0.506676, 0.437252, 0.056072), atol=1e-6)
    family = ControlNodes(points=POINTS[:1], lengths=np.float32([1]), nodes=nodes, index=index, share=share)
    shifts = np.float32([[0.1, 0, 0], [0, 0.2, 0], [0, 0, 0.3], [9, 9, 9]])
    np.testing.assert_allclose(family._mixed(shifts), [(0.050668, 0.087450, 0.016822)], atol=1e-6)


def test_many_nodes_take_little_memory():
    rng, count = np.random.default_rng(1), 30_000
    columns = {"nodes": rng.normal(size=(count, 5)), "_node_radius": np.zeros(count), "_node_weight": np.zeros((count, 1))}
    nodes = Nodes.of(control_nodes(4) | {name: column.astype(np.float32) for name, column in columns.items()})
    places = nodes.places[:200] + np.float32(1e-4)
    tracemalloc.start()
    index, _ = nodes.nearest(places)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert (index == np.arange(200)[:, None]).any(axis=1).all()
    assert peak < min(8, os.cpu_count()) * (24 << 20)


@pytest.mark.parametrize("local", [False, True])
def test_control_nodes_move_splats_by_the_sum_of_what_their_network_says(local):
    """Against the formula written out splat by splat in float64, with all distances."""
    weights = control_nodes(local=local)
    cloud, lengths = still_cloud(), np.float32([0.5, 1, 2, 3])
    family = follow(weights, lengths=lengths)
    moved = family.at(cloud, TIME)
    answers = {name: value.astype(float) for name, value in family.nodes.network(weights["nodes"][:, :3], TIME).items()}
    nodes = weights["nodes"].astype(float)
    for i, point in enumerate(POINTS.astype(float)):
        squares = np.sum((nodes - np.append(point, [0, 0])) ** 2, axis=1)
        near = np.argsort(squares)[:3]
        weight = np.exp(-squares[near] / (2 * np.exp(2.0 * weights["_node_radius"][near])))
        weight = weight / (1 + np.exp(-weights["_node_weight"][near, 0].astype(float))) + 1e-7
        weight /= weight.sum()
        place = np.zeros(3)
        for k, w in zip(near, weight, strict=True):
            arm = point - nodes[k, :3]
            if local:
                a, b, c, d = np.array([1, 0, 0, 0]) + answers["local_rotation"][k]
                skew = np.array([[0, -d, c], [d, 0, -b], [-c, b, 0]])
                turn = np.eye(3) + 2 * (a * skew + skew @ skew) / (a * a + b * b + c * c + d * d)
                arm = turn @ arm
            place += w * (arm + nodes[k, :3] + answers["gaussian_warp"][k])
        np.testing.assert_allclose(moved.means[i], cloud.means[i] + place - point, atol=2e-6)
        np.testing.assert_allclose(moved.scales[i], cloud.scales[i] + weight @ answers["gaussian_scaling"][near], atol=1e-6)
        quat = cloud.quats[i] * lengths[i] + weight @ answers["gaussian_rotation"][near]
        np.testing.assert_allclose(moved.quats[i], quat / np.linalg.norm(quat), atol=1e-6)


def families():
    network = DeformationNetwork.of(waves(deformation_shapes(), 0.05))
    screw = DeformationNetwork.of(waves(deformation_shapes(screw=True), 0.05))
    ones = np.float32([0.5, 1, 2, 3])
    return {
        "deformable": Deformable(points=POINTS, lengths=ones, network=network),
        "control nodes": follow(control_nodes(local=True), lengths=ones),
        "screws": Deformable(points=POINTS, lengths=ones, network=screw),
        "hexplane": HexPlane(
            points=POINTS, lengths=ones, network=HexPlaneNetwork.of(quiet(golden_hexplane())), heads=tuple(HEADS)
        ),
    }


@pytest.mark.parametrize("name", families())
def test_a_network_s_motion_is_the_same_in_every_frame_and_for_every_choice_of_splats(name):
    cloud = still_cloud().replace(family=families()[name])
    moved = cloud.at(0.6)
    turned = change_axes(change_axes(cloud, "RUB").at(0.6), "RDF")
    swapped = change_axes(change_axes(cloud, "RFU").at(0.6), "RDF")
    some = cloud.select([2, 0]).at(0.6)
    for column in ("means", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(turned, column), getattr(moved, column), atol=1e-5)
        np.testing.assert_allclose(getattr(swapped, column), getattr(moved, column), atol=1e-5)
        np.testing.assert_allclose(getattr(some, column), getattr(moved, column)[[2, 0]], atol=1e-6)
    np.testing.assert_allclose(np.abs(np.sum(swapped.quats * moved.quats, axis=1)), 1, atol=1e-5)
    assert np.abs(moved.means - cloud.means).max() > 1e-3


@pytest.mark.parametrize("name", families())
def test_time_is_held_within_the_clip(name):
    cloud = still_cloud().replace(family=families()[name])
    np.testing.assert_array_equal(cloud.at(7.0).means, cloud.at(1.0).means)


def test_networks_of_wrong_shapes_or_with_infinite_values_are_refused():
    good = waves(deformation_shapes(), 0.05)
    for name, value in [
        ("linear.5.weight", np.zeros((256, 256))),
        ("linear.2.bias", np.full(256, np.nan)),
        ("linear.0.weight", None),
    ]:
        with pytest.raises(BrokenFile, match=name.rpartition(".")[0]):
            DeformationNetwork.of(good | {name: value})
    planes = golden_hexplane()
    del planes["deformation_net.grid.grids.1.3"]
    with pytest.raises(BrokenFile, match=r"grids\.1\.3"):
        HexPlaneNetwork.of(planes)
