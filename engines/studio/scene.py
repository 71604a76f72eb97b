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
from pathlib import Path

import bpy
import numpy as np
from mathutils import Vector
from scipy.interpolate import PchipInterpolator

from engines.studio import hair, paint
from engines.studio.rig import (
    CAMERA_CENTRE,
    CAMERA_DISTANCE,
    CAMERA_FOCUS,
    CAMERA_RISE,
    EYE_RADIUS,
    FRAME_HEIGHT,
    GUMS,
    IRIS_RADIUS,
    LACRIMAL,
    NO_VERTEX,
    PUPIL_RADIUS,
    SKIN,
    TEETH,
    Pose,
    Rig,
    smoothstep,
    vector,
)

HAIR_RADIUS = 0.036
# lights: location (Blender axes), size x, size y, watts, colour
LIGHTS = (
    ((-46, -54, 38), 20, 20, 60000, (1, 0.93, 0.86)),      # key, camera left, high
    ((52, -50, 6), 30, 44, 6000, (0.86, 0.93, 1.0)),       # fill, right
    ((34, 42, 30), 16, 36, 20000, (1.0, 0.95, 0.88)),      # rim, right back
    ((-40, 40, 26), 14, 36, 15000, (0.80, 0.90, 1.0)),     # rim, left back
    ((-6, 8, 52), 30, 20, 3500, (1, 0.97, 0.93)),          # hair, top
    ((0, -30, -34), 30, 12, 500, (1, 0.9, 0.85)),          # bounce from below; more flattens the jawline
)
MOUTH_FILL = ((0, -100, -7), 8, 8, 15000, (1, 0.93, 0.88))   # lights gums, tongue and teeth only
GARMENT = np.array([   # cross sections from the collar down: y, half width, half depth, z of the centre
    (-10.2, 5.75, 5.35, -0.35), (-10.9, 5.95, 5.6, -0.45), (-11.6, 6.5, 5.9, -0.6), (-12.4, 7.8, 6.3, -0.8),
    (-13.2, 10.0, 6.7, -0.9), (-14.1, 12.6, 7.1, -0.9), (-15.2, 15.0, 7.5, -0.7), (-16.6, 16.6, 7.9, -0.4),
    (-18.5, 17.5, 8.4, 0), (-22, 18.0, 9.0, 0.4), (-30, 18.2, 9.6, 0.6)])


def to_blender(p: np.ndarray) -> np.ndarray:
    """Rig axes to Blender axes, float32."""
    p = np.asarray(p)
    return np.stack([p[..., 0], -p[..., 2], p[..., 1]], -1).astype(np.float32)


def linear(code: str) -> tuple[float, ...]:
    """SRGB hex code to linear RGBA."""
    c = [int(code[i:i + 2], 16) / 255 for i in (0, 2, 4)]
    return tuple(x / 12.92 if x <= 0.04045 else ((x + 0.055) / 1.055) ** 2.4 for x in c) + (1.0,)


# ---------------------------------------------------------------------------------------------- eyeballs

def revolve(radius: np.ndarray, z: np.ndarray, n: int = 72) -> tuple[np.ndarray, list[tuple[int, ...]]]:
    """Surface of revolution about z: vertices (len(radius) * n, 3) and quads."""
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    p = np.stack([np.outer(radius, np.cos(a)), np.outer(radius, np.sin(a)), np.repeat(z[:, None], n, 1)], -1).reshape(-1, 3)
    m = len(radius)
    return p, [(i * n + j, (i + 1) * n + j, (i + 1) * n + (j + 1) % n, i * n + (j + 1) % n) for i in range(m - 1) for j in range(n)]


