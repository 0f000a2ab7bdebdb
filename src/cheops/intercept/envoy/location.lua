-- Turns an absolute Location that names the service's own address into one that names the front the client used, so that
-- what the client does next comes back here; under the prefix /~scope/…/ it comes back with its scope. `S.addresses`
-- stands above: by service, the addresses under which the service may name itself.

function envoy_on_response(handle)
  local headers, request = handle:headers(), handle:requestHeaders()
  local location = headers:get("location")
  if location == nil or headers:getNumValues("location") ~= 1 then return end
  local addresses = S.addresses[S.service or request:get("cheops-service") or ""] or {}
  local authority, rest = string.match(location, "^https?://([^/?#]*)(.*)$")
  if authority == nil and string.sub(location, 1, 2) == "//" then return end
  local front = request:get(":authority")
  local ours = authority ~= nil and (addresses[string.lower(authority)] or string.lower(authority) == string.lower(front))
  if authority ~= nil and not ours then return end
  local metadata = handle:streamInfo():dynamicMetadata():get("cheops")
  local prefix = metadata and metadata["prefix"] or ""
  local path = authority and rest or location
  if string.sub(path, 1, 1) ~= "/" and authority == nil then return end
  if string.sub(path, 1, #prefix + 1) ~= prefix .. "/" then path = prefix .. path end
  if authority then path = (request:get("x-forwarded-proto") or "http") .. "://" .. front .. path end
  if path ~= location then headers:replace("location", path) end
end
