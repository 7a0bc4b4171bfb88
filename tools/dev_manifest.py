# SPDX-License-Identifier: GPL-3.0-or-later
"""Check blender_manifest.toml for what Blender's own validator lets pass and a reader or a shop would not."""

import pathlib
import re
import sys
import tomllib
from typing import Any

ROOT = pathlib.Path(__file__).resolve().parents[1]


def read() -> dict[str, Any]:
    """The manifest of this checkout."""
    return tomllib.loads((ROOT / "blender_manifest.toml").read_text("utf8"))


def problems(manifest: dict[str, Any]) -> list[str]:
    """What is wrong with a manifest, one sentence each; empty when it is sound."""
    found = []

    def check(sound: bool, what: str) -> None:
        if not sound:
            found.append(what)

    def terse(text: str) -> bool:
        return 0 < len(text) <= 64 and text == text.strip() and (text[-1].isalnum() or text[-1] in ")]}")

    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf8"))["project"]
    check(manifest.get("id") == "vivant", "`id` must be vivant: files and users refer to it")
    check(bool(re.fullmatch(r"\d+\.\d+\.\d+(-[0-9a-z.]+)?", manifest.get("version", ""))), "`version` must be semantic: 1.2.3")
    check(manifest.get("version") == project["version"], "`version` must be the one of pyproject.toml")
    check("blender" not in manifest.get("name", "").lower(), "`name` may not contain Blender")
    check(terse(manifest.get("tagline", "")), "`tagline` must have 1 to 64 characters and no full stop at its end")
    check(manifest.get("type") == "add-on", "`type` must be add-on")
    check(manifest.get("license") == ["SPDX:GPL-3.0-or-later"], "`license` must be the licence of the sources, as SPDX")
    check(bool(manifest.get("copyright")), "`copyright` must say whose work this is")
    for line in manifest.get("copyright", []):
        check(bool(re.fullmatch(r"\d{4}(-\d{4})? \S.*", line)), f"`copyright` must read `2026 Name`, not {line!r}")
    check(manifest.get("blender_version_min") == "4.5.0", "`blender_version_min` must be 4.5.0, the oldest that is tested")
    check("blender_version_max" not in manifest, "`blender_version_max` would lock out the next Blender")
    check(bool(manifest.get("tags")), "`tags` are how people find an extension")
    for name, reason in manifest.get("permissions", {}).items():
        check(terse(reason), f"`permissions`: the reason of {name} must have 1 to 64 characters and no full stop at its end")
    if "website" in manifest:
        check(manifest["website"].startswith("https://"), "`website` must be an https address")
    check("wheels" not in manifest, "`wheels` belong to engine zips: dev.py build --engine writes them")
    return found


if __name__ == "__main__":
    wrong = problems(read())
    print("\n".join(f"blender_manifest.toml: {problem}" for problem in wrong) or "blender_manifest.toml: no problem found")
    sys.exit(bool(wrong))
