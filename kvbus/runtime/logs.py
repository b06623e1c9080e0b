"""One line of JSON on standard error for each thing that a node says, whichever library says it."""

from __future__ import annotations

import logging
import sys

import structlog


def configure_logs(node: str) -> None:
    """Send structlog's events and the standard library's records the same way; ``node`` names this one in both."""
    described: list[structlog.typing.Processor] = [
        structlog.processors.add_log_level,
        structlog.processors.TimeStamper(fmt="iso"),
        structlog.processors.format_exc_info,
    ]
    written = structlog.processors.JSONRenderer()

    def name_node(logger: object, method: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        return {"node": node, **event}

    structlog.configure(
        processors=[name_node, *described, written],
        logger_factory=structlog.PrintLoggerFactory(sys.stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, written],
            foreign_pre_chain=[name_node, structlog.stdlib.add_logger_name, *described],
        )
    )
    logging.basicConfig(level=logging.INFO, handlers=[handler])
    logging.getLogger("apscheduler").setLevel(logging.WARNING)
    # It warns of each request that is no HTTP: whoever sends many would fill the log.
    logging.getLogger("uvicorn").setLevel(logging.ERROR)
