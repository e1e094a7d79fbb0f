"""Logs: one line each, to the standard error."""

import json
import logging
import sys
from datetime import UTC, datetime
from typing import Any


def configure_logs(level: str, form: str = "text") -> None:
    """Sends the logs of this process to the standard error.

    Args:
        level: DEBUG, INFO, WARNING or ERROR; from here upward.
        form: `text` for people, `json` for programs: an object a line, with the fields of the record's `fields`.
    """
    handler = logging.StreamHandler(sys.stderr)
    text = logging.Formatter("%(asctime)s %(levelname)s %(name)s: %(message)s")
    handler.setFormatter(_Json() if form == "json" else text)
    logging.basicConfig(level=level.upper(), handlers=[handler])


class _Json(logging.Formatter):
    """An object a line: time, level, logger, message, and what a record says in `fields`."""

    def format(self, record: logging.LogRecord) -> str:
        said: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info:
            said["exception"] = self.formatException(record.exc_info)
        return json.dumps(said, ensure_ascii=False, default=str)
