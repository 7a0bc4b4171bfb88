# SPDX-License-Identifier: GPL-3.0-or-later
"""Mutated splat files: each ends in a VivantError or a sound cloud, soon, in little memory.

    python3 dev.py python tests/fuzz/fuzz_formats.py --count 2000 --seed 1 [--format spz]

A failure prints the seed that makes the same file again and saves it beside, when --keep names a folder.
"""

from __future__ import annotations

import argparse
import gzip
import pathlib
import re
import sys
import time
import tracemalloc
import warnings
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np

from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian import formats
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import compressed_ply, ply, splat, splatv, spz
from vivant.backends.gaussian.motion.stg import Stg

SECONDS = 3.0
SPARE = 64 << 20

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF]


def random_cloud(count: int, degree: int, moving: bool = False) -> SplatCloud:
    """A small sound cloud, always the same."""
    rng = np.random.default_rng(count)
    quats = rng.normal(size=(count, 4))
    family = None
    if moving:
        paths, drift = rng.normal(size=(count, 3, 3)).astype("f4"), rng.normal(size=(count, 4)).astype("f4")
        family = Stg(paths, drift, rng.uniform(0, 1, count).astype("f4"), rng.uniform(0.05, 0.5, count).astype("f4"))
    return SplatCloud(
        rng.normal(size=(count, 3)),
        quats / np.linalg.norm(quats, axis=1, keepdims=True),
        np.exp(rng.normal(-4, 1, (count, 3))),
        rng.uniform(0.01, 0.99, count),
        rng.normal(0, 0.3, (count, (degree + 1) ** 2, 3)),
        family=family,
    )


def written(form: formats.Format, cloud: SplatCloud) -> bytes:
    """A whole file as a format writes it."""
    return b"".join(bytes(piece) for piece in form.encode(cloud))


def as_text(file: bytes) -> bytes:
    """The same PLY with numbers in text."""
    head, _, body = file.partition(b"end_header\n")
    columns = head.count(b"property float")
    rows = np.frombuffer(body, "<f4").reshape(-1, columns)
    lines = "".join(" ".join(f"{number:.9g}" for number in row) + "\n" for row in rows.tolist())
    return head.replace(b"binary_little_endian", b"ascii") + b"end_header\n" + lines.encode()


def as_big_endian(file: bytes) -> bytes:
    """The same PLY with its floats the other way round."""
    head, _, body = file.partition(b"end_header\n")
    return head.replace(b"little", b"big") + b"end_header\n" + np.frombuffer(body, "<f4").astype(">f4").tobytes()


def with_faces_first(file: bytes) -> bytes:
    """The same PLY behind an element of lists."""
    head, _, body = file.partition(b"end_header\n")
    faces = b"element face 3\nproperty list uchar int vertex_indices\n"
    at = head.index(b"element vertex")
    rows = b"".join(bytes([n]) + np.arange(n, dtype="<i4").tobytes() for n in (3, 0, 4))
    return head[:at] + faces + head[at:] + b"end_header\n" + rows + body


def spz_version_4(file: bytes) -> bytes:
    """An SPZ of version 4 from one of version 3, streams packed with whatever Zstandard there is; else version 3."""
    try:
        import zstandard
    except ImportError:
        return file
    body = gzip.decompress(file)
    count, degree = int.from_bytes(body[8:12], "little"), body[12]
    parts, offset = [], 16
    for width in (9, 1, 3, 3, 4, 3 * ((degree + 1) ** 2 - 1)):
        parts += [body[offset : offset + count * width]] if width else []
        offset += count * width
    packed = [zstandard.ZstdCompressor().compress(part) for part in parts]
    extension = (0xADBE0003).to_bytes(4, "little") + (4).to_bytes(4, "little") + (4).to_bytes(4, "little")
    head = body[:4] + (4).to_bytes(4, "little") + body[8:14] + bytes([2, len(parts)])
    head += (32 + len(extension)).to_bytes(4, "little") + bytes(12)
    table = b"".join(
        len(p).to_bytes(8, "little") + len(part).to_bytes(8, "little") for p, part in zip(packed, parts, strict=True)
    )
    return head + extension + table + b"".join(packed)


