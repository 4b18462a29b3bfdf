"""What a caller may choose."""

import os
from dataclasses import dataclass, field
from typing import Annotated


def _default_model() -> str:
    return os.environ.get("MODEL", "openai:gpt-4o-mini")


@dataclass(kw_only=True)
class Context:
    """The context of a run."""

    system_prompt: str = field(
        default="You are a helpful assistant.",
        metadata={"description": "What the model is told first."},
    )
    model: Annotated[str, {"__template_metadata__": {"kind": "llm"}}] = field(
        default_factory=_default_model,
        metadata={"description": "Provider and model, as provider:model."},
    )
