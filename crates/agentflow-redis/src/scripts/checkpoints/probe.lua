-- Uses the commands that the scripts of checkpoints use, on keys that it removes.
-- KEYS: three keys of one slot.
local _, hash, set = unpack(KEYS)
redis.call('HSET', hash, 'a', '1')
redis.call('HSETNX', hash, 'a', '1')
redis.call('HINCRBY', hash, 'a', 1)
redis.call('HGET', hash, 'a')
redis.call('HEXISTS', hash, 'a')
redis.call('HKEYS', hash)
redis.call('HSTRLEN', hash, 'a')
redis.call('PEXPIRE', hash, 1000)
redis.call('PERSIST', hash)
redis.call('HDEL', hash, 'a')
redis.call('ZADD', set, 0, 'a')
redis.call('ZRANGE', set, '[a', '[b', 'BYLEX')
redis.call('ZREM', set, 'a')
redis.call('UNLINK', hash, set)
return 'ok'
