"""A LangGraph checkpoint saver whose storage is the Rust program `examples/saver.rs`."""

import asyncio
import base64
import json
from typing import Any

from langgraph.checkpoint.base import (
    BaseCheckpointSaver,
    CheckpointTuple,
    get_checkpoint_id,
    get_checkpoint_metadata,
)

LONGEST_LINE = 256 * 1024 * 1024


class AgentFlowSaver(BaseCheckpointSaver[str]):
    """Sends each call as one line of JSON and reads one line back."""

    def __init__(self, process: asyncio.subprocess.Process):
        super().__init__()
        self.process = process
        self.lock = asyncio.Lock()

    @classmethod
    async def start(cls, program: str, path: str) -> "AgentFlowSaver":
        pipe = asyncio.subprocess.PIPE
        process = await asyncio.create_subprocess_exec(
            program, path, stdin=pipe, stdout=pipe, limit=LONGEST_LINE
        )
        return cls(process)

    async def stop(self) -> None:
        self.process.stdin.close()
        await self.process.wait()

    async def call(self, op: str, **fields: Any) -> Any:
        line = json.dumps({"op": op, **fields}).encode() + b"\n"
        async with self.lock:
            self.process.stdin.write(line)
            await self.process.stdin.drain()
            answer = json.loads(await self.process.stdout.readline())
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return answer["ok"]

    def dump(self, value: Any) -> tuple[str, str]:
        word, data = self.serde.dumps_typed(value)
        return word, base64.b64encode(data).decode()

    def load(self, word: str, data: str) -> Any:
        return self.serde.loads_typed((word, base64.b64decode(data)))

    def tuple(self, row: dict) -> CheckpointTuple:
        def config(checkpoint_id: str) -> dict:
            place = {"thread_id": row["thread_id"], "checkpoint_ns": row["checkpoint_ns"]}
            return {"configurable": {**place, "checkpoint_id": checkpoint_id}}

        return CheckpointTuple(
            config(row["checkpoint_id"]),
            self.load("msgpack", row["checkpoint"]),
            row["metadata"],
            config(row["parent_id"]) if row["parent_id"] else None,
            [(task, channel, self.load(word, data)) for task, channel, word, data in row["writes"]],
        )

    async def aget_tuple(self, config):
        place = config["configurable"]
        row = await self.call(
            "get",
            thread_id=str(place["thread_id"]),
            checkpoint_ns=place.get("checkpoint_ns", ""),
            checkpoint_id=get_checkpoint_id(config),
        )
        return self.tuple(row) if row else None

    async def alist(self, config, *, filter=None, before=None, limit=None):
        place = (config or {}).get("configurable", {})
        rows = await self.call(
            "list",
            thread_id=str(place["thread_id"]) if "thread_id" in place else None,
            checkpoint_ns=place.get("checkpoint_ns"),
            checkpoint_id=get_checkpoint_id(config) if config else None,
            filter=filter or {},
            before=get_checkpoint_id(before) if before else None,
            limit=limit,
        )
        for row in rows:
            yield self.tuple(row)

    async def aput(self, config, checkpoint, metadata, new_versions):
        place = config["configurable"]
        thread_id, checkpoint_ns = str(place["thread_id"]), place.get("checkpoint_ns", "")
        await self.call(
            "put",
            thread_id=thread_id,
            checkpoint_ns=checkpoint_ns,
            parent_id=place.get("checkpoint_id"),
            checkpoint=self.dump(checkpoint),
            metadata=get_checkpoint_metadata(config, metadata),
            new_versions=list(new_versions),
        )
        place = {"thread_id": thread_id, "checkpoint_ns": checkpoint_ns}
        return {"configurable": {**place, "checkpoint_id": checkpoint["id"]}}

    async def aput_writes(self, config, writes, task_id, task_path=""):
        place = config["configurable"]
        await self.call(
            "put_writes",
            thread_id=str(place["thread_id"]),
            checkpoint_ns=place.get("checkpoint_ns", ""),
            checkpoint_id=str(place["checkpoint_id"]),
            task_id=task_id,
            task_path=task_path,
            writes=[(channel, *self.dump(value)) for channel, value in writes],
        )

    async def adelete_thread(self, thread_id):
        await self.call("delete_thread", thread_id=str(thread_id))

    async def acopy_thread(self, source_thread_id, target_thread_id):
        await self.call("copy_thread", **{"from": source_thread_id, "to": target_thread_id})

    async def adelete_for_runs(self, run_ids):
        await self.call("delete_for_runs", run_ids=list(run_ids))

    async def aprune(self, thread_ids, *, strategy="keep_latest"):
        await self.call("prune", thread_ids=list(thread_ids), strategy=strategy)
