"""One request's life, whichever API it speaks: prepared, admitted, streamed or accumulated, ended."""
