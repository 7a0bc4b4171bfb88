# SPDX-License-Identifier: GPL-3.0-or-later
"""Names for files that are not read here, so that the user hears what was given and not just that it failed."""

from __future__ import annotations

import re

from .ply_header import Bytes

_ASK = "Give a file of Gaussian splats: PLY, SPZ, SOG, glTF, USD, .splat, .splatv, .ksplat or .4dgs."
_DOWNLOAD = "Download the file itself."

# what stands at an offset, what that is, what to do
_MAGICS: list[tuple[int, bytes, str, str]] = [
    (0, b"\x89PNG", "a PNG image", _ASK),
    (0, b"\xff\xd8\xff", "a JPEG image", _ASK),
    (8, b"WEBP", "a WebP image", "If it belongs to a SOG folder, give its meta.json."),
    (0, b"v/1\x01", "an OpenEXR image", _ASK),
    (4, b"ftyp", "a video", _ASK),
    (0, b"BLENDER", "a .blend file", "Open it with File > Open, or append from it."),
    (0, b"Kaydara FBX", "an FBX file", "Import it with File > Import > FBX."),
    (0, b"LASF", "a LAS point cloud", _ASK),
    (0, b"\x93NUMPY", "a NumPy array", _ASK),
    (0, b"\x89HDF", "an HDF5 file", _ASK),
    (0, b"\x28\xb5\x2f\xfd", "a file packed with Zstandard, perhaps a .blend", "Unpack it first."),
    (
        0,
        b"version https://git-lfs",
        "a Git LFS pointer, not the file that it stands for",
        "Fetch the file with 'git lfs pull'.",
    ),
]

# what a zip archive is by a name inside it
_ZIPS = [
    (rb"/?data\.pkl", "a PyTorch checkpoint", "Export the splats from the project that trained them as PLY."),
    (rb"document\.json", "a SuperSplat project", "Open it in SuperSplat and export PLY or SPZ."),
    (rb"\.(?:ply|splat|spz)", "a damaged zip archive of splat files", "Download it again."),
    (rb"", "a zip archive without splats", _ASK),
]

# what a JSON text is by what it mentions
_JSONS = [
    (rb'"lodLevels"|"filenames"', "the index of a streamed SOG file", "Give the meta.json of one of its folders, such as 0_0."),
    (rb'"asset"\s*:\s*\{', "a glTF model", "Import it with File > Import > glTF 2.0."),
    (rb'"transform_matrix"|"img_name"', "a list of cameras", "Import it with File > Import > Cameras of a Capture."),
    (rb"", "a JSON file", _ASK),
]


def name(data: Bytes) -> tuple[str, str]:
    """What the bytes are, empty where nobody knows, and what to do about it."""
    head, tail = data[: 1 << 16].tobytes(), data[-(1 << 16) :].tobytes()
    for offset, magic, what, hint in _MAGICS:
        if head.startswith(magic, offset):
            return what, hint
    if head.startswith(b"glTF"):
        return "a glTF model", "Import it with File > Import > glTF 2.0."
    if head.startswith(b"PK\x03\x04"):
        return next((what, hint) for member, what, hint in _ZIPS if re.search(member, head + tail))
    if head[:1] == b"\x80" and head[1:2] in (b"\x02", b"\x03", b"\x04", b"\x05"):
        return "a Python pickle, perhaps a checkpoint", "Export the splats from the project that trained them as PLY."
    text = head.lstrip(b"\xef\xbb\xbf \t\r\n")
    if text[:1] in (b"{", b"["):
        return next((what, hint) for mention, what, hint in _JSONS if re.search(mention, head))
    if re.match(rb"(?i)<!doctype html|<html", text):
        return "a web page, probably from a download that failed", _DOWNLOAD
    return "", _ASK
