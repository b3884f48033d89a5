"""What goes wrong in a server: a request that is not right, or a server that cannot answer."""

from __future__ import annotations

from mlnb.errors import MlnbError


class RequestError(MlnbError):
    """A request that is not right: the caller can mend it.

    Args:
        what: what is wrong, in one sentence.
        status: of HTTP, 400 to 499.
        where: the row and the column, as ``row 3, column 'age'``.
        remedy: what to do.
    """

    def __init__(self, what: str, *, status: int = 400, where: str = "", remedy: str = "") -> None:
        self.status = status
        super().__init__(what, where=where, remedy=remedy)


class ServingError(MlnbError):
    """A server that cannot answer, or cannot start: nothing trusted to serve, no free port.

    Args:
        what: what is wrong, in one sentence.
        status: of HTTP, 500 to 599.
        where: a file, or an address.
        remedy: what to do.
    """

    exit_code = 1

    def __init__(self, what: str, *, status: int = 503, where: str = "", remedy: str = "") -> None:
        self.status = status
        super().__init__(what, where=where, remedy=remedy)
