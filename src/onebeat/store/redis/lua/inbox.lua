-- args: what is wished: to answer entries (each an id, and names and values), to read those that wait or the newest
-- that were answered (how many; how much of a document), or to forget (until when; how many).
local inbox = {}

function inbox.answer(answers)
  local told = {}
  for index, each in ipairs(answers) do
    told[index] = answer(each[1], each[2])
  end
  return told
end

function inbox.waiting(limit, most)
  local found = {}
  for index, entry in ipairs(call('XRANGE', ns .. 'inbox', '-', '+', 'COUNT', limit)) do
    local words = words_of(entry)
    local fields = {}
    for _, name in ipairs({'key', 'kind', 'name', 'actor', 'reason'}) do
      fields[#fields + 1] = name
      fields[#fields + 1] = (words[name] or ''):sub(1, 2000)
    end
    fields[#fields + 1] = 'document'
    fields[#fields + 1] = (words.document or ''):sub(1, most)
    found[index] = {entry[1], fields, first_of(words.key)}
  end
  return found
end

function inbox.answered(limit)
  local found = {}
  for index, id in ipairs(call('ZREVRANGE', ns .. 'answered', 0, limit - 1)) do
    local fields = all('answer:' .. id)
    local key = call('HGET', ns .. 'answer:' .. id, 'key')
    local first = first_of(key)
    found[index] = {id, fields, first[#first] ~= id and first or {}}
  end
  return found
end

function inbox.forget(before, limit)
  local old = call('ZRANGEBYSCORE', ns .. 'answered', '-inf', '(' .. before, 'LIMIT', 0, limit)
  for _, id in ipairs(old) do
    local key = call('HGET', ns .. 'answer:' .. id, 'key')
    if key and call('HGET', ns .. 'answered-keys', key) == id then
      call('HDEL', ns .. 'answered-keys', key)
    end
    call('DEL', ns .. 'answer:' .. id)
    call('ZREM', ns .. 'answered', id)
  end
  return #old
end

local found = call('TYPE', ns .. 'inbox').ok
if found ~= 'none' and found ~= 'stream' then
  return redis.error_reply('ONEBEATWRONG ' .. ns .. 'inbox is a ' .. found .. ' and no stream')
end
return inbox[args[1]](unpack(args, 2, 4))
