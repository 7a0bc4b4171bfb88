# SPDX-License-Identifier: GPL-3.0-or-later
"""What every row of the table of formats promises; a new row is tested by being there.

A format that says nothing else in STEPS must give every number back.
"""

import contextlib
import pathlib
import tracemalloc

import numpy as np
import pytest

from tools import round_trip
from vivant.backends.common.errors import VivantError
from vivant.backends.gaussian.cloud import SplatCloud
from vivant.backends.gaussian.formats import FORMATS, decode, losses, read_splats, write_splats
from vivant.backends.gaussian.formats.format import SAMPLED, STILL
from vivant.backends.gaussian.motion import FAMILIES

WRITABLE = [pytest.param(form, extension, id=extension) for form, extension in round_trip.writable()]
SINGLE = [pytest.param(form, form.extensions[0], id=form.name) for form in FORMATS if form.encode and form.decode]
EXACT = {"position": 2e-6, "log scale": 5e-6, "degrees": 0.01, "opacity": 2e-6, "colour": 2e-6, "SH": 2e-6}
BYTE = 0.51 / 255
STEPS = {
    "compressed PLY": {
        "position": 8 / 1023 * 0.51, "log scale": 7 / 1023 * 0.51, "degrees": 0.3,
        "opacity": BYTE, "colour": BYTE, "SH": 8.1 / 512,
    },
    "SPZ": {
        "position": 0.51 / 4096, "log scale": 0.51 / 16, "degrees": 0.25, "opacity": BYTE,
        "colour": BYTE / 0.15 * 0.2821, "SH": 8.6 / 128,
    },
    "splatv": {"log scale": 1e-3, "degrees": 0.2, "opacity": BYTE, "colour": BYTE},
    "splat": {"degrees": 1.0, "opacity": BYTE, "colour": BYTE},
    "SOG": {"position": 4e-4, "log scale": 0.06, "degrees": 1.0, "opacity": BYTE, "colour": 0.02, "SH": 0.05},
}  # fmt: skip
STEPS["SOG in several files"] = STEPS["SOG"]
LARGEST = 64 << 20


def all_files(path):
    """The file that was named and whatever was written beside it."""
    return sorted(each for each in path.parent.rglob("*") if each.is_file())


def still_of(cloud):
    return cloud.at(cloud.family.time_range[0]) if cloud.family else cloud


def check_sound(cloud):
    """What every cloud promises."""
    for array in (cloud.means, cloud.quats, cloud.scales, cloud.opacities, cloud.sh):
        assert array.dtype == np.float32 and np.isfinite(array).all()
    np.testing.assert_allclose(np.linalg.norm(cloud.quats, axis=1), 1, atol=1e-5)
    assert (cloud.scales > 0).all() and (cloud.opacities >= 0).all() and (cloud.opacities <= 1).all()


def check_within(form, found):
    steps = EXACT | STEPS.get(form.name, {})
    assert {name: value for name, value in found.items() if value > steps[name]} == {}


@pytest.mark.parametrize(("form", "extension"), WRITABLE)
@pytest.mark.parametrize("degree", range(5))
def test_every_degree_comes_back_within_the_format_s_steps(tmp_path, form, extension, degree):
    cloud = round_trip.cloud_for(form, 257, degree)
    path = round_trip.path_in(tmp_path, extension)
    again = round_trip.through(cloud, path)
    assert again.degree == min(degree, form.holds[STILL])
    assert any("Spherical harmonics" in loss for loss in losses(cloud, path)) == (degree > form.holds[STILL])
    check_within(form, round_trip.errors(cloud, again))


@pytest.mark.parametrize(("form", "extension"), WRITABLE)
@pytest.mark.parametrize("count", [0, 1, 255, 256, 513])
def test_every_number_of_splats_comes_back(tmp_path, form, extension, count):
    cloud = round_trip.cloud_for(form, count, min(form.holds[STILL], 1))
    if count:
        check_within(form, round_trip.errors(cloud, round_trip.through(cloud, round_trip.path_in(tmp_path, extension))))
        return
    with contextlib.suppress(VivantError):  # a format may have no place for nothing
        assert len(round_trip.through(cloud, round_trip.path_in(tmp_path, extension))) == 0


FAMILIES_HELD = [
    pytest.param(form, extension, family, id=f"{extension}-{family}")
    for form, extension in round_trip.writable()
    for family in FAMILIES
    if family in form.holds and not (family == "NDGS" and form.holds is SAMPLED)  # samples know no camera
]
FAMILIES_NOT_HELD = [
    pytest.param(extension, family, id=f"{extension}-{family}")
    for form, extension in round_trip.writable()
    for family in FAMILIES
    if family not in form.holds
]


