-- The generic cell rate algorithm for several limits at once: all are taken, or none. It decides as eyebolt-admission's gcra.rs
-- does, in whole nanoseconds: every number here is below 2^52, so that a double holds it exactly.
--
-- KEYS: a counter each, the instant (seconds:nanoseconds) when everything let in so far has leaked out.
-- ARGV: "take" (or nothing, where one is too much), "left" (what is left of those that are too much) or "back"; then for each
-- key how many nanoseconds one unit stands for, the cost (-1: more than would ever fit) and the whole limit.
-- Answers the time (seconds, microseconds), then for each key how much was still to leak out.
local time = redis.call('TIME')
local second, nano = tonumber(time[1]), tonumber(time[2]) * 1000
local kept = #KEYS > 0 and redis.call('MGET', unpack(KEYS)) or {}
local backlog, full = {}, false
local answer = { second, tonumber(time[2]) }
for i = 1, #KEYS do
  local cost, whole = tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local s, n = string.match(kept[i] or '', '^(%d+):(%d+)$')
  local left = 0
  if s then
    left = (tonumber(s) - second) * 1000000000 + tonumber(n) - nano
    left = math.max(0, math.min(left, whole))
  end
  backlog[i] = left
  answer[i + 2] = left
  full = full or cost < 0 or left + cost > whole
end
if ARGV[1] == 'take' and full then return answer end
for i, key in ipairs(KEYS) do
  local unit, cost, whole = tonumber(ARGV[3 * i - 1]), tonumber(ARGV[3 * i]), tonumber(ARGV[3 * i + 1])
  local after = backlog[i]
  if ARGV[1] == 'back' then
    after = math.max(0, after - cost)
  else
    local room = math.floor((whole - after) / unit) * unit
    if cost < 0 or cost > room then cost = room end
    after = after + cost
  end
  if after ~= backlog[i] then
    local total = nano + after
    local at = string.format('%.0f:%.0f', second + math.floor(total / 1000000000), total % 1000000000)
    redis.call('SET', key, at, 'PX', math.ceil(after / 1000000) + 1000)
  end
end
return answer
