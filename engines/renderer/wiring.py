"""How the nodes of an ONNX graph hang together."""

from __future__ import annotations

import onnx

__all__ = ["Wiring"]


class Wiring:
    """Who makes and who reads each tensor of a model's graph, and its constants."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.makers = {o: n for n in self.graph.node for o in n.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in node.input:
                self.readers.setdefault(name, []).append(node)
        self.values = {i.name: i for i in self.graph.initializer}
