# SPDX-License-Identifier: Apache-2.0
"""Blender materials of the presenter: skin, wet surfaces, hair, knit. Development only: imports bpy."""

from __future__ import annotations

from typing import Any

import bpy

from engines.studio.props import linear


def principled(name: str, **inputs: object) -> tuple[Any, Any, Any, Any]:
    """New material with a Principled BSDF; ``Base_Color="aabbcc"`` sets inputs. Returns material, nodes, links, bsdf."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    b = m.node_tree.nodes["Principled BSDF"]
    for key, value in inputs.items():
        b.inputs[key.replace("_", " ")].default_value = linear(value) if isinstance(value, str) else value
    return m, m.node_tree.nodes, m.node_tree.links, b


def attribute(nodes: Any, name: str) -> Any:
    """Attribute node."""
    a = nodes.new("ShaderNodeAttribute")
    a.attribute_name = name
    return a


def skin_material(name: str, albedo: str | None = None, rough: str | None = None, flat: str = "d09078") -> Any:
    """Random-walk skin; painted maps or a flat colour; dark under the hair; fine bump that sticks to the rest shape."""
    m, n, links, b = principled(
        name,
        Roughness=0.46,
        Subsurface_Weight=1.0,
        Subsurface_Radius=(1.0, 0.38, 0.22),
        Subsurface_Scale=0.32,
        Specular_IOR_Level=0.42,
        Coat_Weight=0.06,
        Coat_Roughness=0.28,
    )
    b.subsurface_method = "RANDOM_WALK"
    if albedo:
        for path, space, socket in ((albedo, "sRGB", None), (rough, "Non-Color", b.inputs["Roughness"])):
            t = n.new("ShaderNodeTexImage")
            t.image = bpy.data.images.load(path)
            t.image.colorspace_settings.name = space
            if socket:
                links.new(t.outputs[0], socket)
            else:
                base = t.outputs[0]
    else:
        rgb = n.new("ShaderNodeRGB")
        rgb.outputs[0].default_value = linear(flat)
        base = rgb.outputs[0]
    cover = n.new("ShaderNodeMath")
    cover.operation = "MULTIPLY"
    cover.inputs[1].default_value = 0.93
    links.new(attribute(n, "scalp").outputs["Fac"], cover.inputs[0])
    mix = n.new("ShaderNodeMix")
    mix.data_type = "RGBA"
    mix.inputs[7].default_value = linear("3a2116")
    links.new(cover.outputs[0], mix.inputs[0])
    links.new(base, mix.inputs[6])
    links.new(mix.outputs[2], b.inputs["Base Color"])
    rest = attribute(n, "rest")
    noise = n.new("ShaderNodeTexNoise")
    noise.inputs["Scale"].default_value = 3.2
    noise.inputs["Detail"].default_value = 3
    pores = n.new("ShaderNodeTexVoronoi")
    pores.inputs["Scale"].default_value = 7.0
    for t in (noise, pores):
        links.new(rest.outputs["Vector"], t.inputs["Vector"])
    add = n.new("ShaderNodeMath")
    add.operation = "MULTIPLY_ADD"
    add.inputs[1].default_value = 0.5
    links.new(pores.outputs["Distance"], add.inputs[0])
    links.new(noise.outputs[0], add.inputs[2])
    bump = n.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.10
    bump.inputs["Distance"].default_value = 0.12
    links.new(add.outputs[0], bump.inputs["Height"])
    links.new(bump.outputs[0], b.inputs["Normal"])
    return m


def clear_material(name: str, roughness: float, ior: float, boost: float = 1.0) -> Any:
    """Wet, clear surface without refraction: transparent plus glossy by Fresnel; casts no shadow. Free of noise."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    n, links = m.node_tree.nodes, m.node_tree.links
    n.remove(n["Principled BSDF"])
    transparent, glossy, fresnel = (n.new("ShaderNode" + k) for k in ("BsdfTransparent", "BsdfGlossy", "Fresnel"))
    glossy.inputs["Roughness"].default_value = roughness
    fresnel.inputs[0].default_value = ior
    scale, lit, both = (n.new("ShaderNodeMath") for _ in range(3))
    scale.operation, lit.operation, both.operation = "MULTIPLY", "SUBTRACT", "MULTIPLY"
    scale.inputs[1].default_value, scale.use_clamp, lit.inputs[0].default_value = boost, True, 1
    links.new(fresnel.outputs[0], scale.inputs[0])
    links.new(n.new("ShaderNodeLightPath").outputs["Is Shadow Ray"], lit.inputs[1])
    links.new(scale.outputs[0], both.inputs[0])
    links.new(lit.outputs[0], both.inputs[1])
    mix = n.new("ShaderNodeMixShader")
    for i, s in enumerate((both, transparent, glossy)):
        links.new(s.outputs[0], mix.inputs[i])
    links.new(mix.outputs[0], n["Material Output"].inputs[0])
    return m


def hair_material(name: str, melanin: float, redness: float) -> Any:
    """Principled hair by melanin."""
    m = bpy.data.materials.new(name)
    m.use_nodes = True
    n, links = m.node_tree.nodes, m.node_tree.links
    n.remove(n["Principled BSDF"])
    h = n.new("ShaderNodeBsdfHairPrincipled")
    h.parametrization = "MELANIN"
    for key, value in (
        ("Melanin", melanin),
        ("Melanin Redness", redness),
        ("Roughness", 0.32),
        ("Radial Roughness", 0.45),
        ("Random Color", 0.25),
        ("Random Roughness", 0.2),
        ("Coat", 0.0),
    ):
        h.inputs[key].default_value = value
    links.new(h.outputs[0], n["Material Output"].inputs[0])
    return m


def cloth_material(name: str, code: str, ribbed: bool) -> Any:
    """Knit with sheen; ``ribbed`` for the collar."""
    m, n, links, b = principled(name, Roughness=0.85, Base_Color=code, Sheen_Weight=0.35, Sheen_Roughness=0.4, Specular_IOR_Level=0.2)
    bump = n.new("ShaderNodeBump")
    bump.inputs["Strength"].default_value = 0.5 if ribbed else 0.35
    bump.inputs["Distance"].default_value = 0.15
    if ribbed:
        times, sine = n.new("ShaderNodeMath"), n.new("ShaderNodeMath")
        times.operation, sine.operation, times.inputs[1].default_value = "MULTIPLY", "SINE", 110
        links.new(attribute(n, "ang").outputs["Fac"], times.inputs[0])
        links.new(times.outputs[0], sine.inputs[0])
        links.new(sine.outputs[0], bump.inputs["Height"])
    else:
        weave = n.new("ShaderNodeTexNoise")
        weave.inputs["Scale"].default_value = 5.0
        weave.inputs["Detail"].default_value = 4
        links.new(attribute(n, "rest").outputs["Vector"], weave.inputs["Vector"])
        links.new(weave.outputs[0], bump.inputs["Height"])
    links.new(bump.outputs[0], b.inputs["Normal"])
    return m
