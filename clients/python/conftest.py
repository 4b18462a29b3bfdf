"""Fixtures: the official client, pointed at the server in AGENTFLOW_URL."""

import os

import pytest
from langgraph_sdk import get_client, get_sync_client

URL = os.environ["AGENTFLOW_URL"]


@pytest.fixture
async def client():
    yield get_client(url=URL)


@pytest.fixture
def sync_client():
    return get_sync_client(url=URL)
