# SPDX-License-Identifier: GPL-3.0-or-later
"""glTF with KHR_gaussian_splatting: against the reference writer's file, and small documents made here."""

import base64
import json
import struct

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat, VivantError
from vivant.backends.common.rotations import matrix
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import decode, gltf, losses, read_splats, spz, write_splats

PREFIX = "KHR_gaussian_splatting:"


def small_cloud(count=7, degree=2, seed=4):
    rng = np.random.default_rng(seed)
    quats = rng.normal(size=(count, 4))
    return SplatCloud(
        rng.normal(size=(count, 3)),
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(rng.normal(-2, 0.5, (count, 3))),
        rng.uniform(0.1, 0.9, count),
        rng.normal(0, 0.3, (count, (degree + 1) ** 2, 3)),
        extras={"segment": np.arange(count, dtype="f4")},
    )


def unpacked(file):
    """A GLB's document and buffer."""
    length = struct.unpack_from("<I", file, 12)[0]
    return json.loads(file[20 : 20 + length]), file[28 + length :]


def glb(document, buffer):
    text = json.dumps(document).encode()
    text += b" " * (-len(text) % 4)
    buffer += bytes(-len(buffer) % 4)
    head = b"glTF" + struct.pack("<IIII", 2, 28 + len(text) + len(buffer), len(text), 0x4E4F534A)
    return np.frombuffer(head + text + struct.pack("<II", len(buffer), 0x004E4942) + buffer, np.uint8)


def written(cloud):
    return b"".join(bytes(piece) for piece in gltf.encode(cloud))


def changed(cloud, change):
    """The cloud read again from its GLB, whose document `change` has edited."""
    document, buffer = unpacked(written(cloud))
    change(document)
    return decode(glb(document, buffer))


def same(a, b, tolerance=1e-6):
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_allclose(getattr(a, name), getattr(b, name), atol=tolerance)
    assert np.abs((a.quats * b.quats).sum(axis=1)).min() > 1 - 1e-6


def test_the_reference_writers_file_is_the_ply_turned_half_about_z(data):
    cloud, ply = read_splats(data / "splats" / "playbot5_khr.glb"), read_splats(data / "splats" / "playbot5.ply")
    np.testing.assert_array_equal(cloud.means, ply.means * [-1, -1, 1])
    np.testing.assert_allclose(cloud.quats[0], (-0.672906, -0.291162, 0.174697, 0.657193), atol=1e-6)
    np.testing.assert_allclose(cloud.scales, ply.scales, rtol=1e-6)
    np.testing.assert_allclose(cloud.opacities, ply.opacities, atol=1e-6)
    np.testing.assert_allclose(cloud.sh, ply.sh * sh.flip_signs(9, np.array([-1, -1, 1]))[:, None], atol=1e-6)
    assert cloud.degree == 2 and cloud.source.axes == "RUB" and not cloud.source.repairs


def test_splats_packed_as_spz_are_those_of_the_spz_file(data):
    packed, plain = (read_splats(data / "splats" / name) for name in ("playbot5_khr_spz2.glb", "playbot5_v3.spz"))
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(packed, name), getattr(plain, name))
    np.testing.assert_allclose(packed.quats, plain.quats, atol=3e-7)


def test_the_older_name_of_the_packing_stands_beside_the_primitives_attributes():
    cloud = small_cloud(degree=1)
    packed = b"".join(spz.encode(cloud))
    document, _ = unpacked(written(cloud))
    primitive = document["meshes"][0]["primitives"][0]
    primitive["extensions"] = {"KHR_spz_gaussian_splats_compression": {"bufferView": 0}}
    document["bufferViews"] = [{"buffer": 0, "byteLength": len(packed)}]
    document["extensionsUsed"] = ["KHR_spz_gaussian_splats_compression"]
    found = decode(glb(document, packed))
    np.testing.assert_array_equal(found.means, decode(np.frombuffer(packed, np.uint8)).means)


@pytest.mark.parametrize("degree", range(4))
@pytest.mark.parametrize("extension", [".glb", ".gltf"])
def test_what_is_written_comes_back_to_the_last_bit(tmp_path, degree, extension):
    cloud = change_axes(small_cloud(degree=degree), "RUB")
    path = tmp_path / f"a{extension}"
    assert not losses(cloud, path)
    write_splats(cloud, path)
    found = read_splats(path)
    for name in ("means", "scales", "opacities", "sh"):
        np.testing.assert_array_equal(getattr(found, name), getattr(cloud, name))
    np.testing.assert_allclose(found.quats, cloud.quats, atol=1e-7)
    np.testing.assert_array_equal(found.extras["segment"], cloud.extras["segment"])
    assert sorted(file.suffix for file in tmp_path.iterdir()) == ([".bin", ".gltf"] if extension == ".gltf" else [".glb"])


