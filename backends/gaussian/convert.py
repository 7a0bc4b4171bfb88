# SPDX-License-Identifier: GPL-3.0-or-later
"""Splat files from one format to another, for the command line: `python -m vivant.backends convert IN OUT`."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from ..common.errors import VivantError
from .cloud import SplatCloud
from .formats import EXTENSIONS, Overrides, losses, read_splats, write_splats
from .motion.frames import Frames, sampling

Say = Callable[[str], None]

FAILED, INTERRUPTED = 1, 130
"""Exit status where a file cannot be read or written, and after Ctrl-C; argparse ends with 2."""


def parser() -> argparse.ArgumentParser:
    """What the command understands."""
    made = argparse.ArgumentParser(
        "python -m vivant.backends convert",
        description="Convert Gaussian splats, still or moving. The content tells what IN is, the name what OUT becomes: "
        f"{', '.join(EXTENSIONS)}, or numbered files such as frames/splats_####.ply.",
    )
    made.add_argument("source", metavar="IN", type=Path, help="a file, or a folder of numbered files or of a trained scene")
    made.add_argument("target", metavar="OUT", type=Path, help="replaced where it exists")
    made.add_argument("--axes", default="", help="the frame that IN is in, where it does not say: RDF, RUB, RFU, …")
    made.add_argument("--activation", default="", choices=["", "raw", "activated"], help="what the columns of IN hold")
    made.add_argument("--colour-space", default="", choices=["", "display", "linear"], help="what the colours of IN are")
    made.add_argument("--time-range", type=float, nargs=2, metavar=("FIRST", "LAST"), help="of a moving IN, in its own unit")
    for what in ("opacities", "colours"):
        asked = f"whether the network of a 4D-GS scene without cfg_args moves {what}"
        made.add_argument(f"--{what}", choices=["move", "stay"], help=asked)
    made.add_argument("--at", type=float, metavar="TIME", help="write a moving cloud as it is at this time")
    made.add_argument("--frames", type=int, metavar="N", help="frames of motion that is written as samples or files (50)")
    made.add_argument("--write-axes", default="", help="the frame to write OUT in instead of its format's own")
    made.add_argument("--quiet", action="store_true", help="say nothing but errors")
    return made


def main(arguments: Sequence[str]) -> int:
    """Convert a file; the exit status.  What was mended, what OUT cannot hold and how far it is goes to standard error."""
    options = parser().parse_args(arguments)

    def say(words: str) -> None:
        if not options.quiet:
            print(words, file=sys.stderr, flush=True)

    try:
        convert(options, say)
    except VivantError as error:
        print(f"error: {error}", file=sys.stderr)
        return FAILED
    except KeyboardInterrupt:
        print("error: Stopped; nothing was left half written but numbered files.", file=sys.stderr)
        return INTERRUPTED
    return 0


def convert(options: argparse.Namespace, say: Say) -> None:
    """Read, say what happened, and write.  Raises VivantError."""
    span = tuple(options.time_range) if options.time_range else None
    start = time.monotonic()
    opacities, colours = (each and each == "move" for each in (options.opacities, options.colours))
    overrides = Overrides(options.axes, options.activation, options.colour_space, span, opacities, colours)
    cloud = read_splats(options.source, overrides)
    say(f"{options.source}: {_described(cloud)}, read in {time.monotonic() - start:.1f} s")
    for warning in cloud.source.warnings:
        say(f"  {warning}")
    for name, count in cloud.source.repairs.items():
        say(f"  {name} ({count:,}).")
    if options.at is not None:
        cloud = cloud.at(options.at)
    if options.frames is not None and options.frames < 1:
        raise VivantError(f"{options.frames} frames are no motion.", "Give --frames 1 or more.")
    start = time.monotonic()
    _write(cloud, options.target, options.frames, options.write_axes, _Told(say))
    say(f"{options.target}: written in {time.monotonic() - start:.1f} s")


def _write(cloud: SplatCloud, target: Path, frames: int | None, axes: str, told: _Told) -> None:
    """Say what is lost, and write with the progress of what is written frame by frame."""
    for loss in losses(cloud, target):
        told.say(f"  {loss}")
    times = np.linspace(*cloud.family.time_range, frames) if cloud.family and frames is not None else None
    try:
        write_splats(cloud, target, times, told.frame, axes)
    except VivantError as error:
        if cloud.family is None or "cloud.at" not in error.hint:
            raise
        raise VivantError(error.message, "Give --at TIME for one moment, or another name for OUT.") from error


def _described(cloud: SplatCloud) -> str:
    words = f"{cloud.source.format}, {len(cloud):,} splats, SH degree {cloud.degree}, axes {cloud.source.axes}"
    if not cloud.family:
        return words
    first, last = cloud.family.time_range
    count = f", {len(sampling(cloud))} frames" if isinstance(cloud.family, Frames) else ""
    return f"{words}, moving ({cloud.family.name}) from {first:g} to {last:g}{count}"


class _Told:
    """Says at most once a second how many frames are written."""

    def __init__(self, say: Say) -> None:
        self.say = say
        self._last = time.monotonic()

    def frame(self, done: int, of: int) -> None:
        if of > 1 and time.monotonic() - self._last >= 1:
            self._last = time.monotonic()
            self.say(f"  {done} of {of} frames")
