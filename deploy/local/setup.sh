#!/bin/sh
# Install everything that CloudMatch needs on this machine: a virtual environment in .venv, and RabbitMQ. With the
# argument `tests`, also what only tests need: Node, Chromium, nginx, HAProxy, wrong clocks.
# Needs python3 (3.11 or newer). As root on Debian it installs what is missing; otherwise it says what to
# install. Quick, silent and without a network if nothing has changed since the last time.
set -eu
cd "$(dirname "$0")/../.."

PYTHON=${PYTHON:-python3}
ROOMS="nats edge match-engine journal bridge-rabbit analytics edge/clients/python"
STAMP=.venv/installed # checksums of the files that .venv was made from
RABBITMQ=/usr/lib/rabbitmq/bin/rabbitmq-server
POLICY=/usr/sbin/policy-rc.d

say() { printf 'setup: %s\n' "$*"; }
fail() { say "$*" >&2; exit 1; }

# Run a command; show its output only if it fails.
quietly() {
    if ! "$@" >"$LOG" 2>&1; then
        cat "$LOG" >&2
        fail "failed: $*"
    fi
}

can_install() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

# Install Debian packages without letting them start a service.
debian() {
    quietly apt-get -o DPkg::Lock::Timeout=300 update
    if ! [ -e "$POLICY" ]; then
        printf '#!/bin/sh\nexit 101\n' >"$POLICY"
        chmod +x "$POLICY"
        OUR_POLICY=$POLICY
    fi
    quietly env DEBIAN_FRONTEND=noninteractive \
        apt-get -o DPkg::Lock::Timeout=300 install -y --no-install-recommends "$@"
    remove_policy
}

remove_policy() {
    [ -z "$OUR_POLICY" ] || rm -f "$OUR_POLICY"
    OUR_POLICY=
}

checksums() {
    # shellcheck disable=SC2086 # a list
    for file in requirements.txt $(printf '%s/pyproject.toml ' $ROOMS); do cksum "$file"; done
}

make_environment() {
    "$PYTHON" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null ||
        fail "python3 3.11 or newer is needed (PYTHON=$PYTHON)"
    if ! "$PYTHON" -c 'import ensurepip, venv' 2>/dev/null; then
        can_install || fail "python3-venv is missing: apt-get install python3-venv"
        say "installing python3-venv"
        debian python3-venv
    fi
    if ! .venv/bin/python -c 'import pip' 2>/dev/null; then
        say "creating .venv"
        quietly "$PYTHON" -m venv --clear .venv
    fi
    say "installing the libraries of requirements.txt"
    rm -f "$STAMP"
    quietly .venv/bin/python -m pip install --disable-pip-version-check -r requirements.txt
    say "installing our own packages: $ROOMS"
    # shellcheck disable=SC2046,SC2086 # a list
    quietly .venv/bin/python -m pip install --disable-pip-version-check --no-build-isolation --no-deps \
        $(printf -- '-e ./%s ' $ROOMS)
    checksums >"$STAMP"
}

install_rabbitmq() {
    if ! can_install; then
        say "RabbitMQ is missing: apt-get install rabbitmq-server, or set CLOUDMATCH_AMQP_URL to a running one"
        return
    fi
    say "installing RabbitMQ"
    had_erlang=$(dpkg -s erlang-base 2>/dev/null || true)
    debian rabbitmq-server
    if [ -d /run/systemd/system ]; then # it must not start at the next boot either
        quietly systemctl disable --now rabbitmq-server
        [ -n "$had_erlang" ] || systemctl disable --now epmd.socket epmd.service >/dev/null 2>&1 || true
    fi
}

# Install what only tests need: for the JavaScript client Node with WebSockets and a browser; proxies.
install_for_tests() {
    missing=
    node -e 'if (parseInt(process.versions.node) < 20) require("ws")' >"$LOG" 2>&1 || missing="nodejs node-ws"
    command -v chromium >"$LOG" || missing="$missing chromium"
    [ -e /usr/sbin/nginx ] || missing="$missing nginx-light"
    [ -e /usr/sbin/haproxy ] || missing="$missing haproxy"
    if [ -z "$missing" ]; then
        return
    elif ! can_install; then
        say "some tests will be skipped; to run them: apt-get install $missing"
    else
        say "installing for tests: $missing"
        # shellcheck disable=SC2086 # a list
        debian $missing
        for each in nginx haproxy; do # they must not start at the next boot either
            case "$missing" in *$each*) ! [ -d /run/systemd/system ] || quietly systemctl disable --now $each ;; esac
        done
    fi
}

case $PWD in
*[\'\"\`\$\\:]*) fail "scripts in $PWD cannot run: rename the folder, without quotes, \$, \\ and colons" ;;
esac
LOG=$(mktemp) || fail "there is no folder for temporary files: create ${TMPDIR:-/tmp}, or set TMPDIR to another one"
OUR_POLICY=
trap 'rm -f "$LOG"; remove_policy' EXIT
trap 'exit 130' INT
trap 'exit 143' TERM

if [ "$(checksums)" != "$(cat "$STAMP" 2>/dev/null)" ]; then
    make_environment
fi
if [ -z "${CLOUDMATCH_AMQP_URL:-}" ] && ! [ -e "$RABBITMQ" ]; then
    install_rabbitmq
fi
if [ "${1:-}" = tests ]; then
    install_for_tests
fi
