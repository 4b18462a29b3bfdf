-- Takes a thread off the list, unless another generation of it is there.
-- KEYS: the list. ARGV: the thread, its generation.
if redis.call('HGET', KEYS[1], ARGV[1]) == ARGV[2] then
  return redis.call('HDEL', KEYS[1], ARGV[1])
end
return 0
