"""The official client against a server that lets nobody unknown in: keys, tokens, tenants."""

import asyncio
import base64
import contextlib
import json
import os
import signal
import subprocess
import time

import httpx
import langgraph_sdk
import pytest
from Crypto.Hash import SHA256
from Crypto.PublicKey import RSA
from Crypto.Signature import pkcs1_15
from langgraph_sdk import get_client, get_sync_client

ROOT = "bootstrap-key-for-the-client-tests"
ISSUER = "https://id.example"


def b64(data):
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def number(n):
    return b64(n.to_bytes((n.bit_length() + 7) // 8, "big"))


class Provider:
    """An identity provider: one RSA key, and tokens signed with it."""

    def __init__(self):
        self.key = RSA.generate(2048)

    def jwks(self):
        key = {"kty": "RSA", "kid": "one", "alg": "RS256", "use": "sig"}
        return {"keys": [key | {"n": number(self.key.n), "e": number(self.key.e)}]}

    def token(self, **changes):
        claims = {"iss": ISSUER, "aud": "agentflow", "sub": "ada", "exp": int(time.time()) + 600}
        claims = {k: v for k, v in (claims | changes).items() if v is not None}
        head = {"alg": "RS256", "typ": "JWT", "kid": "one"}
        message = ".".join(b64(json.dumps(part).encode()) for part in (head, claims))
        signature = pkcs1_15.new(self.key).sign(SHA256.new(message.encode()))
        return f"{message}.{b64(signature)}"


@pytest.fixture(scope="module")
def provider():
    return Provider()


@pytest.fixture(scope="module")
def url(tmp_path_factory, provider):
    """A server on SQLite whose doors are guarded."""
    folder = tmp_path_factory.mktemp("guarded")
    jwks = folder / "jwks.json"
    jwks.write_text(json.dumps(provider.jwks()))
    command = [os.environ["AGENTFLOW_FIXTURE"], "--port", "0", "--data", str(folder / "data")]
    command += ["--bootstrap-key", ROOT, "--issuer", ISSUER, "--jwks", str(jwks)]
    server = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        yield json.loads(server.stdout.readline())["api"]
    finally:
        server.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            server.wait(20)
        server.kill()


def admin(url, method, path, body=None):
    reply = httpx.request(method, f"{url}{path}", json=body, headers={"x-api-key": ROOT})
    assert reply.status_code < 300, reply.text
    return reply.json() if reply.content else None


def make_key(url, **more):
    return admin(url, "POST", "/admin/keys", {"name": "test", **more})


@pytest.fixture(scope="module")
def key(url):
    return make_key(url, role="user")["key"]


async def journey(client):
    """What an application does with the client."""
    found = await client.assistants.search()
    assert any(assistant["graph_id"] == "approve" for assistant in found)
    thread = await client.threads.create(metadata={"by": "test_auth"})
    tid = thread["thread_id"]
    events = [part async for part in client.runs.stream(tid, "approve", input={"question": "?"})]
    assert events[0].event == "metadata"
    state = await client.threads.get_state(tid)
    assert state["next"] == ["ask"]
    done = await client.runs.wait(tid, "approve", command={"resume": "yes"})
    assert done["answer"] == "yes"
    assert len(await client.threads.get_history(tid)) > 2
    await client.store.put_item(["notes"], "one", {"text": "hello"})
    item = await client.store.get_item(["notes"], key="one")
    assert item["value"] == {"text": "hello"}
    cron = await client.crons.create("approve", schedule="0 0 1 1 *", input={})
    await client.crons.delete(cron["cron_id"])
    await client.threads.delete(tid)


async def test_an_api_key_opens_everything_that_its_role_allows(url, key):
    await journey(get_client(url=url, api_key=key))


async def test_a_key_may_also_be_a_bearer(url, key):
    for scheme in ("Bearer", "Token"):
        # The key of another service, as it is found in many environments.
        client = get_client(url=url, api_key="lsv2_x", headers={"Authorization": f"{scheme} {key}"})
        await journey(client)


async def test_a_token_of_the_provider_opens(url, provider):
    headers = {"Authorization": f"Bearer {provider.token()}"}
    await journey(get_client(url=url, api_key=None, headers=headers))


async def test_the_run_knows_who_asks(url, provider):
    headers = {"Authorization": f"Bearer {provider.token(sub='grace')}"}
    client = get_client(url=url, api_key=None, headers=headers)
    run = await client.runs.create(None, "approve", input={})
    configurable = run["kwargs"]["config"]["configurable"]
    assert configurable["langgraph_auth_user_id"] == "grace"
    assert configurable["langgraph_auth_user"]["identity"] == "grace"
    assert "threads:read" in configurable["langgraph_auth_permissions"]


def refused(client, error, text):
    with pytest.raises(error) as caught:
        client.threads.search()
    assert text in str(caught.value), caught.value
    return caught.value


def test_wrong_keys_are_told_so(url):
    for wrong in ("", "af_wrong", "af_" + "x" * 43):
        client = get_sync_client(url=url, api_key=wrong or None)
        refused(client, langgraph_sdk.errors.AuthenticationError, "API key" if wrong else "Missing")


def test_expired_and_revoked_keys_are_told_so(url):
    made = make_key(url)
    client = get_sync_client(url=url, api_key=made["key"])
    client.threads.search()
    admin(url, "DELETE", f"/admin/keys/{made['key_id']}")
    refused(client, langgraph_sdk.errors.AuthenticationError, "revoked")

    soon = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 2))
    client = get_sync_client(url=url, api_key=make_key(url, expires_at=soon)["key"])
    client.threads.search()
    deadline = time.monotonic() + 20
    while time.monotonic() < deadline:
        try:
            client.threads.search()
        except langgraph_sdk.errors.AuthenticationError as error:
            assert "expired" in str(error)
            return
    raise AssertionError("the key did not expire")


