// The official inspector, in its command-line mode, against /mcp.

import assert from "node:assert/strict";
import { execFile } from "node:child_process";
import { fileURLToPath } from "node:url";
import { test } from "node:test";
import { promisify } from "node:util";

const url = `${process.env.AGENTFLOW_URL}/mcp`;
const inspector = fileURLToPath(new URL("node_modules/.bin/mcp-inspector", import.meta.url));

async function inspect(...args) {
  const all = ["--cli", url, "--transport", "http", "--method", ...args];
  const { stdout } = await promisify(execFile)(inspector, all, { timeout: 60_000 });
  return JSON.parse(stdout);
}

test("the inspector lists assistants and tools of the platform", async () => {
  const { tools } = await inspect("tools/list");
  const names = tools.map((tool) => tool.name);
  for (const name of ["echo", "review", "runs_start", "store_put"]) {
    assert.ok(names.includes(name), name);
  }
  const review = tools.find((tool) => tool.name === "review");
  assert.equal(review.inputSchema.type, "object");
});

test("the inspector completes a task", async () => {
  const messages = JSON.stringify([{ role: "user", content: "hello" }]);
  const call = ["tools/call", "--tool-name", "echo", "--tool-arg", `messages=${messages}`];
  const result = await inspect(...call);
  assert.notEqual(result.isError, true);
  assert.equal(result.structuredContent.messages.at(-1).content, "echo: hello");
});

test("the inspector is told of a mistake", async () => {
  const call = ["tools/call", "--tool-name", "runs_get", "--tool-arg", "thread_id=x"];
  const said = await inspect(...call).then(
    (result) => JSON.stringify(result),
    (error) => `${error.stdout}${error.stderr}`,
  );
  assert.match(said, /run_id/);
});