def eyeball() -> dict[str, object]:
    """Concave iris dish with sclera, and the clear shell with the corneal bulge; local axis +z, rig units."""
    iris, pupil, big, n = IRIS_RADIUS, PUPIL_RADIUS, EYE_RADIUS, 72
    rad = np.r_[np.linspace(0, pupil, 4), np.linspace(pupil + 0.004, iris, 22)]
    level = np.sqrt(big * big - iris**2)
    z = np.array([level - 0.13 if r <= pupil else level - 0.02 - 0.11 * (1 - (r - pupil) / (iris - pupil)) ** 0.8 for r in rad])
    rim = np.arcsin(iris / big)
    th = np.linspace(rim + 0.012, np.pi * 0.80, 40)
    ball, ball_faces = revolve(np.r_[rad, big * np.sin(th)], np.r_[z, big * np.cos(th)], n)
    # distance from the axis along the surface, for colouring
    reach = np.repeat(np.r_[rad, iris + (th - rim) * big], n)
    angle = np.tile(np.linspace(0, 2 * np.pi, n, endpoint=False), len(rad) + len(th))
    th = np.r_[np.linspace(0.001, 1.0, 36), np.linspace(1.03, 2.2, 16)]
    bulge = 0.155 * np.cos(np.pi / 2 * np.minimum(th / 0.66, 1)) ** 2       # a flat-topped bulge would kill the catchlight
    shell, shell_faces = revolve(1.43 * np.sin(th), 1.43 * np.cos(th) + bulge, n)
    return {"ball": ball, "ball_faces": ball_faces, "colour": iris_colour(reach, angle), "shell": shell, "shell_faces": shell_faces}


