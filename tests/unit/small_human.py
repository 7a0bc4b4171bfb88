# SPDX-License-Identifier: GPL-3.0-or-later
"""A human of 22 joints for tests."""

# The joints of a small human: parent, place in the T-pose (Y up, facing +Z).
BODY = {
    "pelvis": ("", (0, 1.0, 0)),
    "spine1": ("pelvis", (0, 1.1, 0)),
    "spine2": ("spine1", (0, 1.2, 0)),
    "spine3": ("spine2", (0, 1.35, 0)),
    "neck": ("spine3", (0, 1.55, 0)),
    "head": ("neck", (0, 1.65, 0)),
}
for _side, _sign in (("L", 1), ("R", -1)):
    BODY |= {
        f"thigh.{_side}": ("pelvis", (_sign * 0.1, 0.95, 0)),
        f"shin.{_side}": (f"thigh.{_side}", (_sign * 0.1, 0.5, 0)),
        f"foot.{_side}": (f"shin.{_side}", (_sign * 0.1, 0.08, 0)),
        f"toe.{_side}": (f"foot.{_side}", (_sign * 0.1, 0.02, 0.15)),
        f"collar.{_side}": ("spine3", (_sign * 0.03, 1.45, 0)),
        f"upper_arm.{_side}": (f"collar.{_side}", (_sign * 0.18, 1.45, 0)),
        f"forearm.{_side}": (f"upper_arm.{_side}", (_sign * 0.46, 1.45, 0)),
        f"hand.{_side}": (f"forearm.{_side}", (_sign * 0.7, 1.45, 0)),
    }
