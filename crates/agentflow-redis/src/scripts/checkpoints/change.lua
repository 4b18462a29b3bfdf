-- Removes checkpoints of one thread with their writes, and values, unless the thread changed.
-- KEYS: about, ids, rows, blobs, writes, tasks. ARGV: the revision that was seen; a run that must
-- not write any more, or nothing; then kind and field in turn. Kinds: P a checkpoint, B a value.
-- Returns 1, or 0 if the thread changed.
local about, ids, rows, blobs, writes, tasks = unpack(KEYS)
if (redis.call('HGET', about, 'revision') or '') ~= ARGV[1] then return 0 end
if ARGV[2] ~= '' then
  local writer = redis.call('HGET', about, 'writer')
  if writer and string.sub(writer, 1, #ARGV[2] + 1) == ARGV[2] .. ':' then
    redis.call('HDEL', about, 'writer')
  end
end
for i = 3, #ARGV, 2 do
  local kind, field = ARGV[i], ARGV[i + 1]
  if kind == 'P' then
    redis.call('ZREM', ids, field)
    redis.call('HDEL', rows, field)
    local names = redis.call('ZRANGE', tasks, '[' .. field .. '\0', '(' .. field .. '\1', 'BYLEX')
    for _, name in ipairs(names) do
      redis.call('HDEL', writes, name)
      redis.call('ZREM', tasks, name)
    end
  else
    redis.call('HDEL', blobs, field)
  end
end
if #ARGV > 2 then redis.call('HINCRBY', about, 'revision', 1) end
return 1
