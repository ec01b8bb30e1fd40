#!/bin/sh
# Install a service as its image has it. What deploy/Dockerfile does, and `make image-check` tries.
#
#   install.sh libraries SERVICE FOLDER   into FOLDER/libraries: a virtual environment with what the service and
#                                         the bus need, at the versions of requirements.txt; changes seldom
#   install.sh service SERVICE FOLDER     into FOLDER/service: the two themselves; FOLDER/service/bin/run runs it
#   install.sh wheels FOLDER              fetch the libraries of all services; quick when nothing changed
#
# WHEELS=FOLDER: take libraries from there and not from the network. `service` needs hatchling beside $PYTHON.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
PIP="$PYTHON -m pip --disable-pip-version-check --quiet"

# Print what the distributions in these folders need from others, one a line.
needed() {
    "$PYTHON" - "$@" <<'END'
import re, sys, tomllib
found, extras, optional = set(), set(), {}
for folder in sys.argv[1:]:
    with open(f"{folder}/pyproject.toml", "rb") as file:
        project = tomllib.load(file)["project"]
    found.update(project["dependencies"])
    if folder.removeprefix("./") == "nats":
        optional = project["optional-dependencies"]
for each in found:
    if bus := re.match(r"cloudmatch-bus\[(.*)]", each):
        extras.update(bus[1].split(","))
for extra in extras:
    found.update(optional[extra])
print(*sorted(each for each in found if not each.startswith("cloudmatch-")), sep="\n")
END
}

libraries() {
    mkdir -p "$2"
    "$PYTHON" -m venv --without-pip "$2/libraries"
    needed nats "$1" >"$2/needed.txt"
    # shellcheck disable=SC2086 # lists
    $PIP --python "$2/libraries/bin/python" install --no-cache-dir ${WHEELS:+--no-index --find-links "$WHEELS"} \
        -c requirements.txt -r "$2/needed.txt"
    rm "$2/needed.txt"
}

service() {
    $PIP wheel --no-index --no-deps --no-build-isolation --wheel-dir "$2/built" ./nats "./$1"
    $PIP --python "$2/libraries/bin/python" install --no-cache-dir --no-index --no-deps \
        --target "$2/service" "$2"/built/*.whl
    rm -r "$2/built"
    ln -s "$1" "$2/service/bin/run"
}

wheels() {
    sums=$(cksum requirements.txt ./*/pyproject.toml)
    if [ "$sums" != "$(cat "$1/of" 2>/dev/null)" ]; then
        mkdir -p "$1"
        # shellcheck disable=SC2046 # a list
        needed $(dirname ./*/pyproject.toml) >"$1/needed.txt"
        # shellcheck disable=SC2086 # a list
        $PIP wheel -c requirements.txt -r "$1/needed.txt" -w "$1"
        printf '%s\n' "$sums" >"$1/of"
    fi
}

step=$1
shift
case $step in
    libraries | service | wheels) "$step" "$@" ;;
    *) echo "install.sh: no step '$step'" >&2; exit 2 ;;
esac
