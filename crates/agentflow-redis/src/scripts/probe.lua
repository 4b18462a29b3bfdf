-- Uses the commands that the other scripts use, on keys that it removes.
-- KEYS: three keys of one slot.
local text, hash, set = KEYS[1], KEYS[2], KEYS[3]
redis.call('SET', text, '1', 'PX', 1000)
redis.call('GET', text)
redis.call('HSET', hash, 'a', '1')
redis.call('HMGET', hash, 'a')
redis.call('PEXPIRE', hash, 1000)
redis.call('ZADD', set, 1, 'a')
redis.call('ZRANGE', set, 0, 0)
redis.call('ZREM', set, 'a')
redis.call('EXISTS', text)
redis.call('DEL', text, hash, set)
return 'ok'
