"""ready.py conductor|compute IDENTITY COMPUTE [PLACEMENT]: ends once that part of nova works.

If it doesn't, the end is a sentence that says what is missing, and status 1.
"""

import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime

from api import Api, Refused

SECONDS = 20  # then the lab looks whether the process still lives, and asks again
REPORTS_EVERY = 10  # seconds: report_interval of nova.conf
PLACEMENT = {"OpenStack-API-Version": "placement 1.20"}


def conductor(api: Api, compute: str) -> str:
    """One that reported before the last start isn't this one."""
    for service in api(compute, "GET", "/v2.1/os-services?binary=nova-conductor")["services"]:
        reported = service["updated_at"]
        if not reported or age(reported) <= REPORTS_EVERY:
            return ""
    return "no conductor has reported"


def age(time_: str) -> float:
    return (datetime.now(UTC) - datetime.fromisoformat(time_).replace(tzinfo=UTC)).total_seconds()


def compute(api: Api, compute: str, placement: str) -> str:
    """The scheduler finds a host once placement knows what it has."""
    providers = api(placement, "GET", "/resource_providers", headers=PLACEMENT)["resource_providers"]
    if not providers:
        return "placement knows no compute node"
    if not api(placement, "GET", f"/resource_providers/{providers[0]['uuid']}/inventories")["inventories"]:
        return "placement doesn't know what the compute node has"
    services = api(compute, "GET", "/v2.1/os-services")["services"]
    up = {service["binary"] for service in services if service["state"] == "up"}
    missing = {"nova-conductor", "nova-scheduler", "nova-compute"} - up
    return f"not up: {', '.join(sorted(missing))}" if missing else ""


CHECKS: dict[str, Callable[..., str]] = {"conductor": conductor, "compute": compute}


def main(what: str, identity: str, *addresses: str) -> None:
    end, api, missing = time.monotonic() + SECONDS, None, "keystone doesn't answer"
    while time.monotonic() < end:
        try:
            api = api or Api(identity).login()
            missing = CHECKS[what](api, *addresses)
        except (OSError, Refused) as error:
            missing = str(error)
        if not missing:
            return
        time.sleep(0.3)
    sys.exit(missing)


if __name__ == "__main__":
    main(*sys.argv[1:])
