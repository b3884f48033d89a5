"""The description of the routes by OpenAPI 3.1: what it allows is accepted, and nothing else is."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any

from mlnb import __version__
from mlnb.bundle.schema import Column, Schema
from mlnb.serving import protocols
from mlnb.serving.checks import takes_gaps, whole_limits
from mlnb.serving.settings import ServeSettings

LONGEST_LABEL = 1000
"""Characters of a label that is a text."""
Route = tuple[str, str]
"""Method and path."""


def document(
    schema: Schema, settings: ServeSettings, secured: Collection[Route], routes: Sequence[Route]
) -> dict[str, Any]:
    """Return the document.

    Args:
        schema: of the model.
        settings: limits of the server.
        secured: the routes that take a token.
        routes: all of them.
    """
    paths: dict[str, Any] = {}
    for method, path in routes:
        told = _operation(method, path, schema, settings)
        if (method, path) in secured:
            told["security"] = [{"token": []}]
            told["responses"] |= {"401": _error("No token."), "403": _error("Too low a role.")}
        paths.setdefault(path, {})[method.lower()] = told
    return {
        "openapi": "3.1.0",
        "info": {"title": settings.name, "version": __version__},
        "paths": paths,
        "components": {
            "schemas": {"Error": _ERROR, "Row": _row(schema, settings)["items"]},
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer"}},
        },
    }


def value(column: Column) -> dict[str, Any]:
    """Return the schema of a value of the column."""
    told: dict[str, Any]
    if column.kind == "boolean":
        told = {"type": "boolean"}
    elif column.kind == "integer":
        least, most = whole_limits(column)
        told = {"type": "integer", "minimum": least, "maximum": most}
    elif column.kind == "number":
        told = {"type": "number"}
        if column.dtype.lower() in _LARGEST:
            most_float = _LARGEST[column.dtype.lower()]
            told |= {"minimum": -most_float, "maximum": most_float}
    elif column.kind == "text":
        told = {"type": "string"}
    elif column.kind == "category":
        told = {"enum": list(column.values or ())}
    else:
        told = {"type": "string", "description": "A date, or a date and time, of ISO 8601."}
    if not takes_gaps(column):
        return told
    if "enum" in told:
        return {"enum": [*told["enum"], None]}
    return told | {"type": [told["type"], "null"]}


_LARGEST = {"float32": 3.4028234e38, "float16": 65504.0}
_ERROR = {
    "type": "object",
    "properties": {
        "error": {"type": "string"},
        "error_code": {"type": "string"},
        "request_id": {"type": "string"},
    },
    "required": ["error", "error_code", "request_id"],
    "additionalProperties": False,
}


def _error(what: str) -> dict[str, Any]:
    reference = {"schema": {"$ref": "#/components/schemas/Error"}}
    return {"description": what, "content": {"application/json": reference}}


def _answer(schema: dict[str, Any], kind: str = "application/json") -> dict[str, Any]:
    return {"description": "Done.", "content": {kind: {"schema": schema}}}


def _operation(method: str, path: str, schema: Schema, settings: ServeSettings) -> dict[str, Any]:
    """Return what one route takes and gives."""
    told: dict[str, Any] = {"responses": {"200": _answer({"type": "object"})}}
    if "{version}" in path:
        version = {"name": "version", "in": "path", "required": True, "schema": {"type": "string"}}
        told["parameters"] = [version]
        told["responses"]["404"] = _error("The version is not served.")
    if "ready" in path:
        told["responses"]["503"] = _error("No version is ready.")
    if path in ("/ping", "/health"):
        told["responses"]["200"] = {"description": "It lives."}
    elif path in ("/version", "/metrics"):
        told["responses"]["200"] = _answer({"type": "string"}, "text/plain")
    if method == "GET":
        return told
    content: dict[str, Any]
    if path == "/invocations":
        content = {
            "application/json": {"schema": _invocations(schema, settings)},
            "text/csv": {"schema": {"type": "string"}},
        }
        result = {"type": "array", "items": _SCORES}
        told["responses"]["200"] = _answer(_closed({"predictions": result}))
    elif path.endswith("/infer"):
        content = {"application/json": {"schema": _infer(schema, settings)}}
    elif path == "/feedback":
        content = {"application/json": {"schema": _feedback(settings)}}
    else:
        content = {"application/json": {"schema": _SHARE}}
        told["responses"]["409"] = _error("It is not the candidate, or was cut off.")
    told["requestBody"] = {"required": True, "content": content}
    told["responses"] |= {
        "400": _error("It is not what the protocol says."),
        "413": _error("It is too large."),
        "415": _error("It is of another content type."),
        "422": _error("A value is not what the schema says."),
        "503": _error("There is nothing to answer with, or too much to do."),
    }
    return told


_SCORES = {"anyOf": [{"type": "number"}, {"type": "array", "items": {"type": "number"}}]}
_SHARE = {
    "type": "object",
    "properties": {
        "share": {"type": "number", "minimum": 0, "maximum": 1},
        "step": {"type": "integer", "minimum": 0, "maximum": 2**31 - 1},
        "digest": {"type": "string"},
    },
    "required": ["share", "step", "digest"],
    "additionalProperties": False,
}


def _closed(properties: dict[str, Any], optional: dict[str, Any] | None = None) -> dict[str, Any]:
    return {
        "type": "object",
        "properties": properties | (optional or {}),
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: dict[str, Any], settings: ServeSettings) -> dict[str, Any]:
    return {"type": "array", "items": items, "minItems": 1, "maxItems": settings.rows}


def _row(schema: Schema, settings: ServeSettings) -> dict[str, Any]:
    """Return the schema of rows whose values are in the model's order."""
    width = len(schema.columns)
    row = {
        "type": "array",
        "prefixItems": [value(each) for each in schema.columns],
        "items": False,
        "minItems": width,
        "maxItems": width,
    }
    return _list(row, settings)


