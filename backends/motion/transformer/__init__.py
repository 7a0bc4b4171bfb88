# SPDX-License-Identifier: GPL-3.0-or-later
"""The trained in-betweener: a transformer that corrects the spline.  Needs torch; the engine imports it.

`prior` is the spline on batches of windows, `network` what is learnt on top, `solver` its use on clips.
"""
