# SPDX-License-Identifier: GPL-3.0-or-later
"""One module a task of the user: when things happen."""
