-- What every call uses: the keys, the time, numbers. The files of this folder are one script, in the order
-- that `scripts.py` gives; a call names one of the operations at the end of each file.
--
-- Redis runs a script whole, with nobody beside it, and writes it to its journal whole; what it does not have
-- is a way back. So everything that may fail (the owner, the version, the shape of the request) is looked at
-- before the first write, and the state of a row is written before the places where it is found.

local call = redis.call
local P = KEYS[1] -- "{namespace}:"
local request = cjson.decode(ARGV[2])
local operations = {}

local FINAL = { succeeded = true, failed = true, cancelled = true, expired = true, skipped = true }
local FAILED = { failed = true, expired = true }
local MOST_AT_ONCE = 500 -- promoted, expired: in one exchange, as in the other storages

local NOW -- microseconds since the epoch: exact in a double until the year 2255

if request.now then
  NOW = tonumber(request.now)
else
  local time = call('TIME')
  NOW = tonumber(time[1]) * 1000000 + tonumber(time[2])
end

local dirty = false -- whether anything was written that others should look at
local frees = false -- whether a run became claimable, or a lock free
local rings = false -- whether supervisors must look, whatever else is there
local finals = {} -- ids of the runs that became final, or went: nobody has looked who waits for them
local ends = {} -- id -> state of the runs that became final: nobody was told
local fresh = {} -- SEQ of the runs that wait: nobody has looked what for

local function int(number)
  return string.format('%.0f', number)
end

local function pad(seq)
  return string.rep('0', 16 - #seq) .. seq
end

local function unpad(text)
  return string.match(text, '^0*(.*)$')
end

-- Below `maxmemory` nothing of this matters. At it, Redis refuses the first command of a script that needs
-- memory, unless another write came before it: completions begin with this one, adds do not.
local function allow_growth()
  call('DEL', P .. 'nothing')
end

local function map(flat)
  local found = {}
  for i = 1, #flat, 2 do
    found[flat[i]] = flat[i + 1]
  end
  return found
end

local function write_hash(key, flat)
  for i = 1, #flat, 1000 do
    call('HSET', key, unpack(flat, i, math.min(i + 999, #flat)))
  end
end

-- The places of many rows, written together: one command for each set of them, not one for each row. While
-- they are gathered nobody may read a place; what is gathered leaves its places before it takes new ones.

-- { left = { key -> members }, taken = { key -> scores and members }, joined = { key -> members },
--   dropped = { key -> names }, noted = { key -> names and values } }
local gathered

local function gather()
  gathered = gathered or { left = {}, taken = {}, joined = {}, dropped = {}, noted = {} }
end

-- Write many members, or pairs of what belongs to them, to one place.
local function write_list(command, key, list)
  for i = 1, #list, 1000 do
    call(command, P .. key, unpack(list, i, math.min(i + 999, #list)))
  end
end

local function list_of(places, key)
  local list = places[key]
  if not list then
    list = {}
    places[key] = list
  end
  return list
end

local function write_places(command, places)
  for key, list in pairs(places) do
    write_list(command, key, list)
  end
end

local function write_gathered()
  local found = gathered
  gathered = nil
  if found then
    write_places('ZREM', found.left)
    write_places('HDEL', found.dropped)
    write_places('ZADD', found.taken)
    write_places('HSET', found.noted)
    for key, members in pairs(found.joined) do
      for member in pairs(members) do
        call('SADD', P .. key, member)
      end
    end
  end
end

local function take_place(key, score, member)
  if gathered then
    local list = list_of(gathered.taken, key)
    list[#list + 1], list[#list + 2] = score, member
  else
    call('ZADD', P .. key, score, member)
  end
end

local function leave_place(key, member)
  if gathered then
    local list = list_of(gathered.left, key)
    list[#list + 1] = member
  else
    call('ZREM', P .. key, member)
  end
end

local function note(key, name, value)
  if gathered then
    local list = list_of(gathered.noted, key)
    list[#list + 1], list[#list + 2] = name, value
  else
    call('HSET', P .. key, name, value)
  end
end

local function drop_note(key, name)
  if gathered then
    local list = list_of(gathered.dropped, key)
    list[#list + 1] = name
  else
    call('HDEL', P .. key, name)
  end
end

local function join_set(key, member)
  if gathered then
    list_of(gathered.joined, key)[member] = true
  else
    call('SADD', P .. key, member)
  end
end

local function first_score(key)
  local found = call('ZRANGE', P .. key, 0, 0, 'WITHSCORES')
  return found[2] and tonumber(found[2]) or math.huge
end

local function encoded(list)
  return #list > 0 and cjson.encode(list) or '[]'
end

local function by_number(a, b)
  return tonumber(a) < tonumber(b)
end
