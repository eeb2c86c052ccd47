"""What an error looks like to a client: one table from codes to OpenAI's JSON, and pydantic's findings in words."""