def test_a_node_turns_scales_and_moves_what_hangs_below_it():
    cloud = change_axes(small_cloud(degree=3), "RUB")
    turn, angle = np.array([0.5, 0.5, -0.5, 0.5]), np.pi / 3
    about_y = np.array([[np.cos(angle), 0, np.sin(angle)], [0, 1, 0], [-np.sin(angle), 0, np.cos(angle)]])
    place = np.eye(4)
    place[:3, :3], place[:3, 3] = 2 * about_y, (1, 2, 3)

    def change(document):
        document["nodes"] = [
            {"matrix": place.T.ravel().tolist(), "children": [1]},
            {"mesh": 0, "rotation": np.roll(turn, -1).tolist(), "translation": [4, 0, 0]},
        ]

    found = changed(cloud, change)
    linear = about_y @ matrix(turn)
    means = 2 * (cloud.means @ linear.T + about_y @ [4, 0, 0]) + [1, 2, 3]
    np.testing.assert_allclose(found.means, means, atol=1e-5)
    np.testing.assert_allclose(found.scales, 2 * cloud.scales, rtol=1e-5)
    np.testing.assert_allclose(matrix(found.quats), linear @ matrix(cloud.quats), atol=1e-5)
    seen = np.random.default_rng(1).normal(size=(7, 3))
    seen /= np.linalg.norm(seen, axis=1, keepdims=True)
    np.testing.assert_allclose(sh.colours(found.sh, seen @ linear.T), sh.colours(cloud.sh, seen), atol=1e-4)


@pytest.mark.parametrize("linear", [[[1, 0.5, 0], [0, 2, 0.1], [0.3, 0, -1]], [[0, 2, 0], [2, 0, 0], [0, 0, 2]]])
def test_a_node_that_shears_or_mirrors_gives_every_covariance_its_map(linear):
    cloud = change_axes(small_cloud(degree=1), "RUB")
    linear = np.array(linear)
    place = np.eye(4)
    place[:3, :3] = linear
    found = changed(cloud, lambda document: document["nodes"][0].update(matrix=place.T.ravel().tolist()))

    def covariances(splats):
        axes = matrix(splats.quats.astype(float)) * splats.scales[:, None]
        return axes @ axes.transpose(0, 2, 1)

    np.testing.assert_allclose(covariances(found), linear @ covariances(cloud) @ linear.T, rtol=1e-4, atol=1e-5)


def test_primitives_of_several_nodes_are_joined_at_the_highest_degree():
    document, buffer = unpacked(written(small_cloud(3, 2)))
    primitive = json.loads(json.dumps(document["meshes"][0]["primitives"][0]))
    primitive["attributes"] = {name: i for name, i in primitive["attributes"].items() if "DEGREE_2" not in name}
    document["meshes"].append({"primitives": [primitive]})
    document["nodes"] += [{"mesh": 1, "translation": [5, 0, 0]}, {"name": "empty"}]
    document["scenes"] = [{"nodes": [0, 1, 2]}]
    found = decode(glb(document, buffer))
    assert len(found) == 6 and found.degree == 2
    np.testing.assert_allclose(found.means[3:] - found.means[:3], [[5, 0, 0]] * 3, atol=1e-6)
    np.testing.assert_array_equal(found.sh[3:, :4], found.sh[:3, :4])
    assert found.sh[:3, 4:].any() and not found.sh[3:, 4:].any()


