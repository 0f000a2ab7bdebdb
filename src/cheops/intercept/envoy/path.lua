-- The agent says in a header what the path is, byte for byte, since its HTTP library would mend it.

function envoy_on_request(handle)
  local headers = handle:headers()
  local path = headers:get("cheops-path")
  if path then headers:replace(":path", path) end
  headers:remove("cheops-path")
end
