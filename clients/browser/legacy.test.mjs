// The legacy `useStream` of @langchain/langgraph-sdk in a browser.

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
  return Chat.open(browser, pages.origin, { ...options, page: "legacy" });
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

test("a question is shown, survives a reload, and is answered", async () => {
  const page = await chat();
  await page.send("ask");
  await page.question().waitFor();
  await page.reload();
  await page.question().waitFor();
  await page.answer("yes");
  await page.says("You said yes");
  await page.idle();
  assert.equal(await page.question().count(), 0);
  await page.close();
});

test("a reload in mid-run rejoins the same run", async () => {
  const page = await chat();
  await page.send("tell 60 60");
  await page.words(5);
  await page.reload();
  const seen = await page.words(1);
  assert.ok(seen < 60, "the run was over before the page was back");
  await page.says(words(60));
  await page.idle();
  assert.deepEqual(await page.said(), ["human: tell 60 60", `ai: ${words(60)}`]);
  assert.equal(page.joins.length, 1);
  assert.equal((await page.runs()).length, 1);
  await page.close();
});

test("a dropped connection is resumed after the last event", async () => {
  const proxy = await cuttable();
  const page = await chat({ url: proxy.url });
  await page.send("tell 80 50");
  await page.words(5);
  proxy.cut();
  const seen = await page.words(20);
  assert.ok(seen < 80, "the run was over before the connection was back");
  await page.says(words(80));
  await page.idle();
  assert.deepEqual(await page.said(), ["human: tell 80 50", `ai: ${words(80)}`]);
  assert.match(page.joins[0]["last-event-id"], /^[1-9][0-9]*$/);
  assert.equal((await page.runs()).length, 1);
  await page.close();
  proxy.close();
});

test("a stop ends the run, and the next one works", async () => {
  const page = await chat();
  await page.send("tell 500 40");
  await page.words(3);
  await page.stop();
  await page.idle();
  for (;;) {
    const [run] = await page.runs();
    if (run.status === "interrupted") break;
    assert.ok(["running", "pending"].includes(run.status), run.status);
  }
  await page.send("tell 4 10");
  await page.says(words(4));
  await page.idle();
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
  await page.close();
});