def test_integers_with_strides_are_read_as_the_fractions_that_they_stand_for():
    rows = np.zeros(2, [("q", "<i2", 4), ("s", "u1", 3), ("o", "u1"), ("p", "<f4", 3), ("c", "<f4", 3)])
    rows["q"], rows["s"], rows["o"], rows["p"] = (0, 0, 0, 32767), (255, 51, 102), 204, (1, 2, 3)
    views = [{"buffer": 0, "byteLength": rows.nbytes, "byteStride": rows.itemsize}]
    names = {
        PREFIX + "ROTATION": ("VEC4", 5122, "q"), PREFIX + "SCALE": ("VEC3", 5121, "s"),
        PREFIX + "OPACITY": ("SCALAR", 5121, "o"),
        "POSITION": ("VEC3", 5126, "p"), PREFIX + "SH_DEGREE_0_COEF_0": ("VEC3", 5126, "c"),
    }  # fmt: skip
    accessors = [
        {"bufferView": 0, "byteOffset": rows.dtype.fields[field][1], "type": kind, "componentType": code, "count": 2}
        | {"normalized": code != 5126}
        for kind, code, field in names.values()
    ]
    extension = {"kernel": "ellipse", "colorSpace": "lin_rec709_display"}
    primitive = {"attributes": {name: i for i, name in enumerate(names)}, "extensions": {"KHR_gaussian_splatting": extension}}
    document = {
        "asset": {"version": "2.0"}, "meshes": [{"primitives": [primitive]}], "buffers": [{"byteLength": rows.nbytes}],
        "bufferViews": views, "accessors": accessors,
    }  # fmt: skip
    cloud = decode(glb(document, rows.tobytes()))
    np.testing.assert_array_equal(cloud.quats, [[1, 0, 0, 0]] * 2)
    np.testing.assert_allclose(cloud.scales, [[1, 0.2, 0.4]] * 2, rtol=1e-6)
    np.testing.assert_allclose(cloud.opacities, 0.8, rtol=1e-6)
    assert cloud.source.details["colour_space"] == "linear"
    again = unpacked(written(cloud))[0]["meshes"][0]["primitives"][0]
    assert again["extensions"]["KHR_gaussian_splatting"]["colorSpace"] == "lin_rec709_display"


def test_drafts_with_colours_alone_give_the_display_colours_of_that_light():
    def change(document):
        names = document["meshes"][0]["primitives"][0]["attributes"]
        for old in [name for name in names if "SH_" in name or "OPACITY" in name]:
            del names[old]
        for name in ("ROTATION", "SCALE"):
            names["_" + name] = names.pop(PREFIX + name)

    cloud = small_cloud()
    found = changed(cloud, change)
    assert found.degree == 0 and "segment" in found.extras
    display = np.clip(sh.to_rgb(cloud.sh[:, 0]), 0, 1)
    bright = display > 0.3  # 8 bits of light are few where it is dark
    np.testing.assert_allclose(sh.to_rgb(found.sh[:, 0])[bright], display[bright], atol=0.004)
    np.testing.assert_allclose(found.opacities, cloud.opacities, atol=0.5 / 255 + 1e-6)


@pytest.mark.parametrize("escaped", [False, True])
def test_buffers_within_the_document_are_read(tmp_path, escaped):
    cloud = small_cloud()
    document, buffer = unpacked(written(cloud))
    document["buffers"][0]["uri"] = "data:application/octet-stream;base64," + base64.b64encode(buffer).decode()
    text = json.dumps(document)
    (tmp_path / "a.gltf").write_text(text.replace("/", "\\/") if escaped else text)
    same(change_axes(read_splats(tmp_path / "a.gltf"), "RDF"), cloud)


@pytest.mark.parametrize("uri", ["../secret.bin", "%2e%2e/secret.bin", "/etc/passwd", "http://x/y.bin", "file:///etc/passwd"])
def test_buffers_outside_the_folder_are_never_opened(tmp_path, uri):
    folder = tmp_path / "inside"
    folder.mkdir()
    write_splats(small_cloud(), folder / "a.gltf")
    (tmp_path / "secret.bin").write_bytes((folder / "a.bin").read_bytes())
    document = json.loads((folder / "a.gltf").read_text())
    document["buffers"][0]["uri"] = uri
    (folder / "a.gltf").write_text(json.dumps(document))
    with pytest.raises(BrokenFile, match="not in its folder"):
        read_splats(folder / "a.gltf")


def test_a_missing_buffer_is_named(tmp_path):
    write_splats(small_cloud(), tmp_path / "a.gltf")
    (tmp_path / "a.bin").unlink()
    with pytest.raises(VivantError, match="cannot be read: No such file"):
        read_splats(tmp_path / "a.gltf")


def primitive_of(document):
    return document["meshes"][0]["primitives"][0]


