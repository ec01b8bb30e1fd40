#!/bin/sh
# Install a service as its image has it: for deploy/Dockerfile, tested by `make image-check`.
#
#   install.sh libraries SERVICE FOLDER   into FOLDER/libraries: a virtual environment with what the service and
#                                         the bus require, at the versions of requirements.txt; changes rarely
#   install.sh service SERVICE FOLDER     into FOLDER/service: the two themselves; FOLDER/service/bin/run starts it
#   install.sh wheels FOLDER              fetch the libraries of all services; quick if nothing has changed
#
# With WHEELS=FOLDER, libraries come from there and not from the network. `service` needs hatchling beside $PYTHON.
set -eu
cd "$(dirname "$0")/.."

PYTHON=${PYTHON:-python3}
PIP="$PYTHON -m pip --disable-pip-version-check --quiet"

# Print the third-party requirements of the distributions in these folders, one a line. The bus brings those of its
# extras that the others ask for.
requirements() {
    "$PYTHON" - "$@" <<'END'
import re, sys, tomllib
projects = {}
for folder in sys.argv[1:]:
    with open(f"{folder}/pyproject.toml", "rb") as file:
        projects[folder.removeprefix("./")] = tomllib.load(file)["project"]
required = {each for project in projects.values() for each in project["dependencies"]}
for each in list(required):
    if bus := re.fullmatch(r"cloudmatch-bus\[(.+)]", each):
        for extra in re.split(r"\s*,\s*", bus[1]):
            required.update(projects["nats"]["optional-dependencies"][extra])
print(*sorted(each for each in required if not each.startswith("cloudmatch-")), sep="\n")
END
}

libraries() {
    mkdir -p "$2"
    "$PYTHON" -m venv --without-pip "$2/libraries"
    requirements nats "$1" >"$2/requirements.txt"
    # shellcheck disable=SC2086 # lists
    $PIP --python "$2/libraries/bin/python" install --no-cache-dir ${WHEELS:+--no-index --find-links "$WHEELS"} \
        -c requirements.txt -r "$2/requirements.txt"
    rm "$2/requirements.txt"
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
        requirements $(dirname ./*/pyproject.toml) >"$1/requirements.txt"
        # shellcheck disable=SC2086 # a list
        $PIP wheel -c requirements.txt -r "$1/requirements.txt" -w "$1"
        printf '%s\n' "$sums" >"$1/of"
    fi
}

step=$1
shift
case $step in
    libraries | service | wheels) "$step" "$@" ;;
    *) echo "install.sh: no step '$step'" >&2; exit 2 ;;
esac
