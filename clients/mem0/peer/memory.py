"""Times adding and finding memories with Mem0's library; one JSON line per case.

The embedder takes no time, there is no model, and the index is Qdrant: in a folder of this process
(Mem0's default), or on a server. What is there before searches are timed is put straight into the
index, in the form in which an add leaves it.
"""

import argparse
import json
import os
import resource
import statistics
import time
import uuid
import zlib

os.environ.setdefault("OPENAI_API_KEY", "none")
os.environ.setdefault("MEM0_TELEMETRY", "False")

import numpy  # noqa: E402
from mem0 import Memory  # noqa: E402
from mem0.embeddings.base import EmbeddingBase  # noqa: E402

DIMENSION = 384
BATCH = 500


class Hashed(EmbeddingBase):
    """Vectors by the hash of the text."""

    def __init__(self):
        pass

    def embed(self, text, memory_action=None):
        random = numpy.random.default_rng(zlib.crc32(text.encode()))
        return random.standard_normal(DIMENSION).tolist()

    def embed_batch(self, texts, memory_action=None):
        return [self.embed(text) for text in texts]


def told(case, seconds):
    ordered = sorted(seconds)
    print(
        json.dumps(
            {
                "case": case,
                "per_second": len(seconds) / sum(seconds),
                "p50_ms": statistics.median(ordered) * 1e3,
                "p99_ms": ordered[int((len(ordered) - 1) * 0.99)] * 1e3,
            }
        ),
        flush=True,
    )


def timed(calls):
    seconds = []
    for call in calls:
        started = time.perf_counter()
        call()
        seconds.append(time.perf_counter() - started)
    return seconds


def opened(args):
    store = {"collection_name": "memories", "embedding_model_dims": DIMENSION}
    store |= {"url": args.url} if args.url else {"path": f"{args.folder}/qdrant", "on_disk": True}
    memory = Memory.from_config(
        {
            "vector_store": {"provider": "qdrant", "config": store},
            "history_db_path": f"{args.folder}/history.db",
        }
    )
    memory.embedding_model = Hashed()
    return memory


def fill(memory, texts, many):
    """Points like the one that an add left."""
    like = memory.vector_store.list(filters={"user_id": "user-0"}, top_k=1)[0][0].payload
    for start in range(0, many, BATCH):
        some = [f"{texts[n % len(texts)]} ({n})" for n in range(start, min(many, start + BATCH))]
        payloads = []
        for text in some:
            payload = dict(like)
            for key, value in like.items():
                if key in ("data", "text_lemmatized"):
                    payload[key] = text if key == "data" else text.lower()
            payloads.append(payload)
        memory.vector_store.insert(
            vectors=[memory.embedding_model.embed(text) for text in some],
            payloads=payloads,
            ids=[str(uuid.uuid4()) for _ in some],
        )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("texts")
    parser.add_argument("questions")
    parser.add_argument("--memories", type=int, default=10_000)
    parser.add_argument("--adds", type=int, default=100)
    parser.add_argument("--searches", type=int, default=60)
    parser.add_argument("--url")
    args = parser.parse_args()
    with open(args.texts, encoding="utf-8") as file:
        texts = file.read().splitlines()
    with open(args.questions, encoding="utf-8") as file:
        questions = file.read().splitlines()
    memory = opened(args)
    memory.add("This is the first one.", user_id="user-0", infer=False)
    fill(memory, texts, args.memories)
    found = memory.search(questions[0], filters={"user_id": "user-0"}, top_k=10)
    assert found["results"], "nothing was found"
    told(
        "search",
        timed(
            lambda q=q: memory.search(q, filters={"user_id": "user-0"}, top_k=10)
            for q in questions[: args.searches]
        ),
    )
    told(
        "add_1",
        timed(
            lambda n=n: memory.add(f"{texts[n]} (new)", user_id="user-0", infer=False)
            for n in range(args.adds)
        ),
    )
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    print(json.dumps({"case": "memory", "rss_mb": peak * 1024 / 1e6}))


if __name__ == "__main__":
    main()