def seeds() -> dict[str, list[bytes]]:
    """Sound files of every format, small ones."""
    still, plain, moving = random_cloud(300, 3), random_cloud(300, 0), random_cloud(300, 0, moving=True)
    tiny = written(ply, random_cloud(20, 1))
    extras = {name: np.linspace(0.1, 1, 300, dtype=np.float32) for name in ("filter_3D", "fea_0")}
    third = written(spz, still)
    return {
        "ply": [
            written(ply, still), written(ply, moving), written(ply, plain.replace(extras=extras)),
            as_text(tiny), as_big_endian(tiny), with_faces_first(tiny), gzip.compress(tiny, mtime=0),
        ],
        "compressed_ply": [written(compressed_ply, still), written(compressed_ply, plain)],
        "splat": [written(splat, plain)],
        "spz": [third, gzip.decompress(third), spz_version_4(third), written(spz, plain)],
        "splatv": [written(splatv, moving)],
    }  # fmt: skip


def flip_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    head = rng.random() < 0.5  # headers are short; half of the flips go there
    for _ in range(rng.integers(1, 9)):
        at = rng.integers(min(len(data), 600) if head else len(data))
        data[at] ^= 1 << rng.integers(8)
    return data


def truncate(data: bytearray, rng: np.random.Generator) -> bytearray:
    return data[: rng.integers(len(data))]


