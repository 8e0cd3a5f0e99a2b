#!/usr/bin/env bash
# Installs what Cakework needs on Debian 12 or 13, and says what and why. Run again it changes nothing.
#
#   scripts/setup.sh           what a server needs to run
#   scripts/setup.sh --build   also what a build needs
#   scripts/setup.sh --demo    also what the demo needs
#   scripts/setup.sh --tests   also what the tests need
#   scripts/setup.sh --bench   also what the benchmarks compare with
set -euo pipefail
. "$(dirname "$0")/lib.sh"

build='' demo='' tests='' bench=''
for word in "$@"; do
    case $word in
        --build) build=1 ;;
        --demo) build=1 demo=1 ;;
        --tests) build=1 demo=1 tests=1 ;;
        --bench) build=1 demo=1 tests=1 bench=1 ;;
        *) die "unknown option $word" "scripts/setup.sh [--build|--demo|--tests|--bench]" ;;
    esac
done

export DEBIAN_FRONTEND=noninteractive DEBCONF_NOWARNINGS=yes LC_ALL=C
. /etc/os-release
codename=${VERSION_CODENAME:-}
[ "${ID:-}" = debian ] && [[ "$codename" =~ ^(bookworm|trixie)$ ]] ||
    die "this script knows Debian 12 and 13, and this is ${PRETTY_NAME:-something else}" \
        "install what its list names, and runsc of 2024 or newer, by hand"

missing=()
# want PACKAGE WHY: notes the package unless it is installed.
want() {
    if ! dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null | grep -q '^installed$'; then
        missing+=("$1")
        say "  installing $1: $2"
    fi
}

apt_get() { apt-get -qq -y -o DPkg::Lock::Timeout=300 -o Acquire::Retries=3 -o Dpkg::Use-Pty=0 "$@"; }

updated=''
update() {
    [ -z "$updated" ] || return 0
    note "  reading the package lists"
    apt_get update || say "  warning: not all package lists could be read; going on with those there are"
    updated=1
}

# gVisor of 2024 or newer: older ones have no systrap platform. Prints nothing when runsc is absent.
runsc_year() {
    local version
    version=$(runsc --version 2>/dev/null | head -n1) || true
    [[ "$version" =~ (20[0-9][0-9])[0-9]{4} ]] && echo "${BASH_REMATCH[1]}"
}
good_runsc() { local year; year=$(runsc_year) || true; [ -n "$year" ] && [ "$year" -ge 2024 ]; }
good_candidate() { apt-cache madison runsc | grep -qE '20(2[4-9]|[3-9][0-9])[0-9]{4}'; }

# Adds the backports of this release beside it, from wherever this machine takes its packages.
add_backports() {
    local to=/etc/apt/sources.list.d/cakework-backports file suite="$codename-backports"
    shopt -s nullglob
    for file in /etc/apt/sources.list.d/*.sources; do
        # deb822 (sources.list(5)): the stanza that has this release itself, with its keys as they are.
        awk -v RS= -v suite="$suite" -v codename="$codename" '
            /(^|\n)Enabled:[ \t]*no/ { next }
            $0 ~ "(^|\n)Types:[^\n]*deb" && $0 ~ "(^|\n)Suites:([^\n]*[ \t])?" codename "([ \t\n]|$)" {
                sub(/(^|\n)Suites:[^\n]*/, "\nSuites: " suite)
                sub(/(^|\n)Components:[^\n]*/, "\nComponents: main")
                sub(/^\n/, "")
                print
                exit
            }' "$file" >"$to.sources"
        if [ -s "$to.sources" ]; then
            say "  adding $suite to apt's sources: $to.sources"
            return
        fi
        rm -f "$to.sources"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
        [ -r "$file" ] || continue
        # One line: deb [options] address release components.
        sed -nE "s/^[[:space:]]*(deb[[:space:]]+(\[[^]]*\][[:space:]]+)?[^[:space:]]+[[:space:]]+)$codename([[:space:]].*)?\$/\1$suite main/p" \
            "$file" | head -n1 >"$to.list"
        if [ -s "$to.list" ]; then
            say "  adding $suite to apt's sources: $to.list"
            return
        fi
        rm -f "$to.list"
    done
    die "apt's sources name no archive of $codename" "add $suite to /etc/apt/sources.list.d yourself"
}

say "${BOLD}Cakework's packages on $PRETTY_NAME${PLAIN}"

want nftables "the rules that keep each VM alone on its network"
want iproute2 "to look at networks"
want e2fsprogs "each VM's disk is an ext4 file system"
want util-linux "mounts, loop devices, namespaces"
want ca-certificates "to trust registries"
want git "to fetch repositories for builds"
if [ -n "$build" ]; then
    want gcc "Rust links with it, and SQLite and zstd are C"
    want libc6-dev "the static C library"
    want make "the list of developer commands"
    want curl "to call the API"
