"""How the tests are given out to processes."""

import pytest


def pytest_configure(config: pytest.Config) -> None:
    """Files go out in their order: otherwise those with the fewest tests would be the last, which take longest.

    What is left at the end is `rag_core` with its many short files, so that all processes end together.
    """
    if config.pluginmanager.hasplugin("xdist"):
        config.option.loadscopereorder = False
