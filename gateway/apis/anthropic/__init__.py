"""Anthropic's Messages API, because coding agents speak it, over the same jobs."""
