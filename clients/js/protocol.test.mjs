// Event protocol v2 through the official JavaScript SDK, over server-sent events and WebSocket.

import assert from "node:assert/strict";
import test from "node:test";
import { Client } from "@langchain/langgraph-sdk";
import { WebSocket } from "ws";

// Node has one of its own from version 22 on.
globalThis.WebSocket ??= WebSocket;

const client = new Client({ apiUrl: process.env.AGENTFLOW_URL });
const human = (text) => ({ messages: [{ role: "user", content: text }] });

for (const transport of ["sse", "websocket"]) {
  test(`${transport}: a run is followed to its output`, async () => {
    const thread = client.threads.stream({ assistantId: "echo", transport });
    try {
      const output = thread.output;
      const { run_id: run } = await thread.run.start({ input: human("hi") });
      assert.ok(run);
      assert.equal((await output).messages.at(-1).content, "echo: hi");
      assert.equal((await client.threads.get(thread.threadId)).status, "idle");
    } finally {
      await thread.close();
    }
  });

  test(`${transport}: a question is asked and answered`, async () => {
    const thread = client.threads.stream({ assistantId: "approve", transport });
    try {
      const requests = await thread.subscribe(["input"]);
      await thread.run.start({ input: { question: "?" } });
      let asked;
      for await (const event of requests) {
        asked = event.params.data;
        break;
      }
      assert.deepEqual(asked.payload ?? asked.value, { question: "ok?" });
      const answer = { interrupt_id: asked.interrupt_id, namespace: [], response: "yes" };
      await thread.input.respond(answer);
      const [run] = await client.runs.list(thread.threadId);
      assert.equal((await client.runs.join(thread.threadId, run.run_id)).answer, "yes");
    } finally {
      await thread.close();
    }
  });
}

test("messages arrive as typed content", async () => {
  const thread = client.threads.stream({ assistantId: "agent" });
  try {
    const messages = thread.messages[Symbol.asyncIterator]();
    await thread.run.start({ input: { messages: [], value: "init", items: [] } });
    const { value: message } = await messages.next();
    assert.equal(await message.text, "Hello, world!");
  } finally {
    await thread.close();
  }
});
