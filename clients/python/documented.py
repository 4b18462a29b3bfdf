"""Tables in pages of docs, docs/compatibility.md mostly, that tests write and check."""

import os
import pathlib

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs"
PAGE = "compatibility.md"
# Set to rewrite the tables.
UPDATE = "AGENTFLOW_UPDATE_SNAPSHOTS"


def parts(name, page):
    """The page before the section `name`, in it, and behind it, without the marks."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    head, rest = (DOCS / page).read_text().split(begin)
    before, tail = rest.split(end)
    return begin, end, head, before, tail


def cells(name, page=PAGE):
    """The table in the section `name`: by method, its cells by column."""
    lines = [line for line in parts(name, page)[3].splitlines() if line.startswith("|")]
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines]
    columns = rows[0][1:]
    return {row[0].strip("`"): dict(zip(columns, row[1:])) for row in rows[2:]}


def section(name, text, page=PAGE):
    """Checks that the section `name` of the page is `text`, or makes it so."""
    begin, end, head, before, tail = parts(name, page)
    if os.environ.get(UPDATE):
        (DOCS / page).write_text(head + begin + text + end + tail)
    else:
        assert before == text, f"docs/{page} differs; set {UPDATE}=1 to update"
