"""The protocols: how rows are read from requests, and answers rendered.

* MLflow's ``/invocations``: ``dataframe_split``, ``dataframe_records``, ``instances`` or
  ``inputs`` in JSON, or CSV with a line of names
  (https://mlflow.org/docs/latest/ml/deployment/deploy-model-locally).
* The Open Inference Protocol, version 2, in JSON: one tensor for each column, or one for all
  (https://github.com/kserve/open-inference-protocol).

Whatever the bytes are, the result is rows or a :class:`RequestError`. The values themselves are
looked at by ``checks``.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, NamedTuple, Protocol

import orjson

from mlnb.bundle.schema import Column, Schema
from mlnb.errors import did_you_mean
from mlnb.serving.errors import RequestError

OUTPUT = "predict"
"""Name of the one tensor of an answer."""
FORMS = ("dataframe_split", "dataframe_records", "instances", "inputs")
_NUMBER = re.compile(r"[+-]?(\d+(\.\d*)?|\.\d+)([eE][+-]?\d+)?", re.ASCII)
_TRUTHS = {"true": True, "True": True, "TRUE": True, "false": False, "False": False, "FALSE": False}


class Rows(NamedTuple):
    """What a request asks for.

    Attributes:
        columns: names of the values in a row; None if they are in the model's order.
        rows: of plain values.
        id: that the client gave its request in the body; empty if none.
    """

    columns: Sequence[str] | None
    rows: Sequence[Sequence[Any]]
    id: str = ""


class Answered(Protocol):
    """What the protocols need of an answer.

    Attributes:
        scores: [n] or [n, k], an array of 64-bit floats.
        version: that computed them.
    """

    @property
    def scores(self) -> Any:
        """The scores."""

    @property
    def version(self) -> int:
        """The version."""


def parse_json(body: bytes) -> Any:
    """Return the JSON value in ``body``.

    Raises:
        RequestError: it is none; NaN, infinity and more than 1,024 levels are none either.
    """
    try:
        return orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise RequestError(f"the body is not JSON: {error}") from None


def read_invocations(body: bytes, kind: str, schema: Schema, most: int) -> Rows:
    """Return the rows in a request of MLflow's protocol.

    Args:
        body: of the request.
        kind: its content type.
        schema: of the model; CSV has no types of its own.
        most: rows that it may hold.

    Raises:
        RequestError: it is none.
    """
    media, _, rest = kind.partition(";")
    media = media.strip().lower()
    if "charset" in rest and "utf-8" not in rest.lower():
        raise RequestError(f"the text must be UTF-8, not {rest.strip()!r}", status=415)
    if media == "text/csv":
        return _limited(_csv(body, schema, most), most)
    if media != "application/json":
        raise RequestError(
            f"the content type must be application/json or text/csv, not {media or 'missing'!r}",
            status=415,
        )
    told = parse_json(body)
    if type(told) is not dict or len(told) != 1 or next(iter(told)) not in FORMS:
        raise RequestError(
            f"the body must be an object with one of {', '.join(FORMS)}, and nothing else",
            remedy='For example {"dataframe_split": {"columns": ["a"], "data": [[1]]}}.',
        )
    form, content = next(iter(told.items()))
    return _limited(_READ[form](content), most)


def read_infer(body: bytes, names: Sequence[str], most: int) -> Rows:
    """Return the rows in a request of the Open Inference Protocol.

    Args:
        body: of the request.
        names: the columns that the model takes, in order.
        most: rows that it may hold.

    Raises:
        RequestError: it is none.
    """
    told = parse_json(body)
    _fields(told, "the body", ("inputs",), ("id", "parameters", "outputs"))
    name, inputs = told.get("id", ""), told["inputs"]
    if type(name) is not str or len(name) > 256:
        raise RequestError("'id' must be a text of at most 256 characters")
    _parameters(told, "the body")
    _outputs(told.get("outputs"))
    if type(inputs) is not list or not inputs:
        raise RequestError("'inputs' must be a list of tensors")
    tensors = [_tensor(each, f"inputs[{at}]", most) for at, each in enumerate(inputs)]
    if len(tensors) == 1 and tensors[0].width is not None and tensors[0].name not in names:
        wide = tensors[0]
        if wide.width != len(names):
            raise RequestError(
                f"has {wide.width} columns; the model takes {len(names)}", where="inputs[0]"
            )
        count, width, data = wide.rows, len(names), wide.data
        rows = [data[at * width : (at + 1) * width] for at in range(count)]
        return _limited(Rows(None, rows, name), most)
    for at, each in enumerate(tensors):
        if each.width not in (None, 1) or each.rows != tensors[0].rows:
            raise RequestError(
                f"has shape {each.shape}: each column is a tensor of [n] or [n, 1], and n is the"
                " same for all",
                where=f"inputs[{at}]",
            )
    columns = list(zip(*(each.data for each in tensors), strict=True))
    return _limited(Rows([each.name for each in tensors], columns, name), most)


def render_predictions(answer: Answered) -> bytes:
    """Return the answer as MLflow gives it."""
    return orjson.dumps({"predictions": answer.scores}, option=orjson.OPT_SERIALIZE_NUMPY)


def render_infer(answer: Answered, name: str, id: str) -> bytes:
    """Return the answer of the Open Inference Protocol."""
    tensor = {
        "name": OUTPUT,
        "shape": list(answer.scores.shape),
        "datatype": "FP64",
        "data": answer.scores.reshape(-1),
    }
    told = {
        "model_name": name,
        "model_version": str(answer.version),
        "id": id,
        "outputs": [tensor],
    }
    return orjson.dumps(told, option=orjson.OPT_SERIALIZE_NUMPY)


def datatype(column: Column) -> str:
    """Return the Open Inference Protocol's name of a column's type."""
    if column.kind == "category":
        kinds = {type(each) for each in column.values or ()}
        return {bool: "BOOL", int: "INT64", float: "FP64"}.get(next(iter(kinds), str), "BYTES")
    if column.kind == "integer":
        return "UINT64" if column.dtype.lower() == "uint64" else "INT64"
    return {"boolean": "BOOL", "number": "FP64"}.get(column.kind, "BYTES")


def _limited(found: Rows, most: int) -> Rows:
    if not found.rows:
        raise RequestError("holds no row")
    if len(found.rows) > most:
        raise RequestError(
            f"holds {len(found.rows)} rows, more than {most}",
            status=413,
            remedy="Send them in several requests.",
        )
    return found


def _split(content: Any) -> Rows:
    _fields(content, "dataframe_split", ("data",), ("columns", "index"))
    columns, rows = content.get("columns"), content["data"]
    if columns is not None:
        _names(columns, "columns")
    return Rows(columns, _lists(rows, "data"))


def _records(content: Any, what: str = "dataframe_records") -> Rows:
    if type(content) is not list:
        raise RequestError(f"{what} must be a list of objects")
    if not content:
        return Rows(None, [])
    columns: tuple[str, ...] = ()
    rows: list[list[Any]] = []
    for number, record in enumerate(content):
        if type(record) is not dict:
            raise RequestError("must be an object, as column and value", where=f"row {number}")
        if not rows:
            columns = tuple(record)
        if tuple(record) == columns:
            rows.append(list(record.values()))
        elif record.keys() == set(columns):
            rows.append([record[name] for name in columns])
        else:
            odd = sorted(record.keys() ^ set(columns))[0]
            raise RequestError(
                f"{'has' if odd in record else 'lacks'} the column {odd[:60]!r}, unlike row 0",
                status=422,
                where=f"row {number}",
            )
    return Rows(columns, rows)


def _instances(content: Any, what: str = "instances") -> Rows:
    if type(content) is list and content and type(content[0]) is dict:
        return _records(content, what)
    return Rows(None, _lists(content, what))


def _inputs(content: Any) -> Rows:
    if type(content) is not dict:
        return _instances(content, "inputs")
    columns = list(content)
    values = list(content.values())
    if not any(type(each) is list for each in values):
        return Rows(columns, [values] if values else [])
    for name, each in content.items():
        if type(each) is not list or len(each) != len(values[0]):
            raise RequestError(
                "each column must be a list, all of one length", where=f"column {name[:60]!r}"
            )
    return Rows(columns, list(zip(*values, strict=True)))


_READ: Mapping[str, Callable[[Any], Rows]] = {
    "dataframe_split": _split,
    "dataframe_records": _records,
    "instances": _instances,
    "inputs": _inputs,
}


def _csv(body: bytes, schema: Schema, most: int) -> Rows:
    try:
        text = body.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise RequestError(f"the body is not UTF-8: {error.reason} at byte {error.start}") from None
    lines = csv.reader(io.StringIO(text, newline=""), strict=True)
    kinds = {each.name: each for each in schema.columns}
    rows: list[list[Any]] = []
    try:
        columns = next(lines, [])
        wanted = [kinds.get(name) for name in columns]
        for row in lines:
            if not row:
                continue  # a line without anything
            where = f"row {len(rows)}"
            if len(row) != len(columns):
                raise RequestError(
                    f"has {len(row)} values for {len(columns)} columns", status=422, where=where
                )
            rows.append([_read_text(*pair, where) for pair in zip(row, wanted, strict=True)])
            if len(rows) > most:
                break
    except csv.Error as error:
        raise RequestError(f"the body is not CSV: {error}") from None
    return Rows(columns, rows)


def _read_text(text: str, column: Column | None, where: str) -> Any:
    """Return the value that a text of CSV means in its column; a gap is empty."""
    if not text:
        return None
    kind = column.kind if column else "text"
    if column and kind == "category":
        known = {str(label): label for label in column.values or ()}
        return known.get(text, text)
    if kind == "boolean":
        return _TRUTHS.get(text, text)
    if kind in ("integer", "number") and _NUMBER.fullmatch(text):
        if len(text) < 20 and text.lstrip("+-").isdecimal():
            return int(text)
        found = float(text)
        if not math.isfinite(found):
            assert column
            raise RequestError(
                "is too large for a number", status=422, where=f"{where}, column {column.name!r}"
            )
        return found
    return text


class _Tensor(NamedTuple):
    name: str
    shape: list[int]
    data: list[Any]

    @property
    def rows(self) -> int:
        return self.shape[0]

    @property
    def width(self) -> int | None:
        return self.shape[1] if len(self.shape) == 2 else None


_INTEGERS = {f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)}
_TYPES: Mapping[str, tuple[type, ...]] = {
    "BOOL": (bool,),
    "BYTES": (str,),
    **dict.fromkeys(sorted(_INTEGERS), (int, float)),
    **dict.fromkeys(("FP16", "FP32", "FP64"), (int, float)),
}


def _tensor(told: Any, where: str, most: int) -> _Tensor:
    _fields(told, where, ("name", "shape", "datatype", "data"), ("parameters",))
    _parameters(told, where)
    name, shape, data = told["name"], told["shape"], told["data"]
    if type(name) is not str:
        raise RequestError("'name' must be a text", where=where)
    if (
        type(shape) is not list
        or len(shape) not in (1, 2)
        or not all(type(each) is int and each >= 0 for each in shape)
    ):
        raise RequestError("'shape' must be [n] or [n, columns]", where=where)
    if shape[0] > most:
        raise RequestError(f"holds {shape[0]} rows, more than {most}", status=413, where=where)
    types = _TYPES.get(told["datatype"]) if type(told["datatype"]) is str else None
    if types is None:
        raise RequestError(f"'datatype' must be one of {', '.join(_TYPES)}", where=where)
    whole = told["datatype"] in _INTEGERS
    if type(data) is not list:
        raise RequestError("'data' must be a list", where=where)
    if len(shape) == 2 and data and all(type(each) is list for each in data):
        if len(data) != shape[0] or any(len(each) != shape[1] for each in data):
            raise RequestError(f"'data' does not have the shape {shape}", where=where)
        data = [value for row in data for value in row]
    if len(data) != math.prod(shape):
        raise RequestError(f"'data' has {len(data)} values for the shape {shape}", where=where)
    for at, value in enumerate(data):
        wrong = type(value) not in types and value is not None
        # In JSON, 1.0 is as whole as 1.
        if wrong or (whole and type(value) is float and not value.is_integer()):
            raise RequestError(f"'data' is not {told['datatype']} at {at}", status=422, where=where)
    return _Tensor(name, shape, data)


def _outputs(told: Any) -> None:
    if told is None:
        return
    if type(told) is not list:
        raise RequestError("'outputs' must be a list")
    for at, each in enumerate(told):
        where = f"outputs[{at}]"
        _fields(each, where, ("name",), ("parameters",))
        _parameters(each, where)
        if each["name"] != OUTPUT:
            raise RequestError(f"the only output is {OUTPUT!r}", where=where)


def _parameters(told: Mapping[str, Any], where: str) -> None:
    """Refuse parameters that change what is meant; others are hints for other servers."""
    found = told.get("parameters", {})
    if type(found) is not dict:
        raise RequestError("'parameters' must be an object", where=where)
    for name in ("binary_data_size", "binary_data", "binary_data_output"):
        if found.get(name):
            raise RequestError("tensors in binary are not taken; send JSON", where=where)


def _fields(told: Any, where: str, needed: Sequence[str], allowed: Sequence[str]) -> None:
    if type(told) is not dict:
        raise RequestError("must be an object", where=where)
    for name in needed:
        if name not in told:
            raise RequestError(f"lacks {name!r}", where=where)
    for name in told:
        if name not in needed and name not in allowed:
            hint = did_you_mean(name[:60], [*needed, *allowed])
            raise RequestError(f"has {name[:60]!r}, which is unknown.{hint}", where=where)


def _names(told: Any, what: str) -> None:
    if type(told) is not list or not {*map(type, told)} <= {str}:
        raise RequestError(f"{what!r} must be a list of texts")


def _lists(told: Any, what: str) -> list[list[Any]]:
    if type(told) is not list:
        raise RequestError(f"{what!r} must be a list of rows")
    for number, row in enumerate(told):
        if type(row) is not list:
            raise RequestError("must be a list of values", where=f"row {number}")
    return told
