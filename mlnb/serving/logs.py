"""What a server says of itself: one JSON object in a line, and no data of users.

``time``, ``level``, ``event`` and the facts of the event; what belongs to a request has its
``request_id``. Lines go to standard error, or wherever :mod:`logging` is told to put those of the
logger ``mlnb.serving``.
"""

from __future__ import annotations

import json
import logging
import os
from datetime import UTC, datetime
from typing import Any

_logger = logging.getLogger("mlnb.serving")


class Lines(logging.Formatter):
    """Makes a line of JSON of each record, of other loggers' (such as uvicorn's), too."""

    def format(self, record: logging.LogRecord) -> str:
        """Return the line; an exception is named by its type, for its words may hold user data."""
        said = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            "event": record.getMessage(),
            "pid": os.getpid(),
            **getattr(record, "facts", {}),
        }
        if record.exc_info and record.exc_info[0]:
            said["exception"] = record.exc_info[0].__name__
        return json.dumps(said, default=str, ensure_ascii=False)


def configure(level: str = "info") -> None:
    """Write lines to standard error, once for each process; uvicorn's in the same form."""
    stream = logging.StreamHandler()
    stream.setFormatter(Lines())
    for name in ("mlnb.serving", "uvicorn"):
        logger = logging.getLogger(name)
        logger.handlers, logger.propagate = [stream], False
        logger.setLevel(level.upper())
    logging.getLogger("uvicorn.access").handlers = []


def info(event: str, **facts: Any) -> None:
    """Say what happened as it should."""
    _logger.info(event, extra={"facts": facts})


def warn(event: str, **facts: Any) -> None:
    """Say what somebody should look at some day."""
    _logger.warning(event, extra={"facts": facts})


def error(event: str, **facts: Any) -> None:
    """Say what somebody must look at now."""
    _logger.error(event, extra={"facts": facts})


def access(
    method: str, route: str, status: int, seconds: float, request_id: str, **facts: Any
) -> None:
    """Say that a request was answered; neither its body nor its query is told."""
    _logger.info(
        "answered",
        extra={
            "facts": {
                "method": method,
                "route": route,
                "status": status,
                "milliseconds": round(seconds * 1e3, 3),
                "request_id": request_id,
                **facts,
            }
        },
    )