fi
if [ -n "$demo" ]; then
    want docker-registry "a real registry to import from"
    want apache2-utils "passwords for that registry"
    want jq "to read answers in scripts"
    want python3 "to receive the demo's webhooks"
fi
if [ -n "$tests" ]; then
    want skopeo "the other side of image tests and of the import benchmark"
    want umoci "the same"
    want busybox-static "a small image"
    want mmdebstrap "Debian 13's buildah, which builds the same Dockerfiles as this project, and another Debian to be a host"
    want socat "listeners and probes of the network tests"
    want iputils-ping "ICMP probes"
    want python3 "servers and clients of the network tests"
    want python3-venv "the tools of the Python SDK"
    want tmux "a terminal, in which the command line is tested"
    want chromium "a browser, in which the TypeScript SDK and the API's page are tested"
    command -v npm >/dev/null || want npm "the tools of the TypeScript SDK"
fi
if [ -n "$bench" ]; then
    want buildah "the other side of the build benchmark"
    want crun "the other side of the benchmark of cached VMs"
    want runc "a runtime for it that isolates nothing: crun refuses hybrid control groups"
fi

# A machine of another kind to be a host. Its parts are of one version, also where one of them is of backports already.
qemu=''
if [ -n "$tests" ] && ! command -v qemu-system-x86_64 >/dev/null; then
    say "  installing qemu-system-x86: a Debian machine with systemd and cgroup v2, in which the package is tested"
    qemu=1
fi

fresh_lists() { find /var/lib/apt/lists -maxdepth 1 -name '*_Packages*' -mtime -1 2>/dev/null | grep -q .; }

if [ ${#missing[@]} -gt 0 ] || [ -n "$qemu" ] || { [ -n "$demo" ] && ! fresh_lists; }; then
    # The demo's image is made of packages too: stale lists name some that are gone.
    [ -n "${CAKEWORK_OFFLINE:-}" ] || update
fi
if [ ${#missing[@]} -gt 0 ]; then
    had_registry=$(command -v docker-registry || true)
    apt_get install --no-install-recommends "${missing[@]}" >/dev/null
    if [ -z "$had_registry" ] && [ -d /run/systemd/system ] && command -v docker-registry >/dev/null; then
        # Tests and demo start their own; Debian's package starts another on port 5000.
        systemctl disable --now docker-registry >/dev/null 2>&1 || true
    fi
fi

if ! good_runsc; then
    say "  installing runsc: gVisor, the sandbox of each VM; 2024 or newer, for its systrap platform"
    good_candidate || update
    if ! good_candidate && [ "$codename" = bookworm ]; then
        add_backports
        updated=''
        update
    fi
    good_candidate || die "apt finds no runsc of 2024 or newer" "put a newer runsc (https://gvisor.dev) into /usr/local/bin"
    version=$(apt-cache madison runsc | awk '{print $3}' | grep -E '20(2[4-9]|[3-9][0-9])[0-9]{4}' | head -n1)
    apt_get install --no-install-recommends "runsc=$version" >/dev/null
    good_runsc || die "runsc is still not of 2024 or newer: $(runsc --version 2>&1 | head -n1)" "an older one stands first in PATH: $(command -v runsc)"
fi

if [ -n "$qemu" ]; then
    from=()
    if [[ "$(dpkg-query -W -f '${Version}' qemu-utils 2>/dev/null)" == *~bpo* ]]; then
        from=(-t "$codename-backports")
        # The target release has to be in the sources, whoever took the other parts from there.
        if ! apt-cache policy | grep -q "n=$codename-backports"; then
            add_backports
            updated=''
            update
        fi
    fi
    apt_get install --no-install-recommends "${from[@]}" qemu-system-x86 >/dev/null
fi

if [ -n "$build" ]; then
    [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
    if ! command -v cargo >/dev/null; then
        if apt-cache madison rustup | grep -q .; then
            say "  installing rustup: the pinned Rust toolchain"
            apt_get install --no-install-recommends rustup >/dev/null
        else
            say "  installing rustup with its own installer (Debian 12 has no package): the pinned Rust toolchain"
            curl --proto '=https' --tlsv1.2 -sSf https://sh.rustup.rs |
                sh -s -- -q -y --profile minimal --default-toolchain none --no-modify-path ||
                die "rustup's installer could not be run" "install Rust as https://rustup.rs says, then run this again"
        fi
    fi
    use_toolchain
fi
if [ -n "$tests" ] && ! (cd "$ROOT" && cargo nextest --version) >/dev/null 2>&1; then
    say "  installing cargo-nextest from source, which takes some minutes: it runs the tests"
    (cd "$ROOT" && cargo install --quiet --locked cargo-nextest)
fi
say "  everything is there: $(runsc --version | head -n1)"
