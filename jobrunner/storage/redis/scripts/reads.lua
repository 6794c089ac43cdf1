-- Reads of clients: none looks at more than it shows, however long the history is.

local COUNT_LIMIT = 10000
local DAY = 86400000000

-- A row as JSON: names and values; nil when it is not there.
local function whole(seq)
  local flat = call('HGETALL', P .. 'run:' .. seq)
  if #flat == 0 then
    return nil
  end
  local found = map(flat)
  found.seq = seq
  return found
end

function operations.rows()
  local found = {}
  for _, seq in ipairs(request.seqs) do
    found[#found + 1] = whole(seq)
  end
  return encoded(found)
end

local function add_candidates(found, key, part, turn)
  local places = call('ZRANGEBYLEX', P .. key, '[' .. part, '(' .. part .. '\255', 'LIMIT', 0, 2)
  for _, place in ipairs(places) do
    found[string.match(place, ':(%d+)$')] = true
  end
end

-- SEQ of the run with this id; else of at most two or three whose id begins or ends so.
function operations.find()
  local exact = seq_of(request.part)
  if exact then
    return { exact }
  end
  local found, seqs = {}, {}
  add_candidates(found, 'ids', request.part)
  add_candidates(found, 'sdi', string.reverse(request.part))
  for seq in pairs(found) do
    seqs[#seqs + 1] = seq
  end
  return seqs
end

local STEP = 500 -- runs that one step looks at

-- SEQ of the newest runs of an index, and whether there are more.
local function newest_of(index, most)
  local found = call('ZREVRANGEBYSCORE', P .. index, '(' .. request.before, '-inf', 'LIMIT', 0, most)
  return found, #found == most
end

local function by_number_back(a, b)
  return tonumber(a) > tonumber(b)
end

-- The same of a state, over all tasks: as far back as all of them were looked at.
local function newest_in(state)
  local tasks, seqs, found, least, has_more = call('SMEMBERS', P .. 'tasks'), {}, {}, 0, false
  local most = math.max(20, math.ceil(STEP / #tasks))
  for _, task in ipairs(tasks) do
    local newest, goes_on = newest_of('task:' .. task .. ':' .. state, most)
    if goes_on then
      least, has_more = math.max(least, tonumber(newest[most])), true
    end
    for _, seq in ipairs(newest) do
      seqs[#seqs + 1] = seq
    end
  end
  table.sort(seqs, by_number_back)
  for i, seq in ipairs(seqs) do
    found[i] = tonumber(seq) >= least and seq or nil
  end
  return found, has_more
end

-- One step of a walk back by SEQ through an index, or all runs in a state: rows that fit, and where to go on
-- (false: at the end).
function operations.walk()
  local found, last = {}, false
  local seqs, has_more
  if request.index then
    seqs, has_more = newest_of(request.index, STEP)
  else
    seqs, has_more = newest_in(request.state)
  end
  for _, seq in ipairs(seqs) do
    local values = call('HMGET', P .. 'run:' .. seq, 'trigger', 'created_at')
    local created_at = tonumber(values[2] or '0')
    last = seq
    if (not request.triggers or request.triggers[values[1]]) and created_at >= request.since
      and created_at < request['until'] then
      found[#found + 1] = whole(seq)
      if #found == request.limit then
        return { encoded(found), false }
      end
    end
  end
  return { encoded(found), has_more and last or false }
end

function operations.created()
  if call('ZCOUNT', P .. 'created', request.since, '(' .. request['until']) > request.most then
    return false
  end
  return call('ZRANGEBYSCORE', P .. 'created', request.since, '(' .. request['until'])
end

function operations.pipeline()
  local found = call('ZRANGE', P .. 'pipe:' .. request.id, 0, -1)
  found[#found + 1] = seq_of(request.id)
  return found
end

function operations.holder()
  return call('HGET', P .. 'unique', request.key)
end

function operations.attempts()
  return call('HGETALL', P .. 'att:' .. request.seq)
end

function operations.edges()
  local found = {}
  for i, id in ipairs(request.ids) do
    local seq = seq_of(id)
    found[i] = seq and call('HGET', P .. 'run:' .. seq, 'after') or false
  end
  return found
end

-- --- overview ------------------------------------------------------------------------------------------

local function limited(number)
  return math.min(number, COUNT_LIMIT + 1)
end

local function first_of(key)
  return call('ZRANGE', P .. key, 0, 0)[1]
end

local function current_of(task)
  local running, root = first_of('task:' .. task .. ':running'), first_of('roots:' .. task)
  if running and root then
    return tonumber(running) < tonumber(root) and running or root
  end
  return running or root
end

local function recent_of(task, number)
  local found = {}
  for i, padded in ipairs(call('ZREVRANGE', P .. 'done:' .. task, 0, number - 1)) do
    local seq = unpad(padded)
    found[i] = { seq, unpack(call('HMGET', P .. 'run:' .. seq, 'state', 'failures', 'started_at', 'finished_at'), 1, 4) }
  end
  return found
end

local function summary_of(task)
  local prefix = 'task:' .. task .. ':'
  local recent = recent_of(task, math.max(1, request.recent))
  local retrying, current = first_of(prefix .. 'retrying'), current_of(task)
  return {
    queued = limited(call('ZCARD', P .. prefix .. 'queued')),
    running = limited(call('ZCARD', P .. prefix .. 'running') + call('ZCARD', P .. 'roots:' .. task)),
    retrying = retrying and whole(retrying) or nil,
    current = current and whole(current) or nil,
    last = recent[1] and whole(recent[1][1]) or nil,
    recent = #recent > 0 and recent or nil,
  }
end

local function ended_since(key)
  return call('ZCOUNT', P .. key, int(NOW - DAY), '+inf')
end

local function count_in(state, tasks)
  local number = 0
  for _, task in ipairs(tasks) do
    number = number + call('ZCARD', P .. 'task:' .. task .. ':' .. state)
  end
  return limited(number)
end

local MOST_RANKS = 1000 -- of a lane that are looked at

-- When the first of the runs that wait in a lane was due: of each rank the first is looked at.
local function oldest_of(lane)
  local oldest, from = math.huge, '-'
  for _ = 1, MOST_RANKS do
    local place = call('ZRANGEBYLEX', P .. 'lane:' .. lane, from, '+', 'LIMIT', 0, 1)[1]
    if not place then
      break
    end
    oldest, from = math.min(oldest, tonumber(string.sub(place, 21, 40))), '(' .. string.sub(place, 1, 20) .. ':'
  end
  return oldest
end

local function oldest_due()
  local oldest = math.huge
  for _, lane in ipairs(call('SMEMBERS', P .. 'lanes')) do
    oldest = math.min(oldest, oldest_of(lane))
  end
  return oldest < math.huge and int(oldest) or nil
end

function operations.overview()
  local found = { counts = {}, tasks = {} }
  local known = call('SMEMBERS', P .. 'tasks')
  for _, state in ipairs(request.states) do
    found.counts[state] = count_in(state, known)
  end
  for _, task in ipairs(request.tasks) do
    found.tasks[task] = summary_of(task)
  end
  found.oldest = oldest_due()
  local ended, others = ended_since('done'), 0
  for state in pairs(FINAL) do
    others = others + ended_since('ended:' .. state)
  end
  found.ok, found.failed, found.retried = limited(ended - others), limited(ended_since('ended:failed')), limited(ended_since('retried'))
  return cjson.encode(found)
end

function operations.writes()
  return call('GET', P .. 'writes')
end
