-- with grace
-- This server does not know a job: after a restart or a fail-over, gateways may be about to put it back.
-- argv: grace_ms:number
-- Returns {ms for which it may still come back, ms for which this server has run}
local up = uptime_ms()
return {math.max(grace_left(grace_ms), grace_ms - up, 0), up}
