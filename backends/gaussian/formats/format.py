# SPDX-License-Identifier: GPL-3.0-or-later
"""What the table of formats says of each, and what a user may say of a file that the file does not."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...common.errors import VivantError
from ..axes import to_blender
from ..cloud import SplatCloud
from .ply_header import Bytes

STILL = "still"
"""What `Format.holds` calls a cloud without a family."""


class _Sampled(Mapping[str, int]):
    """Holds every family, because it is written as still clouds at some times."""

    def __getitem__(self, family: str) -> int:
        return 4

    def __iter__(self) -> Iterator[str]:
        return iter((STILL, "Frames"))

    def __len__(self) -> int:
        return 2


SAMPLED = _Sampled()


@dataclass(frozen=True)
class Overrides:
    """What the user knows better than a file; empty fields leave it to the file.

    axes: the capture's frame, three letters.  activation: "activated" where a file holds opacities and standard
    deviations themselves in columns that are meant for logits and logarithms, or "raw" where it is the other way
    round.  colour_space: "display" (sRGB-encoded, what trainers make) or "linear" (Rec. 709 light).
    time_range: first and last time of a moving cloud, in its family's unit.  opacities_move, colours_move: whether the network
    of a 4D-GS scene changes them, where its cfg_args is lost.
    Raises VivantError for values that mean nothing.
    """

    axes: str = ""
    activation: str = ""
    colour_space: str = ""
    time_range: tuple[float, float] | None = None
    opacities_move: bool | None = None
    colours_move: bool | None = None

    def __post_init__(self) -> None:
        if self.axes:
            to_blender(self.axes)
        for name, known in (("activation", ("raw", "activated")), ("colour_space", ("display", "linear"))):
            if (value := getattr(self, name)) not in ("", *known):
                raise VivantError(f"'{value}' is no {name.replace('_', ' ')}.", f"Give one of {', '.join(known)}.")
        if self.time_range and not self.time_range[0] < self.time_range[1]:
            raise VivantError("The clip's last time does not follow its first.", "Give a first and a later last time.")

    @classmethod
    def of(cls, told: Mapping[str, Any]) -> Overrides:
        """Those that `told` has written down."""
        found: dict[str, Any] = {name: tuple(value) if name == "time_range" else value for name, value in told.items()}
        return cls(**found)

    def told(self) -> dict[str, Any]:
        """What is said, by name, as plain values that can be kept."""
        return {name: value for name, value in dataclasses.asdict(self).items() if value not in ("", None)}

    def apply(self, cloud: SplatCloud) -> SplatCloud:
        """The cloud under another description, its numbers as they are; only a reader can change the activation."""
        if self == Overrides():
            return cloud
        family = cloud.family
        if family and self.time_range:
            family = dataclasses.replace(family, time_range=self.time_range)  # type: ignore[type-var]
        details = {**cloud.source.details, "overrides": self.told()}  # kept, for when the file is read again
        if self.colour_space:
            details["colour_space"] = self.colour_space
        return cloud.replace(
            family=family, source=dataclasses.replace(cloud.source, axes=self.axes or cloud.source.axes, details=details)
        )


@dataclass(frozen=True)
class Format:
    """A row of the table: how a format is called, told from others, read and written, and what it can hold.

    A file that is complete in itself has `decode` (all its bytes -> cloud) and `encode` (cloud -> pieces to write one
    after the other).  What spreads over several files has `read` and `write` instead, which take the path of the file
    or folder that was named and see to all of them.
    """

    name: str
    extensions: tuple[str, ...]
    """Ends of file names, with their dots; the first that fits says what is written."""

    recognise: Callable[[Bytes, Path], bool]
    """Whether bytes (unpacked from gzip, none for a folder) at a path (or with a suffix) are of this format."""

    decode: Callable[..., SplatCloud] | None = None
    encode: Callable[[SplatCloud], Iterable[Any]] | None = None
    read: Callable[..., SplatCloud] | None = None
    write: Callable[..., None] | None = None
    overridable: bool = False
    """Whether `decode` and `read` take Overrides as their second argument, because something is open beyond frame and times."""

    holds: Mapping[str, int] = field(default_factory=lambda: {STILL: 0})
    """The highest SH degree by the name of the family that it goes with."""

    axes: str = "RDF"
    """The frame that it is written in."""

    antialiased: bool = False
    """Whether it says that splats were trained with anti-aliasing."""

    extras: bool = False
    """Whether columns that nobody understands are kept."""

    precision: str = "float32"
    """How exact the numbers are, for people."""

    clips: Callable[[SplatCloud], Sequence[str]] = lambda cloud: ()
    """Sentences on values of a cloud that are out of the format's range."""

    @property
    def writable(self) -> bool:
        return bool(self.encode or self.write)


def pieces(cloud: SplatCloud, name: str, encode: Callable[[SplatCloud], Iterable[Any]]) -> Iterable[Any]:
    """The pieces of a file: what was read, where the cloud is unchanged and came from the same format."""
    same = cloud.source.encoded is not None and cloud.source.format == name
    return [cloud.source.encoded] if same else encode(cloud)
