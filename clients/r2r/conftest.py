"""What the suite of R2R's client shares.

It drives any server that speaks R2R's `/v3`: AGENTFLOW_R2R_URL names it. Whoever asks is its
administrator.
"""

import inspect
import os
import uuid

import pytest
from r2r import R2RAsyncClient, R2RClient

URL = os.environ["AGENTFLOW_R2R_URL"].rstrip("/")
KINDS = {"sync": R2RClient, "async": R2RAsyncClient}


class Calls:
    """Either client; a call gives what it came to."""

    def __init__(self, client):
        self.client = client

    async def __call__(self, path, *args, **options):
        group, method = path.split(".")
        value = getattr(getattr(self.client, group), method)(*args, **options)
        return await value if inspect.isawaitable(value) else value


@pytest.fixture(params=list(KINDS))
async def call(request):
    client = KINDS[request.param](URL)
    yield Calls(client)
    if request.param == "async":
        await client.close()


@pytest.fixture
def word():
    """A word that no other test says."""
    return f"w{uuid.uuid4().hex}"
