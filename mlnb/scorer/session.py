"""Sums of trees by ONNX Runtime, which is several times as fast for single rows.

The model that ONNX Runtime reads is made here of the arrays of the trees, when a scorer is loaded:
so what a bundle holds depends neither on a converter nor on whether ONNX Runtime is there. ONNX is
a message of Protocol Buffers (https://protobuf.dev/programming-guides/encoding); the numbers of its
fields are those of onnx.proto3, and the operator is TreeEnsemble of ai.onnx.ml, version 5
(https://onnx.ai/onnx/operators/onnx_aionnxml_TreeEnsemble.html).

ONNX Runtime must give the sums that numpy gives, for rows on and beside the thresholds of the
trees; else numpy computes them.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

from mlnb import imports
from mlnb.scorer.trees import Sums, Trees

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[Any]

_TOLERANCE = 5e-7
"""Half of what a compiled scorer may be off: absolute, and relative where sums are the answers."""

_PROBES = 256
_MOST_NODES = 1 << 20
"""ONNX Runtime's own copy of a forest of more nodes takes more memory than its speed is worth."""

_FLOAT, _UINT8, _DOUBLE = 1, 2, 11
_INT, _TENSOR, _INTS = 2, 4, 7
_AT_MOST = 0


def fast_sums(trees: Trees, width: int, plain: Sums) -> Sums | None:
    """Return the sums as ONNX Runtime computes them; None if it cannot, or does otherwise.

    Args:
        trees: the trees.
        width: how many columns the core takes.
        plain: what numpy computes.
    """
    import numpy as np

    copies = 1 if trees.targets is not None else trees.outputs
    if not len(trees.feature) or copies * len(trees.feature) > _MOST_NODES:
        return None
    try:
        onnxruntime = imports.onnxruntime()
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.log_severity_level = 4
        data = model(trees, width)
        session = onnxruntime.InferenceSession(data, options, providers=["CPUExecutionProvider"])
    except Exception:  # noqa: BLE001 - not installed, too old, or another reason: numpy computes it
        return None
    run = session._sess.run  # without a look at the names, which takes a microsecond

    kind = np.float32 if trees.single else np.float64

    def sums(rows: Array) -> Array:
        found: Array = run(["sums"], {"rows": rows.astype(kind, copy=False)}, None)[0]
        return found

    rows = _probes(trees, width)
    expected, found = plain(rows), sums(rows)
    scale = np.maximum(1.0, np.abs(expected)) if trees.link == "identity" else 1.0
    agree = bool((np.abs(found - expected) <= _TOLERANCE * scale).all())
    return sums if agree else None


def _probes(trees: Trees, width: int) -> Array:
    """Return rows on the thresholds of the trees, just above them, and with gaps if allowed."""
    import numpy as np

    kind = np.float32 if trees.single or trees.narrow else np.float64
    random = np.random.default_rng(0)
    rows = np.zeros((_PROBES, width), kind)
    for column in range(width):
        levels = np.unique(trees.threshold[trees.feature == column].astype(kind))
        if not len(levels):
            continue
        levels = np.concatenate([levels, np.nextafter(levels, np.array(np.inf, kind)), -levels])
        rows[:, column] = random.choice(levels[np.isfinite(levels)], _PROBES)
    if trees.takes != "finite":
        rows[random.random(rows.shape) < 0.1] = np.nan
    return rows


def model(trees: Trees, width: int) -> bytes:
    """Return the bytes of an ONNX model from ``rows`` [n, ``width``] to ``sums`` [n, o]."""
    kind = _FLOAT if trees.single else _DOUBLE
    node = _bytes(1, b"rows") + _bytes(2, b"sums")
    node += _bytes(4, b"TreeEnsemble") + _bytes(7, b"ai.onnx.ml")
    node += b"".join(_bytes(5, each) for each in _attributes(trees, kind))
    graph = _bytes(1, node) + _bytes(2, b"trees")
    graph += _bytes(11, _value(b"rows", kind, width))
    graph += _bytes(12, _value(b"sums", kind, trees.outputs))
    opsets = _bytes(8, _bytes(1, b"") + _number(2, 17))
    opsets += _bytes(8, _bytes(1, b"ai.onnx.ml") + _number(2, 5))
    return _number(1, 9) + _bytes(7, graph) + opsets


