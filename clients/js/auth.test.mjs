// The official JavaScript SDK against a server that lets nobody unknown in.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { generateKeyPairSync, sign } from "node:crypto";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { createInterface } from "node:readline";
import test, { after, before } from "node:test";
import { Client } from "@langchain/langgraph-sdk";

const ROOT = "bootstrap-key-for-the-client-tests";
const ISSUER = "https://id.example";
const { publicKey, privateKey } = generateKeyPairSync("ed25519");
const folder = mkdtempSync(join(tmpdir(), "agentflow-auth-"));
let server;
let apiUrl;

function token(changes = {}) {
  const b64 = (value) => Buffer.from(JSON.stringify(value)).toString("base64url");
  const exp = Math.floor(Date.now() / 1000) + 600;
  const claims = { iss: ISSUER, aud: "agentflow", sub: "ada", exp, ...changes };
  const message = `${b64({ alg: "EdDSA", kid: "one" })}.${b64(claims)}`;
  return `${message}.${sign(null, Buffer.from(message), privateKey).toString("base64url")}`;
}

async function makeKey(body) {
  const reply = await fetch(`${apiUrl}/admin/keys`, {
    method: "POST",
    headers: { "x-api-key": ROOT, "content-type": "application/json" },
    body: JSON.stringify({ name: "test", ...body }),
  });
  assert.equal(reply.status, 200);
  return (await reply.json()).key;
}

before(async () => {
  const jwks = join(folder, "jwks.json");
  const key = { ...publicKey.export({ format: "jwk" }), kid: "one", alg: "EdDSA" };
  writeFileSync(jwks, JSON.stringify({ keys: [key] }));
  const data = join(folder, "data");
  const args = ["--port", "0", "--data", data, "--bootstrap-key", ROOT];
  args.push("--issuer", ISSUER, "--jwks", jwks);
  server = spawn(process.env.AGENTFLOW_FIXTURE, args, { stdio: ["ignore", "pipe", "inherit"] });
  for await (const line of createInterface({ input: server.stdout })) {
    apiUrl = JSON.parse(line).api;
    break;
  }
});

after(() => {
  server.kill("SIGKILL");
  rmSync(folder, { recursive: true, force: true });
});

async function journey(client) {
  const { thread_id: tid } = await client.threads.create();
  const events = [];
  for await (const part of client.runs.stream(tid, "approve", { input: { question: "?" } })) {
    events.push(part.event);
  }
  assert.equal(events[0], "metadata");
  const done = await client.runs.wait(tid, "approve", { command: { resume: "yes" } });
  assert.equal(done.answer, "yes");
  await client.threads.delete(tid);
}

test("a key, a bearer and a token open", async () => {
  const key = await makeKey({ role: "user" });
  await journey(new Client({ apiUrl, apiKey: key }));
  for (const value of [`Bearer ${key}`, `Token ${key}`, `Bearer ${token()}`]) {
    await journey(new Client({ apiUrl, apiKey: "", defaultHeaders: { Authorization: value } }));
  }
});

test("who is not known, and who may not, is told so", async () => {
  const scoped = await makeKey({ scopes: ["assistants:read"] });
  const expired = token({ exp: 1 });
  for (const [options, status, text] of [
    [{ apiKey: "af_wrong" }, 401, "Invalid API key"],
    [{ apiKey: "", defaultHeaders: { Authorization: `Bearer ${expired}` } }, 401, "expired"],
    [{ apiKey: scoped }, 403, "threads:read"],
  ]) {
    const client = new Client({ apiUrl, ...options });
    await assert.rejects(client.threads.search(), (error) => {
      assert.equal(error.status, status, String(error));
      assert.match(String(error.message), new RegExp(text));
      return true;
    });
  }
});
