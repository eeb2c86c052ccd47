"""Anthropic's Messages API, because coding agents speak it: shapes, intake and presentation over the same jobs."""
