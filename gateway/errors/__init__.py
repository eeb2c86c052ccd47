"""The errors that clients see: one table from codes to OpenAI's JSON, and pydantic's findings in words."""
