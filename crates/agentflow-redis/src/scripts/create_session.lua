-- Stores a session unless its key is taken. The same request again, whose answer was lost, is
-- answered as the first time.
-- KEYS: the session. ARGV: time to live in ms, then field and value in turn.
if redis.call('EXISTS', KEYS[1]) == 1 then
  local found = redis.call('HMGET', KEYS[1], 'tenant', 'principal', 'data', 'created')
  local asked = {}
  for i = 2, #ARGV, 2 do asked[ARGV[i]] = ARGV[i + 1] end
  if found[1] == asked.tenant and found[2] == asked.principal and found[3] == asked.data
    and found[4] == asked.created then
    return 1
  end
  return 0
end
redis.call('HSET', KEYS[1], unpack(ARGV, 2))
redis.call('PEXPIRE', KEYS[1], ARGV[1])
return 1
