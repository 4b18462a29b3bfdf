"""Tables in docs/compatibility.md that tests write and check."""

import os
import pathlib

DOCS = pathlib.Path(__file__).resolve().parents[2] / "docs" / "compatibility.md"
# Set to rewrite the tables.
UPDATE = "AGENTFLOW_UPDATE_SNAPSHOTS"


def section(name, text):
    """Checks that the section `name` of the page is `text`, or makes it so."""
    begin, end = f"<!-- {name}: begin -->\n", f"<!-- {name}: end -->"
    page = DOCS.read_text()
    head, rest = page.split(begin)
    before, tail = rest.split(end)
    if os.environ.get(UPDATE):
        DOCS.write_text(head + begin + text + end + tail)
    else:
        assert before == text, f"docs/compatibility.md differs; set {UPDATE}=1 to update"
