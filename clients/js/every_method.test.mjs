// Every public method of the JavaScript SDK. They are enumerated from the SDK, so that one that is
// new, or gone, fails here. It works against any server that has the graphs of the fixture server:
// AGENTFLOW_URL, and AGENTFLOW_API_KEY where one is wanted. With AGENTFLOW_PEER_URL a second process
// of the same deployment takes every other request and every other WebSocket.
//
// Each kind of deployment writes its own column of the table in docs/compatibility.md.

import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createRequire } from "node:module";
import { readFileSync } from "node:fs";
import test from "node:test";
import { Client } from "@langchain/langgraph-sdk";
import { WebSocket } from "ws";
import { cells, section, updates } from "./documented.mjs";

// Requests go to these in turn.
const SERVERS = [process.env.AGENTFLOW_URL, process.env.AGENTFLOW_PEER_URL].filter(Boolean);
const DEPLOYMENTS = ["one process", "two processes"];
const HERE = DEPLOYMENTS[SERVERS.length - 1];
let turns = 0;

/** The same address at the server whose turn it is. */
function turned(address) {
  const url = new URL(address);
  const { host } = new URL(SERVERS[turns++ % SERVERS.length]);
  url.host = host;
  return url;
}

const plainFetch = globalThis.fetch;
globalThis.fetch = (address, options) => plainFetch(turned(address), options);

const apiUrl = process.env.AGENTFLOW_URL;
const apiKey = process.env.AGENTFLOW_API_KEY ?? null;
const client = new Client({ apiUrl, apiKey });
// The SDK refuses to open a WebSocket for a client that has a key, because browsers cannot show it
// there. Elsewhere a factory may, for a client without.
const keyless = new Client({ apiUrl, apiKey: null });
const headers = apiKey ? { "x-api-key": apiKey } : {};
const webSocketFactory = (address) => new WebSocket(turned(address), { headers });
const human = (text) => ({ messages: [{ role: "user", content: text }] });
const AGENT = { messages: [], value: "", items: [] };
const SLOW = { steps: 500, delay_ms: 20 };
const STREAM = "threads.stream()";
const MODULES = ["assistants", "threads", "runs", "crons", "store"];
// Of the base class: how requests are made, not what is asked.
const BASE = ["fetch", "prepareFetchOptions", "streamWithRetry"];
// Data, not methods.
const DATA = ["threadId", "assistantId", "ordering"];
const NOT_OFFERED = {
  "~ui.getComponent": "graph-bound React components of LangGraph's platform",
  [`${STREAM}.input.inject`]: "refused with `not_supported`, as the peer refuses it",
};

/** Names of what an object's class defines. */
function defined(object) {
  const found = new Set();
  for (let at = Object.getPrototypeOf(object); at !== Object.prototype; ) {
    for (const name of Object.getOwnPropertyNames(at)) {
      if (name !== "constructor" && !name.startsWith("_")) found.add(name);
    }
    at = Object.getPrototypeOf(at);
  }
  return [...found];
}

function surface() {
  const found = [];
  for (const module of [...MODULES, "~ui"]) {
    const names = defined(client[module]).filter((name) => !BASE.includes(name));
    found.push(...names.map((name) => `${module}.${name}`));
  }
  const stream = client.threads.stream({ assistantId: "echo" });
  for (const name of new Set([...defined(stream), ...Object.keys(stream)])) {
    if (DATA.includes(name)) continue;
    const inner = ["run", "agent", "input", "state"].includes(name);
    const names = inner ? Object.keys(stream[name]).map((part) => `${name}.${part}`) : [name];
    found.push(...names.map((part) => `${STREAM}.${part}`));
  }
  return found.sort();
}

async function collect(stream, most = Infinity) {
  const parts = [];
  for await (const part of stream) {
    parts.push(part);
    if (parts.length >= most) break;
  }
  return parts;
}

const made = (options) => client.assistants.create({ graphId: "echo", ...options });

async function ran(graph = "echo", input = human("hi")) {
  const { thread_id: id } = await client.threads.create();
  await client.runs.wait(id, graph, { input });
  return id;
}

