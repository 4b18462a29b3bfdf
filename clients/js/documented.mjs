// Tables in docs/compatibility.md that tests write and check.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

const DOCS = new URL("../../docs/compatibility.md", import.meta.url);
// Set to rewrite the tables.
const UPDATE = "AGENTFLOW_UPDATE_SNAPSHOTS";

/** Checks that the section `name` of the page is `text`, or makes it so. */
export function section(name, text) {
  const [begin, end] = [`<!-- ${name}: begin -->\n`, `<!-- ${name}: end -->`];
  const page = readFileSync(DOCS, "utf8");
  const from = page.indexOf(begin) + begin.length;
  const to = page.indexOf(end);
  assert.ok(from >= begin.length && to >= from, `no section ${name}`);
  if (process.env[UPDATE]) {
    writeFileSync(DOCS, page.slice(0, from) + text + page.slice(to));
  } else {
    assert.ok(page.slice(from, to) === text, `docs/compatibility.md differs; set ${UPDATE}=1`);
  }
}
