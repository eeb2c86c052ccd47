"""Whisper: recordings to text, slice by slice."""
