-- args: the requests, each: schedule, expected version, the run, the names and values of the event, the entry of
-- the inbox that asks for it (or '').
local wrong = wrong_place()
if wrong then
  return wrong
end

local answers = {}
for index, request in ipairs(args[1]) do
  local schedule_id, expected, new, fields, entry_id = unpack(request, 1, 5)
  local row = read('schedule:' .. schedule_id, UNDER)
  if call('EXISTS', ns .. 'run:' .. new[1]) == 1 then
    answer(entry_id, {'answer', 'accepted', 'run_id', new[1]})
    answers[index] = 'repeated'
  elseif row.version ~= expected or not asks(entry_id) then
    answers[index] = 'stale'
  else
    local version = whole(tonumber(row.version) + 1)
    fire(row, new)
    call('HSET', ns .. 'schedule:' .. schedule_id, 'version', version)
    tell({'at', now, 'schedule_id', row.id, 'schedule', row.name, unpack(fields)}, row.id, row.name, new[1])
    promote(row.id)
    answer(entry_id, {'answer', 'accepted', 'run_id', new[1], 'version', version})
    answers[index] = 'accepted'
  end
end
return {answers, finish()}
