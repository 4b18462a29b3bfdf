-- Removes all of a thread.
-- KEYS: about, ids, rows, blobs, writes, tasks. ARGV: in microseconds, what must be older; nothing
-- for whatever there is.
-- Returns the thread's generation, which begins with when it was made; nothing if there was none.
local generation = redis.call('HGET', KEYS[1], 'generation') or ''
local made = tonumber(string.match(generation, '^%d+') or '0')
if ARGV[1] ~= '' and made > tonumber(ARGV[1]) then return '' end
redis.call('UNLINK', unpack(KEYS))
return generation
