-- with time, keys
-- A look at a model's workers and queue, all of one moment.
-- Returns {now ms, jobs waiting, {worker, lease end...}, {worker, load...}}
return {
  tostring(NOW),
  redis.call('HGET', WAITING_KEY, 'jobs') or '0',
  redis.call('ZRANGE', LEASES_KEY, 0, -1, 'WITHSCORES'),
  redis.call('ZRANGE', LOAD_KEY, 0, -1, 'WITHSCORES'),
}
