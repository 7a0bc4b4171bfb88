# SPDX-License-Identifier: GPL-3.0-or-later
""".4dgs files: one of the reference writer, and small ones that the test packs itself."""

import struct
import zlib

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat
from vivant.backends.gaussian import sh
from vivant.backends.gaussian.formats import fourdgs

STEPS = (0.01, 0.1, 0.002, 1 / 255, 1 / 255, 0.05, 0.004, 0.04)
WINDOWS = [(0.0, 1.0), (1.0, 2.0)]
COUNT = 12


def text(value):
    return struct.pack("<I", len(value)) + value.encode()


def record(opcode, body):
    return struct.pack("<BQ", opcode, len(body)) + body


def stream(attribute, values, mode=0, width=4):
    """One packed attribute; mode 1 stores differences, 2 the first row alone."""
    values = np.asarray(values, np.int64)
    values = values.reshape(len(values), -1)
    stored = np.diff(values, axis=0, prepend=0) if mode == 1 else values[:1] if mode == 2 else values
    folded = ((stored << 1) ^ (stored >> 63)).astype(f"<u{width}").reshape(-1, 1)
    planes = zlib.compress(np.ascontiguousarray(folded.view(np.uint8).T).tobytes())
    head = struct.pack("<BBBBBIQ", attribute, width, mode, 0, values.shape[1], len(values), len(planes))
    return head + planes


def made(model="gaussian-birth", bands=0, count=COUNT, claim=None, packing=""):
    """A file, and the integers in it by attribute."""
    rng = np.random.default_rng(2)

    def integers(low, high, channels):
        return rng.integers(low, high, (count, channels))

    values = {
        0: integers(-300, 300, 3), 1: integers(-40, 10, 3), 2: integers(0, 4, 1), 3: integers(-250, 250, 3),
        4: np.column_stack([integers(60, 120, 1), integers(-50, 50, 2)]), 5: integers(20, 255, 1), 6: integers(-90, 90, 3),
        7: integers(0, 200, 1), 8: integers(-60, 20, 1), 9: integers(0, 2, 1), 10: integers(0, 2, 1),
    }  # fmt: skip
    colours = [rng.integers(0, 256, (count, 3 * (2 * band + 1))) for band in range(1, bands + 1)]
    streams = b"".join(
        stream(name, column, 1 if name in (0, 7) else 0, 2 if name == 3 else 4) for name, column in values.items()
    )
    size = len(streams)
    streams = zlib.compress(streams) if packing else streams
    chunk = struct.pack("<ddII", 0, 2, 0, claim or count) + text(packing) + struct.pack("<QQ", size, len(streams)) + streams
    header = text("") + text("test") + struct.pack("<dQd", 2.0, count, 0.05) + text(model)
    grids = text("uniform-v1") + struct.pack("<3d8dB", 1, 2, 3, *STEPS, 1)
    parts = [
        record(1, header), record(0x70, b"of the future"), record(3, grids),
        record(4, struct.pack("<I4d", 2, *WINDOWS[0], *WINDOWS[1])), record(5, chunk),
        *(record(7, bytes([band]) + stream(7, codes, width=2)) for band, codes in enumerate(colours, 1)),
    ]  # fmt: skip
    return fourdgs.MAGIC + b"".join(parts) + fourdgs.MAGIC, values, colours


def decode(file):
    return fourdgs.decode(np.frombuffer(file, np.uint8).copy())


def test_the_reference_writers_file_shows_as_many_splats_as_its_reader(data):
    cloud = fourdgs.decode(np.fromfile(data / "splats" / "moving200.4dgs", np.uint8))
    assert len(cloud) == 200 and cloud.family.time_range == (0, 2) and np.isinf(cloud.family.width).sum() == 50
    assert [np.count_nonzero(cloud.at(time).opacities) for time in (0, 0.5, 1, 1.5, 1.99)] == [109, 143, 87, 85, 76]
    assert not cloud.source.repairs and not cloud.source.warnings


