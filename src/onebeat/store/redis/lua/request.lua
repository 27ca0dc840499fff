-- args: the requests, each: schedule, expected version, the run, the names and values of the event.
local wrong = wrong_place()
if wrong then
  return wrong
end

local answers = {}
for index, request in ipairs(args[1]) do
  local schedule_id, expected, new, fields = unpack(request, 1, 4)
  local row = read('schedule:' .. schedule_id, UNDER)
  if call('EXISTS', ns .. 'run:' .. new[1]) == 1 then
    answers[index] = 'repeated'
  elseif row.version ~= expected then
    answers[index] = 'stale'
  else
    fire(row, new)
    call('HSET', ns .. 'schedule:' .. schedule_id, 'version', whole(tonumber(row.version) + 1))
    tell({'at', now, 'schedule_id', row.id, 'schedule', row.name, unpack(fields)}, row.id, row.name, new[1])
    promote(row.id)
    answers[index] = 'accepted'
  end
end
return {answers, finish()}