async function until(condition) {
  for (let tries = 0; tries < 300; tries += 1) {
    if (await condition()) return;
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
  assert.fail("it did not come true");
}

const cron = (options) =>
  client.crons.create("echo", { schedule: "0 0 1 1 *", input: human("c"), ...options });

async function space(values) {
  const namespace = ["every-method", randomUUID()];
  for (const [key, value] of Object.entries(values)) {
    await client.store.putItem(namespace, key, value);
  }
  return namespace;
}

/** Plays `body` on a stream that is closed afterwards. */
const streamed = (assistantId, body, transport = "sse") => async () => {
  const { threads } = transport === "websocket" ? keyless : client;
  const thread = threads.stream({ assistantId, transport, webSocketFactory });
  try {
    await body(thread);
  } finally {
    await thread.close();
  }
};

async function interrupted(thread) {
  await thread.run.start({ input: { question: "?" } });
  await until(() => thread.interrupted);
}

/** A projection of media: the graph has none, so it ends with the run. */
const media = (name) =>
  streamed("echo", async (thread) => {
    const seen = collect(thread[name]);
    const output = thread.output;
    await thread.run.start({ input: human("m") });
    await output;
    await thread.close();
    assert.deepEqual(await seen, []);
  });

const checks = {
  "assistants.create": async () => {
    const one = await made({ name: "made", metadata: { k: 1 }, description: "d" });
    assert.deepEqual([one.graph_id, one.version, one.name], ["echo", 1, "made"]);
  },
  "assistants.get": async () => {
    const one = await made();
    assert.deepEqual(await client.assistants.get(one.assistant_id), one);
  },
  "assistants.update": async () => {
    const one = await made();
    const two = await client.assistants.update(one.assistant_id, { name: "two" });
    assert.deepEqual([two.version, two.name], [2, "two"]);
  },
  "assistants.delete": async () => {
    const { assistant_id: id } = await made();
    await client.assistants.delete(id, { deleteThreads: true });
    await assert.rejects(client.assistants.get(id), /404/);
  },
  "assistants.search": async () => {
    const metadata = { tag: randomUUID() };
    await made({ metadata });
    const found = await client.assistants.search({ metadata, includePagination: true });
    assert.equal(found.assistants.length, 1);
    assert.equal(found.next, null);
  },
  "assistants.count": async () => {
    const metadata = { tag: randomUUID() };
    await made({ metadata });
    assert.equal(await client.assistants.count({ metadata }), 1);
  },
  "assistants.getGraph": async () => {
    const graph = await client.assistants.getGraph("agent", { xray: true });
    assert.ok(graph.nodes.some((node) => node.id === "ask_human"));
  },
  "assistants.getSchemas": async () => {
    const { assistant_id: id } = await made();
    assert.equal((await client.assistants.getSchemas(id)).graph_id, "echo");
  },
  "assistants.getSubgraphs": async () => {
    const { assistant_id: id } = await made();
    assert.deepEqual(await client.assistants.getSubgraphs(id, { recurse: true }), {});
  },
  "assistants.getVersions": async () => {
    const { assistant_id: id } = await made();
    await client.assistants.update(id, { name: "two" });
    const versions = await client.assistants.getVersions(id, { limit: 1 });
    assert.deepEqual(versions.map((found) => found.version), [2]);
  },
  "assistants.setLatest": async () => {
    const { assistant_id: id } = await made({ name: "one" });
    await client.assistants.update(id, { name: "two" });
    assert.equal((await client.assistants.setLatest(id, 1)).name, "one");
  },

  "threads.create": async () => {
    const threadId = randomUUID();
    const one = await client.threads.create({
      threadId,
      graphId: "approve",
      metadata: { k: 1 },
      ttl: 60,
      supersteps: [{ updates: [{ values: { question: "made" }, asNode: "__start__" }] }],
    });
    assert.equal(one.thread_id, threadId);
    const state = await client.threads.getState(threadId);
    assert.deepEqual([state.values.question, state.next], ["made", ["ask"]]);
    await client.threads.create({ threadId, ifExists: "do_nothing" });
  },
  "threads.get": async () => {
    const { thread_id: id } = await client.threads.create({ ttl: 5 });
    const one = await client.threads.get(id, { include: ["ttl"] });
    assert.equal(one.ttl.ttl_minutes, 5);
  },
  "threads.update": async () => {
    const { thread_id: id } = await client.threads.create({ metadata: { a: 1 } });
    const changed = await client.threads.update(id, { metadata: { b: 2 } });
    assert.deepEqual([changed.metadata.a, changed.metadata.b], [1, 2]);
  },
  "threads.delete": async () => {
    const id = await ran();
    await client.threads.delete(id);
    await assert.rejects(client.threads.get(id), /404/);
  },
  "threads.search": async () => {
    const metadata = { tag: randomUUID() };
    const { thread_id: id } = await client.threads.create({ metadata });
    await client.runs.wait(id, "echo", { input: human("found") });
    const found = await client.threads.search({
      metadata,
      select: ["thread_id"],
      extract: { last: "values.messages[-1].content" },
    });
    assert.deepEqual(found, [{ thread_id: id, extracted: { last: "echo: found" } }]);
  },
  "threads.count": async () => {
    const metadata = { tag: randomUUID() };
    await client.threads.create({ metadata });
    assert.equal(await client.threads.count({ metadata, status: "idle" }), 1);
  },
  "threads.copy": async () => {
    const id = await ran();
    const copy = await client.threads.copy(id);
    assert.notEqual(copy.thread_id, id);
    assert.equal((await client.threads.getState(copy.thread_id)).values.n, 1);
  },
  "threads.prune": async () => {
    const id = await ran();
    const kept = await client.threads.prune([id], { strategy: "keep_latest" });
    assert.equal(kept.pruned_count, 1);
    assert.equal((await client.threads.getHistory(id, { limit: 50 })).length, 1);
  },
  "threads.getState": async () => {
    const id = await ran("approve", { question: "?" });
    const state = await client.threads.getState(id, undefined, { subgraphs: true });
    assert.deepEqual(state.next, ["ask"]);
    const at = await client.threads.getState(id, state.checkpoint);
    assert.deepEqual(at.checkpoint, state.checkpoint);
    const byId = await client.threads.getState(id, state.checkpoint.checkpoint_id);
    assert.deepEqual(byId.values, state.values);
  },
  "threads.updateState": async () => {
    const id = await ran("approve", { question: "?" });
    await client.threads.updateState(id, { values: { question: "b" }, asNode: "__start__" });
    assert.equal((await client.threads.getState(id)).values.question, "b");
  },
  "threads.patchState": async () => {
    const id = await ran();
    await client.threads.patchState(id, { patched: true });
    assert.equal((await client.threads.get(id)).metadata.patched, true);
  },
  "threads.getHistory": async () => {
    const id = await ran();
    const [newest, before] = await client.threads.getHistory(id, { limit: 2 });
    const older = await client.threads.getHistory(id, { before: newest.checkpoint });
    assert.equal(older[0].checkpoint.checkpoint_id, before.checkpoint.checkpoint_id);
  },
  "threads.joinStream": async () => {
    const id = await ran();
    const events = [];
    for await (const part of client.threads.joinStream(id, { lastEventId: "-1" })) {
      events.push(part.event);
      if (part.data?.status === "run_done") break;
    }
    assert.ok(events.includes("values"));
  },

  "runs.create": async () => {
    const { thread_id: id } = await client.threads.create();
    let told;
    const run = await client.runs.create(id, "echo", {
      input: human("x"),
      metadata: { k: 1 },
      durability: "sync",
      onRunCreated: (created) => (told = created),
    });
    assert.deepEqual([run.status, run.metadata.k], ["pending", 1]);
    assert.equal(told.run_id, run.run_id);
    await client.runs.join(id, run.run_id);
  },
  "runs.createBatch": async () => {
    const payload = { assistantId: "echo", input: human("b") };
    assert.equal((await client.runs.createBatch([payload, payload])).length, 2);
  },
  "runs.get": async () => {
    const id = await ran();
    const [listed] = await client.runs.list(id);
    assert.deepEqual(await client.runs.get(id, listed.run_id), listed);
  },
  "runs.list": async () => {
    const id = await ran();
    const found = await client.runs.list(id, { limit: 5, status: "success" });
    assert.equal(found.length, 1);
  },
  "runs.delete": async () => {
    const id = await ran();
    const [run] = await client.runs.list(id);
    await client.runs.delete(id, run.run_id);
    assert.deepEqual(await client.runs.list(id), []);
  },
  "runs.wait": async () => {
    const id = await ran("approve", { question: "?" });
    const out = await client.runs.wait(id, "approve", { command: { resume: "yes" } });
    assert.equal(out.answer, "yes");
  },
  "runs.stream": async () => {
    const { thread_id: id } = await client.threads.create();
    const streamMode = ["values", "updates", "messages-tuple", "custom", "tasks", "checkpoints"];
    const parts = await collect(client.runs.stream(id, "agent", { input: AGENT, streamMode }));
    const events = new Set(parts.map((part) => part.event));
    for (const event of ["metadata", "values", "updates", "messages", "custom", "tasks"]) {
      assert.ok(events.has(event), event);
    }
  },
  "runs.join": async () => {
    const { thread_id: id } = await client.threads.create();
    const run = await client.runs.create(id, "echo", { input: human("j") });
    assert.equal((await client.runs.join(id, run.run_id)).n, 1);
  },
  "runs.joinStream": async () => {
    const { thread_id: id } = await client.threads.create();
    const options = { input: human("x"), streamResumable: true };
    const seen = await collect(client.runs.stream(id, "echo", options));
    const [run] = await client.runs.list(id);
    const rest = await collect(
      client.runs.joinStream(id, run.run_id, { lastEventId: seen[0].id }),
    );
    const ids = (parts) => parts.map((part) => part.id).filter(Boolean);
    assert.deepEqual(ids(rest), ids(seen.slice(1)));
  },
  "runs.cancel": async () => {
    const { thread_id: id } = await client.threads.create();
    const run = await client.runs.create(id, "slow", { input: SLOW });
    await client.runs.cancel(id, run.run_id, true);
    assert.equal((await client.runs.get(id, run.run_id)).status, "interrupted");
  },
  "runs.cancelMany": async () => {
    const { thread_id: threadId } = await client.threads.create();
    const run = await client.runs.create(threadId, "slow", { input: SLOW });
    await client.runs.cancelMany({ threadId, runIds: [run.run_id] });
    const status = async () => (await client.runs.get(threadId, run.run_id)).status;
    await until(async () => (await status()) === "interrupted");
  },

  "crons.create": async () => {
    const one = await cron({ timezone: "Europe/Berlin", onRunCompleted: "keep" });
    assert.match(one.next_run_date, /-12-31T23:00/);
    await client.crons.delete(one.cron_id);
  },
  "crons.createForThread": async () => {
    const { thread_id: id } = await client.threads.create();
    const options = { schedule: "0 0 1 1 *", input: human("c") };
    const one = await client.crons.createForThread(id, "echo", options);
    assert.equal(one.thread_id, id);
    await client.crons.delete(one.cron_id);
  },
  "crons.update": async () => {
    const one = await cron();
    const changed = await client.crons.update(one.cron_id, {
      schedule: "0 12 * * *",
      enabled: false,
    });
    assert.deepEqual([changed.schedule, changed.enabled], ["0 12 * * *", false]);
    await client.crons.delete(one.cron_id);
  },
  "crons.search": async () => {
    const { thread_id: threadId } = await client.threads.create();
    const one = await client.crons.createForThread(threadId, "echo", { schedule: "0 0 1 1 *" });
    const found = await client.crons.search({ threadId });
    assert.deepEqual(found.map((row) => row.cron_id), [one.cron_id]);
    await client.crons.delete(one.cron_id);
  },
  "crons.count": async () => {
    const { thread_id: threadId } = await client.threads.create();
    const one = await client.crons.createForThread(threadId, "echo", { schedule: "0 0 1 1 *" });
    assert.equal(await client.crons.count({ threadId }), 1);
    await client.crons.delete(one.cron_id);
  },
  "crons.delete": async () => {
    const one = await cron();
    await client.crons.delete(one.cron_id);
    await assert.rejects(client.crons.delete(one.cron_id), /404/);
  },

  "store.putItem": async () => {
    const namespace = await space({});
    await client.store.putItem(namespace, "k", { v: 1 }, { index: false, ttl: 60 });
    assert.deepEqual((await client.store.getItem(namespace, "k")).value, { v: 1 });
  },
  "store.getItem": async () => {
    const namespace = await space({ k: { v: 1 } });
    const item = await client.store.getItem(namespace, "k", { refreshTtl: false });
    assert.deepEqual([item.namespace, item.key], [namespace, "k"]);
    assert.ok(item.createdAt && item.updatedAt);
  },
  "store.deleteItem": async () => {
    const namespace = await space({ k: { v: 1 } });
    await client.store.deleteItem(namespace, "k");
    assert.equal(await client.store.getItem(namespace, "k"), null);
  },
  "store.searchItems": async () => {
    const namespace = await space({ a: { n: 1 }, b: { n: 2 } });
    const found = await client.store.searchItems(namespace, { filter: { n: { $gt: 1 } } });
    assert.deepEqual(found.items.map((item) => item.key), ["b"]);
  },
  "store.listNamespaces": async () => {
    const namespace = await space({ k: {} });
    const found = await client.store.listNamespaces({ prefix: namespace, maxDepth: 2 });
    assert.deepEqual(found.namespaces, [namespace]);
  },

  "threads.stream": async () => {
    for (const transport of ["sse", "websocket"]) {
      await streamed("echo", async (thread) => {
        const output = thread.output;
        await thread.run.start({ input: human("hi") });
        assert.equal((await output).messages.at(-1).content, "echo: hi");
      }, transport)();
    }
  },
  [`${STREAM}.run.start`]: streamed("echo", async (thread) => {
    assert.ok((await thread.run.start({ input: human("hi") })).run_id);
  }),
  [`${STREAM}.submitRun`]: streamed("echo", async (thread) => {
    assert.ok((await thread.submitRun({ input: human("hi") })).run_id);
    await until(async () => (await client.runs.list(thread.threadId))[0]?.status === "success");
  }),
  [`${STREAM}.input.respond`]: streamed("approve", async (thread) => {
    await interrupted(thread);
    const [asked] = thread.interrupts;
    const answer = { interrupt_id: asked.interruptId, namespace: [], response: "yes" };
    await thread.input.respond(answer);
    await until(async () => (await client.threads.getState(thread.threadId)).values.answer);
  }),
  [`${STREAM}.respondInput`]: streamed("approve", async (thread) => {
    await interrupted(thread);
    const [asked] = thread.interrupts;
    await thread.respondInput({ interrupt_id: asked.interruptId, namespace: [], response: "y" });
    await until(async () => (await client.threads.getState(thread.threadId)).values.answer);
  }),
  [`${STREAM}.agent.getTree`]: streamed("approve", async (thread) => {
    await interrupted(thread);
    const { tree } = await thread.agent.getTree({});
    assert.deepEqual([tree.graph_name, tree.status], ["approve", "interrupted"]);
  }),
  [`${STREAM}.state.get`]: streamed("echo", async (thread) => {
    const output = thread.output;
    await thread.run.start({ input: human("s") });
    await output;
    const { values, checkpoint } = await thread.state.get({ namespace: [], keys: ["n"] });
    assert.deepEqual(values, { n: 1 });
    assert.ok(checkpoint.id);
  }),
  [`${STREAM}.state.listCheckpoints`]: streamed("echo", async (thread) => {
    const output = thread.output;
    await thread.run.start({ input: human("s") });
    await output;
    const { checkpoints } = await thread.state.listCheckpoints({ limit: 10 });
    assert.deepEqual(checkpoints.map((found) => found.step), [1, 0, -1]);
  }),
  [`${STREAM}.state.fork`]: streamed("echo", async (thread) => {
    const output = thread.output;
    await thread.run.start({ input: human("s") });
    await output;
    const { checkpoints } = await thread.state.listCheckpoints({});
    const { run_id: run } = await thread.state.fork({
      checkpoint_id: checkpoints.at(-1).id,
      input: human("forked"),
    });
    const out = await client.runs.join(thread.threadId, run);
    assert.equal(out.messages.at(-1).content, "echo: forked");
  }),
  [`${STREAM}.output`]: streamed("echo", async (thread) => {
    const output = thread.output;
    await thread.run.start({ input: human("o") });
    assert.equal((await output).n, 1);
  }),
  [`${STREAM}.values`]: streamed("echo", async (thread) => {
    const values = thread.values;
    await thread.run.start({ input: human("v") });
    assert.equal((await values).n, 1);
  }),
  [`${STREAM}.messages`]: streamed("agent", async (thread) => {
    const messages = thread.messages[Symbol.asyncIterator]();
    await thread.run.start({ input: AGENT });
    assert.equal(await (await messages.next()).value.text, "Hello, world!");
  }),
  [`${STREAM}.toolCalls`]: streamed("tools_agent", async (thread) => {
    const calls = thread.toolCalls[Symbol.asyncIterator]();
    await thread.run.start({ input: { messages: [] } });
    assert.equal((await calls.next()).value.name, "search");
  }),
  [`${STREAM}.subgraphs`]: streamed("deep_agent", async (thread) => {
    const found = thread.subgraphs[Symbol.asyncIterator]();
    await thread.run.start({ input: { messages: [] } });
    assert.ok((await found.next()).value.namespace.length > 0);
  }),
  [`${STREAM}.subagents`]: streamed("deep_agent", async (thread) => {
    // The graph runs its researcher as a subgraph of a tool, which the SDK may or may not call a
    // subagent; the projection must end with the run.
    const found = collect(thread.subagents);
    await thread.run.start({ input: { messages: [] } });
    assert.ok((await found).length <= 1);
  }),
  [`${STREAM}.extensions`]: streamed("agent", async (thread) => {
    const found = collect(thread.extensions.progress, 1);
    await thread.run.start({ input: AGENT });
    assert.equal((await found).length, 1);
  }),
  [`${STREAM}.audio`]: media("audio"),
  [`${STREAM}.files`]: media("files"),
  [`${STREAM}.images`]: media("images"),
  [`${STREAM}.video`]: media("video"),
  [`${STREAM}.subscribe`]: streamed("echo", async (thread) => {
    const events = await thread.subscribe(["values"]);
    await thread.run.start({ input: human("s") });
    assert.ok((await collect(events, 1))[0]);
  }),
  [`${STREAM}.onEvent`]: streamed("echo", async (thread) => {
    const seen = [];
    thread.onEvent((event) => seen.push(event));
    const output = thread.output;
    await thread.run.start({ input: human("e") });
    await output;
    assert.ok(seen.some((event) => event.method === "values"));
  }),
  [`${STREAM}.onError`]: streamed("echo", async (thread) => {
    const errors = [];
    thread.onError((error) => errors.push(error));
    const output = thread.output;
    await thread.run.start({ input: human("e") });
    await output;
    assert.deepEqual(errors, []);
  }),
  [`${STREAM}.startLifecycleWatcher`]: async () => {
    const threadId = await ran("approve", { question: "?" });
    const thread = client.threads.stream(threadId, { assistantId: "approve" });
    try {
      thread.startLifecycleWatcher();
      await until(() => thread.interrupted);
    } finally {
      await thread.close();
    }
  },
  [`${STREAM}.interrupted`]: streamed("approve", async (thread) => {
    await interrupted(thread);
    assert.equal(thread.interrupted, true);
  }),
  [`${STREAM}.interrupts`]: streamed("approve", async (thread) => {
    await interrupted(thread);
    assert.deepEqual(thread.interrupts[0].payload, { question: "ok?" });
  }),
  [`${STREAM}.close`]: async () => {
    const thread = client.threads.stream({ assistantId: "echo" });
    await thread.close();
    await thread.close();
  },
};

const passed = new Set();

test("every method has a check, or a reason", () => {
  assert.deepEqual(surface(), [...Object.keys(checks), ...Object.keys(NOT_OFFERED)].sort());
});

for (const [name, check] of Object.entries(checks)) {
  test(name, { timeout: 30_000 }, async () => {
    await check();
    passed.add(name);
  });
}

test("what is not offered is refused", async () => {
  await streamed("echo", async (thread) => {
    await thread.run.start({ input: human("hi") });
    const message = { role: "user", content: "x" };
    await assert.rejects(thread.input.inject({ namespace: [], message }), /takes no messages/);
  })();
});

test("the table is current", () => {
  const missing = Object.keys(checks).filter((name) => !passed.has(name));
  assert.deepEqual(missing, []);
  const place = createRequire(import.meta.url).resolve("@langchain/langgraph-sdk");
  const folder = place.slice(0, place.lastIndexOf("/dist/"));
  const { version } = JSON.parse(readFileSync(`${folder}/package.json`, "utf8"));
  const known = cells("sdk-js");
  // What the other deployment wrote stays.
  const found = (name) =>
    DEPLOYMENTS.map((at) => (at === HERE ? "works" : (known[name]?.[at] ?? "untested")));
  const rows = Object.keys(checks).map((name) => [name, ...found(name)]);
  for (const [name, why] of Object.entries(NOT_OFFERED)) {
    rows.push([name, `not offered: ${why}`, "the same"]);
  }
  rows.sort(([a], [b]) => (a < b ? -1 : 1));
  const lines = rows.map(([name, ...states]) => `| \`${name}\` | ${states.join(" | ")} |\n`);
  const head = `\`@langchain/langgraph-sdk\` ${version}: ${Object.keys(checks).length} methods.\n\n`;
  const text = `${head}| method | ${DEPLOYMENTS.join(" | ")} |\n|---|---|---|\n${lines.join("")}`;
  section("sdk-js", text);
  assert.ok(updates || !text.includes("untested"), "the other deployment is not tested");
});
