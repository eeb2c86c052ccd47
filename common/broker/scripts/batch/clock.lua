-- with time
-- This server's time (ms), which leases run by.
return NOW
