"""What user code logs, told to the server."""

import logging

from agentflow_worker.errors import clean
from agentflow_worker.link import Link
from agentflow_worker.scope import current

_MESSAGE_CHARS = 16 * 1024
_LEVELS = ((logging.ERROR, "error"), (logging.WARNING, "warning"), (logging.INFO, "info"))


class LinkHandler(logging.Handler):
    """Sends records to the server, with the request they belong to."""

    def __init__(self, link: Link) -> None:
        super().__init__()
        self._link = link
        self.setFormatter(logging.Formatter("%(message)s"))

    def emit(self, record: logging.LogRecord) -> None:
        try:
            scope = current.get()
            self._link.notify(
                "log",
                {
                    "for": None if scope is None else scope.call_id,
                    "level": _level(record.levelno),
                    "target": clean(record.name),
                    "message": clean(self.format(record))[:_MESSAGE_CHARS],
                },
            )
        except Exception:
            self.handleError(record)


def _level(number: int) -> str:
    for least, name in _LEVELS:
        if number >= least:
            return name
    return "debug"


def install(link: Link) -> None:
    """Sends the records of all loggers, unless the project set up logging for itself."""
    root = logging.getLogger()
    if not root.handlers:
        root.addHandler(LinkHandler(link))