@pytest.mark.parametrize(("form", "extension", "family"), FAMILIES_HELD)
def test_every_family_that_a_format_holds_moves_as_before(tmp_path, form, extension, family):
    from tests.unit.test_families import made

    cloud = made(family)
    path = round_trip.path_in(tmp_path, extension)
    camera = None if form.holds is SAMPLED else np.array([0.4, -2.0, 3.0])
    if form.holds is not SAMPLED:  # what a file cannot say of the family, it has lost now
        cloud = round_trip.through(cloud, path).replace()
    again = round_trip.through(cloud, path)
    steps = EXACT | STEPS.get(form.name, {})
    first, last = (cloud if form.holds is SAMPLED else again).family.time_range  # few files tell the clip's
    for share in (0.0, 0.5, 1.0):
        one = cloud.at(first + share * (last - first), camera)
        if form.holds is SAMPLED:
            start, end = again.family.time_range
            number = round(start + share * (end - start))
            one = cloud.at(np.linspace(first, last, len(again.family.times))[number - int(start)])
            other = again.at(number)
        else:
            other = again.at(first + share * (last - first), camera)
        reach = 1 + np.abs(one.means).max()
        if form.name == "splatv":  # sorted by size; motion in half floats
            np.testing.assert_allclose(np.sort(other.means, axis=0), np.sort(one.means, axis=0), atol=0.01 * reach)
            continue
        np.testing.assert_allclose(other.means, one.means, atol=1e-4 * reach)
        np.testing.assert_allclose(other.opacities, one.opacities, atol=max(steps["opacity"], 1e-4))


@pytest.mark.parametrize(("extension", "family"), FAMILIES_NOT_HELD)
def test_motion_that_a_format_cannot_hold_is_refused_before_anything_is_written(tmp_path, extension, family):
    from tests.unit.test_families import made

    path = round_trip.path_in(tmp_path, extension)
    assert losses(made(family), path)
    with pytest.raises(VivantError, match="cannot hold motion"):
        write_splats(made(family), path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("form", "extension"), WRITABLE)
def test_what_cannot_be_drawn_is_never_read(tmp_path, form, extension):
    """A writer may refuse such numbers, a reader must drop or mend and count them where the file holds them."""
    cloud = round_trip.cloud_for(form, 60, 0)
    means, quats, scales, opacities, sh = (
        getattr(cloud, name).copy() for name in ("means", "quats", "scales", "opacities", "sh")
    )
    means[3], means[4, 0], quats[10], scales[20], sh[30] = np.nan, np.inf, 0, 0, np.inf
    broken = SplatCloud(means, quats, scales, opacities, sh)
    path = round_trip.path_in(tmp_path, extension)
    plain = form.precision.startswith("float32")
    try:
        with np.errstate(all="ignore"):
            write_splats(broken, path)
    except VivantError:
        assert not plain
        return
    with contextlib.nullcontext() if plain else contextlib.suppress(VivantError):
        again = still_of(read_splats(path))
        check_sound(again)
        assert len(again) <= 60
        if plain and extension != ".zip":
            assert again.source.repairs["positions not finite: splats dropped"] == 2
            assert again.source.repairs["rotations zero or not finite: set to none"] == 1
            assert len(again) == 58


@pytest.mark.parametrize(("form", "extension"), WRITABLE)
def test_a_file_cut_at_every_eighth_is_read_in_part_or_refused(tmp_path, form, extension):
    path = round_trip.path_in(tmp_path / "a", extension)
    round_trip.through(round_trip.cloud_for(form, 401, min(form.holds[STILL], 1)), path)
    for part in all_files(path):
        whole = part.read_bytes()
        for eighth in range(8):
            part.write_bytes(whole[: len(whole) * eighth // 8])
            with contextlib.suppress(VivantError):
                cloud = still_of(read_splats(path))
                check_sound(cloud)
                assert 0 < len(cloud) <= 401 and cloud.source.warnings, f"{part.name} cut at {eighth}/8"
        part.write_bytes(whole)


def read_sparingly(file, suffix):
    """Whatever the bytes are, the end is a sound cloud or a sentence, in little memory."""
    data = np.frombuffer(file, np.uint8).copy()
    tracemalloc.start()
    try:
        check_sound(still_of(decode(data, suffix)))
    except VivantError as error:
        return error
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak + len(file) <= 4 * len(file) + LARGEST
    return None


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("form", "extension"), SINGLE)
def test_noise_behind_a_sound_head_is_read_or_refused_in_little_memory(tmp_path, form, extension, seed):
    path = round_trip.path_in(tmp_path, extension)
    round_trip.through(round_trip.cloud_for(form, 200, 0), path)
    file = path.read_bytes()
    rng = np.random.default_rng(seed)
    for head in (4, 16, 40, 100, len(file) // 2):
        read_sparingly(file[:head] + rng.bytes(len(file) - head), extension)


@pytest.mark.parametrize("form", [pytest.param(form, id=form.name) for form in FORMATS if not form.writable])
def test_formats_that_are_only_read_take_their_real_file_whole_and_cut(data, form):
    files = [path for path in (data / "splats").iterdir() if path.name.endswith(form.extensions or ("nothing",))]
    if not files:
        pytest.skip(f"no file of {form.name} is at hand; its own tests make some")
    for path in files:
        whole = path.read_bytes()
        check_sound(still_of(read_splats(path)))
        for eighth in range(1, 8):
            read_sparingly(whole[: len(whole) * eighth // 8], pathlib.Path(path).suffix)


def test_the_page_lists_every_format_as_it_is_now():
    page = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "formats.md").read_text("utf8")
    for form in FORMATS:
        for extension in form.extensions or ("folder",):
            assert f"| {form.name} | {extension} | yes | {'yes' if form.writable else 'in only'} |" in page
