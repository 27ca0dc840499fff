-- args: the notes, each: run, token, done and total (or nil), the lines, each: its size in bytes, and at,
-- attempt, level, text; then how many bytes a run keeps, and the level and the text of the line after those.
local notes, bytes_max, dropped, said = unpack(args, 1, 4)
local answers = {}
for index, note in ipairs(notes) do
  local id, token, done, total, lines = unpack(note, 1, 5)
  local state, current, size = unpack(values('run:' .. id, {'state', 'token', 'log_bytes'}))
  answers[index] = state == 'running' and current == token and 1 or 0
  if answers[index] == 1 then
    if done then
      call('HSET', ns .. 'run:' .. id, 'progress_done', done, 'progress_total', total)
    end
    size = tonumber(size or '0')
    for _, line in ipairs(lines) do
      if size > bytes_max then
        break
      end
      local bytes, at, attempt, level, text = unpack(line, 1, 5)
      size = size + bytes
      if size > bytes_max then
        level, text = dropped, said
      end
      call('RPUSH', ns .. 'log:' .. id, at, attempt, level, text)
    end
    if #lines > 0 then
      call('HSET', ns .. 'run:' .. id, 'log_bytes', whole(size))
    end
  end
end
return answers
