"""Prints golden vectors of LangGraph's encrypted serializer as JSON.

usage: golden_aes.py > tests/golden/aes.json

Needs langgraph and pycryptodome.
"""

import json

from langgraph.checkpoint.serde.encrypted import EncryptedSerializer

KEYS = ["0123456789abcdef", "0123456789abcdef01234567", "0123456789abcdef0123456789abcdef"]
VALUES = {"nil": None, "bytes": b"\x00\xff", "text": "hello", "map": {"a": [1, 2.5, None]}, "long": "x" * 1000}

vectors = []
for key in KEYS:
    serde = EncryptedSerializer.from_pycryptodome_aes(key=key.encode())
    for name, value in VALUES.items():
        word, data = serde.dumps_typed(value)
        plain_word, plain = serde.serde.dumps_typed(value)
        vectors.append(
            {"key": key, "name": name, "word": word, "hex": data.hex(), "plain_word": plain_word, "plain": plain.hex()}
        )
print(json.dumps(vectors, indent=1))
