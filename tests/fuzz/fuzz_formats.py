# SPDX-License-Identifier: GPL-3.0-or-later
"""Damaged files of every row of the table of formats: each ends in a VivantError or a sound cloud, soon and in little memory.

    python3 dev.py python tests/fuzz/fuzz_formats.py --count 5000 --seed 1 [--format SPZ] [--keep FOLDER]

A failure prints the seed that makes the same files again and saves them, when --keep names a folder.
"""

from __future__ import annotations

import argparse
import gzip
import io
import pathlib
import re
import sys
import tempfile
import time
import tracemalloc
import warnings
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable

import numpy as np

sys.path.insert(0, str(pathlib.Path(__file__).parent))
from format_seeds import Seed, seeds

from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.axes import change_axes
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import FORMATS, read_splats
from vivant.backends.gaussian.motion.frames import Frames

SECONDS = 3.0
SPARE = 64 << 20

INTERESTING = [0, 1, 0x7F, 0x80, 0xFF, 0x7FFF, 0xFFFF, 0x7F800000, 0x7FC00000, 0x7FFFFFFF, 0xFFFFFFFF, 1 << 40, (1 << 64) - 1]
NAMES = [form.name for form in FORMATS]

Mutation = Callable[[bytearray, np.random.Generator], bytearray]


def somewhere(size: int, rng: np.random.Generator, end: int) -> int:
    """A place in a file: tables lie within `end` of either end, so two thirds of the places do."""
    part = rng.integers(3)
    near = int(rng.integers(min(size, end)))
    return near if part == 0 else size - 1 - near if part == 1 else int(rng.integers(size))


def flip_bits(data: bytearray, rng: np.random.Generator) -> bytearray:
    for _ in range(rng.integers(1, 9)):
        data[somewhere(len(data), rng, 600)] ^= 1 << rng.integers(8)
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
    at = somewhere(len(data), rng, 200)
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


def within(mutation: Mutation) -> Mutation:
    """The mutation applied within a gzip stream or to a file in a zip archive, where there is one."""

    def apply(data: bytearray, rng: np.random.Generator) -> bytearray:
        try:
            if data[:2] == b"PK":
                with zipfile.ZipFile(io.BytesIO(data)) as archive:
                    members = {info.filename: archive.read(info) for info in archive.infolist()}
                chosen = sorted(members)[rng.integers(len(members))]
                members[chosen] = bytes(mutation(bytearray(members[chosen]), rng)) if members[chosen] else b""
                out = io.BytesIO()
                with zipfile.ZipFile(out, "w") as archive:
                    for name, content in members.items():
                        archive.writestr(zipfile.ZipInfo(name), content)
                return bytearray(out.getvalue())
            return bytearray(gzip.compress(mutation(bytearray(gzip.decompress(data)), rng), 1, mtime=0))
        except (OSError, EOFError, zlib.error, ValueError, NotImplementedError, RuntimeError, zipfile.BadZipFile):
            return mutation(data, rng)

    return apply


MUTATIONS: list[Mutation] = [flip_bits, truncate, splice, poke, edit_text]


def mutate(data: bytes, rng: np.random.Generator) -> bytes:
    """One to three mutations, half of the time inside what is packed."""
    changed = bytearray(data)
    for _ in range(rng.integers(1, 4)):
        mutation = MUTATIONS[rng.integers(len(MUTATIONS))]
        if changed:
            changed = (within(mutation) if rng.random() < 0.5 else mutation)(changed, rng)
    return bytes(changed)


