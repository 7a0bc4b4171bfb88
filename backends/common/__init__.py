# SPDX-License-Identifier: GPL-3.0-or-later
"""What every backend shares: errors, rotations, arrays on disk."""
