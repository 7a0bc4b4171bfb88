# SPDX-License-Identifier: GPL-3.0-or-later
"""`python -m vivant.backends serve` is the engine; `python -m vivant.backends run FOLDER` does one job again;
`python -m vivant.backends convert IN OUT` converts splat files.

Also started as `python PACKAGE/backends …`, because inside Blender the package has another name and in a
checkout its folder may be called anything: then it is loaded under the name `vivant` from where it lies.
"""

import json
import sys
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
OLDEST = (3, 11)


def unusable() -> str:
    """Why this Python cannot be the engine ('' when it can)."""
    if sys.version_info < OLDEST:
        return f"This is Python {sys.version_info[0]}.{sys.version_info[1]}; the engine needs {OLDEST[0]}.{OLDEST[1]} or newer."
    try:
        import numpy  # noqa: F401
    except ImportError as error:
        return f"{sys.executable} has no working NumPy ({error})."
    return ""


def find_wheels() -> None:
    """Import what this Python lacks from where Blender unpacks the wheels that extensions bring along."""
    extensions = ROOT.parents[1]
    wheels = extensions / ".local" / "lib" / "python{}.{}".format(*sys.version_info) / "site-packages"
    if extensions.name == "extensions" and wheels.is_dir():
        sys.path.append(str(wheels))


def load_package() -> None:
    """Make this folder's parent the package `vivant`."""
    sys.path[:] = [entry for entry in sys.path if Path(entry).resolve() != ROOT / "backends"]  # its `motion` is not anybody's
    if "vivant" in sys.modules:
        return
    spec = spec_from_file_location("vivant", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec and spec.loader
    package = module_from_spec(spec)
    sys.modules["vivant"] = package
    spec.loader.exec_module(package)


def main(arguments: list[str]) -> int:
    """Serve, run one folder or convert a file; the exit status is 0 when all went well."""
    fault = unusable()
    if fault:
        hint = "Choose another Python in Vivant's preferences, or press Install engine there."
        print(json.dumps({"event": "error", "kind": "NeedsEngine", "message": fault, "hint": hint}), flush=True)
        return 3
    find_wheels()
    load_package()
    if arguments[:1] == ["convert"]:
        from vivant.backends.gaussian import convert

        return convert.main(arguments[1:])
    from vivant.backends import server

    if arguments == ["serve"]:
        return server.serve()
    if len(arguments) == 2 and arguments[0] == "run":
        return server.run(Path(arguments[1]))
    print(__doc__, file=sys.stderr)
    return 2


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
