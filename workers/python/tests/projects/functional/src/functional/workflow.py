"""Writes an essay in parts, asks whether it is good, and remembers how many it wrote."""

import os
from typing import TypedDict

from langchain_openai import ChatOpenAI
from langgraph.config import get_stream_writer
from langgraph.func import entrypoint, task
from langgraph.types import interrupt


class Essay(TypedDict):
    """What comes of it."""

    text: str
    review: str
    written: int


@task
def paragraph(topic: str, number: int) -> str:
    """One paragraph by the model."""
    get_stream_writer()({"writing": number})
    model = ChatOpenAI(model=os.environ["MODEL"])
    return str(model.invoke(f"Paragraph {number} about {topic}.").content)


@task
async def join(parts: list[str]) -> str:
    """All in one."""
    return " ".join(parts)


@entrypoint()
async def workflow(topic: str, *, previous: int | None = None) -> entrypoint.final[Essay, int]:
    """The workflow."""
    parts = [paragraph(topic, number) for number in (1, 2)]
    text = await join([await part for part in parts])
    review = interrupt({"question": "Is this good?", "text": text})
    written = (previous or 0) + 1
    essay: Essay = {"text": text, "review": review, "written": written}
    return entrypoint.final(value=essay, save=written)
