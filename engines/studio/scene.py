# SPDX-License-Identifier: Apache-2.0
"""The film set: builds the presenter in Blender (bpy, Cycles on the CPU) and renders posed frames.

    stage = Stage("ict_facekit_rig.npz")
    stage.pose(rig.vector(mouthSmile=.3, yaw=5))
    stage.render("frame.png", size=512, samples=8, seed=1)

Meshes and strands are made once; a pose only rewrites positions. The rig is y up, Blender z up: ``to_blender`` converts.
The frame has straight alpha (film_transparent); alpha is denoised like the colour, else hair edges get dark fringes.

This module is a development tool. Nothing at run time may import it: bpy is GPL software. Rendered images are not covered.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np
from mathutils import Vector

from engines.studio import hair, paint
from engines.studio.materials import attribute, clear_material, cloth_material, hair_material, principled, skin_material
from engines.studio.props import eyeball, garment
from engines.studio.rig import (
    CAMERA_CENTRE,
    CAMERA_DISTANCE,
    CAMERA_FOCUS,
    CAMERA_RISE,
    FRAME_HEIGHT,
    GUMS,
    LACRIMAL,
    NO_VERTEX,
    SKIN,
    TEETH,
    Pose,
    Rig,
    smoothstep,
    vector,
)

Triple = tuple[float, float, float]

HAIR_RADIUS = 0.036
# lights: location (Blender axes), size x, size y, watts, colour
LIGHTS = (
    ((-46, -54, 38), 20, 20, 60000, (1, 0.93, 0.86)),  # key, camera left, high
    ((52, -50, 6), 30, 44, 6000, (0.86, 0.93, 1.0)),  # fill, right
    ((34, 42, 30), 16, 36, 20000, (1.0, 0.95, 0.88)),  # rim, right back
    ((-40, 40, 26), 14, 36, 15000, (0.80, 0.90, 1.0)),  # rim, left back
    ((-6, 8, 52), 30, 20, 3500, (1, 0.97, 0.93)),  # hair, top
    ((0, -30, -34), 30, 12, 500, (1, 0.9, 0.85)),  # bounce from below; more flattens the jawline
)
MOUTH_FILL = ((0, -100, -7), 8, 8, 15000, (1, 0.93, 0.88))  # lights gums, tongue and teeth only


def to_blender(p: np.ndarray) -> np.ndarray:
    """Rig axes to Blender axes, float32."""
    p = np.asarray(p)
    return np.stack([p[..., 0], -p[..., 2], p[..., 1]], -1).astype(np.float32)


def link(name: str, data: Any) -> Any:
    """New object in the scene."""
    o = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(o)
    return o


def mesh(
    name: str,
    p: np.ndarray,
    faces: Sequence[Sequence[int]],
    materials: Sequence[Any],
    index: Any = None,
    uv: np.ndarray | None = None,
    attributes: dict[str, np.ndarray] | None = None,
) -> Any:
    """Smooth mesh object from rig coordinates; attributes are per point: scalar, vector (n, 3) or colour (n, 4)."""
    me = bpy.data.meshes.new(name)
    me.from_pydata(to_blender(p).tolist(), [], [[int(i) for i in f] for f in faces])
    me.shade_smooth()
    for m in materials:
        me.materials.append(m)
    if index is not None:
        me.polygons.foreach_set("material_index", np.asarray(index, np.int32))
    if uv is not None:
        me.uv_layers.new(name="UVMap").uv.foreach_set("vector", np.asarray(uv, np.float32).ravel())
    for key, values in (attributes or {}).items():
        v = np.asarray(values, np.float32)
        kind, field = {1: ("FLOAT", "value"), 3: ("FLOAT_VECTOR", "vector"), 4: ("FLOAT_COLOR", "color")}[v.shape[1] if v.ndim == 2 else 1]
        me.attributes.new(key, kind, "POINT").data.foreach_set(field, v.ravel())
    return link(name, me)


def strands(name: str, p: np.ndarray, radius: np.ndarray, material: Any) -> Any:
    """Hair curves object; p (n, k, 3), radius (n, k)."""
    c = bpy.data.hair_curves.new(name)
    c.add_curves([p.shape[1]] * len(p))
    c.position_data.foreach_set("vector", to_blender(p).ravel())
    c.attributes.new("radius", "FLOAT", "POINT").data.foreach_set("value", np.asarray(radius, np.float32).ravel())
    c.materials.append(material)
    return link(name, c)


def move(o: Any, p: np.ndarray) -> None:
    """Rewrite the point positions of a mesh or curves object."""
    if hasattr(o.data, "vertices"):
        o.data.vertices.foreach_set("co", to_blender(p).ravel())
        o.data.update()
    else:
        o.data.position_data.foreach_set("vector", to_blender(p).ravel())
    o.data.update_tag()
    o.update_tag()


def area_light(place: Triple, wide: float, high: float, watts: float, colour: Triple, target: Triple = (0, -6, 1)) -> Any:
    """Rectangular light aimed at a target; Blender axes."""
    lamp = bpy.data.lights.new("light", "AREA")
    lamp.shape, lamp.size, lamp.size_y, lamp.energy, lamp.color = "RECTANGLE", wide, high, watts, colour
    o = link("light", lamp)
    o.location = place
    o.rotation_euler = (Vector(target) - Vector(place)).to_track_quat("-Z", "Y").to_euler()
    return o


class Stage:
    """The whole set around one rig. There can be one Stage per process."""

    def __init__(self, rig_path: str, threads: int = 2) -> None:
        bpy.ops.wm.read_factory_settings(use_empty=True)
        self.rig = rig = Rig(rig_path)
        self.faces = [f[f != NO_VERTEX] for f in rig.faces]
        albedo, rough = paint.write(rig, Path(tempfile.mkdtemp()))
        neutral = rig.pose(vector())
        self._head(neutral, str(albedo), str(rough))
        self._strands(neutral)
        p, faces, index, azimuth = garment()
        mesh(
            "garment",
            p,
            faces,
            [cloth_material("knit", "1f5560", False), cloth_material("rib", "1d4f5a", True)],
            index,
            attributes={"rest": p, "ang": azimuth},
        )
        self._camera_and_light()
        self._cycles(threads)

    def _head(self, neutral: Pose, albedo: str, rough: str) -> None:
        rig, faces, p = self.rig, self.faces, neutral.unturned
        n = np.arange(14034)
        uv = np.concatenate([rig.uvs[t[f != NO_VERTEX]] for f, t in zip(rig.faces[:14034], rig.face_uvs[:14034], strict=True)])
        mouth = principled("mouth", Roughness=0.35, Base_Color="8a3a38")[0]
        self.skin = mesh(
            "skin",
            p[SKIN],
            faces[:14034],
            [skin_material("skin", albedo, rough), skin_material("back"), mouth],
            np.where(n < 9230, 0, np.where((n >= 11144) & (n < 13226), 2, 1)),
            uv,
            {"rest": to_blender(rig.rest[SKIN]), "scalp": hair.scalp_mask(rig.rest[SKIN])},
        )
        soft = {"Subsurface_Weight": 0.5}
        gums = principled(
            "gums", Roughness=0.28, Base_Color="d0706c", Subsurface_Weight=0.6, Subsurface_Radius=(1, 0.3, 0.2), Subsurface_Scale=0.2
        )[0]
        tongue = principled("tongue", Roughness=0.34, Base_Color="e08a82", Subsurface_Radius=(1, 0.35, 0.25), Subsurface_Scale=0.2, **soft)[
            0
        ]
        teeth = principled(
            "teeth", Roughness=0.18, Base_Color="efe6d6", Subsurface_Radius=(0.6, 0.5, 0.4), Subsurface_Scale=0.15, Coat_Weight=0.3, **soft
        )[0]
        on_tongue = np.isin(np.arange(len(rig.rest)), rig.tongue)
        self.gums = mesh(
            "gums",
            p[GUMS],
            [f - GUMS.start for f in faces[14034:17006]],
            [gums, tongue],
            [int(on_tongue[f].all()) for f in faces[14034:17006]],
        )
        self.teeth = mesh("teeth", p[TEETH], [f - TEETH.start for f in faces[17006:21496]], [teeth])
        self.wet = mesh("lacrimal", p[LACRIMAL], [f - LACRIMAL.start for f in faces[24692:25018]], [clear_material("lacrimal", 0.06, 1.36)])
        self.eye = eyeball()
        iris, nodes, links, bsdf = principled("eye", Roughness=0.35, Specular_IOR_Level=0.2)
        links.new(attribute(nodes, "ecol").outputs["Color"], bsdf.inputs["Base Color"])
        cornea = clear_material("cornea", 0.02, 1.40, 1.5)  # a boost of 2.4 would veil the pupil
        self.balls = [
            mesh(f"eye{k}", rig.eye_points(self.eye.ball, k, neutral), self.eye.ball_faces, [iris], attributes={"ecol": self.eye.colour})
            for k in (0, 1)
        ]
        self.shells = [mesh(f"cornea{k}", rig.eye_points(self.eye.shell, k, neutral), self.eye.shell_faces, [cornea]) for k in (0, 1)]

    def _strands(self, neutral: Pose) -> None:
        self.bob = hair.grow(self.rig)
        t = np.linspace(0, 1, self.bob.shape[1])
        taper = HAIR_RADIUS * np.interp(t, [0, 0.1, 0.7, 1], [0.7, 1, 0.85, 0.10])
        self.hair = strands("hair", self.bob, np.repeat(taper[None], len(self.bob), 0), hair_material("hair", 0.66, 0.75))
        self.bob = self.bob.reshape(-1, 3).astype(float)
        self.brow = hair.brows(self.rig)
        taper = np.interp(np.linspace(0, 1, self.brow.points), [0, 0.4, 1], [0.9, 1, 0.2])
        self.brows = strands("brow", self.brow.place(neutral.unturned), self.brow.radius[:, None] * taper, hair_material("brow", 0.68, 0.7))
        self.lash = hair.lashes(self.rig)
        self.lash_radius = self.lash.radius[:, None] * np.interp(np.linspace(0, 1, self.lash.points), [0, 0.3, 1], [1, 0.9, 0.15])
        self.lash_eye = (np.arange(self.lash.strands) >= self.lash.strands // 2).astype(int)
        black = principled("lash", Roughness=0.5, Base_Color=(0.012, 0.008, 0.007, 1))[0]
        self.lashes = strands("lash", self.lash.place(neutral.unturned), self.lash_radius, black)

    def _camera_and_light(self) -> None:
        scene = bpy.context.scene
        camera = bpy.data.cameras.new("camera")
        o = link("camera", camera)
        scene.camera = o
        o.location = (0, -CAMERA_DISTANCE, CAMERA_CENTRE + CAMERA_RISE)
        o.rotation_euler = (math.pi / 2 - math.atan2(CAMERA_RISE, CAMERA_DISTANCE), 0, 0)
        camera.sensor_fit, camera.sensor_height, camera.clip_end = "VERTICAL", 24, 1000
        camera.lens = 24 * CAMERA_FOCUS / FRAME_HEIGHT
        world = bpy.data.worlds.new("world")
        scene.world = world
        world.use_nodes = True
        background = world.node_tree.nodes["Background"]
        background.inputs[0].default_value = (0.75, 0.85, 1, 1)
        background.inputs[1].default_value = 0.22
        for light in LIGHTS:
            area_light(*light)
        fill = area_light(*MOUTH_FILL, target=(0, -9, -3.6))
        inside = bpy.data.collections.new("mouth")
        inside.objects.link(self.gums)
        inside.objects.link(self.teeth)
        fill.light_linking.receiver_collection = inside

    def _cycles(self, threads: int) -> None:
        s = bpy.context.scene
        s.render.engine = "CYCLES"
        c = s.cycles
        c.device = "CPU"
        c.use_adaptive_sampling = False
        c.use_denoising, c.denoiser, c.denoising_prefilter = True, "OPENIMAGEDENOISE", "FAST"
        c.denoising_input_passes, c.denoising_quality = "RGB_ALBEDO_NORMAL", "HIGH"
        c.max_bounces, c.diffuse_bounces, c.glossy_bounces, c.transmission_bounces, c.transparent_max_bounces = 6, 2, 3, 5, 8
        c.sample_clamp_indirect, c.blur_glossy = 3, 0.5
        c.caustics_reflective = c.caustics_refractive = False
        c.use_light_tree = False  # 17 % faster with so few lights
        s.render.use_persistent_data = True
        s.render.threads_mode, s.render.threads = "FIXED", threads
        s.cycles_curves.shape, s.cycles_curves.subdivisions = "RIBBONS", 2
        s.render.film_transparent = True
        s.view_settings.view_transform, s.view_settings.look = "AgX", "AgX - Medium High Contrast"
        s.view_settings.exposure = 0.38
        image = s.render.image_settings
        image.file_format, image.color_mode, image.compression = "PNG", "RGBA", 0
        tree = bpy.data.node_groups.new("alpha", "CompositorNodeTree")
        tree.interface.new_socket("Image", in_out="OUTPUT", socket_type="NodeSocketColor")
        s.compositing_node_group = tree
        layers, denoise, swap = (tree.nodes.new("CompositorNode" + k) for k in ("RLayers", "Denoise", "SetAlpha"))
        denoise.inputs["HDR"].default_value = False
        swap.inputs["Type"].default_value = "Replace Alpha"
        tree.links.new(layers.outputs["Alpha"], denoise.inputs["Image"])
        tree.links.new(layers.outputs["Image"], swap.inputs["Image"])
        tree.links.new(denoise.outputs["Image"], swap.inputs["Alpha"])
        tree.links.new(swap.outputs[0], tree.nodes.new("NodeGroupOutput").inputs[0])
        s.render.use_compositing = True

    def pose(self, controls: np.ndarray) -> Pose:
        """Move everything to a control vector (51,); see ``rig.CONTROLS``."""
        rig = self.rig
        pose = rig.pose(controls)
        for o, part in ((self.skin, SKIN), (self.gums, GUMS), (self.teeth, TEETH), (self.wet, LACRIMAL)):
            move(o, pose.vertices[part])
        for k in (0, 1):
            move(self.balls[k], rig.eye_points(self.eye.ball, k, pose))
            move(self.shells[k], rig.eye_points(self.eye.shell, k, pose))
        move(self.brows, rig.head_points(self.brow.place(pose.unturned).reshape(-1, 3), pose))
        move(self.lashes, rig.head_points(self.lash.place(pose.unturned, pose.blink).reshape(-1, 3), pose))
        thin = 1 - 0.3 * smoothstep(0.45, 1, np.asarray(pose.blink))[self.lash_eye]
        self.lashes.data.attributes["radius"].data.foreach_set("value", (self.lash_radius * thin[:, None]).astype(np.float32).ravel())
        move(self.hair, rig.head_points(self.bob, pose))
        return pose

    def render(self, path: str, size: int, samples: int, seed: int) -> None:
        """Render the current pose to a square RGBA PNG."""
        s = bpy.context.scene
        s.cycles.seed, s.cycles.samples = seed, samples
        s.render.resolution_x = s.render.resolution_y = size
        s.render.filepath = path
        bpy.ops.render.render(write_still=True)