def test_a_key_is_bound_by_its_scopes(url):
    made = make_key(url, scopes=["threads:read", "assistants:read"])
    client = get_sync_client(url=url, api_key=made["key"])
    client.threads.search()
    client.assistants.search()
    denied = langgraph_sdk.errors.PermissionDeniedError
    for call, permission in [
        (lambda: client.threads.create(), "threads:write"),
        (lambda: client.runs.create(None, "approve"), "runs:write"),
        (lambda: client.store.put_item(["a"], "b", {}), "store:write"),
        (lambda: client.crons.search(), "crons:read"),
    ]:
        with pytest.raises(denied) as caught:
            call()
        assert permission in str(caught.value)


def test_wrong_tokens_are_told_so(url, provider):
    error = langgraph_sdk.errors.AuthenticationError
    for token, text in [
        (provider.token(exp=int(time.time()) - 120), "expired"),
        (provider.token(exp=None), "lacks"),
        (provider.token(nbf=int(time.time()) + 600), "not valid yet"),
        (provider.token(aud="other"), "audience"),
        (provider.token(iss="https://evil.example"), "issuer"),
        (Provider().token(), "signature"),
    ]:
        headers = {"Authorization": f"Bearer {token}"}
        refused(get_sync_client(url=url, api_key=None, headers=headers), error, text)


async def test_tenants_do_not_meet(url):
    admin(url, "POST", "/admin/tenants", {"tenant": "acme"})
    theirs = get_client(url=url, api_key=make_key(url, tenant="acme")["key"])
    ours = get_client(url=url, api_key=make_key(url)["key"])
    await journey(theirs)
    thread = await theirs.threads.create(metadata={"secret": "plan"})
    tid = thread["thread_id"]
    await theirs.runs.wait(tid, "approve", input={"question": "secret"})
    assert await ours.threads.search(metadata={"secret": "plan"}) == []
    missing = langgraph_sdk.errors.NotFoundError
    for call in (
        ours.threads.get(tid),
        ours.threads.get_state(tid),
        ours.threads.get_history(tid),
        ours.runs.list(tid),
        ours.runs.wait(tid, "approve", command={"resume": "x"}),
        ours.threads.delete(tid),
    ):
        # The SDK raises what httpx has where it reads a result as it comes.
        with pytest.raises((missing, httpx.HTTPStatusError)) as caught:
            await call
        assert caught.value.response.status_code == 404
    assert (await theirs.threads.get(tid))["thread_id"] == tid


async def test_many_at_once_are_who_they_are(url):
    keys = [make_key(url, principal=f"user {n}")["key"] for n in range(8)]

    async def me(key):
        client = get_client(url=url, api_key=key)
        run = await client.runs.create(None, "approve", input={})
        return run["kwargs"]["config"]["configurable"]["langgraph_auth_user_id"]

    assert await asyncio.gather(*map(me, keys)) == [f"user {n}" for n in range(8)]
