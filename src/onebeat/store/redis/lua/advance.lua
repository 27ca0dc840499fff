-- args: of each transition, which of the forms it has, its run and its token (or false); and the forms, each a
-- move's name and what it needs, and the event that it leaves. Returns, in columns: answer, state, token, flag,
-- and the run where a guard has taken it, else false.
local wrong = wrong_place()
if wrong then
  return wrong
end
local which, ids, tokens, forms = unpack(args[1], 1, 4)

-- Every run is looked at before the first is moved. Of those whose holder only begins or renews, which are
-- most, no more is read than that needs.
local HELD = {'state', 'token', 'lease_until', 'deadline_at', 'started_at', 'cancel_requested'}
local KEEPS = {start = true, renew = true}
local held = {}
for index, id in ipairs(ids) do
  if not KEEPS[forms[which[index]].kind] then
    run_of(id)
  end
end
for _, id in ipairs(ids) do
  if not loaded[id] and not held[id] then
    held[id] = read('run:' .. id, HELD)
    held[id].id = id
  end
end

local answers, states, given, flags, taken = {}, {}, {}, {}, {}
for index, id in ipairs(ids) do
  local step = forms[which[index]]
  step.token = tokens[index]
  local run = loaded[id] or held[id]
  run = run.state and run or nil
  local changes = run and not barred(run, step) and MOVES[step.kind](run, step)
  local answer = 'refused'
  if changes == 'repeated' then
    answer = 'repeated'
  elseif changes then
    answer = 'accepted'
    change(run, changes)
    if step.event then
      tell(unpack(step.event, 1, 5))
    end
    if FINISHED[run.state] then
      promote(run.schedule_id)
    end
  end
  answers[index], states[index] = answer, run and run.state or ''
  given[index] = answer == 'accepted' and (step.kind == 'guard' or step.kind == 'renew') and run.token or '0'
  flags[index] = run and run.cancel_requested or ''
  taken[index] = answer == 'accepted' and step.kind == 'guard' and run
end
return cmsgpack.pack({{answers, states, given, flags, taken}, finish()})
