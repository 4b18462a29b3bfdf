// Tables in docs/compatibility.md that tests write and check.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

const DOCS = new URL("../../docs/compatibility.md", import.meta.url);
// Set to rewrite the tables.
const UPDATE = "AGENTFLOW_UPDATE_SNAPSHOTS";

/** Whether the tables are to be rewritten. */
export const updates = Boolean(process.env[UPDATE]);

/** The page, and where in it the section `name` is. */
function place(name) {
  const [begin, end] = [`<!-- ${name}: begin -->\n`, `<!-- ${name}: end -->`];
  const page = readFileSync(DOCS, "utf8");
  const from = page.indexOf(begin) + begin.length;
  const to = page.indexOf(end);
  assert.ok(from >= begin.length && to >= from, `no section ${name}`);
  return [page, from, to];
}

/** The table in the section `name`: by method, its cells by column. */
export function cells(name) {
  const [page, from, to] = place(name);
  const lines = page.slice(from, to).split("\n").filter((line) => line.startsWith("|"));
  const [[, ...columns], , ...rows] = lines.map((line) =>
    line.split("|").slice(1, -1).map((cell) => cell.trim()),
  );
  const named = ([method, ...found]) => [
    method.replaceAll("`", ""),
    Object.fromEntries(columns.map((column, at) => [column, found[at]])),
  ];
  return Object.fromEntries(rows.map(named));
}

/** Checks that the section `name` of the page is `text`, or makes it so. */
export function section(name, text) {
  const [page, from, to] = place(name);
  if (updates) {
    writeFileSync(DOCS, page.slice(0, from) + text + page.slice(to));
  } else {
    assert.ok(page.slice(from, to) === text, `docs/compatibility.md differs; set ${UPDATE}=1`);
  }
}
