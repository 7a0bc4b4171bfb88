# SPDX-License-Identifier: GPL-3.0-or-later
"""Motion file formats, one module a format."""
