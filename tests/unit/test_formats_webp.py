# SPDX-License-Identifier: GPL-3.0-or-later
"""Lossless WebP: files that libwebp wrote of pictures made by formula, Pillow where it is there, and the encoder's own."""

import base64
import contextlib
import io
import sys

import numpy as np
import pytest

from vivant.backends.common.errors import BrokenFile, UnsupportedFormat
from vivant.backends.gaussian.formats import vp8l, webp

Y, X = np.mgrid[:48, :64]
PICTURES = {
    "gradient": np.stack([(X * 3 + Y) % 256, (X * Y // 5) % 256, np.abs(X - Y) * 4 % 256, 255 - (X // 8) * (Y // 8)], -1),
    "palette": np.array([[1, 2, 3, 4], [9, 8, 7, 0], [100, 0, 0, 255], [3, 3, 3, 3]])[(X * X + 3 * Y) % 7 % 4],
    "photo": np.stack(
        [
            128 + 80 * np.sin(X / 17 + Y / 29) + (X * 7919 + Y * 104729) % 7,
            120 + 90 * np.cos(Y / 31) + (X * 31 + Y * 17) % 5,
            100 + 60 * np.sin((X + Y) / 40),
            np.full(X.shape, 255),
        ],
        -1,
    )[:20, :16],
}
LIBWEBP = {
    "gradient": (
        "UklGRnoBAABXRUJQVlA4TG4BAAAvP8ALELkyRPQ/dhHR/5A4bCNJkfaeGfOPlWdhOoHemX0GCUhSaKS2bRuGKf/fq3H+GahtI2nPLDEl0NL9A8"
        "MPfYZeEJIdCOSMDaroRj+Ik34AjDPSG/bhJNY0EiyNBEsTDTioaEWg6EdH0ZmOokdN5DtQ5osiWNMiGRoOAUsjwdLiU3wQ1NxjTUsFaTgkUCQJ"
        "KjI1EayJiB2T+VoMSUoMgiyW8aA3fQRrGomU1wdODsAFJIIo1oM/1ogjHZXn78cFo4i+OUTACklEt9hZRWMYqSx/CSURvWJ3XyBr7hXNEWbInH"
        "s1sw/+c6IZqSaHqHnRrHivBBUJH1wglS+BKBS7T1C0NzTMPqYQqbKR4mK/WpDKSAU5kJKbGh/81ZaVSg95vCv948Qh93/hJrTi/8tjAjF/6Xyq"
        "CEvkEMUfQyxQtkacW5QifdRIjKxiQzyv5x5mTrBB+dyPcL0oMs079yhH7rVE/p5qc58rRxCb3wE="
    ),
    "palette": (
        "UklGRpgAAABXRUJQVlA4TIwAAAAvP8ALEB+gIG0Dpnv+7U6KgrQNWLhvcmQDFIX//7UpSNuA2fPveDTMToJt/w+c2Nq2KGPJJ0/0GUgk98wOWI"
        "FDI9PcJWsnu9siIFrSCP1bACmi/2U4Sp+sS6wAKRPo8DpBAqmxH1jCQQFI1hOT3pxTQPJMuefm9wJSYhR6tCcXIN3N3/y8NwTS3xGNAA=="
    ),
    "photo": (
        "UklGRhYBAABXRUJQVlA4TAkBAAAvD8AEALmM6H8MIoi0bepf3eHEHPQ/cITzWGDQtpGk8fJHd3hy36Bw27aRIG0wktv+rj86WyCb4j3WogPXbx"
        "KSKZEXsWSRZIIjpEbajCxiDbGDktnEhAWZEYxuMpJokURWYoqkjnU+UmEJRi1iBnoJLxGJTV6ETELbHHhRJixiDTDw6iFLSxJZlBlCVCNhifts"
        "wQywoAFZHUDUi5ihiDSAGgAEi5hJDCwIvgigL18kNYRIS+ALoKMBZIYY1YAs6pBF1GWIJQvACkAWNGqKMtIIagSkNWCgw8iCpAFQX0AKKhdZCT"
        "SAxiIyFcCgBaRBAIuoPyBH64vACgC+qFEE0D9nDtVoAxmgSnMcAA=="
    ),
}


def stream(file):
    """The VP8L stream of a simple file."""
    return np.frombuffer(file, np.uint8)[20:]


def random_pictures():
    rng = np.random.default_rng(11)
    return {
        "noise": rng.integers(0, 256, (50, 61, 4), dtype=np.uint8),
        "hidden colours": np.concatenate(
            [rng.integers(0, 256, (30, 31, 3), dtype=np.uint8), np.zeros((30, 31, 1), np.uint8)], 2
        ),
        "few low values": np.minimum(rng.geometric(0.5, (90, 80, 4)), 255).astype(np.uint8),
        "one colour": np.full((40, 33, 4), (1, 2, 3, 0), np.uint8),
        "two colours": np.where(rng.random((17, 19, 1)) < 0.5, np.uint8([1, 2, 3, 4]), np.uint8([9, 8, 7, 0])),
        "column": rng.integers(0, 256, (30, 1, 4), dtype=np.uint8),
        "row": rng.integers(0, 256, (1, 30, 4), dtype=np.uint8),
        "pixel": np.uint8([[[5, 6, 7, 8]]]),
        "two columns": rng.integers(0, 40, (30, 2, 4), dtype=np.uint8),
        "steep counts": np.repeat(np.arange(22), np.floor(1.618 ** np.arange(22)).astype(int))[:16000, None, None].repeat(4, 2),
        **{name: pixels.astype(np.uint8) for name, pixels in PICTURES.items()},
    }


@pytest.mark.parametrize("name", LIBWEBP)
def test_what_libwebp_wrote_is_read_exactly(name):
    file = base64.b64decode(LIBWEBP[name])
    np.testing.assert_array_equal(vp8l.decode(stream(file), 1 << 20), PICTURES[name].astype(np.uint8))


@pytest.mark.parametrize("name", random_pictures())
def test_what_is_written_comes_back_alpha_or_not(name, monkeypatch):
    pixels = random_pictures()[name].astype(np.uint8)
    file = webp.encode(pixels)
    assert len(file) <= pixels.size * 1.01 + 700
    np.testing.assert_array_equal(vp8l.decode(stream(file), 1 << 20), pixels)
    monkeypatch.setitem(sys.modules, "PIL.Image", None)  # without Pillow
    monkeypatch.setitem(sys.modules, "imbuf", None)  # and outside Blender
    np.testing.assert_array_equal(webp.decode(np.frombuffer(file, np.uint8), 1 << 20), pixels)


@pytest.mark.parametrize("name", random_pictures())
@pytest.mark.parametrize("method", [0, 3, 6])
def test_libwebps_files_and_ours_are_the_same_to_each_other(name, method):
    pillow = pytest.importorskip("PIL.Image", reason="compares with libwebp, through Pillow")
    pixels = random_pictures()[name].astype(np.uint8)
    theirs = io.BytesIO()
    pillow.fromarray(pixels).save(theirs, "WEBP", lossless=True, exact=True, method=method)
    np.testing.assert_array_equal(vp8l.decode(stream(theirs.getvalue()), 1 << 20), pixels)
    np.testing.assert_array_equal(np.asarray(pillow.open(io.BytesIO(webp.encode(pixels))).convert("RGBA")), pixels)


@pytest.mark.parametrize("folder", ["sog_v1_playbot6", "sog_v2_playbot5"])
def test_images_of_real_captures_are_read_as_pillow_reads_them(data, folder):
    pillow = pytest.importorskip("PIL.Image", reason="compares with libwebp, through Pillow")
    for path in sorted((data / "splats" / folder).glob("*.webp")):
        right = np.asarray(pillow.open(path).convert("RGBA"))
        np.testing.assert_array_equal(vp8l.decode(stream(path.read_bytes()), 1 << 20), right)


@pytest.mark.parametrize("name", LIBWEBP)
def test_damaged_streams_give_a_picture_or_a_sentence(name):
    rng = np.random.default_rng(5)
    whole = stream(base64.b64decode(LIBWEBP[name]))
    for _ in range(150):
        broken = whole.copy()
        for at in rng.integers(5, len(whole), rng.integers(1, 4)):
            broken[at] ^= 1 << rng.integers(8)
        with contextlib.suppress(BrokenFile):
            assert vp8l.decode(broken[: rng.integers(len(whole) // 2, len(whole) + 1)], 1 << 16).dtype == np.uint8


def test_sizes_that_the_caller_does_not_expect_are_refused_before_anything_is_made():
    file = np.frombuffer(webp.encode(np.zeros((100, 100, 4), np.uint8)), np.uint8).copy()
    file[21:25] = np.frombuffer(((16383 << 14) | 16383).to_bytes(4, "little"), np.uint8)
    with pytest.raises(BrokenFile, match="larger than"):
        webp.decode(file, 10_000)
    with pytest.raises(BrokenFile, match="larger than"):
        vp8l.decode(file[20:], 10_000)


def test_files_that_are_no_lossless_webp_are_named():
    with pytest.raises(BrokenFile, match="no WebP"):
        webp.decode(np.zeros(100, np.uint8), 100)
    lossy = b"RIFF" + (22).to_bytes(4, "little") + b"WEBPVP8 " + (10).to_bytes(4, "little") + bytes(10)
    with pytest.raises(UnsupportedFormat, match="with losses"):
        webp.decode(np.frombuffer(lossy, np.uint8), 100)
