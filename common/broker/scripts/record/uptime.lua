-- with grace
-- For how long this server has run. Its keys lie in the slot of the record that was looked for, so it is asked there.
-- Returns ms
return uptime_ms()
