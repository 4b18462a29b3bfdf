// Tables in pages of docs, docs/compatibility.md mostly, that tests write and check.

import assert from "node:assert/strict";
import { readFileSync, writeFileSync } from "node:fs";

const DOCS = new URL("../../docs/", import.meta.url);
const PAGE = "compatibility.md";
// Set to rewrite the tables.
const UPDATE = "AGENTFLOW_UPDATE_SNAPSHOTS";

/** Whether the tables are to be rewritten. */
export const updates = Boolean(process.env[UPDATE]);

/** The page `file`, and where in it the section `name` is. */
function place(name, file) {
  const [begin, end] = [`<!-- ${name}: begin -->\n`, `<!-- ${name}: end -->`];
  const page = readFileSync(new URL(file, DOCS), "utf8");
  const from = page.indexOf(begin) + begin.length;
  const to = page.indexOf(end);
  assert.ok(from >= begin.length && to >= from, `no section ${name}`);
  return [page, from, to];
}

/** The table in the section `name`: by method, its cells by column. */
export function cells(name, file = PAGE) {
  const [page, from, to] = place(name, file);
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
export function section(name, text, file = PAGE) {
  const [page, from, to] = place(name, file);
  if (updates) {
    writeFileSync(new URL(file, DOCS), page.slice(0, from) + text + page.slice(to));
  } else {
    assert.ok(page.slice(from, to) === text, `docs/${file} differs; set ${UPDATE}=1`);
  }
}
