"""An object store for the tests here, and the small world of the stages' tests."""

from collections.abc import Iterator

import pytest

from tests.pipelines.conftest import _collect_little, _inspect_once, world  # noqa: F401 (fixtures)
from tests.stores.server import Store, running_store


@pytest.fixture(scope="package")
def _server() -> Iterator[Store]:
    yield from running_store()


@pytest.fixture
def store(_server: Store) -> Iterator[Store]:
    """A store with an empty bucket."""
    yield _server
    _server.empty()
