"""The API's table as an OpenAPI 3.1 document."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

import msgspec

from fleet.ask import Route

__all__ = ["document"]


def document(routes: Sequence[Route]) -> dict[str, Any]:
    """The whole document; schemas come from the structs of the rows."""
    types = [kind for route in routes for kind in (route.answer, route.body) if kind is not None]
    schemas, parts = msgspec.json.schema_components(types, ref_template="#/components/schemas/{name}")
    found = iter(schemas)
    paths: dict[str, Any] = {}
    for route in routes:
        answer = next(found) if route.answer is not None else None
        body = next(found) if route.body is not None else None
        paths.setdefault(route.path, {})[route.method.lower()] = _operation(route, answer, body)
    error = {"type": "object", "properties": {"error": {"type": "string"}}, "required": ["error"]}
    return {
        "openapi": "3.1.0",
        "info": {"title": "Visavis fleet controller", "version": "1"},
        "paths": paths,
        "components": {
            "schemas": {**parts, "Error": error},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
        "security": [{"token": []}],
    }


def _operation(route: Route, answer: Any, body: Any) -> dict[str, Any]:
    parameters = [
        {"name": name, "in": "path", "required": True, "schema": {"type": "string"}} for name in re.findall(r"{(\w+)}", route.path)
    ]
    if route.query is not None:
        schema = msgspec.json.schema(route.query)["$defs"][route.query.__name__]
        parameters += [
            {"name": name, "in": "query", "required": name in schema.get("required", ()), "schema": kind}
            for name, kind in schema["properties"].items()
        ]
    content = {"application/json": {"schema": answer}} if answer is not None else {}
    failed = {
        "description": "What is wrong, in one line",
        "content": {"application/json": {"schema": {"$ref": "#/components/schemas/Error"}}},
    }
    operation: dict[str, Any] = {
        "operationId": f"{route.method.lower()}_{re.sub(r'[^a-z]+', '_', route.path.removeprefix('/api/v1').lower()).strip('_')}",
        "summary": route.summary,
        "parameters": parameters,
        "responses": {"200": {"description": "Done", **({"content": content} if content else {})}, "400": failed},
    }
    if body is not None:
        operation["requestBody"] = {"required": True, "content": {"application/json": {"schema": body}}}
    if route.role is None:
        operation["security"] = []
    else:
        operation["x-role"] = route.role.value
        operation["responses"] |= {"401": failed, "403": failed}
    return operation
