"""Control vector in, NV12 picture out: avatar packs and the renderers that draw them.

pack = load_pack(Path("engines/avatars/stock"))
face = select(pack).engine
face.set_background((20, 24, 32))
face.draw(face.idle, out, rung=0)
"""

from engines.renderer._select import open_face, select
from engines.renderer._types import PackError, Renderer, RendererError, Rung, Selection
from engines.renderer.idle import IdleLoop
from engines.renderer.onnx_runtime import OnnxRuntimeRenderer
from engines.renderer.pack import AvatarPack, load_pack

__all__ = [
    "AvatarPack",
    "IdleLoop",
    "OnnxRuntimeRenderer",
    "PackError",
    "Renderer",
    "RendererError",
    "Rung",
    "Selection",
    "load_pack",
    "open_face",
    "select",
]
