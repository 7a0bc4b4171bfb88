# SPDX-License-Identifier: GPL-3.0-or-later
"""The rasteriser that defines what is right: float64, one splat after another, NumPy alone.

Semantics of the published 3DGS CUDA rasteriser (Kerbl et al. 2023): EWA projection with slopes held
in the frustum, 0.3 px low-pass, front to back, alpha at most 0.99 and nothing under 1/255, a pixel
finished below a transmittance of 1e-4.  Colours are blended as they were trained, which is nearly always as
display values; or all as linear light, as a renderer does it next to meshes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...common import colour, rotations
from ...common.cameras import Camera
from .. import sh
from ..cloud import SplatCloud
from .constants import ALPHA_MAX, ALPHA_MIN, FRUSTUM_MARGIN, LOW_PASS, TRANSMITTANCE_MIN

Doubles = NDArray[np.float64]
Progress = Callable[[int, int], None]


def project(cloud: SplatCloud, camera: Camera, linear: bool = False) -> dict[str, Doubles]:
    """Splats in front of the camera, near first: pixel (M, 2), covariance (M, 2, 2), opacity (M,), rgb (M, 3), depth (M,).

    The cloud must be still (`cloud.at(time)`).  linear: colours as linear light, not as display values.
    """
    view = np.linalg.inv(camera.camera_to_world)
    points = cloud.means.astype(np.float64) @ view[:3, :3].T + view[:3, 3]
    order = np.argsort(points[:, 2], kind="stable")
    order = order[points[order, 2] > camera.near]
    x, y, z = points[order].T
    (fx, _, cx), (_, fy, cy) = camera.intrinsics[:2]
    flat = camera.model == "orthographic"
    depth = np.ones_like(z) if flat else z

    jacobian = np.zeros((len(z), 2, 3))
    jacobian[:, 0, 0], jacobian[:, 1, 1] = fx / depth, fy / depth
    if not flat:
        margin_x, margin_y = (FRUSTUM_MARGIN - 1) * camera.width / 2, (FRUSTUM_MARGIN - 1) * camera.height / 2
        slope_x = np.clip(x / z, (-cx - margin_x) / fx, (camera.width - cx + margin_x) / fx)
        slope_y = np.clip(y / z, (-cy - margin_y) / fy, (camera.height - cy + margin_y) / fy)
        jacobian[:, 0, 2], jacobian[:, 1, 2] = -fx * slope_x / z, -fy * slope_y / z
    spread = rotations.matrix(cloud.quats[order].astype(np.float64)) * cloud.scales[order, None, :].astype(np.float64)
    footprint = jacobian @ view[:3, :3] @ spread
    sharp = footprint @ footprint.transpose(0, 2, 1)
    covariance = sharp + LOW_PASS * np.eye(2)

    opacity = cloud.opacities[order].astype(np.float64)
    if cloud.source.antialiased:
        ratio = np.linalg.det(sharp) / np.linalg.det(covariance)
        opacity = opacity * np.sqrt(np.maximum(ratio, 0))
    towards = cloud.means[order] - camera.camera_to_world[:3, 3]
    towards /= np.maximum(np.linalg.norm(towards, axis=1, keepdims=True), 1e-12)
    rgb = sh.colours(cloud.sh[order].astype(np.float64), towards)
    if linear != cloud.source.linear:
        rgb = colour.to_linear(rgb) if linear else colour.to_display(rgb)
    return {
        "pixel": np.stack([fx * x / depth + cx, fy * y / depth + cy], axis=1),
        "covariance": covariance,
        "opacity": opacity,
        "rgb": rgb,
        "depth": z,
    }


@dataclass(frozen=True, eq=False)
class Layers:
    """What a camera sees of splats, rows from the top."""

    picture: Doubles
    """(H, W, 4): premultiplied RGB and alpha; display values, or linear light where `linear`."""

    depth: Doubles
    """(H, W): mean distance along the view, each splat weighted by what it adds to the pixel; infinite where nothing is."""

    nearest: Doubles
    """(H, W): distance of the nearest splat that adds anything; infinite where nothing is."""

    linear: bool = False

    @property
    def light(self) -> Doubles:
        """(H, W, 4): the picture as premultiplied scene-linear light, which the view transform Standard shows as it is."""
        alpha = self.picture[..., 3:]
        straight = self.picture[..., :3] / np.maximum(alpha, 1e-6)
        return self.picture if self.linear else np.concatenate([colour.to_linear(straight) * alpha, alpha], axis=2)


def render(
    views: Sequence[tuple[SplatCloud, Camera]],
    progress: Progress | None = None,
    occluders: Doubles | None = None,
    linear: bool = False,
) -> Doubles:
    """The picture of `render_layers`."""
    return render_layers(views, progress, occluders, linear).picture


def render_layers(
    views: Sequence[tuple[SplatCloud, Camera]],
    progress: Progress | None = None,
    occluders: Doubles | None = None,
    linear: bool = False,
) -> Layers:
    """Picture and depths of splats.

    Every still cloud comes with the camera as seen from its own space; all cameras share picture size
    and depth scale, so that splats of several objects are sorted among each other.  occluders (H, W):
    depth of what is opaque in each pixel; a splat whose centre lies farther is hidden there.  linear: colours are blended
    as linear light, else as display values.
    progress(done, total) is called now and then; what it raises stops the work.
    """
    parts = [project(cloud, camera, linear) for cloud, camera in views]
    splats = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    order = np.argsort(splats["depth"], kind="stable")
    pixel, covariance, opacity, rgb, depth = (
        splats[name][order] for name in ("pixel", "covariance", "opacity", "rgb", "depth")
    )
    width, height = views[0][1].width, views[0][1].height
    inverse = np.linalg.inv(covariance)
    reach = np.sqrt(2 * np.log(np.maximum(opacity / ALPHA_MIN, 1)))
    half = reach[:, None] * np.sqrt(np.stack([covariance[:, 0, 0], covariance[:, 1, 1]], axis=1))
    low = np.clip(pixel - half - 1, 0, (width, height)).astype(int)
    high = np.clip(pixel + half + 2, 0, (width, height)).astype(int)
    visible = np.flatnonzero(np.all(high > low, axis=1) & (opacity >= ALPHA_MIN))

    sums = np.zeros((height, width, 4))  # of colour and depth
    nearest = np.full((height, width), np.inf)
    through = np.ones((height, width))
    finished = np.zeros((height, width), bool)
    added = np.column_stack([rgb, depth])
    for count, i in enumerate(visible):
        if progress and count % 1024 == 0:
            progress(count, len(visible))
        (x0, y0), (x1, y1) = low[i], high[i]
        window = np.s_[y0:y1, x0:x1]
        dx = np.arange(x0, x1) + 0.5 - pixel[i, 0]
        dy = (np.arange(y0, y1) + 0.5 - pixel[i, 1])[:, None]
        power = -0.5 * (inverse[i, 0, 0] * dx * dx + inverse[i, 1, 1] * dy * dy) - inverse[i, 0, 1] * dx * dy
        alpha = np.minimum(ALPHA_MAX, opacity[i] * np.exp(power))
        alpha[(alpha < ALPHA_MIN) | finished[window]] = 0
        if occluders is not None:
            alpha[occluders[window] < depth[i]] = 0
        left = through[window] * (1 - alpha)
        finished[window] |= left < TRANSMITTANCE_MIN
        # the splat that would finish a pixel is not drawn
        alpha[finished[window]] = 0
        sums[window] += (alpha * through[window])[..., None] * added[i]
        nearest[window] = np.where(alpha > 0, np.minimum(nearest[window], depth[i]), nearest[window])
        through[window] *= 1 - alpha
    if progress:
        progress(len(visible), len(visible))
    covered = 1 - through
    seen = covered > 0
    mean = np.divide(sums[..., 3], covered, out=np.full_like(covered, np.inf), where=seen)
    return Layers(np.concatenate([sums[..., :3], covered[..., None]], axis=2), mean, nearest, linear)
