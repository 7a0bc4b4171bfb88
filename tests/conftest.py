# SPDX-License-Identifier: GPL-3.0-or-later
"""Makes the checkout importable as `vivant`, whatever its folder is called, and finds the test data."""

import importlib.util
import os
import pathlib
import sys

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[1]
DATA = pathlib.Path(os.environ.get("VIVANT_DATA", ROOT.parent / "shared" / "data"))

if "vivant" not in sys.modules:
    spec = importlib.util.spec_from_file_location("vivant", ROOT / "__init__.py", submodule_search_locations=[str(ROOT)])
    assert spec and spec.loader
    package = importlib.util.module_from_spec(spec)
    sys.modules["vivant"] = package
    spec.loader.exec_module(package)


@pytest.fixture(scope="session")
def data() -> pathlib.Path:
    """The folder of real test files; tests that need it skip where it is not."""
    if not DATA.is_dir():
        pytest.skip("needs the real test files (set VIVANT_DATA to their folder)")
    return DATA
