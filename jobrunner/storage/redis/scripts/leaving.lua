-- Retention: finished runs and results that are old or too many go, in small batches.

-- A run with all that belongs to it; nothing while some of that is not final.
local function whole_of(r)
  if r.pipeline and seq_of(r.pipeline) then
    return {} -- it goes with its root
  end
  local found = { r }
  for _, seq in ipairs(call('ZRANGE', P .. 'pipe:' .. r.id, 0, -1)) do
    local member = row(seq)
    if not FINAL[member.state] then
      return {}
    end
    found[#found + 1] = member
  end
  return found
end

local function past_retention()
  local gone, surplus, start = {}, call('ZCARD', P .. 'done') - request.max_runs, 0
  while true do
    local places = call('ZRANGE', P .. 'done', start, start + 199, 'WITHSCORES')
    for i = 1, #places, 2 do
      local is_old = tonumber(places[i + 1]) < NOW - request.history
      if #gone >= request.limit or not (is_old or #gone < surplus) then
        return gone
      end
      for _, each in ipairs(whole_of(row(unpad(places[i])))) do
        gone[#gone + 1] = each
      end
    end
    if #places < 400 then
      return gone
    end
    start = start + 200
  end
end

-- Whether the pipeline of a run still goes on.
local function is_needed(pipeline)
  local seq = pipeline and seq_of(pipeline)
  return seq and not FINAL[call('HGET', P .. 'run:' .. seq, 'state')]
end

local function remove_result(padded)
  local seq = unpad(padded)
  if is_needed(call('HGET', P .. 'run:' .. seq, 'pipeline')) then
    return 0
  end
  call('HDEL', P .. 'run:' .. seq, 'result')
  call('ZREM', P .. 'results', padded)
  dirty = true
  return 1
end

-- Results past their time, as many as runs; those that a pipeline still needs are passed over.
local function remove_results()
  local left, kept, before = request.limit, 0, '(' .. int(NOW - request.results)
  while left > 0 do
    local old = call('ZRANGEBYSCORE', P .. 'results', '-inf', before, 'LIMIT', kept, math.min(left, 200))
    if #old == 0 then
      return
    end
    for _, padded in ipairs(old) do
      local removed = remove_result(padded)
      left, kept = left - removed, kept + 1 - removed
    end
  end
end

function operations.prune()
  local ids = {}
  local gone = past_retention()
  remove_results()
  for i, r in ipairs(gone) do
    ids[i] = r.id
    remove(r)
    call('DEL', P .. 'pipe:' .. r.id)
  end
  ripple()
  return ids
end