def _invocations(schema: Schema, settings: ServeSettings) -> dict[str, Any]:
    values = {each.name: value(each) for each in schema.columns}
    rows, records = _row(schema, settings), _list(_closed(values), settings)
    columns = {"const": schema.names}
    split = _closed({"data": rows}, {"columns": columns, "index": {"type": "array"}})
    lists = {name: _list(each, settings) for name, each in values.items()}
    for each in lists.values():
        each["maxItems"] = 1  # that all lists are of one length, JSON Schema cannot say
    inputs = {"anyOf": [rows, records, _closed(values), _closed(lists)]}
    return {
        "oneOf": [
            _closed({"dataframe_split": split}),
            _closed({"dataframe_records": records}),
            _closed({"instances": {"anyOf": [rows, records]}}),
            _closed({"inputs": inputs}),
        ]
    }


def _infer(schema: Schema, settings: ServeSettings) -> dict[str, Any]:
    """Return the schema of requests of one row; of more, the shape would be tied to the data."""
    tensors = [
        _closed(
            {
                "name": {"const": each.name},
                "shape": {"const": [1]},
                "datatype": {"const": protocols.datatype(each)},
                "data": {"type": "array", "items": value(each), "minItems": 1, "maxItems": 1},
            }
        )
        for each in schema.columns
    ]
    inputs = {
        "type": "array",
        "prefixItems": tensors,
        "items": False,
        "minItems": len(tensors),
        "maxItems": len(tensors),
    }
    output = _closed({"name": {"const": protocols.OUTPUT}})
    more = {
        "id": {"type": "string", "maxLength": 256},
        "outputs": {"type": "array", "items": output, "maxItems": 1},
    }
    return _closed({"inputs": inputs}, more)


def _feedback(settings: ServeSettings) -> dict[str, Any]:
    one = {"type": ["string", "number", "boolean"], "maxLength": LONGEST_LABEL}
    many = _list(one, settings)
    of = {"type": "string", "pattern": "^[A-Za-z0-9._:/+=-]{1,128}$"}
    return _closed({"request_id": of, "label": {"anyOf": [one, many]}})
