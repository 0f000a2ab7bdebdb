-- Turns an absolute Location that names the service's own address into one that names the front the client used, so that
-- what the client does next comes back here; under the prefix /~scope/…/ it comes back with its scope. `S.addresses`
-- stands above: the addresses by which the service may name itself. Any other Location is left alone.

-- The authority and the path of a Location; without an authority it is a path on the same host.
local function split(location)
  local authority, path = string.match(location, "^https?://([^/?#]*)(.*)$")
  if authority then return string.lower(authority), path end
  return nil, string.match(location, "^/[^/].*$") or string.match(location, "^/$")
end

function envoy_on_response(handle)
  local headers, request = handle:headers(), handle:requestHeaders()
  local location = headers:get("location")
  if location == nil or headers:getNumValues("location") ~= 1 then return end
  local authority, path = split(location)
  local front = request:get(":authority")
  if not path or (authority and not S.addresses[authority] and authority ~= string.lower(front)) then return end
  local metadata = handle:streamInfo():dynamicMetadata():get("cheops")
  local prefix = metadata and metadata["prefix"] or ""
  if string.sub(path, 1, #prefix + 1) ~= prefix .. "/" then path = prefix .. path end
  if authority then path = (request:get("x-forwarded-proto") or "http") .. "://" .. front .. path end
  if path ~= location then headers:replace("location", path) end
end
