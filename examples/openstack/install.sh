#!/bin/sh
# install.sh PYTHON FOLDER: everything that the sites need, unless it is there already. OpenStack goes into FOLDER/venv, at
# the versions of pins.txt; MariaDB, RabbitMQ and a compiler (for uWSGI) come from Debian, if we are root.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
python=$1 venv=$2/venv

missing=
for package in rabbitmq-server mariadb-server gcc; do
    dpkg-query -W -f '${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing="$missing $package"
done
"$python" -c 'import pathlib, sys, sysconfig; sys.exit(not pathlib.Path(sysconfig.get_path("include"), "Python.h").exists())' ||
    missing="$missing python3-dev"
if [ -n "$missing" ]; then
    [ "$(id -u)" = 0 ] || { echo "not installed, and only root can: apt-get install$missing"; exit 1; }
    echo "Installing$missing …"
    export DEBIAN_FRONTEND=noninteractive
    # The lab starts its own servers; Debian's packages shall start none.
    policy=/usr/sbin/policy-rc.d
    if [ ! -e $policy ]; then
        trap 'rm -f $policy' EXIT
        printf '#!/bin/sh\nexit 101\n' >$policy
        chmod 755 $policy
    fi
    apt-get update -qq
    # shellcheck disable=SC2086
    apt-get install -qq -y --no-install-recommends $missing >"$2/apt.log" 2>&1 || { tail -n 20 "$2/apt.log"; exit 1; }
fi

state=$(cat "$here/pins.txt" "$here/doubles/pyproject.toml" "$here"/doubles/*/*.py "$here"/doubles/*/*/*.py | cksum)
[ "$(cat "$venv/.installed" 2>/dev/null)" = "$state" ] && exit 0
echo "Installing OpenStack into $venv …"
[ -x "$venv/bin/python" ] || "$python" -m venv "$venv"
# Built outside of the sources, which may not be ours to write to.
build=$(mktemp -d)
trap 'rm -rf "$build"' EXIT
cp -R "$here/doubles" "$build"
pip() { "$venv/bin/pip" --quiet --disable-pip-version-check "$@"; }
# pip keeps what it builds for every Python of a version, but uWSGI works only with the one that it was built for.
{
    pip install --no-cache-dir "$(grep -i '^uwsgi==' "$here/pins.txt")" &&
        pip install --requirement "$here/pins.txt" &&
        pip install --no-deps "$build/doubles" &&
        pip check
} >"$2/pip.log" 2>&1 || { grep -v ^WARNING "$2/pip.log" | tail -n 20; exit 1; }
echo "$state" >"$venv/.installed"