def check_sound(cloud: SplatCloud) -> None:
    """Raise AssertionError where a cloud breaks what every cloud promises, now or at some time."""
    moments = [cloud, change_axes(cloud, "RFU")]
    if cloud.family:
        first, last = cloud.family.time_range
        camera = np.array([0.4, -2.0, 3.0])
        moments += [cloud.at(time, camera) for time in (first, first + 0.3 * (last - first), last)]
        if not isinstance(cloud.family, Frames):  # whose number of splats may change
            assert all(len(still) == len(cloud) for still in moments)
        values = cloud.family.attributes().values()
        assert all(len(each) == len(cloud) and not np.isnan(each).any() for each in values)
    for still in moments:
        for array in (still.means, still.quats, still.scales, still.opacities, still.sh):
            assert array.dtype == np.float32 and len(array) == len(still) and np.isfinite(array).all()
        assert np.allclose(np.linalg.norm(still.quats, axis=1), 1, atol=1e-5)
        assert (still.scales > 0).all() and (still.opacities >= 0).all() and (still.opacities <= 1).all()
    assert all(len(column) == len(cloud) for column in cloud.extras.values())
    assert all(number > 0 for number in cloud.source.repairs.values())


def check(seed: Seed, folder: pathlib.Path) -> str:
    """Read files; how it ended.  Raises whatever is not allowed to happen."""
    for name, content in seed.files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    size = sum(map(len, seed.files.values()))
    cloud = failure = None
    tracemalloc.start()
    start = time.process_time()
    try:
        cloud = read_splats(folder / seed.opened)
    except VivantError as error:
        failure = error
    seconds = time.process_time() - start
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds < SECONDS, f"{seconds:.1f} s"
    assert peak <= 4 * size + SPARE, f"{peak:,} bytes for files of {size:,}"
    try:
        if cloud is not None:
            check_sound(cloud)
    except VivantError as error:  # a frame that is damaged further back
        failure = error
    if failure:
        assert failure.message.endswith(".") and "\n" not in failure.message, f"no sentence: {failure}"
        return type(failure).__name__
    assert cloud is not None
    return "mended" if cloud.source.repairs or cloud.source.warnings else "sound"


def run(name: str, count: int, seed: int, keep: pathlib.Path | None = None) -> Counter[str]:
    """Fuzz one format; outcomes by name.  Raises AssertionError that names the seed of the first bad file."""
    outcomes: Counter[str] = Counter()
    sound = seeds(next(form for form in FORMATS if form.name == name))
    assert sound, f"nothing makes a {name} file: add one to format_seeds.PACKED"
    with tempfile.TemporaryDirectory() as temporary:
        folder = pathlib.Path(temporary)
        for i, each in enumerate(sound):
            outcome = check(each, folder / f"seed{i}")
            assert outcome in ("sound", "mended"), f"{name}: seed file {each.opened} is not sound but {outcome}"
        for index in range(count):
            rng = np.random.default_rng([seed, index])
            which = index % len(sound)
            files = dict(sound[which].files)
            chosen = sorted(files)[rng.integers(len(files))]
            files[chosen] = mutate(files[chosen], rng)
            try:
                with warnings.catch_warnings():
                    warnings.simplefilter("error")
                    outcomes[check(Seed(files, sound[which].opened), folder / f"seed{which}")] += 1
            except Exception as error:
                if keep:
                    check_folder = keep / f"{name}_{seed}_{index}".replace(" ", "_")
                    check_folder.mkdir(parents=True, exist_ok=True)
                    for path, content in files.items():
                        (check_folder / path).parent.mkdir(parents=True, exist_ok=True)
                        (check_folder / path).write_bytes(content)
                raise AssertionError(f"{name}, seed {seed}, file {index}: {type(error).__name__}: {error}") from error
    return outcomes


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=5000, help="files a format")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--format", choices=NAMES, help="one format; all without it")
    parser.add_argument("--keep", type=pathlib.Path, help="folder for files that fail")
    options = parser.parse_args()
    failed = 0
    for name in [options.format] if options.format else NAMES:
        start = time.perf_counter()
        try:
            outcomes = run(name, options.count, options.seed, options.keep)
        except AssertionError as error:
            failed = 1
            print(error, flush=True)
        else:
            listed = ", ".join(f"{count} {outcome}" for outcome, count in sorted(outcomes.items()))
            seconds = time.perf_counter() - start
            print(f"{name}, seed {options.seed}: {options.count} files in {seconds:.0f} s: {listed}", flush=True)
    return failed


if __name__ == "__main__":
    sys.exit(main())
