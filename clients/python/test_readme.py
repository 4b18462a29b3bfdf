"""The Python example of the README does what the README says."""

import os
import pathlib
import re
import subprocess
import sys

from conftest import URL

ROOT = pathlib.Path(__file__).parents[2]


def test_readme_example_runs():
    text = (ROOT / "README.md").read_text()
    code = re.search(r"```python\n(.*?)```", text, re.S).group(1)
    assert "http://127.0.0.1:8000" in code
    code = code.replace("http://127.0.0.1:8000", URL)
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, timeout=60, env=os.environ
    )
    assert done.returncode == 0, done.stderr
    lines = done.stdout.splitlines()
    assert any("__interrupt__" in line for line in lines)
    assert lines[-2] == "['News about Rust']"
    assert lines[-1] == "['Better news']"
