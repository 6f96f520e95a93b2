"""The stages as Apache Beam batch pipelines: one file a stage, one folder a data set."""

import logging


def _is_news(record: logging.LogRecord) -> bool:
    """Beam says at import that Google's client libraries are missing; few users have them or need them."""
    return "apitools not found" not in str(record.msg)


logging.getLogger().addFilter(_is_news)
