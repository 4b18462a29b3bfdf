-- Makes somebody the thread's writer if the one before is the one that was seen.
-- KEYS: about. ARGV: the writer that was seen, or nothing; the new one; how long, in ms, this is
-- remembered of a thread without checkpoints.
local writer = redis.call('HGET', KEYS[1], 'writer') or ''
if writer == ARGV[2] then return 1 end
if writer ~= ARGV[1] then return 0 end
redis.call('HSET', KEYS[1], 'writer', ARGV[2])
if redis.call('HEXISTS', KEYS[1], 'generation') == 0 then
  redis.call('PEXPIRE', KEYS[1], ARGV[3])
end
return 1
