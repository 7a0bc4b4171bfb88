# SPDX-License-Identifier: GPL-3.0-or-later
"""Splats on the graphics card, through Blender's `gpu` module: what the viewport shows.

The same picture as `backends.gaussian.render.reference`: EWA projection, 0.3 px low-pass, alpha at
most 0.99 and nothing under 1/255, display values blended far to near.  The vertex shader projects
each splat to an oriented quad and evaluates its spherical harmonics up to degree 3; the order comes
from `render.order`.  Python has no storage buffers there, so the data lie in float textures, read by index.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

import gpu
import numpy as np
from gpu_extras.batch import batch_for_shader
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common.threads import in_blocks
from ..backends.gaussian import sh
from ..backends.gaussian.render.constants import ALPHA_MAX, ALPHA_MIN, FRUSTUM_MARGIN, LOW_PASS

Floats = NDArray[np.float32]

ROW = 4096  # texels in a row of the data textures
HALF = "RGBA16F"
BLOCK = 16384  # splats packed at a time, so that they stay in the cache
MAX_DEGREE = 3

_VERTEX = """
vec4 of(sampler2D data, int index) { return texelFetch(data, ivec2(index % ROW, index / ROW), 0); }

vec3 colour_of(int splat, vec3 direction, float degree)
{
  float x = direction.x, y = direction.y, z = direction.z;
  float xx = x * x, yy = y * y, zz = z * z;
  vec4 basis[4];
  basis[0] = vec4(0.28209479, -0.48860251 * y, 0.48860251 * z, -0.48860251 * x);
  basis[1] = vec4(1.09254843 * x * y, -1.09254843 * y * z, 0.31539157 * (2.0 * zz - xx - yy), -1.09254843 * x * z);
  basis[2] = vec4(0.54627422 * (xx - yy), -0.59004359 * y * (3.0 * xx - yy),
                  2.89061144 * x * y * z, -0.45704580 * y * (4.0 * zz - xx - yy));
  basis[3] = vec4(0.37317633 * z * (2.0 * zz - 3.0 * xx - 3.0 * yy), -0.45704580 * x * (4.0 * zz - xx - yy),
                  1.44530572 * z * (xx - yy), -0.59004359 * x * (xx - 3.0 * yy));
  if (degree < 3.0) { basis[2].yzw = vec3(0.0); basis[3] = vec4(0.0); }
  if (degree < 2.0) { basis[1] = vec4(0.0); basis[2] = vec4(0.0); }
  if (degree < 1.0) { basis[0].yzw = vec3(0.0); }
  int used = min(bands, degree < 1.0 ? 1 : int(degree) + 1);
  vec3 rgb = vec3(0.5);
  for (int band = 0; band < used; band++) {
    int texel = (splat * bands + band) * 3;
    rgb += vec3(dot(basis[band], of(radiance, texel)),
                dot(basis[band], of(radiance, texel + 1)),
                dot(basis[band], of(radiance, texel + 2)));
  }
  return max(rgb, vec3(0.0));
}

