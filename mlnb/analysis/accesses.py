"""Files that code reads and writes by a path written out in it.

Only paths that can be known without running count; ``literals`` says which those are.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from mlnb.analysis.literals import Known, known_paths, last_name, path_of
from mlnb.analysis.parsed import Parsed

# Calls by the last part of their name, with the place of the path among the arguments; a negative
# place means the object that the method is called on.
_READS = {
    **dict.fromkeys(
        (
            *("read_csv", "read_table", "read_parquet", "read_json", "read_excel", "read_feather"),
            *(
                "read_pickle",
                "read_orc",
                "read_hdf",
                "read_stata",
                "read_sas",
                "read_spss",
                "read_fwf",
            ),
            *("read_xml", "read_ipc", "read_ndjson", "read_avro", "read_file", "read_schema"),
            *("read_metadata", "scan_csv", "scan_parquet", "scan_ipc", "scan_ndjson", "load"),
            *(
                "loadtxt",
                "genfromtxt",
                "fromfile",
                "load_npz",
                "load_model",
                "load_weights",
                "imread",
            ),
            *("from_yaml", "ParquetFile", "ParquetDataset", "open_dataset", "open_dataarray"),
            *("load_workbook", "DMatrix", "listdir", "scandir"),
        ),
        0,
    ),
    **dict.fromkeys(("read_text", "read_bytes", "iterdir"), -1),
}
_WRITES = {
    **dict.fromkeys(
        (
            *("to_csv", "to_parquet", "to_json", "to_excel", "to_feather", "to_pickle", "to_hdf"),
            *("to_stata", "to_html", "to_latex", "to_markdown", "to_yaml", "to_file", "to_orc"),
            *("to_xml", "to_netcdf", "write_csv", "write_parquet", "write_ndjson", "write_ipc"),
            *("sink_parquet", "sink_csv", "write_html", "write_image", "write_json", "savefig"),
            *(
                "imsave",
                "savez",
                "savez_compressed",
                "savetxt",
                "save_npz",
                "tofile",
                "save_weights",
            ),
            *("export_model", "ParquetWriter", "ExcelWriter"),
        ),
        0,
    ),
    **dict.fromkeys(("write_table", "write_to_dataset", "write_feather", "dump"), 1),
    **dict.fromkeys(("write_text", "write_bytes", "touch"), -1),
}
_EITHER_PLACE = ("save", "save_model", "write_dataset")
"""Writers whose path comes first or second: ``np.save(path, x)``, ``torch.save(x, path)``."""
_COPIES = ("copy", "copy2", "copyfile", "copytree", "move")
_KEYWORDS = (
    *(
        "path",
        "filepath_or_buffer",
        "path_or_buf",
        "path_or_buffer",
        "io",
        "fname",
        "file",
        "filename",
    ),
    *(
        "filepath",
        "source",
        "where",
        "root_path",
        "excel_writer",
        "path_or_buf_or_name",
        "dst",
        "src",
    ),
)
_LOOSE = ("load", "dump", "save", "load_model", "save_model", "from_yaml")
"""Names so common that their argument must look like a path."""
_ELSEWHERE = re.compile(r"\w[\w+.-]+:/|:memory:")
_DEVICES = ("/dev/", "/proc/", "/sys/")

_SURE_ROOTS = (
    r"/(?:home|Users|mnt|tmp|root|Volumes|media|scratch|gpfs|lustre|dbfs|kaggle)/[^/\s][^\n]*"
)
_LIKELY_ROOTS = (
    r"/(?:data|datasets?|models?|var|opt|srv|content|work|workspace|private|storage)/"
    r"[^\s]*\.\w{1,8}"
)
_MACHINE_PATH = re.compile(
    rf"(?:{_SURE_ROOTS}|{_LIKELY_ROOTS}|~\w*/[^\s/][^\n]*|[A-Za-z]:[\\/][^\\/\n][^\n]*|\\\\\w+\\[^\n]+)"
)
_ROUTES = (
    "get",
    "post",
    "put",
    "patch",
    "delete",
    "route",
    "request",
    "websocket",
    "mount",
    "add_api_route",
)


@dataclass(frozen=True)
class Access:
    """One read or write of a known path.

    Attributes:
        path: as written.
        writes: whether it writes.
        call: what is called, such as ``pd.read_parquet``.
        cell: number of the cell.
        line: line in the cell.
    """

    path: str
    writes: bool
    call: str
    cell: int
    line: int


@dataclass(frozen=True)
class MachinePath:
    """An absolute path: it exists on the machine it was written on."""

    path: str
    cell: int
    line: int


def accesses(cells: Sequence[Parsed]) -> Iterator[Access]:
    """Yield each read and write of a known path, in order."""
    known = known_paths(cells)
    for parsed in cells:
        for node in parsed.nodes:
            if isinstance(node, ast.Call):
                for path, writes in _touched(node, known):
                    if path and not _ELSEWHERE.match(path) and not path.startswith(_DEVICES):
                        yield Access(
                            path, writes, ast.unparse(node.func), parsed.cell.number, node.lineno
                        )


def machine_paths(cells: Sequence[Parsed], opened: Sequence[Access]) -> Iterator[MachinePath]:
    """Yield each absolute path: those that calls open, and strings that look like one."""
    found = {MachinePath(a.path, a.cell, a.line) for a in opened if is_absolute(a.path)}
    for parsed in cells:
        aside = {id(node) for node in _prose(parsed)}
        for node in parsed.nodes:
            text = _text(node)
            if text and id(node) not in aside and _MACHINE_PATH.fullmatch(text):
                found.add(MachinePath(text, parsed.cell.number, getattr(node, "lineno", 0)))
    yield from sorted(found, key=lambda p: (p.cell, p.line, p.path))


def is_absolute(path: str) -> bool:
    """Whether ``path`` is absolute on any system, or relative to a person's home."""
    return path.startswith(("/", "~", "\\\\")) or bool(re.match(r"[A-Za-z]:[\\/]", path))


