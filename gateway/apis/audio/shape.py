"""The form of `POST /v1/audio/transcriptions` and `/v1/audio/translations`, once its file is beside it."""

from typing import Annotated, Any, Literal, get_args

from pydantic import Field

from millstream.gateway.apis.shared.shapes.base import WORDS, Most, Seed, Shape

AudioTask = Literal["transcribe", "translate"]
AudioFormat = Literal["json", "text", "srt", "verbose_json", "vtt"]
Granularities = Annotated[list[Literal["word", "segment"]], Most(WORDS)]
MOST_PROMPT = 16_384  # characters; a model reads the last 223 tokens
FORM: dict[str, Any] = {  # read by hand, so described by hand
    "requestBody": {
        "required": True,
        "content": {
            "multipart/form-data": {
                "schema": {
                    "type": "object",
                    "required": ["file", "model"],
                    "properties": {
                        "file": {"type": "string", "format": "binary"},
                        "model": {"type": "string", "example": "whisper-small"},
                        "language": {"type": "string", "example": "en"},
                        "prompt": {"type": "string", "maxLength": MOST_PROMPT},
                        "response_format": {"type": "string", "enum": list(get_args(AudioFormat))},
                        "temperature": {"type": "number", "minimum": 0, "maximum": 1},
                        "seed": {"type": "integer"},
                        "stream": {"type": "boolean"},
                        "timestamp_granularities[]": {
                            "type": "array",
                            "items": {"type": "string", "enum": ["segment"]},
                        },
                    },
                }
            }
        },
    }
}


class AudioForm(Shape):
    """The fields beside the file; `digest` is the file's, so that a retry with another one is a conflict."""

    model: str
    task: AudioTask
    digest: str = ""
    language: str | None = Field(default=None, max_length=64)
    prompt: str | None = Field(default=None, max_length=MOST_PROMPT)
    response_format: AudioFormat = "json"
    temperature: float = Field(default=0.0, ge=0, le=1)
    seed: Seed | None = None
    stream: bool = False
    timestamp_granularities: Granularities = Field(default_factory=list[Literal["word", "segment"]])
