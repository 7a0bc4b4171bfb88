# SPDX-License-Identifier: GPL-3.0-or-later
"""A take accepted into a new slot, a new action or the NLA: what it showed is shown, and the user's keys stay to the bit."""

import pathlib
import sys

import bpy
import numpy as np
import pytest

from vivant.backends.common.errors import VivantError
from vivant.scene import actions, planted, takes
from vivant.scene.inbetween import inbetween_object

sys.path.insert(0, str(pathlib.Path(__file__).parent))
import posing

FRAMES = [1, 7.25, 10, 11, 13.5, 16, 19, 20, 23, 30, 45]


@pytest.fixture
def rig(scene):
    rig = posing.turning_rig(smoothing="CONT_ACCEL")
    noisy = posing.curves(rig, 'pose.bones["bone"].location')[0]
    noisy.modifiers.new("NOISE").strength = 0.2
    scene.frame_set(14)
    return rig


def evaluated(rig, frames=FRAMES):
    """The bone's matrix by Blender's evaluation of the scene."""
    matrices = []
    for frame in frames:
        bpy.context.scene.frame_set(int(frame // 1), subframe=frame % 1)
        own = rig.evaluated_get(bpy.context.evaluated_depsgraph_get())
        matrices.append(np.array(own.pose.bones["bone"].matrix))
    return np.array(matrices)


def bits_of(action, slot):
    return {channel: actions.read_keys(curve).tobytes() for channel, curve in actions.curves_of(action, slot).items()}


@pytest.mark.parametrize("into", ["SLOT", "NEW", "NLA"])
@pytest.mark.parametrize("output", ["BAKED", "SPARSE"])
def test_accepted_elsewhere_the_take_moves_the_rig_and_the_user_s_slot_is_untouched(rig, into, output):
    user, slot = rig.animation_data.action, rig.animation_data.action_slot
    before, identifier = bits_of(user, slot), slot.identifier
    inbetween_object(rig, output=output)
    inbetween_object(rig, another=True)
    takes.show(rig, takes.takes_of(rig)[0])
    shown = evaluated(rig)
    result = takes.ACCEPT[into](rig)
    assert takes.takes_of(rig) == [] and takes.original_of(rig) is None
    assert np.allclose(evaluated(rig), shown, rtol=0, atol=1e-5)
    assert bits_of(user, user.slots[identifier]) == before
    assert len(bpy.data.actions) == (1 if into == "SLOT" else 2)
    assert (result == user) is (into == "SLOT")


def test_a_new_slot_is_one_more_slot_of_the_user_s_action(rig):
    user = rig.animation_data.action
    inbetween_object(rig)
    planted.plant(rig, ["bone"], 3, 6)
    assert takes.accept_as_slot(rig) == user
    assert len(user.slots) == 2 and rig.animation_data.action_slot == user.slots[1]
    assert planted.contacts_of(user, user.slots[1]) == planted.contacts_of(user, user.slots[0]) == {"bone": [(3, 6)]}
    takes.remove_generated(rig)
    assert list(bits_of(user, user.slots[0]).values()) == list(bits_of(user, user.slots[1]).values())


def test_the_user_s_action_outlives_a_new_action_that_took_its_place(rig):
    user = rig.animation_data.action
    before = bits_of(user, user.slots[0])
    inbetween_object(rig)
    made = takes.accept_as_action(rig)
    assert rig.animation_data.action == made and user.use_fake_user and not takes.known_of(made, "original")
    takes.remove_generated(rig)
    assert bits_of(made, made.slots[0]) == before


def test_the_strip_covers_just_what_was_filled_above_a_strip_of_the_user_s_action(rig):
    below = rig.animation_data.nla_tracks.new()
    user = rig.animation_data.action
    inbetween_object(rig)
    made = takes.accept_as_strip(rig)
    assert rig.animation_data.action is None
    assert [track.name for track in rig.animation_data.nla_tracks] == [below.name, user.name, made.name]
    strips = [track.strips[0] for track in list(rig.animation_data.nla_tracks)[1:]]
    assert [(strip.action, strip.frame_start, strip.frame_end) for strip in strips] == [(user, 1, 250), (made, 10, 20)]
    strips[1].mute = True
    muted = evaluated(rig)
    rig.animation_data.nla_tracks.remove(rig.animation_data.nla_tracks[2])
    assert np.array_equal(muted, evaluated(rig))


def test_strips_of_keys_between_frames_move_the_rig_as_the_take_did(scene):
    frames = (1.25, 5.5, 10.5, 20.25, 26, 30.75)
    rig = posing.turning_rig(frames=frames)
    rig.animation_data.action.use_frame_range = True
    rig.animation_data.action.frame_start, rig.animation_data.action.frame_end = 5, 9
    scene.frame_start, scene.frame_end = 4, 20
    scene.frame_set(14)
    inbetween_object(rig)
    times = [1.25, 3, 10.5, 10.75, 13, 20.25, 20.5, 28, 30.75]
    shown = evaluated(rig, times)
    takes.accept_as_strip(rig)
    assert np.allclose(evaluated(rig, times), shown, rtol=0, atol=1e-5)


def test_an_action_that_is_blended_with_the_nla_is_not_taken_apart(rig):
    inbetween_object(rig)
    take = rig.animation_data.action
    rig.animation_data.action_influence = 0.5
    with pytest.raises(VivantError, match="blended with the NLA"):
        takes.accept_as_strip(rig)
    assert rig.animation_data.action == take and not rig.animation_data.nla_tracks


@pytest.mark.parametrize("into", list(takes.ACCEPT))
def test_accepting_is_one_step_of_undo(rig, operators, into):
    name, user = rig.name, rig.animation_data.action.name
    before = posing.bits(rig)
    bpy.ops.vivant.motion_inbetween()
    bpy.ops.ed.undo_push(message="take")
    shown = rig.animation_data.action.name
    assert bpy.ops.vivant.take_accept(into=into) == {"FINISHED"}
    bpy.ops.ed.undo_push(message="accepted")
    bpy.ops.ed.undo()
    rig = bpy.data.objects[name]
    assert rig.animation_data.action.name == shown and not rig.animation_data.nla_tracks
    assert takes.original_of(rig).name == user
    takes.reject(rig)
    assert posing.bits(rig) == before and len(bpy.data.actions[user].slots) == 1
