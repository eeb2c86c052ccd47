-- with keys, grace
-- This server does not know a job: after a restart or a fail-over, gateways may be about to put it back. Nothing is written
-- for a model that a client made up.
-- argv: grace_ms:number
-- Returns {ms for which it may still come back, ms for which this server has run}
local up = uptime_ms()
local left = redis.call('EXISTS', SERVER_KEY) == 1 and grace_left(grace_ms) or 0
return {math.max(left, grace_ms - up, 0), up}
