// Threads, assistants, store and streams through the official JavaScript SDK.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";
import { Client } from "@langchain/langgraph-sdk";

const client = new Client({ apiUrl: process.env.AGENTFLOW_URL });
const human = (text) => ({ messages: [{ role: "user", content: text }] });

async function collect(stream) {
  const parts = [];
  for await (const part of stream) parts.push(part);
  return parts;
}

test("a stream is resumed after the last event id", async () => {
  const { thread_id: tid } = await client.threads.create();
  const seen = await collect(
    client.runs.stream(tid, "echo", {
      input: human("x"),
      streamMode: ["updates", "values"],
      streamResumable: true,
    }),
  );
  const [run] = await client.runs.list(tid);
  const rest = await collect(
    client.runs.joinStream(tid, run.run_id, { lastEventId: seen[1].id }),
  );
  assert.deepEqual(rest, seen.slice(2));
});

test("state is updated, history forks", async () => {
  const { thread_id: tid } = await client.threads.create({ graphId: "approve" });
  await client.threads.updateState(tid, { values: { question: "by hand" }, asNode: "__start__" });
  assert.deepEqual((await client.threads.getState(tid)).next, ["ask"]);
  const asked = await client.runs.wait(tid, "approve", { input: null });
  assert.deepEqual(asked.__interrupt__[0].value, { question: "ok?" });
  const done = await client.runs.wait(tid, "approve", { command: { resume: 1 } });
  assert.deepEqual(done, { question: "by hand", answer: 1, log: ["ask", "done"] });
  const history = await client.threads.getHistory(tid, { limit: 50 });
  const before = history.find((snapshot) => snapshot.next[0] === "done");
  const fork = await client.threads.updateState(tid, {
    values: { answer: 2 },
    checkpoint: before.checkpoint,
    asNode: "ask",
  });
  const other = await client.runs.wait(tid, "approve", {
    input: null,
    checkpoint: fork.checkpoint,
  });
  assert.equal(other.answer, 2);
});

test("copies have their own future", async () => {
  const { thread_id: tid } = await client.threads.create();
  await client.runs.wait(tid, "echo", { input: human("shared") });
  const copy = await client.threads.copy(tid);
  await client.runs.wait(copy.thread_id, "echo", { input: human("mine") });
  const values = async (id) => (await client.threads.getState(id)).values;
  assert.equal((await values(tid)).n, 1);
  assert.equal((await values(copy.thread_id)).n, 2);
});

test("strategies for a busy thread", async () => {
  const { thread_id: tid } = await client.threads.create();
  const slow = { steps: 500, delay_ms: 10 };
  const first = await client.runs.create(tid, "slow", { input: slow });
  await assert.rejects(
    client.runs.create(tid, "slow", { input: slow, multitaskStrategy: "reject" }),
    /409/,
  );
  const last = await client.runs.create(tid, "slow", {
    input: { steps: 1, delay_ms: 0 },
    multitaskStrategy: "interrupt",
  });
  await client.runs.join(tid, last.run_id);
  assert.equal((await client.runs.get(tid, first.run_id)).status, "interrupted");
  assert.equal((await client.runs.get(tid, last.run_id)).status, "success");
});

test("stateless runs and batches", async () => {
  const out = await client.runs.wait(null, "echo", { input: human("alone") });
  assert.equal(out.messages.at(-1).content, "echo: alone");
  const payload = { assistantId: "echo", input: human("b") };
  assert.equal((await client.runs.createBatch([payload, payload])).length, 2);
});

test("assistants have versions", async () => {
  const { assistant_id: id } = await client.assistants.create({ graphId: "echo", name: "one" });
  await client.assistants.update(id, { name: "two" });
  const versions = await client.assistants.getVersions(id);
  assert.deepEqual(versions.map((found) => found.version), [2, 1]);
  assert.equal((await client.assistants.setLatest(id, 1)).name, "one");
  const graph = await client.assistants.getGraph(id);
  assert.ok(graph.nodes.some((node) => node.id === "echo"));
  await client.assistants.delete(id);
  await assert.rejects(client.assistants.get(id), /404/);
});

test("store and crons", async () => {
  const space = [randomUUID()];
  await client.store.putItem(space, "k", { color: "blue" });
  const found = await client.store.searchItems(space, { filter: { color: "blue" } });
  assert.deepEqual(found.items.map((item) => item.key), ["k"]);
  assert.deepEqual((await client.store.listNamespaces({ prefix: space })).namespaces, [space]);
  await client.store.deleteItem(space, "k");
  assert.deepEqual((await client.store.searchItems(space)).items, []);
  const cron = await client.crons.create("echo", { schedule: "0 0 1 1 *", input: human("x") });
  await client.crons.delete(cron.cron_id);
});
