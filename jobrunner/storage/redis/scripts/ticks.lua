-- Schedules: watermarks, ticks moved by compare-and-set, and the overlap judged in the same write
-- (`jobrunner.storage.overlap`).

function operations.watermarks()
  local found = {}
  for i = 1, #request.keys, 2 do
    local key, next_at = request.keys[i], request.keys[i + 1]
    if call('HSETNX', P .. 'watermarks', key, request.given) == 1 then
      dirty = true
    end
    call('HSET', P .. 'next_ticks', key, next_at)
    found[#found + 1] = call('HGET', P .. 'watermarks', key)
  end
  return found
end

function operations.next_ticks()
  return call('HGETALL', P .. 'next_ticks')
end

-- Whether a row waits for another run to end (of a pipeline whether one of its steps does).
local function waits_behind(r)
  if not r or r.state ~= 'waiting' or r.join then
    return false
  end
  for _, edge in ipairs(cjson.decode(r.after or '[]')) do
    if edge[2] == 'final' then
      return true
    end
  end
  return false
end

local function is_behind(r)
  if not (r.join and not r.pipeline) then
    return waits_behind(r)
  end
  for _, seq in ipairs(call('ZRANGE', P .. 'pipe:' .. r.id, 0, -1)) do
    if waits_behind(row(seq)) then
      return true
    end
  end
  return false
end

-- SEQ of the runs in the way of a tick of the task, the first enqueued first; of each kind at most `most`.
local function holders_of(task, most)
  local found = {}
  local function take(key)
    for _, seq in ipairs(call('ZRANGE', P .. key .. task, 0, most - 1)) do
      found[#found + 1] = seq
    end
  end
  take('ticking:')
  for _, state in ipairs({ 'queued', 'running', 'retrying' }) do
    for _, seq in ipairs(call('ZRANGE', P .. 'task:' .. task .. ':' .. state, 0, most - 1)) do
      found[#found + 1] = seq
    end
  end
  for _, seq in ipairs(call('ZRANGE', P .. 'roots:' .. task, 0, -1)) do
    local r = row(seq)
    if not is_behind(r) and (r.tick or tonumber(r.due_at) <= NOW) then
      found[#found + 1] = seq
    end
  end
  table.sort(found, by_number)
  return found
end

-- Earlier ticks that still wait for what is in the way: a newer one takes their place.
local function superseded_of(task)
  local found = {}
  for _, seq in ipairs(call('ZRANGE', P .. 'task:' .. task .. ':waiting', 0, -1)) do
    local r = row(seq)
    if call('HGET', P .. 'run:' .. seq, 'trigger') == 'schedule' and is_behind(r) then
      found[#found + 1] = r.id
    end
  end
  return found
end

-- Add the runs of a tick, which no unique key refuses.
local function add_tick(rows)
  if rows[1].unique and call('HEXISTS', P .. 'unique', rows[1].unique) == 1 then
    rows[1].unique = nil
  end
  add_all(rows)
  ripple()
end

-- The run of a tick and the members of its pipeline, of which there may be thousands.
local function whole_tick(tick)
  local rows = { tick.run }
  for _, member in ipairs(tick.members) do
    rows[#rows + 1] = member
  end
  return rows
end

-- End what gives way to the tick; let its runs wait for the rest.
local function queue_behind(tick, holders)
  local gone, edges = superseded_of(tick.run.task), {}
  for _, seq in ipairs(holders) do
    gone[#gone + 1] = tick.overlap == 'replace' and call('HGET', P .. 'run:' .. seq, 'id') or nil
  end
  for _, id in ipairs(gone) do
    cancel(id, 'superseded')
  end
  ripple()
  for _, seq in ipairs(holders) do
    local values = call('HMGET', P .. 'run:' .. seq, 'id', 'state')
    if values[1] and not FINAL[values[2]] then
      edges[#edges + 1] = { values[1], 'final' }
    end
  end
  local rows = whole_tick(tick)
  for _, r in ipairs(rows) do
    if #edges > 0 and not (r.after or r.join or FINAL[r.state]) then
      r.state, r.after = 'waiting', cjson.encode(edges)
    end
  end
  add_tick(rows)
end

local function enter_tick(tick)
  local queues = tick.overlap == 'queue' or tick.overlap == 'replace'
  local holders = holders_of(tick.run.task, queues and 1000000 or 1)
  local first = holders[1] and call('HGET', P .. 'run:' .. holders[1], 'id') or false
  if queues then
    if not seq_of(tick.run.id) then
      queue_behind(tick, holders)
    end
    return first
  elseif tick.refused and first then
    tick.refused.detail = string.gsub(tick.refused.detail, '\\u0000', first)
    add_tick({ tick.refused })
    return first
  end
  add_tick(whole_tick(tick))
  return false
end

-- The watermark moves last: what comes before it may be done again.
function operations.tick()
  local verdicts = {}
  for i, tick in ipairs(request.ticks) do
    local known = call('HGET', P .. 'watermarks', tick.schedule)
    if known and known ~= tick.expected then
      verdicts[i] = { known, 0, false }
    else
      local holder = tick.run and enter_tick(tick) or false
      call('HSET', P .. 'watermarks', tick.schedule, tick.tick)
      call('HSET', P .. 'next_ticks', tick.schedule, tick.next_at)
      dirty = true
      verdicts[i] = { tick.tick, 1, holder }
    end
  end
  rings = rings or frees
  return verdicts
end
