-- Stores checkpoints and writes of one thread, whole or not at all: whatever could be refused is
-- looked at first.
-- KEYS: about, ids, rows, blobs, writes, tasks. ARGV: the writer that must be the thread's, '-' if
-- it must have none, nothing if it does not matter; a generation for a thread that is new, or nothing; the thread's id; time to live in ms,
-- or nothing; then kind, field and value in turn. Kinds: P a checkpoint, B a value, W a write that
-- counts if it is the first in its place, R one that replaces.
-- Returns 'ok'; 'fenced' if the writer is another one; 'new' if a generation is wanted; 'missing'
-- if a checkpoint names a value that is not there.
local about, ids, rows, blobs, writes, tasks = unpack(KEYS)
local writer = ARGV[1] ~= '' and (redis.call('HGET', about, 'writer') or '-')
if writer and writer ~= ARGV[1] then return 'fenced' end
local is_new = redis.call('HEXISTS', about, 'generation') == 0
if is_new and ARGV[2] == '' then return 'new' end
local given = {}
for i = 5, #ARGV, 3 do
  if ARGV[i] == 'B' then given[ARGV[i + 1]] = true end
end
for i = 5, #ARGV, 3 do
  if ARGV[i] == 'P' then
    local row, at, part, n = ARGV[i + 2], 1, nil, 0
    while at <= #row do
      part, at = struct.unpack('>I4c0', row, at)
      n = n + 1
      if n > 4 and not given[part] and redis.call('HEXISTS', blobs, part) == 0 then
        return 'missing'
      end
    end
  end
end
if is_new then
  redis.call('HSET', about, 'layout', '1', 'thread', ARGV[3], 'generation', ARGV[2])
end
for i = 5, #ARGV, 3 do
  local kind, field, value = ARGV[i], ARGV[i + 1], ARGV[i + 2]
  if kind == 'P' then
    redis.call('HSET', rows, field, value)
    redis.call('ZADD', ids, 0, field)
  elseif kind == 'B' then
    redis.call('HSET', blobs, field, value)
  else
    redis.call(kind == 'W' and 'HSETNX' or 'HSET', writes, field, value)
    redis.call('ZADD', tasks, 0, field)
  end
end
redis.call('HINCRBY', about, 'revision', 1)
if ARGV[4] ~= '' then
  for _, key in ipairs(KEYS) do redis.call('PEXPIRE', key, ARGV[4]) end
elseif redis.call('PERSIST', about) == 1 then
  for _, key in ipairs(KEYS) do redis.call('PERSIST', key) end
end
return 'ok'
