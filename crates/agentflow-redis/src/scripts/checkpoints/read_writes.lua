-- Reads the writes of one checkpoint.
-- KEYS: about, ids, rows, blobs, writes, tasks. ARGV: the field of the checkpoint.
-- Returns fields and values.
local names = redis.call('ZRANGE', KEYS[6], '[' .. ARGV[1] .. '\0', '(' .. ARGV[1] .. '\1', 'BYLEX')
local written = {}
for i, name in ipairs(names) do written[i] = redis.call('HGET', KEYS[5], name) end
return {names, written}
