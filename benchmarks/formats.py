# SPDX-License-Identifier: GPL-3.0-or-later
"""Every splat format by the table of formats: what is read, written and held, and how exactly a file gives a cloud back.

python3 dev.py bench formats [--page docs/formats.md]
"""

from __future__ import annotations

import argparse
import json
import pathlib
import sys
import tempfile

from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.formats import FORMATS, Format, read_splats, write_splats
from vivant.backends.gaussian.formats.format import SAMPLED, STILL
from vivant.backends.gaussian.motion import FAMILIES

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "tools"))
import round_trip

INTRODUCTION = """# Formats

What Vivant reads and writes. This page is made by `python3 dev.py bench formats --page docs/formats.md`, from the table
of formats and from {count} random splats of the highest degree that a format holds, written and read in every one.

"""
NOTES = """
*Round trip*: a file that was read and not changed is written byte for byte as it was, measured on the same splats. The
last columns are the largest errors of a changed one: positions in units of the scene (which is about six wide), natural
logarithms of the scales, degrees, and opacities, display colours and SH coefficients as they are. *in only*: the format is
written by the tools of one trainer or viewer alone, or holds a network that no edit of splats could bring up to date; write
PLY or USD instead. *sampled*: any motion, as one still cloud a frame. *one colour*: of that family the format holds no
spherical harmonics.

Every format also takes a file a frame: export with *A File a Frame*, or write to a name such as `a_####.spz`. What a format
cannot hold of a cloud is named before it is written, in the export dialog, by `losses(cloud, path)` and by
`python backends convert`. Checkpoints are those of 3DGS, 4DGS and gsplat; a trained scene is a folder of 4D-GS, Deformable
3D Gaussians or SC-GS. USD is read where the transforms in the file put the splats, streamed SOG (levels of detail) at its
finest level, glTF with plain or sparse accessors and packed as SPZ, but not with meshopt or Draco.
"""


def families(form: Format) -> str:
    """What moves in the format."""
    if form.holds is SAMPLED:
        return "sampled"
    most = max(form.holds.values())
    named = (
        name + (" (one colour)" if degree < most and not degree else "") for name, degree in form.holds.items() if name != STILL
    )
    return ", ".join(named) or "—"


def comes_back(form: Format, extension: str, count: int) -> bool:
    """Whether files that are read and written again are the same bytes."""
    with tempfile.TemporaryDirectory() as folder:
        first, second = (round_trip.path_in(pathlib.Path(folder) / name, extension) for name in "ab")
        for path in (first, second):
            path.parent.mkdir()
        write_splats(round_trip.cloud_for(form, count), first)
        write_splats(read_splats(first), second)
        names = [sorted(path.name for path in each.parent.iterdir()) for each in (first, second)]
        same = all((first.parent / name).read_bytes() == (second.parent / name).read_bytes() for name in names[0])
        return names[0] == names[1] and same


def measure(form: Format, extension: str, count: int) -> dict[str, float] | str:
    """Errors of a round trip, or why there was none."""
    with tempfile.TemporaryDirectory() as folder:
        cloud = round_trip.cloud_for(form, count)
        try:
            return round_trip.errors(cloud, round_trip.through(cloud, round_trip.path_in(pathlib.Path(folder), extension)))
        except (VivantError, AssertionError) as error:
            return f"failed: {error}"


def table(count: int) -> tuple[list[list[str]], dict[str, dict[str, float] | str]]:
    """Rows of words, the first the heads, and the figures by ending."""
    rows = [["format", "ending", "read", "write", "round trip", "moving", "SH degree", *round_trip.MEASURES]]
    figures: dict[str, dict[str, float] | str] = {}
    for form in FORMATS:
        degree = str(max(form.holds.values()) if form.holds is not SAMPLED else 4)
        for extension in form.extensions or ("folder",):
            reads = "yes" if form.read or form.decode else "no"
            again = "—" if not form.writable else "same bytes" if comes_back(form, extension, count) else "other bytes"
            facts = [form.name, extension, reads, "yes" if form.writable else "in only", again, families(form), degree]
            if form.writable:
                found = figures[extension] = measure(form, extension, count)
                facts += [found] if isinstance(found, str) else [f"{found[name]:.1g}" if found[name] else "0" for name in found]
            rows.append(facts + ["—"] * (len(rows[0]) - len(facts)))
    return rows, figures


def as_page(rows: list[list[str]], count: int) -> str:
    """The table in Markdown, with its words around it."""
    lines = ["| " + " | ".join(row) + " |" for row in [rows[0], ["---"] * len(rows[0]), *rows[1:]]]
    missing = sorted(set(FAMILIES) - {name for form in FORMATS if form.holds is not SAMPLED for name in form.holds})
    note = f"\nOnly sampled: {', '.join(missing)}.\n" if missing else ""
    return INTRODUCTION.format(count=count) + "\n".join(lines) + "\n" + NOTES + note


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", type=int, default=513)
    parser.add_argument("--page", type=pathlib.Path, help="write the table as Markdown")
    parser.add_argument("--json", type=pathlib.Path)
    options = parser.parse_args()
    rows, figures = table(options.count)
    widths = [max(len(row[i]) for row in rows) for i in range(len(rows[0]))]
    for row in rows:
        print("  ".join(word.ljust(width) for word, width in zip(row, widths, strict=True)).rstrip())
    if options.page:
        options.page.write_text(as_page(rows, options.count), "utf8")
    if options.json:
        options.json.write_text(json.dumps(figures))
    return int(any(isinstance(found, str) for found in figures.values()))


if __name__ == "__main__":
    sys.exit(main())