def _text(node: ast.AST) -> str:
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        return node.value
    if isinstance(node, ast.JoinedStr) and node.values:
        first = _text(node.values[0])
        return f"{first}..." if first and len(node.values) > 1 else first
    return ""


def _prose(parsed: Parsed) -> Iterator[ast.AST]:
    """Yield strings that are no paths: docstrings, web routes, parts of f-strings."""
    for node in parsed.nodes:
        if isinstance(node, ast.Expr):
            yield node.value
        elif isinstance(node, ast.JoinedStr):
            yield from node.values
        elif (
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in _ROUTES
        ):
            yield from node.args


# --- calls that open files ---------------------------------------------------------------------


def _touched(node: ast.Call, known: Known) -> Iterator[tuple[str | None, bool]]:
    """Yield (path, whether it is written) of what a call opens."""
    name = last_name(node.func)
    if name == "open":
        yield from _opened(node, known)
    elif name in _READS:
        yield _argument(node, _READS[name], known), False
    elif name in _WRITES:
        yield _argument(node, _WRITES[name], known), True
    elif name in _EITHER_PLACE:
        yield _argument(node, 0, known) or _argument(node, 1, known), True
    elif name in _COPIES and ast.unparse(node.func).startswith("shutil."):
        yield _argument(node, 0, known), False
        yield _argument(node, 1, known), True
    elif name in ("glob", "rglob"):
        yield _globbed(node, known), False


def _opened(node: ast.Call, known: Known) -> Iterator[tuple[str | None, bool]]:
    """Yield what ``open(path, mode)`` or ``Path(path).open(mode)`` opens."""
    on_path = isinstance(node.func, ast.Attribute) and path_of(node.func.value, known) is not None
    path = _argument(node, -1 if on_path else 0, known)
    keywords = {k.arg: k.value for k in node.keywords}
    place = 0 if on_path else 1
    mode = node.args[place] if len(node.args) > place else keywords.get("mode")
    text = mode.value if isinstance(mode, ast.Constant) and isinstance(mode.value, str) else "r"
    if re.fullmatch(r"[rwaxbtU+]*", text):
        yield path, any(letter in text for letter in "wax+")


def _globbed(node: ast.Call, known: Known) -> str | None:
    """Return the folder that ``glob.glob("data/*.csv")`` or ``Path("data").glob()`` looks in."""
    if isinstance(node.func, ast.Attribute) and (folder := path_of(node.func.value, known)):
        return folder
    pattern = _argument(node, 0, known)
    return re.split(r"[^/]*[*?\[]", pattern)[0].rstrip("/") if pattern else None


def _argument(node: ast.Call, place: int, known: Known) -> str | None:
    """Return the path among the arguments, if it can be known and is a path at all."""
    if place < 0:
        return path_of(node.func.value, known) if isinstance(node.func, ast.Attribute) else None
    keywords: Mapping[str | None, ast.expr] = {k.arg: k.value for k in node.keywords}
    given = node.args[place] if len(node.args) > place else None
    if given is None:
        given = next((keywords[name] for name in _KEYWORDS if name in keywords), None)
    path = path_of(given, known)
    if path and last_name(node.func) in _LOOSE and not re.fullmatch(r"[^:]*(/[^:]*|\.\w+)", path):
        return None
    return (
        path
        if path and "\n" not in path and not path.lstrip().startswith(("{", "[", "<"))
        else None
    )
