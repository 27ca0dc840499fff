-- The inbox: a stream that others append to. What was answered leaves it, and stands in a hash of its own.

-- Whether an entry is there without an answer; '' is no entry at all, and always there.
local function asks(entry_id)
  if not entry_id or entry_id == '' then
    return true
  end
  return entry_id:match('^%d+%-%d+$') and #call('XRANGE', ns .. 'inbox', entry_id, entry_id) == 1
end

local function words_of(entry)
  local words = {}
  for index = 1, #entry[2] - 1, 2 do
    words[entry[2][index]] = entry[2][index + 1]
  end
  return words
end

-- Answer an entry, once: names and values of what is said. Return whether it was.
local function answer(entry_id, said)
  if not entry_id or entry_id == '' or not asks(entry_id) then
    return 0
  end
  local words = words_of(call('XRANGE', ns .. 'inbox', entry_id, entry_id)[1])
  local fields = {'answered_at', now}
  for _, name in ipairs({'key', 'kind', 'name', 'actor', 'reason'}) do
    if words[name] then
      fields[#fields + 1] = name
      fields[#fields + 1] = words[name]:sub(1, 2000)
    end
  end
  for _, value in ipairs(said) do
    fields[#fields + 1] = value
  end
  call('HSET', ns .. 'answer:' .. entry_id, unpack(fields))
  call('ZADD', ns .. 'answered', now, entry_id)
  if words.key and words.key ~= '' then
    call('HSETNX', ns .. 'answered-keys', words.key, entry_id)
  end
  call('XDEL', ns .. 'inbox', entry_id)
  return 1
end

-- The answer to the first entry of a key, with its entry's id; an empty table where there is none.
local function first_of(key)
  local entry_id = key and key ~= '' and call('HGET', ns .. 'answered-keys', key)
  if not entry_id then
    return {}
  end
  local fields = all('answer:' .. entry_id)
  fields[#fields + 1] = 'entry_id'
  fields[#fields + 1] = entry_id
  return fields
end