def splice(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Copy, remove or overwrite a stretch."""
    first, last = sorted(rng.integers(0, len(data) + 1, 2))
    stretch = data[first : min(last, first + 4096)]
    at = rng.integers(len(data) + 1)
    match rng.integers(3):
        case 0:
            data[at:at] = stretch
        case 1:
            del data[first : first + len(stretch)]
        case _:
            data[at : at + len(stretch)] = stretch
    return data


def poke(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Put an interesting number of 1, 2, 4 or 8 bytes somewhere."""
    size = int(rng.choice([1, 2, 4, 8]))
    at = rng.integers(min(len(data), 64) if rng.random() < 0.5 else len(data))
    value = INTERESTING[rng.integers(len(INTERESTING))] % (1 << 8 * size)
    data[at : at + size] = value.to_bytes(size, "little")
    return data


def edit_text(data: bytearray, rng: np.random.Generator) -> bytearray:
    """Change numbers, drop, double or swap lines and words of a text header."""
    end = data.find(b"end_header")
    if end < 0:
        end = min(len(data), 400)
    text, rest = bytes(data[:end]), data[end:]
    numbers = list(re.finditer(rb"\d+", text))
    lines = text.splitlines(keepends=True)
    choice = rng.integers(5)
    if choice == 0 and numbers:  # inflated and absurd counts
        number = numbers[rng.integers(len(numbers))]
        value = [b"0", b"-1", b"2000000000", b"18446744073709551615", b"1e9", b"9" * 300, number[0] + b"0"][rng.integers(7)]
        text = text[: number.start()] + value + text[number.end() :]
    elif choice == 1 and len(lines) > 1:
        del lines[rng.integers(len(lines))]
        text = b"".join(lines)
    elif choice == 2 and lines:
        lines.insert(rng.integers(len(lines)), lines[rng.integers(len(lines))])
        text = b"".join(lines)
    elif choice == 3 and len(lines) > 1:
        a, b = rng.integers(len(lines), size=2)
        lines[a], lines[b] = lines[b], lines[a]
        text = b"".join(lines)
    else:
        words = [
            b"float",
            b"double",
            b"uchar",
            b"int",
            b"list uchar int",
            b"x",
            b"scale_0",
            b"vertex",
            b"ascii",
            b"\r\n",
            b"\x00",
        ]
        first, last = rng.choice(len(words), 2, replace=False)
        text = text.replace(words[first], words[last], int(rng.integers(1, 4)))
    return bytearray(text) + rest


def repack(mutation: Callable[[bytearray, np.random.Generator], bytearray]):  # type: ignore[no-untyped-def]
    """The mutation applied within a gzip stream, where there is one."""

    def apply(data: bytearray, rng: np.random.Generator) -> bytearray:
        try:
            inside = bytearray(gzip.decompress(data))
        except (OSError, EOFError, zlib.error):
            return mutation(data, rng)
        return bytearray(gzip.compress(mutation(inside, rng), 1, mtime=0))

    return apply


MUTATIONS = [flip_bits, truncate, splice, poke, edit_text]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations, half of the time inside the gzip stream of packed files."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        if changed:
            changed = (repack(mutation) if rng.random() < 0.5 else mutation)(changed, rng)
    return bytes(changed)


def check_sound(cloud: SplatCloud) -> None:
    """Raise AssertionError where a cloud breaks what every cloud promises."""
    count = len(cloud)
    for still in (cloud, cloud.at(0.3), change_axes(cloud, "RFU")):
        for array in (still.means, still.quats, still.scales, still.opacities, still.sh):
            assert array.dtype == np.float32 and len(array) == count and np.isfinite(array).all()
        assert np.allclose(np.linalg.norm(still.quats, axis=1), 1, atol=1e-5)
        assert (still.scales > 0).all() and (still.opacities >= 0).all() and (still.opacities <= 1).all()
    assert all(len(column) == count for column in cloud.extras.values())
    if cloud.family:
        assert all(len(values) == count and np.isfinite(values).all() for values in cloud.family.attributes().values())
    assert all(number > 0 for number in cloud.source.repairs.values())


def check(data: bytes, suffix: str) -> str:
    """Read a file's bytes; how it ended.  Raises whatever is not allowed to happen."""
    array = np.frombuffer(data, np.uint8).copy()
    cloud = failure = None
    tracemalloc.start()
    start = time.perf_counter()
    try:
        cloud = formats.decode(array, suffix)
    except VivantError as error:
        failure = error
    seconds = time.perf_counter() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert peak + len(data) <= 4 * len(data) + SPARE, f"{peak:,} bytes for a file of {len(data):,}"
    if cloud is None:
        assert failure and failure.message.endswith(".") and "\n" not in failure.message, f"no sentence: {failure}"
        return type(failure).__name__
    check_sound(cloud)
    return "mended" if cloud.source.repairs or cloud.source.warnings else "sound"


def run(name: str, count: int, seed: int, keep: pathlib.Path | None = None) -> Counter[str]:
    """Fuzz one format; outcomes by name.  Raises AssertionError that names the seed of the first bad file."""
    outcomes: Counter[str] = Counter()
    files = seeds()[name]
    suffix = "." + name.replace("compressed_ply", "ply")
    for file in files:
        assert check(file, suffix) in ("sound", "mended"), "a seed file is not sound"
    for index in range(count):
        rng = np.random.default_rng([seed, index])
        data = mutate(files[index % len(files)], rng)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outcomes[check(data, suffix)] += 1
        except Exception as error:
            if keep:
                keep.mkdir(parents=True, exist_ok=True)
                (keep / f"{name}_{seed}_{index}{suffix}").write_bytes(data)
            raise AssertionError(f"{name}, seed {seed}, file {index}: {type(error).__name__}: {error}") from error
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=2000, help="files a format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=list(seeds()), help="one format; all without it")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for files that fail")
    options = parser.parse_args()
    failed = 0
    for name in [options.format] if options.format else list(seeds()):
        start = time.perf_counter()
        try:
            outcomes = run(name, options.count, options.seed, options.keep)
        except AssertionError as error:
            failed = 1
            print(error)
        else:
            listed = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            print(f"{name}, seed {options.seed}: {options.count} files in {time.perf_counter() - start:.0f} s: {listed}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
