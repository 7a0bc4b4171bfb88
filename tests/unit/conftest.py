# SPDX-License-Identifier: GPL-3.0-or-later
"""What several unit tests share."""

import pathlib
import sys

import pytest


@pytest.fixture
def engine():
    """An engine in this Python, ended with the test."""
    from vivant.engine.client import Engine

    engine = Engine(pathlib.Path(sys.executable))
    yield engine
    engine.close()