@pytest.mark.parametrize(
    ("change", "error"),
    [
        (lambda d: primitive_of(d)["extensions"]["KHR_gaussian_splatting"].update(kernel="disc"), UnsupportedFormat),
        (lambda d: primitive_of(d)["attributes"].pop(PREFIX + "SCALE"), BrokenFile),
        (lambda d: primitive_of(d)["attributes"].update(POSITION=99), BrokenFile),
        (lambda d: primitive_of(d)["attributes"].update(POSITION=[1]), BrokenFile),
        (lambda d: d["accessors"][0].update(count=10**9), BrokenFile),
        (lambda d: d["accessors"][0].update(count=-1), BrokenFile),
        (lambda d: d["accessors"][0].update(componentType=[]), BrokenFile),
        (lambda d: d["accessors"][0].update(sparse={}), BrokenFile),
        (lambda d: d["accessors"][0].pop("bufferView"), BrokenFile),
        (lambda d: d["accessors"][0].update(count=10**12, sparse=d["accessors"][0].pop("bufferView") and {}), BrokenFile),
        (lambda d: d["bufferViews"][0].update(byteStride=1), BrokenFile),
        (lambda d: d["bufferViews"][0].update(extensions={"EXT_meshopt_compression": {}}), UnsupportedFormat),
        (lambda d: d["bufferViews"][0].update(byteLength=10**12), BrokenFile),
        (lambda d: d["buffers"][0].update(uri="far.bin") or d["bufferViews"][0].update(buffer=1), UnsupportedFormat),
        (lambda d: d["nodes"].append({"children": [1]}) or d["scenes"][0].update(nodes=[1]), BrokenFile),
        (lambda d: d["nodes"][0].update(matrix=["a"] * 16), BrokenFile),
        (lambda d: d["nodes"][0].update(scale=[float("inf")] * 3), BrokenFile),
        (lambda d: d["scenes"][0].update(nodes=3), BrokenFile),
        (lambda d: d["scenes"][0].update(nodes=[]), UnsupportedFormat),
        (lambda d: d["scenes"][0].update(nodes=[0] * 9999), UnsupportedFormat),
        (lambda d: d.update(meshes=[{"primitives": 1}]), BrokenFile),
    ],
)
def test_documents_that_make_no_sense_are_refused_with_a_sentence(change, error):
    with pytest.raises(error) as caught:
        changed(small_cloud(100), change)
    assert caught.value.hint


def test_a_cloud_without_splats_cannot_be_a_glb(tmp_path):
    with pytest.raises(VivantError, match="cannot hold 0 splats"):
        write_splats(small_cloud(0), tmp_path / "a.glb")


@pytest.mark.parametrize(("code", "kind"), [(5121, "<u1"), (5123, "<u2"), (5125, "<u4")])
@pytest.mark.parametrize("empty", [False, True])
def test_sparse_accessors_are_filled_in(code, kind, empty):
    cloud = small_cloud()
    document, buffer = unpacked(written(cloud))
    places, values = np.array([1, 4], kind), np.float32([[9, 8, 7], [6, 5, 4]])
    start = len(buffer)
    buffer += places.tobytes().ljust(8, b"\0") + values.tobytes()
    document["bufferViews"] += [
        {"buffer": 0, "byteOffset": start, "byteLength": 8},
        {"buffer": 0, "byteOffset": start + 8, "byteLength": 24},
    ]
    document["buffers"][0]["byteLength"] = len(buffer)
    accessor = document["accessors"][0]
    views = len(document["bufferViews"])
    indices = {"bufferView": views - 2, "componentType": code}
    accessor["sparse"] = {"count": 2, "indices": indices, "values": {"bufferView": views - 1}}
    expected = change_axes(cloud, "RUB").means.copy()
    if empty:
        del accessor["bufferView"]
        expected[:] = 0
    expected[[1, 4]] = values
    np.testing.assert_allclose(decode(glb(document, buffer)).means, expected)
    accessor["sparse"]["count"] = 3
    with pytest.raises(BrokenFile, match="past the end"):
        decode(glb(document, buffer))


@pytest.mark.parametrize("name", ["EXT_meshopt_compression", "KHR_meshopt_compression"])
def test_packings_that_are_not_read_are_called_by_their_name(name):
    with pytest.raises(UnsupportedFormat, match=name):
        changed(small_cloud(), lambda document: document["bufferViews"][0].update(extensions={name: {}}))
    with pytest.raises(UnsupportedFormat, match="KHR_draco_mesh_compression"):
        changed(
            small_cloud(),
            lambda document: document["meshes"][0]["primitives"][0]["extensions"].update(KHR_draco_mesh_compression={}),
        )


def test_quantised_attributes_are_read_at_their_node_s_scale():
    cloud = small_cloud()
    document, buffer = unpacked(written(cloud))
    numbers = np.int16([[-32768, 0, 32767]] * 7)
    document["bufferViews"].append({"buffer": 0, "byteOffset": len(buffer), "byteLength": numbers.nbytes, "byteStride": 6})
    document["accessors"][0].update(bufferView=len(document["bufferViews"]) - 1, componentType=5122, normalized=True)
    document["nodes"][0]["scale"] = [2, 2, 2]
    found = decode(glb(document, buffer + numbers.tobytes()))
    np.testing.assert_allclose(found.means, [[-2, 0, 2]] * 7)
