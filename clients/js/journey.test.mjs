// The life of a durable agent, through the official JavaScript SDK.

import assert from "node:assert/strict";
import test from "node:test";
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.env.AGENTFLOW_URL });
const human = (text) => ({ messages: [{ role: "user", content: text }] });

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

test("stream, interrupt, resume, time travel, fork", async () => {
  const assistant = await client.assistants.create({ graphId: "approve" });
  const { thread_id: tid } = await client.threads.create();
  const aid = assistant.assistant_id;

  const parts = await collect(
    client.runs.stream(tid, aid, { input: { question: "?" }, streamMode: ["values", "updates"] }),
  );
  assert.equal(parts[0].event, "metadata");
  const asked = parts.filter((part) => part.data?.__interrupt__);
  assert.deepEqual(asked.at(-1).data.__interrupt__[0].value, { question: "ok?" });

  const state = await client.threads.getState(tid);
  assert.deepEqual(state.next, ["ask"]);

  const done = await client.runs.wait(tid, aid, { command: { resume: "yes" } });
  assert.equal(done.answer, "yes");

  const history = await client.threads.getHistory(tid, { limit: 20 });
  const before = history.find((snapshot) => snapshot.next[0] === "ask");
  const again = await client.runs.wait(tid, aid, {
    checkpoint: { checkpoint_id: before.checkpoint.checkpoint_id, checkpoint_ns: "" },
  });
  assert.deepEqual(again.__interrupt__[0].value, { question: "ok?" });
  const forked = await client.runs.wait(tid, aid, { command: { resume: "no" } });
  assert.equal(forked.answer, "no");
});

test("threads, runs, cancel, store", async () => {
  const { thread_id: tid } = await client.threads.create({ metadata: { from: "js" } });
  const out = await client.runs.wait(tid, "echo", { input: human("hi") });
  assert.equal(out.messages.at(-1).content, "echo: hi");

  const found = await client.threads.search({ metadata: { from: "js" } });
  assert.ok(found.some((thread) => thread.thread_id === tid));

  const run = await client.runs.create(tid, "slow", { input: { steps: 500, delay_ms: 20 } });
  await client.runs.cancel(tid, run.run_id, true);
  assert.equal((await client.runs.get(tid, run.run_id)).status, "interrupted");

  await client.store.putItem(["js"], "k", { v: 1 });
  assert.deepEqual((await client.store.getItem(["js"], "k")).value, { v: 1 });
});

test("tokens arrive as message tuples", async () => {
  const { thread_id: tid } = await client.threads.create();
  const input = { messages: [], value: "init", items: [] };
  const parts = await collect(
    client.runs.stream(tid, "agent", { input, streamMode: ["messages-tuple"] }),
  );
  const tokens = parts.filter((part) => part.event === "messages").map((part) => part.data[0]);
  const chunks = tokens.filter((token) => token.type === "AIMessageChunk");
  assert.equal(chunks.map((token) => token.content).join(""), "Hello, world!");
});
