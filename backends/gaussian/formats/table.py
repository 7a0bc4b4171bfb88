# SPDX-License-Identifier: GPL-3.0-or-later
"""The table of splat formats: what each is called, told by, read and written with, and what it can hold.

A format that is one file is a module with NAME, `decode(bytes of the file) -> SplatCloud` and `encode(cloud) ->
pieces of the file`; one of several files or a folder offers `read(path)` and `write(cloud, path)`.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from . import (
    checkpoint,
    compressed_ply,
    compression,
    foreign,
    fourdgs,
    gltf,
    ksplat,
    network_scene,
    ply,
    ply_header,
    ply_motion,
    ply_network,
    sequence,
    sog,
    sog_streamed,
    splat,
    splatv,
    spz,
    usd,
)
from .format import SAMPLED, STILL, Format
from .ply_header import Bytes


def _is_ply(data: Bytes, path: Path, compressed: bool = False) -> bool:
    if not ply_header.is_ply(data[:8].tobytes()):
        return False
    return compressed_ply.is_compressed(ply_header.parse(data[: ply_header.LONGEST_HEADER].tobytes())) == compressed


def _is_splat(data: Bytes, path: Path) -> bool:
    """Asked last: the format has no mark of its own."""
    likely = len(data) % 32 == 0 or path.suffix.lower() == ".splat" or path.name.lower() == ".splat"
    return likely and not foreign.name(data)[0] and splat.is_likely(data)


def _starts_with(*magics: bytes) -> Callable[[Bytes, Path], bool]:
    return lambda data, path: data[:16].tobytes().startswith(magics)


FORMATS = (
    Format(
        network_scene.NAME,
        (),
        network_scene.is_scene,
        read=network_scene.read,
        overridable=True,
        holds={"HexPlane": 3, "Deformable": 3, "Control Nodes": 3},
        extras=True,
    ),
    Format(
        f"{ply.NAME} with a network",
        (),
        ply_network.has_network,
        read=ply_network.read,
        overridable=True,
        holds={"STG full": 0, "NDGS refined": 3},
        extras=True,
    ),
    Format(
        checkpoint.NAME,
        (".pth", ".pt", ".ckpt"),
        checkpoint.is_checkpoint,
        checkpoint.decode,
        overridable=True,
        holds={STILL: 4, "4DGS": 3},
    ),
    Format(
        compressed_ply.NAME,
        (".compressed.ply",),
        lambda data, path: _is_ply(data, path, compressed=True),
        compressed_ply.decode,
        compressed_ply.encode,
        holds={STILL: 4},
        precision="within chunks of 256: positions and scales 11, 10 and 11 bits, rotations 10, colours and SH 8",
        clips=compressed_ply.clips,
    ),
    Format(
        ply.NAME,
        (".ply",),
        _is_ply,
        ply.decode,
        ply.encode,
        overridable=True,
        antialiased=True,
        holds={STILL: 4, "STG": 0, "STG full": 0, "Linear": 4, "4DGS": 4, "NDGS": 4},
        extras=True,
        clips=ply_motion.clips,
    ),
    Format(
        spz.NAME,
        (".spz",),
        _starts_with(spz.MAGIC, compression.GZIP),
        spz.decode,
        spz.encode,
        axes=spz.AXES,
        antialiased=True,
        holds={STILL: 4},
        precision="positions 24 bits, rotations 10, scales, colours and opacities 8, SH 5 and 4",
        clips=spz.clips,
    ),
    Format(
        splatv.NAME,
        (".splatv",),
        _starts_with(splatv.MAGIC),
        splatv.decode,
        splatv.encode,
        holds={STILL: 0, "STG": 0},
        precision="positions float32, rotations, scales and motion float16, colours and opacities 8 bits",
        clips=splatv.clips,
    ),
    Format(
        gltf.NAME,
        (".glb",),
        lambda data, path: gltf.is_glb(data),
        gltf.decode,
        gltf.encode,
        axes=gltf.AXES,
        holds={STILL: 3},
        extras=True,
    ),
    Format(
        f"{gltf.NAME} in several files",
        (".gltf",),
        lambda data, path: gltf.is_gltf(data),
        read=gltf.read,
        write=gltf.write,
        axes=gltf.AXES,
        holds={STILL: 3},
        extras=True,
    ),
    Format(
        usd.NAME,
        usd.EXTENSIONS,
        usd.is_usd,
        usd.decode,
        read=usd.read,
        write=usd.write,
        axes=usd.AXES,
        holds=SAMPLED,
        precision="float32; motion as samples, mixed linearly in between",
        clips=usd.clips,
    ),
    Format(
        sog.NAME,
        (".sog",),
        lambda data, path: sog.is_zip(data),
        sog.decode,
        sog.encode,
        antialiased=True,
        holds={STILL: 3},
        precision="positions 16 bits, rotations, scales and colours 8 bits, SH from a palette",
        clips=sog.clips,
    ),
    Format(
        f"{sog.NAME} in several files",
        ("meta.json",),
        sog.is_index,
        read=sog.read,
        write=sog.write,
        antialiased=True,
        holds={STILL: 3},
        precision="positions 16 bits, rotations, scales and colours 8 bits, SH from a palette",
        clips=sog.clips,
    ),
    Format(sog_streamed.NAME, (sog_streamed.INDEX,), sog_streamed.is_streamed, read=sog_streamed.read, holds={STILL: 3}),
    Format(fourdgs.NAME, (".4dgs",), _starts_with(fourdgs.MAGIC), fourdgs.decode, holds={"Linear": 3}),
    Format(
        ksplat.NAME,
        (".ksplat",),
        lambda data, path: ksplat.is_ksplat(data),
        ksplat.decode,
        holds={STILL: 2},
        precision="level 0 float32; level 1 positions 16 bits, the rest float16; level 2 SH 8 bits",
    ),
    Format(
        sequence.NAME,
        sequence.EXTENSIONS,
        sequence.is_sequence,
        read=sequence.read,
        write=sequence.write,
        overridable=True,
        antialiased=True,
        holds=SAMPLED,
        extras=True,
        precision="as its frames, which are written as PLY; mixed linearly in between where splats stay the same",
        clips=usd.clips,
    ),
    Format(
        splat.NAME,
        (".splat",),
        _is_splat,
        splat.decode,
        splat.encode,
        holds={STILL: 0},
        precision="positions and scales float32, rotations, colours and opacities 8 bits",
        clips=splat.clips,
    ),
)
"""Every format; content is shown to them in this order."""

EXTENSIONS = tuple(extension for form in FORMATS if form.writable for extension in form.extensions)
"""What `write_splats` can write, by the end of a file's name."""