def _attributes(trees: Trees, kind: int) -> Iterable[bytes]:
    import numpy as np

    copies = 1 if trees.targets is not None else trees.outputs
    inner, count = len(trees.feature), len(trees.leaves)
    feature, threshold = trees.feature, trees.threshold
    left, right, gap_left, roots = trees.left, trees.right, trees.gap_left, trees.roots
    lone = np.flatnonzero(roots < 0)
    if len(lone):  # a tree of one leaf becomes a node with twice the same leaf
        left, right = (np.concatenate([each, roots[lone]]) for each in (left, right))
        feature, threshold, gap_left = (
            np.concatenate([each, np.zeros(len(lone), each.dtype)])
            for each in (feature, threshold, gap_left)
        )
        roots = roots.copy()
        roots[lone] = inner + np.arange(len(lone))
    inner = len(feature)
    shift = np.arange(copies)[:, None]

    def child(each: Array) -> Array:
        return np.where(each < 0, shift * count - 1 - each, shift * inner + each).ravel()

    def is_leaf(each: Array) -> Array:
        return np.tile(each < 0, copies)

    if trees.targets is not None:
        targets, first = _leaf_targets(trees)
        # The sum begins with the base, as that of numpy and XGBoost does.
        weights = trees.leaves[:, 0] + np.where(first, trees.base[targets], 0).astype(
            trees.leaves.dtype
        )
    else:
        targets, weights = np.repeat(np.arange(copies), count), trees.leaves.T.ravel()
    yield _ints(b"nodes_featureids", np.tile(feature, copies))
    yield _tensor(b"nodes_splits", np.tile(threshold, copies), kind)
    yield _tensor(b"nodes_modes", np.full(copies * inner, _AT_MOST), _UINT8)
    yield _ints(b"nodes_truenodeids", child(left))
    yield _ints(b"nodes_trueleafs", is_leaf(left))
    yield _ints(b"nodes_falsenodeids", child(right))
    yield _ints(b"nodes_falseleafs", is_leaf(right))
    yield _ints(b"nodes_missing_value_tracks_true", np.tile(gap_left, copies))
    yield _ints(b"tree_roots", (shift * inner + roots).ravel())
    yield _ints(b"leaf_targetids", targets)
    yield _tensor(b"leaf_weights", weights, kind)
    yield _bytes(1, b"n_targets") + _number(3, trees.outputs) + _number(20, _INT)


def _leaf_targets(trees: Trees) -> tuple[Array, Array]:
    """Return for each leaf [l] its output, and whether its tree is the first of that output."""
    import numpy as np

    assert trees.targets is not None
    target = np.zeros(len(trees.leaves), np.int64)
    first = np.zeros(len(trees.leaves), np.bool_)
    firsts = np.zeros(len(trees.roots), np.bool_)
    firsts[np.unique(trees.targets, return_index=True)[1]] = True
    level, tree = trees.roots, np.arange(len(trees.roots))
    while len(level):
        is_leaf = level < 0
        leaf = -1 - level[is_leaf]
        target[leaf], first[leaf] = trees.targets[tree[is_leaf]], firsts[tree[is_leaf]]
        level, tree = level[~is_leaf], np.concatenate([tree[~is_leaf]] * 2)
        level = np.concatenate([trees.left[level], trees.right[level]])
    return target, first


def _value(name: bytes, kind: int, width: int) -> bytes:
    shape = _bytes(1, _bytes(2, b"n")) + _bytes(1, _number(1, width))
    return _bytes(1, name) + _bytes(2, _bytes(1, _number(1, kind) + _bytes(2, shape)))


def _ints(name: bytes, values: Array) -> bytes:
    return _bytes(1, name) + _bytes(8, _packed(values)) + _number(20, _INTS)


def _packed(values: Array) -> bytes:
    """Return numbers below 2**35 as variable-length integers, one after the other."""
    import numpy as np

    parts = values.astype(np.int64)[:, None] >> np.arange(0, 35, 7)  # lowest seven bits first
    more = np.concatenate([parts[:, 1:], np.zeros((len(parts), 1), np.int64)], axis=1) > 0
    kept = np.concatenate([np.ones((len(parts), 1), np.bool_), more[:, :-1]], axis=1)
    data: bytes = ((parts & 0x7F) | np.where(more, 0x80, 0)).astype(np.uint8)[kept].tobytes()
    return data


def _tensor(name: bytes, values: Array, kind: int) -> bytes:
    import numpy as np

    types: dict[int, Any] = {_FLOAT: np.float32, _DOUBLE: np.float64, _UINT8: np.uint8}
    raw = values.astype(types[kind]).tobytes()
    tensor = _number(1, len(values)) + _number(2, kind) + _bytes(8, name) + _bytes(9, raw)
    return _bytes(1, name) + _bytes(5, tensor) + _number(20, _TENSOR)


def _number(field: int, value: int) -> bytes:
    return _varint(field << 3) + _varint(value)


def _bytes(field: int, value: bytes) -> bytes:
    return _varint(field << 3 | 2) + _varint(len(value)) + value


def _varint(value: int) -> bytes:
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)
