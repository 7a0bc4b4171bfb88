# SPDX-License-Identifier: GPL-3.0-or-later
"""Blender's own images as the faster way to read lossless WebP, where they give every byte as stored."""

import sys
import threading

import bpy  # noqa: F401  imbuf comes with it
import imbuf
import numpy as np
import pytest

from vivant.backends.gaussian.formats import webp


def pixels():
    picture = np.random.default_rng(2).integers(0, 256, (61, 83, 4), dtype=np.uint8)
    picture[:20, :, 3] = 0  # colours that nobody sees
    return picture


@pytest.mark.skipif(not hasattr(imbuf.types.ImBuf, "with_buffer"), reason="Blender gives images' bytes from 5.2 on")
@pytest.mark.parametrize("in_thread", [False, True])
def test_blender_reads_every_byte_as_it_was_stored(monkeypatch, in_thread):
    monkeypatch.setitem(sys.modules, "PIL.Image", None)
    monkeypatch.setattr(webp.vp8l, "decode", None)
    found = []
    file = np.frombuffer(webp.encode(pixels()), np.uint8)
    work = threading.Thread(target=lambda: found.append(webp.decode(file, 1 << 20)))
    work.run() if not in_thread else (work.start(), work.join())
    np.testing.assert_array_equal(found[0], pixels())


def test_images_are_read_in_any_blender():
    np.testing.assert_array_equal(webp.decode(np.frombuffer(webp.encode(pixels()), np.uint8), 1 << 20), pixels())
