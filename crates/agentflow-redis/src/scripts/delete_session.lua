-- Removes a session; returns tenant and principal, nil if there was none.
-- KEYS: the session.
local found = redis.call('HMGET', KEYS[1], 'tenant', 'principal')
if not found[1] then return false end
redis.call('DEL', KEYS[1])
return found