void main()
{
  gl_Position = vec4(2.0, 2.0, 2.0, 1.0);  /* outside, until the splat turns out to be visible */
  colour = vec4(0.0);
  uv = vec2(0.0);
  int splat = int(of(order, gl_InstanceID).x);
  vec4 mean = of(shape, splat * 3);
  vec4 q = of(shape, splat * 3 + 1);
  vec4 size = of(shape, splat * 3 + 2);
  int cloud = int(size.w) * 5;
  vec4 r0 = of(clouds, cloud), r1 = of(clouds, cloud + 1), r2 = of(clouds, cloud + 2);
  vec4 eye = of(clouds, cloud + 3);
  float opacity = mean.w;

  vec4 point = vec4(mean.xyz, 1.0);
  vec4 seen = vec4(dot(r0, point), dot(r1, point), dot(r2, point), 1.0);
  if (-seen.z <= near) { return; }
  vec4 clip = projection * seen;
  vec3 ndc = clip.xyz / clip.w;

  /* rows of the projection's Jacobian, pixels a metre; held within the picture and a margin */
  mat4 rows = transpose(projection);
  vec2 held = clamp(ndc.xy, -MARGIN, MARGIN);
  vec3 to_x = 0.5 * picture.x * (rows[0].xyz - held.x * rows[3].xyz) / clip.w;
  vec3 to_y = 0.5 * picture.y * (rows[1].xyz - held.y * rows[3].xyz) / clip.w;
  to_x = to_x.x * r0.xyz + to_x.y * r1.xyz + to_x.z * r2.xyz;
  to_y = to_y.x * r0.xyz + to_y.y * r1.xyz + to_y.z * r2.xyz;

  mat3 turn = mat3(
    1.0 - 2.0 * (q.z * q.z + q.w * q.w), 2.0 * (q.y * q.z + q.x * q.w), 2.0 * (q.y * q.w - q.x * q.z),
    2.0 * (q.y * q.z - q.x * q.w), 1.0 - 2.0 * (q.y * q.y + q.w * q.w), 2.0 * (q.z * q.w + q.x * q.y),
    2.0 * (q.y * q.w + q.x * q.z), 2.0 * (q.z * q.w - q.x * q.y), 1.0 - 2.0 * (q.y * q.y + q.z * q.z));
  vec3 across = (to_x * turn) * size.xyz;
  vec3 up = (to_y * turn) * size.xyz;
  float a = dot(across, across) + LOW_PASS, b = dot(across, up), c = dot(up, up) + LOW_PASS;
  if (of(clouds, cloud + 4).x > 0.0) {
    float sharp = (a - LOW_PASS) * (c - LOW_PASS) - b * b;
    opacity *= sqrt(max(sharp / (a * c - b * b), 0.0));
  }
  if (opacity < ALPHA_MIN) { return; }

  /* the quad: two half axes of the ellipse on which alpha falls to ALPHA_MIN */
  float middle = 0.5 * (a + c), difference = 0.5 * (a - c);
  float root = sqrt(difference * difference + b * b);
  float angle = 0.5 * atan(b, difference);
  vec2 axis = root > 0.0 ? vec2(cos(angle), sin(angle)) : vec2(1.0, 0.0);
  float reach = sqrt(2.0 * log(opacity / ALPHA_MIN));
  vec2 sigma = sqrt(vec2(middle + root, max(middle - root, LOW_PASS)));
  vec2 half_size = reach * sqrt(vec2(a, c));
  if (any(greaterThan((abs(ndc.xy) - 1.0) * 0.5 * picture, half_size))) { return; }

  uv = corner * reach;
  vec2 offset = uv.x * sigma.x * axis + uv.y * sigma.y * vec2(-axis.y, axis.x);
  vec3 rgb = colour_of(splat, normalize(mean.xyz - eye.xyz), eye.w);
  if (of(clouds, cloud + 4).y > 0.0) {  /* linear light becomes display values */
    rgb = mix(1.055 * pow(rgb, vec3(1.0 / 2.4)) - 0.055, rgb * 12.92, vec3(lessThan(rgb, vec3(0.0031308))));
  }
  colour = vec4(rgb, opacity);
  gl_Position = vec4(ndc.xy + 2.0 * offset / picture, ndc.z, 1.0);
}
"""

_FRAGMENT = """
void main()
{
  float alpha = min(ALPHA_MAX, colour.a * exp(-0.5 * dot(uv, uv)));
  if (alpha < ALPHA_MIN || gl_FragCoord.z > texelFetch(occluders, ivec2(gl_FragCoord.xy), 0).x) { discard; }
  result = vec4(colour.rgb * alpha, alpha);
}
"""

_SHOW_VERTEX = "void main() { gl_Position = vec4(corner, 0.0, 1.0); }"

_SHOW_FRAGMENT = """
void main()
{
  vec4 seen = texelFetch(plate, ivec2(gl_FragCoord.xy - corner_of_view), 0);
  if (seen.a <= 0.0) { discard; }
  vec3 shown = clamp(seen.rgb / seen.a, 0.0, 1.0);
  vec3 light = mix(pow((shown + 0.055) / 1.055, vec3(2.4)), shown / 12.92, vec3(lessThan(shown, vec3(0.04045))));
  if (power_law) { light = pow(shown, vec3(2.2)); }
  result = vec4(light * seen.a, seen.a);
}
"""


@cache
def _splat_shader() -> gpu.types.GPUShader:
    stage = gpu.types.GPUStageInterfaceInfo("vivant_splat")
    stage.flat("VEC4", "colour")
    stage.smooth("VEC2", "uv")
    info = gpu.types.GPUShaderCreateInfo()
    for name, value in (("LOW_PASS", LOW_PASS), ("ALPHA_MIN", ALPHA_MIN), ("ALPHA_MAX", ALPHA_MAX), ("MARGIN", FRUSTUM_MARGIN)):
        info.define(name, repr(float(value)))
    info.define("ROW", str(ROW))
    info.push_constant("MAT4", "projection")
    info.push_constant("VEC2", "picture")
    info.push_constant("FLOAT", "near")
    info.push_constant("INT", "bands")
    for slot, name in enumerate(("order", "shape", "radiance", "clouds", "occluders")):
        info.sampler(slot, "FLOAT_2D", name)
    info.vertex_in(0, "VEC2", "corner")
    info.vertex_out(stage)
    info.fragment_out(0, "VEC4", "result")  # "fragment" is a word of Metal
    info.vertex_source(_VERTEX)
    info.fragment_source(_FRAGMENT)
    return gpu.shader.create_from_info(info)


@cache
def _show_shader() -> gpu.types.GPUShader:
    info = gpu.types.GPUShaderCreateInfo()
    info.push_constant("VEC2", "corner_of_view")
    info.push_constant("BOOL", "power_law")
    info.sampler(0, "FLOAT_2D", "plate")
    info.vertex_in(0, "VEC2", "corner")
    info.fragment_out(0, "VEC4", "result")  # "fragment" is a word of Metal
    info.vertex_source(_SHOW_VERTEX)
    info.fragment_source(_SHOW_FRAGMENT)
    return gpu.shader.create_from_info(info)


@cache
def _quad() -> gpu.types.GPUBatch:
    return batch_for_shader(_show_shader(), "TRI_STRIP", {"corner": [(-1, -1), (1, -1), (-1, 1), (1, 1)]})


def forget() -> None:
    """Let go of shaders and batches."""
    for made in (_splat_shader, _show_shader, _quad):
        made.cache_clear()


def _rounded(texels: int) -> int:
    """So many texels in whole rows."""
    return max(1, -(-texels // ROW)) * ROW


def _canvas(texels: int, width: int = 4) -> Floats:
    """Room for so many texels (rows x ROW, width), in whole rows; all 0."""
    return np.zeros((_rounded(texels), width), np.float32)


def _upload(canvas: Floats, kind: str) -> gpu.types.GPUTexture:
    size = ROW, len(canvas) // ROW
    return gpu.types.GPUTexture(size, format=kind, data=gpu.types.Buffer("FLOAT", canvas.size, canvas))


def lay_out(names: Floats, order: NDArray[np.intp]) -> Floats:
    """The texels of `pack_order`: names (N,) in an order (M,); plain NumPy, for any thread."""
    canvas = _canvas(len(order), 1)
    np.take(names, order, out=canvas[: len(order), 0], mode="clip")  # "raise" would copy
    return canvas


def pack_order(texels: Floats) -> gpu.types.GPUTexture:
    """Texture of what `lay_out` gives: indices of splats as floats, exact up to 2^24."""
    return _upload(texels, "R32F")


def pack_shape(means: Floats, quats: Floats, scales: Floats, opacities: Floats, owners: Floats) -> gpu.types.GPUTexture:
    """Texture of N splats' places: three texels each; owners (N,) says which cloud a splat belongs to."""
    count = len(means)
    canvas = _canvas(count * 3)
    packed = canvas[: count * 3].reshape(count, 3, 4)

    def fill(rows: slice) -> None:
        part = packed[rows]
        part[:, 0, :3], part[:, 0, 3] = means[rows], opacities[rows]
        part[:, 1] = quats[rows]
        part[:, 2, :3], part[:, 2, 3] = scales[rows], owners[rows]

    in_blocks(fill, count, BLOCK)
    return _upload(canvas, "RGBA32F")


