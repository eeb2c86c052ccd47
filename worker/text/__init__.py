"""Between tokens and text: prompts, transcripts, stop strings, reasoning and tool calls."""