@pytest.mark.parametrize("packing", ["", "deflate"])
def test_each_splat_moves_as_its_integers_say(packing):
    file, values, _ = made(packing=packing)
    cloud = decode(file)
    assert not cloud.source.warnings
    reach = np.sqrt(-2 * np.log(0.05))
    for i in range(COUNT):
        row = {name: column[i] for name, column in values.items()}
        never, (low, high) = row[9][0] == 1, WINDOWS[row[10][0]]
        sigma = np.exp(row[8][0] * STEPS[7])
        half = min(max(high - low if never else reach * sigma, 0.02), 2)
        velocity = row[6] * STEPS[5] * 2.0 ** -min(max(np.ceil(np.log2(half / 0.5)), -4), 2)
        finer = 1 if never else 2.0 ** min(max(np.floor(np.log2(min(STEPS[6], 0.05 * sigma) / STEPS[6])), -10), 0)
        center = row[7][0] * STEPS[6] * finer
        for time in (0.05, 0.7, 1.2, 1.9):
            still = cloud.at(time)
            bell = 1 if never else np.exp(-((time - center) ** 2) / (2 * sigma**2))
            opacity = row[5][0] / 255 * bell if low <= time < high and bell >= 0.05 else 0
            assert still.opacities[i] == pytest.approx(opacity, abs=1e-5)
            np.testing.assert_allclose(
                still.means[i], [1, 2, 3] + row[0] * 0.01 + velocity * (time - center), rtol=1e-4, atol=1e-4
            )
        np.testing.assert_allclose(cloud.scales[i], np.exp(row[1] * 0.1), rtol=1e-5)
        green, red, blue = row[4]
        np.testing.assert_allclose(sh.to_rgb(cloud.sh[i, 0]), np.array([red + green, green, blue + green]) / 255, atol=1e-5)
        xyzw = np.insert(row[3] * 0.002, row[2][0], np.sqrt(1 - np.sum((row[3] * 0.002) ** 2)))
        np.testing.assert_allclose(cloud.quats[i], xyzw[[3, 0, 1, 2]], atol=1e-5)


def test_bands_of_harmonics_are_bytes_from_minus_four_to_four():
    file, _, colours = made(bands=2)
    cloud = decode(file)
    assert cloud.degree == 2
    for band, codes in enumerate(colours, 1):
        width = 2 * band + 1
        for k, channel in np.ndindex(width, 3):
            np.testing.assert_allclose(
                cloud.sh[:, band * band + k, channel], codes[:, channel * width + k] / 255 * 8 - 4, atol=1e-5
            )


def test_splats_of_the_last_window_are_there_at_the_last_moment():
    file, values, _ = made()
    cloud = decode(file)
    last = (values[9][:, 0] == 1) & (values[10][:, 0] == 1)
    assert last.any() and (cloud.at(2.0).opacities[last] > 0).all()


@pytest.mark.parametrize("eighth", range(1, 8))
def test_a_cut_file_is_broken_or_said_to_be_cut(eighth):
    file = made()[0]
    try:
        cloud = decode(file[: len(file) * eighth // 8])
    except BrokenFile:
        return
    assert any("cut off" in warning for warning in cloud.source.warnings)


def test_other_models_are_named():
    with pytest.raises(UnsupportedFormat, match="keyframe-delta"):
        decode(made(model="keyframe-delta")[0])


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({2: np.full((COUNT, 1), 7)}, "rotation"),
        ({10: np.full((COUNT, 1), 2)}, "windows"),
        ({0: np.zeros((COUNT, 2), int)}, "fit"),
    ],
)
def test_integers_without_a_meaning_are_refused(change, words):
    streams = b"".join(stream(name, column) for name, column in (made()[1] | change).items())
    chunk = struct.pack("<ddII", 0, 2, 0, COUNT) + text("") + struct.pack("<QQ", len(streams), len(streams)) + streams
    file = made()[0]
    start = file.index(struct.pack("<ddII", 0, 2, 0, COUNT)) - 9
    with pytest.raises(BrokenFile, match=words):
        decode(file[:start] + record(5, chunk) + fourdgs.MAGIC)


def test_a_chunk_that_claims_more_than_the_file_can_hold_is_refused_at_once():
    with pytest.raises(BrokenFile, match="claims to unpack"):
        decode(made(claim=1 << 31)[0])


def test_chunks_that_unpack_to_far_more_than_the_file_together_are_refused():
    size = 10 << 20  # each by itself is little enough
    content = zlib.compress(bytes(size))
    chunk = struct.pack("<ddII", 0, 2, 0, 1) + text("zlib") + struct.pack("<QQ", size, len(content)) + content
    with pytest.raises(BrokenFile, match="claims to unpack"):
        decode(fourdgs.MAGIC + 10 * record(5, chunk) + fourdgs.MAGIC)
