-- This server's time, which all of Millstream runs by.
local CLOCK = redis.call('TIME')
local NOW = CLOCK[1] * 1000 + math.floor(CLOCK[2] / 1000)  -- milliseconds
