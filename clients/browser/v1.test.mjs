// `useStream` of @langchain/react in a browser, from another origin than the server's.

import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { Chat, cuttable, launch, servePages, words } from "./harness.mjs";

let pages;
let browser;
before(async () => {
  pages = await servePages();
  browser = await launch();
});
after(async () => {
  await browser?.close();
  pages?.close();
});

async function chat(options) {
  return Chat.open(browser, pages.origin, options);
}

test("tokens arrive one by one", async () => {
  const page = await chat();
  await page.send("tell 20 40");
  const seen = await page.words(2);
  assert.ok(seen < 20, `${seen} words came at once`);
  await page.says(words(20));
  await page.idle();
  assert.deepEqual(await page.said(), ["human: tell 20 40", `ai: ${words(20)}`]);
  assert.deepEqual(page.faults, []);
  await page.close();
});

test("a question is shown and answered", async () => {
  const page = await chat();
  await page.send("ask");
  await page.question().waitFor();
  assert.match(await page.question().innerText(), /May I\?/);
  await page.answer("yes");
  await page.says("You said yes");
  await page.idle();
  assert.equal(await page.question().count(), 0);
  await page.close();
});

test("a question is still there after a reload, and can be answered", async () => {
  const page = await chat();
  await page.send("ask");
  await page.question().waitFor();
  await page.reload();
  await page.question().waitFor();
  await page.answer("later");
  await page.says("You said later");
  await page.idle();
  assert.equal(await page.question().count(), 0);
  await page.close();
});

test("an answered question does not come back", async () => {
  const page = await chat();
  await page.send("ask");
  await page.question().waitFor();
  await page.answer("once");
  await page.says("You said once");
  await page.idle();
  await page.reload();
  await page.says("You said once");
  await page.idle();
  await page.send("tell 30 40");
  const seen = await page.words(5);
  assert.ok(seen < 30);
  // What the thread said before is read again: it must not end the new run for the page.
  assert.equal(await page.page.locator("main").getAttribute("data-loading"), "true");
  assert.equal(await page.question().count(), 0);
  await page.says(words(30));
  await page.idle();
  assert.equal(await page.question().count(), 0);
  await page.close();
});

test("a reload in mid-run continues the same run", async () => {
  const page = await chat();
  await page.send("tell 60 60");
  await page.words(5);
  await page.reload();
  const seen = await page.words(1);
  assert.ok(seen < 60, "the run was over before the page was back");
  await page.says(words(60));
  await page.idle();
  assert.deepEqual(await page.said(), ["human: tell 60 60", `ai: ${words(60)}`]);
  const runs = await page.runs();
  assert.deepEqual(
    runs.map((run) => run.status),
    ["success"],
  );
  await page.close();
});

test("a stop ends the run, and the next one works", async () => {
  const page = await chat();
  await page.send("tell 500 40");
  await page.words(3);
  await page.stop();
  await page.idle();
  const thread = page.threadId();
  for (;;) {
    const [run] = await page.runs();
    if (run.status === "interrupted") break;
    assert.ok(["running", "pending"].includes(run.status), run.status);
  }
  await page.send("tell 4 10");
  // What the stopped run had said stays on the page: the client keeps it until a reload.
  await page.shows(words(4));
  await page.idle();
  assert.equal(page.threadId(), thread);
  await page.close();
});

test("an edited message forks from the checkpoint before it", async () => {
  const page = await chat();
  await page.send("tell 2 10");
  await page.says(words(2));
  await page.idle();
  await page.send("tell 3 10");
  await page.says(words(3));
  await page.idle();
  await page.edit(1, "tell 5 10");
  await page.says(words(5));
  await page.idle();
  assert.deepEqual(await page.said(), [
    "human: tell 2 10",
    `ai: ${words(2)}`,
    "human: tell 5 10",
    `ai: ${words(5)}`,
  ]);
  const history = await page.get("/history?limit=100");
  const parents = history.map((state) => state.parent_checkpoint?.checkpoint_id);
  assert.ok(new Set(parents).size < parents.length, "no checkpoint has two children");
  await page.close();
});

test("a dropped connection is resumed", async () => {
  const proxy = await cuttable();
  const page = await chat({ url: proxy.url });
  await page.send("tell 80 50");
  await page.words(5);
  const before = page.subscriptions.length;
  proxy.cut();
  const seen = await page.words(20);
  assert.ok(seen < 80, "the run was over before the connection was back");
  await page.says(words(80));
  await page.idle();
  assert.ok(page.subscriptions.length > before, "the page did not subscribe again");
  assert.deepEqual(await page.said(), ["human: tell 80 50", `ai: ${words(80)}`]);
  assert.equal((await page.runs()).length, 1);
  await page.close();
  proxy.close();
});

test("tool calls are shown with their results", async () => {
  const page = await chat();
  await page.send("look");
  const tool = page.page.locator('.tool[data-name="search"][data-status="finished"]');
  await tool.waitFor();
  assert.match(await tool.innerText(), /found it/);
  await page.says(words(3));
  await page.idle();
  await page.close();
});

test("a subgraph is shown with its namespace and its messages", async () => {
  const page = await chat();
  await page.send("delegate");
  const subgraph = page.page.locator(".subgraph").first();
  await subgraph.waitFor();
  assert.match(await subgraph.getAttribute("data-namespace"), /^delegate:/);
  await page.shows(`The helper said ${words(5)}`);
  await page.idle();
  assert.equal(await subgraph.innerText(), words(5));
  await page.close();
});