def iris_colour(reach: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Linear RGBA per eyeball vertex: pupil, hazel-green fibres, dark limbus, sclera redder to the rim."""
    rng = np.random.default_rng(4)
    iris, pupil = IRIS_RADIUS, PUPIL_RADIUS
    t = np.clip((reach - pupil) / (iris - pupil), 0, 1)
    fibre = np.zeros_like(angle)
    for _ in range(40):
        f = rng.integers(8, 40)
        fibre += rng.normal() * np.cos(f * angle + rng.uniform(0, 6) + 2 * rng.normal() * t) / 7
    inner, outer, amber = (np.array(linear(c)[:3]) for c in ("6f8a62", "36524a", "b08a4a"))
    col = inner * (1 - t[:, None]) + outer * t[:, None]
    col = col + (amber - col) * (np.exp(-(((t - 0.22) / 0.18) ** 2)) * 0.55)[:, None]
    col *= (1 + 0.35 * fibre * np.sin(np.pi * np.clip(t, 0.05, 1)))[:, None].clip(0.35, 1.8)
    col *= (1 - 0.75 * smoothstep(0.80, 1.0, t))[:, None]
    col[reach <= pupil + 0.004] = 0.004
    white, limbus, red = (np.array(linear(c)[:3]) for c in ("ece6e0", "3a2a22", "d99a90"))
    s = smoothstep(iris, iris + 0.10, reach)[:, None]
    col = np.where(reach[:, None] >= iris, limbus * (1 - s) + white * s, col)
    r = smoothstep(1.3, 2.2, reach)[:, None] * 0.35
    col = np.where(reach[:, None] > iris + 0.1, col * (1 - r) + red * r, col)
    return np.c_[np.clip(col, 0, 1), np.ones(len(col))]


# ---------------------------------------------------------------------------------------------- garment

def garment() -> tuple[np.ndarray, list[tuple[int, ...]], np.ndarray, np.ndarray]:
    """Crew-neck knit: vertices, quads, material index per face (1 = ribbed collar), azimuth per vertex (radians)."""
    rows = PchipInterpolator(np.linspace(0, 1, len(GARMENT)), GARMENT)(np.linspace(0, 1, 90))
    n, m = 160, 14
    a = np.linspace(0, 2 * np.pi, n, endpoint=False)
    body = []
    for y, wide, deep, centre in rows:
        power = 2 / (2.0 + 0.5 * smoothstep(-12, -16, y))
        x = np.sign(np.sin(a)) * np.abs(np.sin(a)) ** power * wide
        z = np.sign(np.cos(a)) * np.abs(np.cos(a)) ** power * deep + centre
        fold = 0.10 * np.sin(a * 7 + y * 0.8) * smoothstep(-13, -17, y)
        body.append(np.stack([x, y - 0.20 * (z + 0.4) * smoothstep(-19, -11, y), z + fold], 1))
    body = np.concatenate(body)
    faces = [(i * n + j, i * n + (j + 1) % n, (i + 1) * n + (j + 1) % n, (i + 1) * n + j) for i in range(len(rows) - 1) for j in range(n)]
    y, wide, deep, centre = rows[0]
    th = np.linspace(0, 2 * np.pi, m, endpoint=False)
    ring = []
    for j in range(n):
        for t in th:
            out = 0.12 + 0.42 * np.cos(t)
            z = np.cos(a[j]) * (deep + out) + centre
            ring.append((np.sin(a[j]) * (wide + out), y - 0.35 + 0.62 * np.sin(t) - 0.20 * (z + 0.4), z))
    b = len(body)
    collar = [(b + j * m + i, b + (j + 1) % n * m + i, b + (j + 1) % n * m + (i + 1) % m, b + j * m + (i + 1) % m) for j in range(n) for i in range(m)]
    index = np.r_[np.zeros(len(faces), int), np.ones(len(collar), int)]
    return np.r_[body, ring], faces + collar, index, np.r_[np.tile(a, len(rows)), np.repeat(a, m)]


# ---------------------------------------------------------------------------------------------- materials

def principled(name: str, **inputs: object) -> tuple:
    """New material with a Principled BSDF; ``Base_Color="aabbcc"`` sets inputs. Returns material, nodes, links, bsdf."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    b = m.node_tree.nodes["Principled BSDF"]
    for key, value in inputs.items():
        b.inputs[key.replace("_", " ")].default_value = linear(value) if isinstance(value, str) else value
    return m, m.node_tree.nodes, m.node_tree.links, b


def attribute(nodes, name: str):
    """Attribute node."""
    a = nodes.new("ShaderNodeAttribute")
    a.attribute_name = name
    return a


def skin_material(name: str, albedo: str | None = None, rough: str | None = None, flat: str = "d09078"):
    """Random-walk skin; painted maps or a flat colour; dark under the hair; fine bump that sticks to the rest shape."""
    m, n, l, b = principled(name, Roughness=0.46, Subsurface_Weight=1.0, Subsurface_Radius=(1.0, 0.38, 0.22),
                            Subsurface_Scale=0.32, Specular_IOR_Level=0.42, Coat_Weight=0.06, Coat_Roughness=0.28)
    b.subsurface_method = "RANDOM_WALK"
    if albedo:
        for path, space, socket in ((albedo, "sRGB", None), (rough, "Non-Color", b.inputs["Roughness"])):
            t = n.new("ShaderNodeTexImage")
            t.image = bpy.data.images.load(path)
            t.image.colorspace_settings.name = space
            if socket:
                l.new(t.outputs[0], socket)
            else:
                base = t.outputs[0]
    else:
        rgb = n.new("ShaderNodeRGB")
        rgb.outputs[0].default_value = linear(flat)
        base = rgb.outputs[0]
    cover = n.new("ShaderNodeMath")
    cover.operation = "MULTIPLY"
    cover.inputs[1].default_value = 0.93
    l.new(attribute(n, "scalp").outputs["Fac"], cover.inputs[0])
    mix = n.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    mix.inputs[7].default_value = linear("3a2116")
    l.new(cover.outputs[0], mix.inputs[0])
    l.new(base, mix.inputs[6])
    l.new(mix.outputs[2], b.inputs["Base Color"])
    rest = attribute(n, "rest")
    noise = n.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = 3.2
    noise.inputs["Detail"].default_value = 3
    pores = n.new("ShaderNodeTexVoronoi")
    pores.inputs["Scale"].default_value = 7.0
    for t in (noise, pores):
        l.new(rest.outputs["Vector"], t.inputs["Vector"])
    add = n.new("ShaderNodeMath")
    add.operation = "MULTIPLY_ADD"
    add.inputs[1].default_value = 0.5
    l.new(pores.outputs["Distance"], add.inputs[0])
    l.new(noise.outputs[0], add.inputs[2])
    bump = n.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.10
    bump.inputs["Distance"].default_value = 0.12
    l.new(add.outputs[0], bump.inputs["Height"])
    l.new(bump.outputs[0], b.inputs["Normal"])
    return m


def clear_material(name: str, roughness: float, ior: float, boost: float = 1.0):
    """Wet, clear surface without refraction: transparent plus glossy by Fresnel; casts no shadow. Free of noise."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    n, l = m.node_tree.nodes, m.node_tree.links
    n.remove(n["Principled BSDF"])
    transparent, glossy, fresnel = (n.new("ShaderNode" + k) for k in ("BsdfTransparent", "BsdfGlossy", "Fresnel"))
    glossy.inputs["Roughness"].default_value = roughness
    fresnel.inputs[0].default_value = ior
    scale, lit, both = (n.new("ShaderNodeMath") for _ in range(3))
    scale.operation, lit.operation, both.operation = "MULTIPLY", "SUBTRACT", "MULTIPLY"
    scale.inputs[1].default_value, scale.use_clamp, lit.inputs[0].default_value = boost, True, 1
    l.new(fresnel.outputs[0], scale.inputs[0])
    l.new(n.new("ShaderNodeLightPath").outputs["Is Shadow Ray"], lit.inputs[1])
    l.new(scale.outputs[0], both.inputs[0])
    l.new(lit.outputs[0], both.inputs[1])
    mix = n.new("ShaderNodeMixShader")
    for i, s in enumerate((both, transparent, glossy)):
        l.new(s.outputs[0], mix.inputs[i])
    l.new(mix.outputs[0], n["Material Output"].inputs[0])
    return m


def hair_material(name: str, melanin: float, redness: float):
    """Principled hair by melanin."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    n, l = m.node_tree.nodes, m.node_tree.links
    n.remove(n["Principled BSDF"])
    h = n.new("ShaderNodeBsdfHairPrincipled")
    h.parametrization = "MELANIN"
    for key, value in (("Melanin", melanin), ("Melanin Redness", redness), ("Roughness", 0.32), ("Radial Roughness", 0.45),
                       ("Random Color", 0.25), ("Random Roughness", 0.2), ("Coat", 0.0)):
        h.inputs[key].default_value = value
    l.new(h.outputs[0], n["Material Output"].inputs[0])
    return m


def cloth_material(name: str, code: str, ribbed: bool):
    """Knit with sheen; ``ribbed`` for the collar."""
    m, n, l, b = principled(name, Roughness=0.85, Base_Color=code, Sheen_Weight=0.35, Sheen_Roughness=0.4, Specular_IOR_Level=0.2)
    bump = n.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.5 if ribbed else 0.35
    bump.inputs["Distance"].default_value = 0.15
    if ribbed:
        times, sine = n.new("ShaderNodeMath"), n.new("ShaderNodeMath")
        times.operation, sine.operation, times.inputs[1].default_value = "MULTIPLY", "SINE", 110
        l.new(attribute(n, "ang").outputs["Fac"], times.inputs[0])
        l.new(times.outputs[0], sine.inputs[0])
        l.new(sine.outputs[0], bump.inputs["Height"])
    else:
        weave = n.new("ShaderNodeTexNoise")
        weave.inputs["Scale"].default_value = 5.0
        weave.inputs["Detail"].default_value = 4
        l.new(attribute(n, "rest").outputs["Vector"], weave.inputs["Vector"])
        l.new(weave.outputs[0], bump.inputs["Height"])
    l.new(bump.outputs[0], b.inputs["Normal"])
    return m


# ---------------------------------------------------------------------------------------------- objects

def link(name: str, data):
    """New object in the scene."""
    o = bpy.data.objects.new(name, data)
    bpy.context.scene.collection.objects.link(o)
    return o


def mesh(name: str, p: np.ndarray, faces, materials, index=None, uv=None, attributes: dict[str, np.ndarray] | None = None):
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
    for key, v in (attributes or {}).items():
        v = np.asarray(v, np.float32)
        kind, field = {1: ("FLOAT", "value"), 3: ("FLOAT_VECTOR", "vector"), 4: ("FLOAT_COLOR", "color")}[v.shape[1] if v.ndim == 2 else 1]
        me.attributes.new(key, kind, "POINT").data.foreach_set(field, v.ravel())
    return link(name, me)


def strands(name: str, p: np.ndarray, radius: np.ndarray, material):
    """Hair curves object; p (n, k, 3), radius (n, k)."""
    c = bpy.data.hair_curves.new(name)
    c.add_curves([p.shape[1]] * len(p))
    c.position_data.foreach_set("vector", to_blender(p).ravel())
    c.attributes.new("radius", "FLOAT", "POINT").data.foreach_set("value", np.asarray(radius, np.float32).ravel())
    c.materials.append(material)
    return link(name, c)


def move(o, p: np.ndarray) -> None:
    """Rewrite the point positions of a mesh or curves object."""
    if hasattr(o.data, "vertices"):
        o.data.vertices.foreach_set("co", to_blender(p).ravel())
        o.data.update()
    else:
        o.data.position_data.foreach_set("vector", to_blender(p).ravel())
    o.data.update_tag()
    o.update_tag()


def area_light(place, wide: float, high: float, watts: float, colour, target=(0, -6, 1)):
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
        mesh("garment", p, faces, [cloth_material("knit", "1f5560", False), cloth_material("rib", "1d4f5a", True)], index,
             attributes={"rest": p, "ang": azimuth})
        self._camera_and_light()
        self._cycles(threads)

    def _head(self, neutral: Pose, albedo: str, rough: str) -> None:
        rig, faces, p = self.rig, self.faces, neutral.unturned
        n = np.arange(14034)
        uv = np.concatenate([rig.uvs[t[f != NO_VERTEX]] for f, t in zip(rig.faces[:14034], rig.face_uvs[:14034])])
        mouth = principled("mouth", Roughness=0.35, Base_Color="8a3a38")[0]
        self.skin = mesh("skin", p[SKIN], faces[:14034], [skin_material("skin", albedo, rough), skin_material("back"), mouth],
                         np.where(n < 9230, 0, np.where((n >= 11144) & (n < 13226), 2, 1)), uv,
                         {"rest": to_blender(rig.rest[SKIN]), "scalp": hair.scalp_mask(rig.rest[SKIN])})
        soft = {"Subsurface_Weight": 0.5}
        gums = principled("gums", Roughness=0.28, Base_Color="d0706c", Subsurface_Weight=0.6, Subsurface_Radius=(1, 0.3, 0.2), Subsurface_Scale=0.2)[0]
        tongue = principled("tongue", Roughness=0.34, Base_Color="e08a82", Subsurface_Radius=(1, 0.35, 0.25), Subsurface_Scale=0.2, **soft)[0]
        teeth = principled("teeth", Roughness=0.18, Base_Color="efe6d6", Subsurface_Radius=(0.6, 0.5, 0.4), Subsurface_Scale=0.15, Coat_Weight=0.3, **soft)[0]
        on_tongue = np.isin(np.arange(len(rig.rest)), rig.tongue)
        self.gums = mesh("gums", p[GUMS], [f - GUMS.start for f in faces[14034:17006]], [gums, tongue], [int(on_tongue[f].all()) for f in faces[14034:17006]])
        self.teeth = mesh("teeth", p[TEETH], [f - TEETH.start for f in faces[17006:21496]], [teeth])
        self.wet = mesh("lacrimal", p[LACRIMAL], [f - LACRIMAL.start for f in faces[24692:25018]], [clear_material("lacrimal", 0.06, 1.36)])
        self.eye = eyeball()
        iris, n_, l_, b_ = principled("eye", Roughness=0.35, Specular_IOR_Level=0.2)
        l_.new(attribute(n_, "ecol").outputs["Color"], b_.inputs["Base Color"])
        cornea = clear_material("cornea", 0.02, 1.40, 1.5)          # a boost of 2.4 would veil the pupil
        self.balls = [mesh(f"eye{k}", rig.eye_points(self.eye["ball"], k, neutral), self.eye["ball_faces"], [iris],
                           attributes={"ecol": self.eye["colour"]}) for k in (0, 1)]
        self.shells = [mesh(f"cornea{k}", rig.eye_points(self.eye["shell"], k, neutral), self.eye["shell_faces"], [cornea]) for k in (0, 1)]

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
        self.lash_eye = (np.arange(self.lash.count) >= self.lash.count // 2).astype(int)
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
        c.use_light_tree = False                       # 17 % faster with so few lights
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
            move(self.balls[k], rig.eye_points(self.eye["ball"], k, pose))
            move(self.shells[k], rig.eye_points(self.eye["shell"], k, pose))
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
