// The reference page in a real browser: it reads openapi.json and nothing from elsewhere.

import assert from "node:assert/strict";
import { existsSync } from "node:fs";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const url = process.env.AGENTFLOW_URL;
// Debian's package puts it there; other systems say where theirs is.
const executablePath = process.env.CHROMIUM ?? "/usr/bin/chromium";
assert.ok(existsSync(executablePath), `${executablePath} is missing: set CHROMIUM`);

let browser;
before(async () => {
  // The sandbox does not work for root, as which containers run; the page is our own.
  browser = await chromium.launch({ executablePath, args: ["--no-sandbox"] });
});
after(() => browser.close());

/** Opens the page; whatever it asks of another host fails, as it does without a network. */
const open = async (path = "/docs") => {
  const page = await browser.newPage();
  const seen = { errors: [], elsewhere: [] };
  page.on("pageerror", (error) => seen.errors.push(String(error)));
  page.on("console", (line) => line.type() === "error" && seen.errors.push(line.text()));
  await page.route("**/*", (route) => {
    if (route.request().url().startsWith(`${url}/`)) return route.continue();
    seen.elsewhere.push(route.request().url());
    return route.abort("internetdisconnected");
  });
  await page.goto(url + path);
  await page.locator("details").first().waitFor();
  return { page, seen };
};

/** Every operation of the description, as "POST /threads". */
const described = async () => {
  const { paths } = await (await fetch(`${url}/openapi.json`)).json();
  return Object.entries(paths).flatMap(([path, verbs]) =>
    Object.keys(verbs).map((verb) => `${verb.toUpperCase()} ${path}`),
  );
};

test("every operation is shown, without a network", async () => {
  const { page, seen } = await open();
  const wanted = await described();
  assert.ok(wanted.length > 40, `only ${wanted.length} operations`);
  const links = await page.locator("#toc a").allTextContents();
  assert.deepEqual(links.toSorted(), wanted.toSorted());
  assert.equal(await page.locator("main details").count(), wanted.length);
  assert.match(await page.locator("#about").textContent(), /OpenAPI 3\.1/);
  assert.deepEqual(seen, { errors: [], elsewhere: [] });
  await page.close();
});

test("an operation opens with its parameters, body and answers", async () => {
  const { page, seen } = await open();
  const box = page.locator("details[id='post-threads-thread-id-runs-wait']");
  assert.equal(await box.locator(".body").isVisible(), false);
  await box.locator("summary").click();
  assert.equal(await box.locator(".body").isVisible(), true);
  const text = await box.locator(".body").innerText();
  for (const word of ["thread_id", "assistant_id", "409"]) {
    assert.ok(text.includes(word), `${word} is not in ${text}`);
  }
  assert.deepEqual(seen.errors, []);
  await page.close();
});

test("the filter leaves what has all its words, and a link opens its operation", async () => {
  const { page, seen } = await open("/docs#post-store-items-search");
  assert.equal(await page.locator("details[open]").count(), 1);
  await page.locator("#filter").fill("post crons");
  const left = await page.locator("main details:visible .path").allTextContents();
  assert.ok(left.length > 0 && left.every((path) => path.includes("crons")), left.join());
  assert.deepEqual(seen, { errors: [], elsewhere: [] });
  await page.close();
});
