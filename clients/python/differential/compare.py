"""Sends the requests of requests.yaml to two servers and compares the answers.

Usage: compare.py OURS PEER [--show PATTERN]. What differs must be listed in differences.yaml with
its reason; every name and path that is listed must differ somewhere. The table in docs/compatibility.md is checked, or written
with AGENTFLOW_UPDATE_SNAPSHOTS=1.
"""

import argparse
import fnmatch
import json
import pathlib
import re
import sys
import threading

import httpx
import yaml

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))

from documented import section  # noqa: E402

# Longest time for one answer, in seconds.
TIMEOUT = 30
HEADERS = [
    "content-type",
    "location",
    "content-location",
    "x-pagination-total",
    "x-pagination-next",
    "cache-control",
]
UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}")
HEX = re.compile(r"\b[0-9a-f]{32}\b")
TIME = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(\+00:00|Z)?")


def plain(text):
    """The text without what differs from run to run."""
    return HEX.sub("<hex>", TIME.sub("<time>", UUID.sub("<id>", text)))


def normal(value):
    if isinstance(value, str):
        return plain(value)
    if isinstance(value, list):
        return [normal(item) for item in value]
    if isinstance(value, dict):
        return {plain(key): normal(item) for key, item in value.items()}
    return value


def frames(text):
    """Server-sent events as lists of event and data, comments and ids left out."""
    found = []
    for frame in re.split(r"\r?\n\r?\n", text):
        event, data = None, []
        for line in frame.splitlines():
            if line.startswith("event:"):
                event = line[6:].strip()
            elif line.startswith("data:"):
                data.append(line[5:].strip())
        if event:
            found.append({"event": event, "data": json.loads("\n".join(data) or "null")})
    return found


class Server:
    def __init__(self, url):
        self.http = httpx.Client(base_url=url, timeout=TIMEOUT)
        self.saved = {}

    def fill(self, value):
        if isinstance(value, str):
            for name, found in self.saved.items():
                value = value.replace("{" + name + "}", str(found))
            return value
        if isinstance(value, list):
            return [self.fill(item) for item in value]
        if isinstance(value, dict):
            return {key: self.fill(item) for key, item in value.items()}
        return value

    def send(self, step):
        method, path = self.fill(step["send"]).split(" ", 1)
        options = {"headers": step.get("headers", {})}
        if "raw" in step:
            options["content"] = step["raw"]
            options["headers"] = {"content-type": "application/json"}
        elif "body" in step:
            options["json"] = self.fill(step["body"])
        try:
            answer = self.http.request(method, path, **options)
        except httpx.HTTPError as error:
            return {"failed": type(error).__name__}
        body = answer.text
        if step.get("events") and answer.status_code == 200:
            body = frames(body)
        elif "json" in answer.headers.get("content-type", ""):
            body = json.loads(body)
        for name, place in step.get("save", {}).items():
            found = body
            for part in place.split("."):
                part = int(part) if part.isdigit() else part
                try:
                    found = found[part]
                except (KeyError, IndexError, TypeError):
                    found = "missing"
                    break
            self.saved[name] = found
        headers = {name: answer.headers[name] for name in HEADERS if name in answer.headers}
        told = {"status": answer.status_code, "headers": headers, "body": body}
        return normal(told)


def differences(ours, peer, path=""):
    """Paths at which the answers differ, with both sides."""
    if isinstance(ours, dict) and isinstance(peer, dict):
        for key in list(dict.fromkeys([*ours, *peer])):
            yield from differences(ours.get(key, ...), peer.get(key, ...), f"{path}.{key}".lstrip("."))
    elif isinstance(ours, list) and isinstance(peer, list) and len(ours) == len(peer):
        for index, (one, other) in enumerate(zip(ours, peer)):
            yield from differences(one, other, f"{path}.{index}")
    elif ours != peer or type(ours) is not type(peer):
        yield path, ours, peer


def short(value):
    if value is ...:
        return "nothing"
    text = json.dumps(value, ensure_ascii=False)
    return text if len(text) < 400 else text[:400] + "…"


def play(url, script, answers):
    server = Server(url)
    for step in script:
        answers.append(server.send(step))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("ours")
    parser.add_argument("peer")
    parser.add_argument("--show", help="show the answers to requests whose name matches")
    args = parser.parse_args()
    script = yaml.safe_load((HERE / "requests.yaml").read_text())
    names = [step["name"] for step in script]
    assert len(set(names)) == len(names), "names are used twice"
    accepted = yaml.safe_load((HERE / "differences.yaml").read_text()) or []

    told = {"ours": [], "peer": []}
    players = [
        threading.Thread(target=play, args=(getattr(args, side), script, told[side]))
        for side in told
    ]
    for player in players:
        player.start()
    for player in players:
        player.join()

    # Names and paths of each row that did differ.
    met, new, same = [set() for _ in accepted], [], 0
    for step, ours, peer in zip(script, told["ours"], told["peer"]):
        if args.show and fnmatch.fnmatch(step["name"], args.show):
            print(f"# {step['name']}\nours {json.dumps(ours)}\npeer {json.dumps(peer)}")
        found = list(differences(ours, peer))
        same += not found
        for path, one, other in found:
            name = step["name"]
            hits = [(i, matching(row, name, path)) for i, row in enumerate(accepted)]
            row, pattern = next((hit for hit in hits if hit[1]), (None, None))
            if row is None:
                new.append(f"{name}: {path}\n    ours: {short(one)}\n    peer: {short(other)}")
            else:
                met[row] |= {("requests", name), ("paths", pattern)}
    for line in new:
        print(line)
    listed = lambda row: {(key, entry) for key in ("requests", "paths") for entry in row[key]}
    stale = [left for row, seen in zip(accepted, met) for left in sorted(listed(row) - seen)]
    for key, entry in stale:
        print(f"listed, but nothing differs: {key} {entry}")
    text = f"{len(script)} requests, {same} answers alike in every field after ids and times.\n\n"
    text += "| request | where in the answer | difference |\n|---|---|---|\n"
    for row in accepted:
        text += f"| {', '.join(row['requests'])} | {shown(row)} | {row['reason']} |\n"
    failed = len(new) + len(stale)
    if not failed:
        section("differential", text)
    # The last line is what the runner of all tests reads.
    print(f"total: {len(script) - min(failed, len(script))} passed, {failed} failed")
    sys.exit(1 if failed else 0)


def matching(row, name, path):
    """The pattern of a row that a difference falls under, if one does."""
    if name not in row["requests"]:
        return None
    return next((pattern for pattern in row["paths"] if fits(pattern, path)), None)


def fits(pattern, path):
    """Whether a path is meant: a `*` stands for one place in a list, or one id."""
    wanted, found = pattern.split("."), path.split(".")
    return len(wanted) == len(found) and all(
        one == other or (one == "*" and (other.isdigit() or other.startswith("<")))
        for one, other in zip(wanted, found)
    )


def shown(row):
    return ", ".join(f"`{pattern}`" for pattern in row["paths"])


if __name__ == "__main__":
    main()
