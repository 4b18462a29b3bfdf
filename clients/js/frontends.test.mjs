// The requests that front ends send, one by one, as observed: agent-chat-ui, LangGraph Studio.

import assert from "node:assert/strict";
import { test } from "node:test";

const api = process.env.AGENTFLOW_URL;
const STUDIO = "https://smith.langchain.com";
const human = (text) => ({ messages: [{ type: "human", content: text }] });

async function call(method, path, body, headers = {}) {
  return fetch(`${api}${path}`, {
    method,
    headers: { "content-type": "application/json", ...headers },
    body: body === undefined ? undefined : JSON.stringify(body),
  });
}

async function json(method, path, body) {
  const answer = await call(method, path, body);
  assert.equal(answer.status, 200, `${method} ${path}`);
  return answer.json();
}

/** Frames of an event stream that ends. */
async function frames(answer) {
  const text = await answer.text();
  const parts = text.split("\r\n\r\n").filter((part) => part.startsWith("event: "));
  return parts.map((part) => {
    const field = (name) =>
      part
        .split("\r\n")
        .find((line) => line.startsWith(`${name}: `))
        ?.slice(name.length + 2);
    return { event: field("event"), data: JSON.parse(field("data")), id: field("id") };
  });
}

test("agent-chat-ui: look, list, chat, read again", async () => {
  assert.ok((await call("GET", "/info")).ok);
  const [assistant] = await json("POST", "/assistants/search", { graph_id: "chat" });
  const thread = await json("POST", "/threads", {});
  const id = thread.thread_id;
  const answer = await call("POST", `/threads/${id}/runs/stream`, {
    assistant_id: "chat",
    input: human("tell 3 5"),
    stream_mode: ["values", "messages-tuple"],
    stream_subgraphs: true,
    stream_resumable: true,
    on_disconnect: "continue",
  });
  assert.match(answer.headers.get("content-type"), /^text\/event-stream/);
  const place = answer.headers.get("content-location");
  assert.match(place, new RegExp(`^/threads/${id}/runs/[0-9a-f-]{36}$`));
  const seen = await frames(answer);
  const names = new Set(seen.map((frame) => frame.event.split("|")[0]));
  for (const name of ["metadata", "values", "messages"]) assert.ok(names.has(name), name);
  assert.ok(seen.every((frame) => frame.event === "end" || frame.id));

  // The rejoin after a reload: all of it again, under the same numbers.
  const again = await call("GET", `${place}/stream`, undefined, { "last-event-id": "-1" });
  assert.deepEqual(await frames(again), seen);

  const state = await json("GET", `/threads/${id}/state`);
  assert.equal(state.values.messages.at(-1).content, "word1 word2 word3");
  const history = await json("POST", `/threads/${id}/history`, { limit: 1000 });
  assert.equal(history[0].checkpoint.checkpoint_id, state.checkpoint.checkpoint_id);

  // The list beside the chat: by the assistant's id, and by the graph's.
  for (const metadata of [{ assistant_id: assistant.assistant_id }, { graph_id: "chat" }]) {
    const found = await json("POST", "/threads/search", { metadata, limit: 100 });
    assert.ok(found.some((one) => one.thread_id === id));
  }
});

test("agent-chat-ui: a run is stopped from outside its stream", async () => {
  const { thread_id: id } = await json("POST", "/threads", {});
  const answer = await call("POST", `/threads/${id}/runs/stream`, {
    assistant_id: "chat",
    input: human("tell 1000 50"),
    stream_mode: ["messages-tuple"],
    stream_resumable: true,
  });
  const place = answer.headers.get("content-location");
  const stopped = await call("POST", `${place}/cancel?wait=0&action=interrupt`);
  assert.equal(stopped.status, 202);
  await answer.text();
  assert.equal((await json("GET", place)).status, "interrupted");
});

test("Studio: a page on a public address may call a private one", async () => {
  const answer = await call("OPTIONS", "/threads/search", undefined, {
    origin: STUDIO,
    "access-control-request-method": "POST",
    "access-control-request-headers": "content-type,x-api-key,x-auth-scheme",
    "access-control-request-private-network": "true",
  });
  assert.ok(answer.ok);
  const header = (name) => answer.headers.get(`access-control-${name}`) ?? "";
  assert.ok(["*", STUDIO].includes(header("allow-origin")));
  assert.equal(header("allow-private-network"), "true");
  assert.match(header("allow-methods"), /POST/);
  for (const name of ["content-type", "x-api-key", "x-auth-scheme"]) {
    assert.ok(header("allow-headers").includes(name), name);
  }
});

test("Studio: answers can be read from its origin, with the headers it needs", async () => {
  const answer = await call("POST", "/threads/search", { limit: 1 }, { origin: STUDIO });
  assert.ok(["*", STUDIO].includes(answer.headers.get("access-control-allow-origin")));
  const exposed = answer.headers.get("access-control-expose-headers").toLowerCase();
  for (const name of ["content-location", "location", "x-pagination-total", "x-pagination-next"]) {
    assert.ok(exposed.includes(name), name);
  }
});

test("Studio: server, assistants, their graphs and schemas", async () => {
  const info = await json("GET", "/info");
  assert.equal(typeof info.version, "string");
  assert.equal(info.flags.assistants, true);
  const assistants = await json("POST", "/assistants/search", { limit: 100, offset: 0 });
  const { assistant_id: id } = assistants.find((one) => one.graph_id === "chat");
  const graph = await json("GET", `/assistants/${id}/graph?xray=true`);
  assert.ok(graph.nodes.some((node) => node.id === "tell"));
  assert.ok(graph.edges.some((edge) => edge.source === "call" && edge.target === "look"));
  assert.ok(graph.edges.some((edge) => edge.source === "__start__" && edge.conditional));
  const schemas = await json("GET", `/assistants/${id}/schemas`);
  assert.equal(schemas.graph_id, "chat");
  assert.ok("input_schema" in schemas && "state_schema" in schemas);
  const subgraphs = await json("GET", `/assistants/${id}/subgraphs?recurse=true`);
  assert.equal(typeof subgraphs, "object");
});

test("Studio: a run in the modes of its debugger, and a fork", async () => {
  const { thread_id: id } = await json("POST", "/threads", {});
  const answer = await call("POST", `/threads/${id}/runs/stream`, {
    assistant_id: "chat",
    input: human("tell 2 5"),
    stream_mode: ["debug", "tasks", "checkpoints", "messages", "values"],
    stream_subgraphs: true,
  });
  const names = new Set((await frames(answer)).map((frame) => frame.event));
  for (const name of ["debug", "tasks", "checkpoints", "values", "messages/partial"]) {
    assert.ok(names.has(name), `${name} of ${[...names]}`);
  }
  const history = await json("POST", `/threads/${id}/history`, { limit: 10 });
  const before = history.at(-2);
  const forked = await json("POST", `/threads/${id}/state`, {
    values: human("tell 4 5"),
    checkpoint: before.checkpoint,
    as_node: "__start__",
  });
  const run = await json("POST", `/threads/${id}/runs/wait`, {
    assistant_id: "chat",
    input: null,
    checkpoint: forked.checkpoint,
  });
  assert.equal(run.messages.at(-1).content, "word1 word2 word3 word4");
  const items = await json("POST", "/store/items/search", { namespace_prefix: [] });
  assert.ok(Array.isArray(items.items));
});
