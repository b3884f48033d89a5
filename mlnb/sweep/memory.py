"""What DVC would read or write down again and again, kept in memory."""

from __future__ import annotations

import contextlib
import pickle
from collections.abc import Iterable, Iterator
from typing import Any


@contextlib.contextmanager
def states_in_memory() -> Iterator[None]:
    """Let DVC keep what it knows of files in memory, not in a database, while the block lasts."""
    from dvc_data.hashfile import state

    usual: Any = state.State

    class Memory(usual):  # type: ignore[misc]
        """What DVC knows of files."""

        def __init__(self, root_dir: str, tmp_dir: str, ignore: Any) -> None:
            super().__init__(root_dir, None, ignore)
            self.hashes: Any = _Hashes()

        def set_link(self, path: str, inode: int, mtime: str) -> None:
            """Note nothing: a link goes with its folder."""

        def close(self) -> None:
            self.hashes.clear()

    module: Any = state
    module.State = Memory
    try:
        yield
    finally:
        module.State = usual


class _Hashes(dict[str, str]):
    """Stands for the table of DVC's database."""

    def get_many(self, paths: Iterable[str]) -> Iterator[tuple[str, str | None]]:
        return ((path, self.get(path)) for path in paths)

    set_many = dict.update


class Parsed:
    """What YAML texts hold, kept by text; trials read the same few again and again."""

    def __init__(self) -> None:
        from dvc.utils.serialize import _yaml

        self._original = _yaml.parse_yaml
        self._known: dict[str, bytes] = {}

    def parse(self, text: Any, path: Any, typ: str = "safe") -> Any:
        """Stand for DVC's ``parse_yaml``."""
        if typ != "safe" or not isinstance(text, str):
            return self._original(text, path, typ)
        if text not in self._known:
            self.know(text, self._original(text, path, typ))
        return pickle.loads(self._known[text])

    def know(self, text: str, value: Any) -> None:
        """Take it that ``text`` holds ``value``."""
        self._known[text] = pickle.dumps(value)

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Let DVC ask here while the block lasts."""
        from dvc.utils import strictyaml
        from dvc.utils.serialize import _yaml

        modules = (_yaml, strictyaml)
        for module in modules:
            module.parse_yaml = self.parse
        try:
            yield
        finally:
            for module in modules:
                module.parse_yaml = self._original
