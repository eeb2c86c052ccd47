"""The page in a real browser (Debian's Chromium through Playwright), at real gateways and workers."""
