# SPDX-License-Identifier: GPL-3.0-or-later
"""Armatures as clips and back: sample the evaluated pose, write a clip into a new action, retarget one to a rig.

A clip holds all bones in world space, metres and Y up, with the object's own transform in it.
"""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Mapping, Sequence

import bpy
import numpy as np
from mathutils import Matrix
from numpy.typing import NDArray

from ..backends.common import rotations as quaternions
from ..backends.common.errors import VivantError
from ..backends.motion import humanoid
from ..backends.motion.clip import Clip
from ..backends.motion.retarget import resample, retarget
from . import actions, beside, controls, limbs, rigs

Array = NDArray[np.floating]

HUMAN = "vivant_humanoid"  # custom property of the armature object: canonical joint -> bone
TO_Y_UP = quaternions.exp(np.array([-np.pi / 2, 0.0, 0.0]))
AUTO_CLAMPED = 4  # a handle's type
STILL = 1e-6  # share of the armature's size: less is rounding, not motion


def clip_of(armature: bpy.types.Object, frames: Sequence[float], hierarchy: Mapping[str, str] | None = None) -> Clip:
    """The armature's pose, its constraints and drivers evaluated, at evenly spaced frames of the scene.

    hierarchy: the bones and the one each hangs on, as `limbs.pose_bones` gives them; when None all bones on their parents.
    Joint 0 is the first root bone; bones that have no parent besides it hang on it.  Bones' scale is left out.
    Raises VivantError for anything that is no armature with bones.
    """
    names = _bones(armature) if hierarchy is None else list(hierarchy)
    scene = bpy.context.scene
    now = scene.frame_current, scene.frame_subframe
    matrices = np.empty((len(frames), len(names), 4, 4))
    for row, frame in zip(matrices, frames, strict=True):
        scene.frame_set(int(frame // 1), subframe=float(frame % 1))
        evaluated = armature.evaluated_get(bpy.context.evaluated_depsgraph_get())
        world = evaluated.matrix_world
        row[:] = [world @ evaluated.pose.bones[name].matrix for name in names]
    scene.frame_set(now[0], subframe=now[1])
    return as_clip(skeleton_of(armature, hierarchy), matrices, _rate(frames))


def sampling(armature: bpy.types.Object, frames: Sequence[float]) -> Generator[str, None, Clip]:
    """`clip_of` all bones of an armature that has an action, in steps and beside the scene: yields what it does."""
    data = armature.animation_data
    poses = yield from beside.poses(armature, None, data.action, data.action_slot_handle, frames)
    return as_clip(skeleton_of(armature), poses.in_world, _rate(frames))


def _rate(frames: Sequence[float]) -> float:
    """Frames a second of a clip of these frames of the scene."""
    span = frames[-1] - frames[0] if len(frames) > 1 else 1
    return _fps() * max(len(frames) - 1, 1) / span


def as_clip(skeleton: Clip, matrices: Array, fps: float) -> Clip:
    """World matrices (F, J, 4, 4) of a skeleton's bones in Blender as a clip; scale and shear are left out."""
    positions, rotations = _y_up(matrices)
    rotations = quaternions.continuous(rotations)
    local, translations = rotations.copy(), {}
    size = np.ptp(positions[0], axis=0).max() if len(matrices) else 0
    for joint, parent in enumerate(skeleton.parents[1:], 1):
        back = quaternions.conjugate(rotations[:, parent])
        local[:, joint] = quaternions.multiply(back, rotations[:, joint])
        offset = quaternions.rotate(back, positions[:, joint] - positions[:, parent])
        if np.any(np.abs(offset - skeleton.offsets[joint]) > STILL * size):
            translations[joint] = offset
    return skeleton.replace(fps=fps, rotations=quaternions.continuous(local), root=positions[:, 0], translations=translations)


def skeleton_of(armature: bpy.types.Object, hierarchy: Mapping[str, str] | None = None) -> Clip:
    """The armature's rest pose, where its object now stands, as a clip without frames; hierarchy as in `clip_of`."""
    names = _bones(armature) if hierarchy is None else list(hierarchy)
    above = hierarchy or {bone.name: bone.parent.name if bone.parent else "" for bone in armature.data.bones}
    parents = [names.index(above[name]) if above[name] else 0 for name in names]
    parents[0] = -1
    return _skeleton(armature, names, parents)


def _skeleton(armature: bpy.types.Object, names: list[str], parents: Sequence[int]) -> Clip:
    world = armature.matrix_world
    matrices = np.array([[world @ armature.data.bones[name].matrix_local for name in names]])
    (positions,), (rotations,) = _y_up(matrices)
    back = quaternions.conjugate(rotations[parents])
    back[0] = quaternions.IDENTITY
    origin = positions[parents]
    origin[0] = 0
    offsets = quaternions.rotate(back, positions - origin)
    rest = quaternions.multiply(back, rotations)
    return Clip(names, np.array(parents), offsets, _fps(), np.empty((0, len(names), 4)), np.empty((0, 3)), rest)


def human_of(armature: bpy.types.Object) -> dict[str, str]:
    """Canonical joint -> bone: as saved on the armature, else as found.

    Raises VivantError naming the joints when the armature is no human that Vivant knows.
    """
    saved = armature.get(HUMAN)
    if saved:
        return {joint: str(saved[joint]) for joint in humanoid.JOINTS if saved.get(joint)}
    skeleton = skeleton_of(armature)
    still = skeleton.replace(rotations=skeleton.rest[None], root=skeleton.offsets[:1])
    return humanoid.find(list(skeleton.names), skeleton.parents, still.forward()[0][0])


def posed_human_of(armature: bpy.types.Object) -> dict[str, str]:
    """The mapping to read a pose by: `human_of`, but on control rigs the bones that show what the controls do.

    Raises VivantError as `human_of`, and for control rigs where too few of these bones are found.
    """
    human = human_of(armature)
    hierarchy = limbs.pose_bones(armature)
    if human == humanoid.RIGIFY:
        return {joint: bone for joint, bone in humanoid.RIGIFY_POSE.items() if bone in hierarchy}
    found = {joint: bone for joint, bone in human.items() if bone in hierarchy}
    for joint, bone in human.items():
        if joint not in found and (same := [other for other in limbs.doubles(armature, bone, False) if other in hierarchy]):
            found[joint] = same[0]
    if left := [joint for joint in human if joint not in found]:
        steered = controls.driven(armature, [human[joint] for joint in left], anew=True)
        found |= {joint: steered[human[joint]] for joint in left if human[joint] in steered}
    humanoid.check(found, list(hierarchy))
    return found


def write_clip(armature: bpy.types.Object, clip: Clip, name: str, start: float | None = None) -> bpy.types.Action:
    """Put a clip into a new action of the armature, one key a frame from `start` (the scene's start), and assign that.

    The clip's joints are bones of the armature, placed in the world; other bones stay as they are.  Each bone is keyed in
    its own rotation mode, and where it leaves its place its location.  The action before is kept, with a fake user.
    Raises VivantError, having changed nothing, for a rig that may not be written.
    """
    return beside.at_once(_writing(armature, clip, name, start, set(clip.names)))


def rotations_of(armature: bpy.types.Object, clip: Clip, bones: Iterable[str]) -> dict[str, Array]:
    """Rotation channels (F, 3 or 4), in their own modes, that give bones a clip's pose where nothing but parents moves them.

    clip: of all bones.
    """
    chosen = {name: armature.data.bones[name] for name in bones}
    wanted = _pose_matrices(armature, clip, {*chosen, *(bone.parent.name for bone in chosen.values() if bone.parent)})
    found = {}
    for name, bone in chosen.items():
        poses = [Matrix(matrix) for matrix in wanted[name]]
        above = [Matrix(matrix) for matrix in wanted[bone.parent.name]] if bone.parent else [None] * len(poses)
        bases = [_local(bone, pose, parent, True) for pose, parent in zip(poses, above, strict=True)]
        posed = armature.pose.bones[name]
        found[name] = beside.channels(posed, np.array(bases))[rigs.FOUR.get(posed.rotation_mode, "rotation_euler")]
    return found


def retarget_to(
    armature: bpy.types.Object,
    clip: Clip,
    name: str,
    source_human: Mapping[str, str] | None = None,
    in_place: bool = False,
    start: float | None = None,
) -> bpy.types.Action:
    """Put a human's clip on an armature of another human, at the scene's frame rate, into a new action.

    The mapping of the armature's bones is saved on it as the custom property `vivant_humanoid`, which may be edited.
    Of a control rig those controls are written that move its pose now: IK or FK, as its switches stand.
    Raises VivantError for what is no human, for limbs that no control moves, and as `write_clip`.
    """
    return beside.at_once(retargeting(armature, clip, name, source_human, in_place, start))


def retargeting(
    armature: bpy.types.Object,
    clip: Clip,
    name: str,
    source_human: Mapping[str, str] | None = None,
    in_place: bool = False,
    start: float | None = None,
) -> Generator[str, None, bpy.types.Action]:
    """`retarget_to` in steps: yields what it does; to close it at any step changes nothing."""
    controls.check_writable(armature)
    human = human_of(armature)
    humanoid.check(human, _bones(armature))
    yield "reading the rig"
    fps = _fps()
    if not any(bone.constraints for bone in armature.pose.bones):
        skeleton = skeleton_of(armature)
        moved = yield from beside.aside(
            "retargeting", lambda: retarget(resample(clip, fps), skeleton, source_human, human, in_place)
        )
        keyed = {moved.names[joint] for joint in _turning(moved)} | set(human.values())
        action = yield from _writing(armature, moved, name, start, keyed)
    else:
        hierarchy, posed = limbs.pose_bones(armature), posed_human_of(armature)
        yield "reading the rig"
        skeleton = skeleton_of(armature, hierarchy)
        moved = yield from beside.aside(
            "retargeting", lambda: retarget(resample(clip, fps), skeleton, source_human, posed, in_place)
        )
        keyed = yield from _moving(armature, human, posed, hierarchy)
        action = yield from _writing(armature, moved, name, start, keyed, hierarchy)
    armature[HUMAN] = human
    return action


def _moving(
    armature: bpy.types.Object, human: Mapping[str, str], posed: Mapping[str, str], hierarchy: Mapping[str, str]
) -> Generator[str, None, set[str]]:
    """The controls of a human that move its pose now; raises VivantError where none moves a limb."""
    with beside.double(armature) as double:
        evaluated = double.at(bpy.context.scene.frame_current_final)
        chains = [limb for limb in limbs.limbs_of(armature, evaluated, hierarchy) if limb.upper in posed.values()]
    asked = [*human.values(), *(bone for limb in chains for bone in limbs.ik_controls(armature, limb))]
    for number in range(2):
        frame = bpy.context.scene.frame_current_final
        steps = controls.driving(armature, dict.fromkeys(asked), frame, anew=True)
        steered = yield from beside.told("looking for controls", steps)
        reached = set(steered.values())
        reached |= {bone for limb in chains if {limb.end, limb.last} & reached for bone in (limb.upper, limb.lower, limb.last)}
        lost = [bone for bone in posed.values() if bone not in reached]
        if number or not lost:
            break
        asked += [other for bone in lost for other in limbs.doubles(armature, bone) if other not in hierarchy]
    if lost := [bone for joint, bone in posed.items() if bone in lost and joint in humanoid.NEEDED]:
        raise VivantError(
            f"No control that may be keyed moves '{lost[0]}' of '{armature.name}'.",
            "Unlock its controls, or correct the mapping.",
        )
    return set(steered)


def _turning(clip: Clip) -> set[int]:
    """Joints that leave their rest pose."""
    turn = np.abs(np.sum(clip.rotations * clip.rest, axis=-1)).min(axis=0)
    return set(np.flatnonzero(turn < 1 - 1e-10).tolist()) | set(clip.translations)


def _fps() -> float:
    render = bpy.context.scene.render
    return render.fps / render.fps_base


def _bones(armature: bpy.types.Object) -> list[str]:
    names = [bone.name for bone in rigs.pose_of(armature).bones]
    if not names:
        raise VivantError(f"The armature '{armature.name}' has no bones.", "Choose the character's rig.")
    return names


def _y_up(matrices: Array) -> tuple[Array, Array]:
    """Positions (F, J, 3) and rotations (F, J, 4), Y up, of world matrices; scale and shear go."""
    x, z = matrices[..., :3, 0], matrices[..., :3, 2]
    y = matrices[..., :3, 1] / np.linalg.norm(matrices[..., :3, 1], axis=-1, keepdims=True)
    z = np.cross(x, y)
    z /= np.linalg.norm(z, axis=-1, keepdims=True)
    turned = np.stack([np.cross(y, z), y, z], axis=-1)
    rotations = quaternions.multiply(TO_Y_UP, quaternions.from_matrix(turned))
    return quaternions.rotate(TO_Y_UP, matrices[..., :3, 3]), rotations


def _writing(
    armature: bpy.types.Object,
    clip: Clip,
    name: str,
    start: float | None,
    keyed: set[str],
    hierarchy: Mapping[str, str] | None = None,
) -> Generator[str, None, bpy.types.Action]:
    """`write_clip` in steps, with keys for some bones only; yields what it does, and to close it at any step changes nothing.

    keyed: bones of the clip's, or, of a control rig's pose (hierarchy), controls that move that.
    """
    controls.check_writable(armature)
    names = list(clip.names)
    bones = armature.pose.bones
    if unknown := [bone for bone in names if bone not in bones]:
        raise VivantError(f"'{armature.name}' has no bone '{unknown[0]}'.", "Retarget the clip to it.")
    if not len(clip) or not (np.all(np.isfinite(clip.rotations)) and np.all(np.isfinite(clip.root))):
        raise VivantError("The source has no motion, or numbers that are not finite.", "Choose another file or action.")
    if held := [bone for bone in names if bone in keyed and _constrained(bones[bone])]:
        raise VivantError(f"The bone '{held[0]}' of '{armature.name}' follows a constraint.", "Mute its constraints first.")
    scene = bpy.context.scene
    first = scene.frame_start if start is None else start
    times = first + np.arange(len(clip)) * (_fps() / clip.fps)
    if hierarchy or any(_constrained(above) for bone in keyed for above in bones[bone].parent_recursive):
        hierarchy = hierarchy or {
            bone: names[above] if above >= 0 else "" for bone, above in zip(names, clip.parents, strict=True)
        }
        with _unkeyed(armature) as own:
            data = own.animation_data
            now = yield from beside.poses(
                own, list(hierarchy), data.action, data.action_slot_handle, [scene.frame_current_final]
            )
            pose = as_clip(skeleton_of(own, hierarchy), now.in_world, clip.fps)
            before = pose.part(np.zeros(len(clip), int))
            steps = controls.solving(own, before, clip, times.tolist(), sorted(keyed), hierarchy=hierarchy)
            bases = yield from beside.told("setting the controls", steps)
    else:
        bases = yield from beside.told("turning the bones", _bases(armature, _pose_matrices(armature, clip, keyed)))
    action, bag = _new_action(armature, name)
    try:
        for number, (bone, matrices) in enumerate(bases.items()):
            yield f"writing, {number / len(bases):.0%}"
            _key(bag, bones[bone], times, [Matrix(basis) for basis in matrices])
    except BaseException:
        bpy.data.actions.remove(action)
        raise
    data = armature.animation_data_create()
    if data.action:
        data.action.use_fake_user = True
    actions.assign(armature, action, action.slots[0].handle)
    action.update_tag()
    scene.frame_set(scene.frame_current, subframe=scene.frame_subframe)
    return action


def _constrained(bone: bpy.types.PoseBone) -> bool:
    return any(constraint.enabled and constraint.influence > 0 for constraint in bone.constraints)


def _pose_matrices(armature: bpy.types.Object, clip: Clip, keyed: set[str]) -> dict[str, Array]:
    """Armature-space matrices (F, 4, 4) of some bones."""
    back = quaternions.conjugate(TO_Y_UP)
    positions, rotations = clip.forward()
    world = armature.matrix_world
    turn = quaternions.conjugate(np.array(world.to_quaternion()))
    turns = quaternions.multiply(turn, quaternions.multiply(back, rotations.astype(np.float64)))
    inverse = np.array(world.inverted())
    places = quaternions.rotate(back, positions.astype(np.float64)) @ inverse[:3, :3].T + inverse[:3, 3]
    matrices = np.zeros((*places.shape[:2], 4, 4))
    matrices[..., :3, :3], matrices[..., :3, 3], matrices[..., 3, 3] = quaternions.matrix(turns), places, 1
    return {name: matrices[:, joint] for joint, name in enumerate(clip.names) if name in keyed}


def _bases(armature: bpy.types.Object, wanted: Mapping[str, Array]) -> Generator[float, None, dict[str, list[Matrix]]]:
    """What the bones' channels must hold, where nothing but the hierarchy moves bones; others keep their channels.

    Yields the share that is done.
    """
    poses: dict[str, list[Matrix]] = {}
    bases = {}
    frames = len(next(iter(wanted.values())))
    for number, bone in enumerate(armature.data.bones):
        yield number / len(armature.data.bones)
        own = armature.pose.bones[bone.name].matrix_basis
        above = poses[bone.parent.name] if bone.parent else None
        if bone.name in wanted:
            poses[bone.name] = [Matrix(pose) for pose in wanted[bone.name]]
            bases[bone.name] = [_local(bone, pose, above and above[f], True) for f, pose in enumerate(poses[bone.name])]
        else:
            poses[bone.name] = [_local(bone, own, above and above[f], False) for f in range(frames)]
    return bases


def _local(bone: bpy.types.Bone, matrix: Matrix, above: Matrix | None, invert: bool) -> Matrix:
    """Blender's own conversion between a bone's channels and its armature-space matrix, which knows all inheritance flags."""
    if above is None:
        return bone.convert_local_to_pose(matrix, bone.matrix_local, invert=invert)
    return bone.convert_local_to_pose(
        matrix, bone.matrix_local, parent_matrix=above, parent_matrix_local=bone.parent.matrix_local, invert=invert
    )


def _new_action(armature: bpy.types.Object, name: str) -> tuple[bpy.types.Action, bpy.types.ActionChannelbag]:
    """A new action with a slot for the armature, which does not use it yet."""
    action = bpy.data.actions.new(name)
    slot = action.slots.new(id_type="OBJECT", name=armature.name)
    return action, action.layers.new("Layer").strips.new(type="KEYFRAME").channelbag(slot, ensure=True)


@contextlib.contextmanager
def _unkeyed(armature: bpy.types.Object) -> Iterator[bpy.types.Object]:
    """A copy of the armature, in no scene, as it stands but under an action without keys."""
    copy, (action, _) = armature.copy(), _new_action(armature, armature.name)
    try:
        actions.assign(copy, action, action.slots[0].handle)
        yield copy
    finally:
        bpy.data.objects.remove(copy)
        bpy.data.actions.remove(action)


def _key(bag: bpy.types.ActionChannelbag, bone: bpy.types.PoseBone, times: Array, bases: Sequence[Matrix]) -> None:
    """Key a bone's rotation in its own mode, its location where it has one, and its scale where it must be undone."""
    rotation = rigs.FOUR.get(bone.rotation_mode, "rotation_euler")
    parts = [basis.decompose() for basis in bases]
    turns = np.array([tuple(turn) for _, turn, _ in parts])
    start = np.array([1.0, 0, 0, 0] if bone.rotation_mode == "QUATERNION" else [0.0, 0, 1, 0])
    start = start if bone.rotation_mode in rigs.FOUR else np.zeros(3)
    channels = {rotation: rigs.from_quaternions(turns, bone.rotation_mode, start)}
    places = np.array([tuple(place) for place, _, _ in parts])
    if not bone.bone.use_connect and (np.abs(places).max() > STILL * max(bone.length, 1) or any(bone.location)):
        channels["location"] = places
    if any(abs(factor - 1) > STILL for factor in bone.scale):
        channels["scale"] = np.ones_like(places)
    group = bag.groups.new(bone.name)
    for path, columns in channels.items():
        for index, column in enumerate(columns.T):
            curve = bag.fcurves.new(f"{bone.path_from_id()}.{path}", index=index)
            curve.group = group
            keys = np.zeros(len(times), actions.KEY)
            keys["co"] = np.column_stack([times, column])
            keys["interpolation"] = actions.LINEAR
            keys["handle_left_type"] = keys["handle_right_type"] = AUTO_CLAMPED
            actions.write_keys(curve, keys)
