"""OpenAI's conversations: items that are kept beside the responses that add to them."""