def bands_of(coefficients: int) -> int:
    """Texels that hold one channel's first `coefficients` harmonics (no more than degree 3)."""
    return -(-min(coefficients, sh.COEFFICIENTS[MAX_DEGREE]) // 4)


def bytes_on_card(count: int, coefficients: int) -> int:
    """What the textures of so many splats take: their shape, so many harmonics a channel, and one view's order."""
    return 16 * _rounded(3 * count) + 8 * _rounded(3 * bands_of(coefficients) * count) + 4 * _rounded(count)


def pack_radiance(harmonics: Sequence[Sequence[Floats]]) -> tuple[gpu.types.GPUTexture, int]:
    """Texture of all clouds' coefficients, and its bands; of each cloud a list of (N, 3) columns, degree 0 first.

    A splat takes three channels of four harmonics for every band; what a cloud lacks is 0.
    """
    bands = max(bands_of(len(columns)) for columns in harmonics)
    count = sum(len(columns[0]) for columns in harmonics)
    canvas = _canvas(count * bands * 3)
    packed = canvas[: count * bands * 3].reshape(count, bands, 3, 4)
    for columns in harmonics:
        part, packed = packed[: len(columns[0])], packed[len(columns[0]) :]

        def fill(rows: slice, part: Floats = part, columns: Sequence[Floats] = columns) -> None:
            for index, column in enumerate(columns[: bands * 4]):
                part[rows, index // 4, :, index % 4] = column[rows]

        in_blocks(fill, len(part), BLOCK)
    return _upload(canvas, HALF), bands


@dataclass(frozen=True, eq=False)
class Splats:
    """What the card holds of all clouds together."""

    shape: gpu.types.GPUTexture
    radiance: gpu.types.GPUTexture
    bands: int


@dataclass(frozen=True)
class Pose:
    """A cloud in this view: its object-to-view matrix, the SH degree to show, Mip-Splatting's compensation, linear colours."""

    to_view: Matrix
    degree: int
    antialiased: bool
    linear: bool = False

    def texels(self) -> Floats:
        """Five texels: the matrix's rows; the eye in the cloud's space, and the degree; the compensation, whether linear."""
        eye = self.to_view.inverted_safe().translation
        values = [*self.to_view[0], *self.to_view[1], *self.to_view[2], *eye, min(self.degree, MAX_DEGREE)]
        return np.array([*values, self.antialiased, self.linear, 0, 0], np.float32).reshape(5, 4)


def near_of(projection: Matrix) -> float:
    """Distance of the near plane of an OpenGL projection matrix."""
    slope, offset = projection[2][2], projection[2][3]
    return offset / (slope - 1) if projection[3][3] == 0 else (offset + 1) / slope


def draw(
    splats: Splats,
    order: gpu.types.GPUTexture,
    count: int,
    poses: Sequence[Pose],
    projection: Matrix,
    picture: tuple[int, int],
    occluders: gpu.types.GPUTexture,
) -> None:
    """Draw the first `count` splats of `order` into the bound framebuffer: premultiplied display values.

    picture: width and height in pixels; occluders: depth of each pixel, 0 near to 1 far, of that size.
    """
    shader = _splat_shader()
    shader.bind()
    shader.uniform_float("projection", projection)
    shader.uniform_float("picture", picture)
    shader.uniform_float("near", near_of(projection))
    shader.uniform_int("bands", splats.bands)
    clouds = _canvas(5 * len(poses))
    clouds[: 5 * len(poses)] = np.concatenate([pose.texels() for pose in poses])
    data = {
        "order": order,
        "shape": splats.shape,
        "radiance": splats.radiance,
        "clouds": _upload(clouds, "RGBA32F"),
        "occluders": occluders,
    }
    for name, values in data.items():
        shader.uniform_sampler(name, values)
    gpu.state.blend_set("ALPHA_PREMULT")
    gpu.state.depth_test_set("NONE")
    gpu.state.depth_mask_set(False)
    gpu.state.face_culling_set("NONE")
    _quad().draw_instanced(shader, instance_count=count)
    gpu.state.blend_set("NONE")


def show(plate: gpu.types.GPUTexture, corner: tuple[int, int], power_law: bool) -> None:
    """Lay a drawn plate over the bound framebuffer, which blends linear light.

    corner: the view's first pixel in that framebuffer; power_law: it is shown with the exponent 1/2.2, not
    with the sRGB curve.
    """
    shader = _show_shader()
    shader.bind()
    shader.uniform_float("corner_of_view", corner)
    shader.uniform_bool("power_law", power_law)
    shader.uniform_sampler("plate", plate)
    gpu.state.blend_set("ALPHA_PREMULT")
    gpu.state.depth_test_set("NONE")
    _quad().draw(shader)
    gpu.state.blend_set("NONE")
