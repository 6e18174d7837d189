"""The fields of Anthropic's requests (CONTRACT 3)."""

from __future__ import annotations

from typing import Annotated, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, Tag, model_validator

from ..wire_model import JsonObject, WireModel

OTHER = "other"  # the tag of a block whose type is not known here


class ImageSource(WireModel):
    type: str = ""


class TextBlock(WireModel):
    text: str = ""


class ImageBlock(WireModel):
    source: ImageSource | None = None

    @model_validator(mode="after")
    def _has_data(self) -> Self:
        if self.source is None:
            raise ValueError("invalid image source")
        if self.source.type != "base64":
            text = f"invalid image source type: {self.source.type}"
            raise ValueError(f"{text}. Only base64 images are supported.")
        return self


class ThinkingBlock(WireModel):
    """Its signature is not looked at: this daemon signs nothing."""

    thinking: str = ""


class ToolUseBlock(WireModel):
    id: str = ""
    name: str = ""
    input: JsonObject = {}

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        for field in ("id", "name"):
            if not getattr(self, field):
                raise ValueError(f"tool_use block missing required '{field}' field")
        return self


class DocumentSource(WireModel):
    type: str = ""
    data: str = ""


class DocumentBlock(WireModel):
    source: DocumentSource = DocumentSource()

    @model_validator(mode="after")
    def _is_text(self) -> Self:
        if self.source.type != "text":
            raise ValueError("documents are not supported unless they are plain text")
        return self


class OtherBlock(WireModel):
    """A block that is passed over, such as redacted thinking or a search on a server."""


def _tag(kinds: tuple[str, ...]) -> Discriminator:
    """Chooses the class of a block by its type; unknown types are not refused."""

    def choose(block: object) -> str:
        kind = block.get("type") if isinstance(block, dict) else None
        return kind if isinstance(kind, str) and kind in kinds else OTHER

    return Discriminator(choose)


def _as_blocks(content: object) -> object:
    """String content is one text block (CONTRACT 3)."""
    return [{"type": "text", "text": content}] if isinstance(content, str) else content


ResultBlock = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[DocumentBlock, Tag("document")]
    | Annotated[OtherBlock, Tag(OTHER)],
    _tag(("text", "image", "document")),
]


class ToolResultBlock(WireModel):
    tool_use_id: str = ""
    content: Annotated[list[ResultBlock], BeforeValidator(_as_blocks)] = []
    is_error: bool = False

    @model_validator(mode="after")
    def _is_complete(self) -> Self:
        if not self.tool_use_id:
            raise ValueError("tool_result block missing required 'tool_use_id' field")
        return self


Block = Annotated[
    Annotated[TextBlock, Tag("text")]
    | Annotated[ImageBlock, Tag("image")]
    | Annotated[DocumentBlock, Tag("document")]
    | Annotated[ThinkingBlock, Tag("thinking")]
    | Annotated[ToolUseBlock, Tag("tool_use")]
    | Annotated[ToolResultBlock, Tag("tool_result")]
    | Annotated[OtherBlock, Tag(OTHER)],
    _tag(("text", "image", "document", "thinking", "tool_use", "tool_result")),
]
SystemBlocks = Annotated[list[TextBlock], BeforeValidator(_as_blocks)]


class InputMessage(WireModel):
    role: Literal["user", "assistant", "system"]
    content: Annotated[list[Block], BeforeValidator(_as_blocks)] = []


class InputTool(WireModel):
    """A type other than "custom" names a tool of Anthropic's, which has no schema."""

    type: str = "custom"
    name: str = ""
    description: str = ""
    input_schema: object = None

    @model_validator(mode="after")
    def _has_schema(self) -> Self:
        if self.type != "custom":
            return self
        if not self.name:
            raise ValueError("a tool has no name")
        if not isinstance(self.input_schema, dict | None):
            raise ValueError(f'invalid input_schema for tool "{self.name}": it is no JSON object')
        return self


class ToolChoice(WireModel):
    type: Literal["auto", "any", "tool", "none"] = "auto"
    name: str = ""
    disable_parallel_tool_use: bool = False


class ThinkingChoice(WireModel):
    """`enabled` or `disabled`; any other type leaves it to the model."""

    type: str = ""


class AnswerFormat(WireModel):
    type: str = ""
    schema_: JsonObject = Field({}, alias="schema")


class OutputConfig(WireModel):
    effort: str = ""
    format: AnswerFormat | None = None


class CountRequest(WireModel):
    """The fields that make a prompt: those of /v1/messages/count_tokens."""

    model: str = ""
    messages: list[InputMessage] = []
    system: SystemBlocks = []
    tools: list[InputTool] = []
    tool_choice: ToolChoice = ToolChoice()
    thinking: ThinkingChoice = ThinkingChoice()
    output_config: OutputConfig = OutputConfig()


class MessagesRequest(CountRequest):
    max_tokens: int = 0
    stream: bool = False
    temperature: float | None = None
    top_p: float | None = None
    top_k: int | None = None
    stop_sequences: list[str] = []
