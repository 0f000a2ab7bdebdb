"""after.py IDENTITY COMPUTE FRONT DATA: what a site has once it runs.

Flavors, the same on every site, and files that log a user in at this site's front.
"""

import sys
from pathlib import Path

from api import PASSWORD, Api, Refused

FLAVORS = (
    {"id": "1", "name": "m1.tiny", "ram": 512, "disk": 1, "vcpus": 1},
    {"id": "2", "name": "m1.small", "ram": 2048, "disk": 20, "vcpus": 1},
)


def openrc(front: str, user: str) -> str:
    return f"""\
export OS_AUTH_URL=http://{front}/v3 OS_USERNAME={user} OS_PASSWORD={PASSWORD} OS_PROJECT_NAME={user}
export OS_USER_DOMAIN_ID=default OS_PROJECT_DOMAIN_ID=default OS_IDENTITY_API_VERSION=3 OS_REGION_NAME=RegionOne
"""


def main(identity: str, compute: str, front: str, data: Path) -> None:
    api = Api(identity).login()
    for flavor in FLAVORS:
        try:
            api(compute, "POST", "/v2.1/flavors", {"flavor": flavor})
        except Refused as refused:
            if refused.status != 409:  # it is there already
                raise
    for user in ("admin", "demo"):
        (data / f"{user}.openrc").write_text(openrc(front, user))


if __name__ == "__main__":
    main(*sys.argv[1:4], Path(sys.argv[4]))
