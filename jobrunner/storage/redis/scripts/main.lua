-- One call: its operation, and the word to those who wait for it.

local answer = operations[ARGV[1]]()
if dirty then
  call('INCR', P .. 'writes')
end
for i = 1, #ends, 1000 do -- mostly nobody waits for any of them, which one command tells of many
  local channels = {}
  for j = i, math.min(i + 999, #ends), 2 do
    channels[#channels + 1] = P .. 'end:' .. ends[j]
  end
  local heard = call('PUBSUB', 'NUMSUB', unpack(channels))
  for j = 2, #heard, 2 do
    if heard[j] > 0 then
      call('PUBLISH', heard[j - 1], ends[i + j - 1])
    end
  end
end
if rings then
  call('PUBLISH', P .. 'wake', ARGV[1])
end
return { dirty and 1 or 0, answer }
