# What the scripts share: output, steps with their time, the pinned toolchain. Sourced, not run.
# Nothing here changes the machine but `use_toolchain`, which may let rustup install the pinned version.

ROOT=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

if [ -t 1 ] && [ -z "${NO_COLOR:-}" ]; then
    BOLD=$'\e[1m' DIM=$'\e[2m' GREEN=$'\e[32m' RED=$'\e[31m' PLAIN=$'\e[0m'
else
    BOLD='' DIM='' GREEN='' RED='' PLAIN=''
fi

say() { printf '%s\n' "$*"; }
note() { printf '%s%s%s\n' "$DIM" "$*" "$PLAIN"; }
die() { printf '%serror:%s %s\n' "$RED" "$PLAIN" "$1" >&2; [ $# -lt 2 ] || printf '  hint: %s\n' "$2" >&2; exit 1; }

now_ms() { local us=${EPOCHREALTIME//[.,]/}; echo $((us / 1000)); }

need_root() { [ "$(id -u)" = 0 ] || die "this needs root: it sets up namespaces, mounts and packages" "run it as root, or with sudo"; }

# step TEXT COMMAND...: runs the command and says how it went and how long it took.
# Its output is shown only when it fails, or as it comes with VERBOSE=1.
step() {
    local text=$1 from log status
    shift
    from=$(now_ms)
    if [ -n "${VERBOSE:-}" ]; then
        say "${BOLD}$text${PLAIN}"
        "$@" && status=0 || status=$?
    else
        log=$(mktemp)
        [ ! -t 1 ] || printf '  … %s' "$text"
        "$@" >"$log" 2>&1 && status=0 || status=$?
        [ ! -t 1 ] || printf '\r\e[K'
    fi
    local took=$(($(now_ms) - from))
    if [ "$status" = 0 ]; then
        printf '  %s✓%s %-46s %s%7d ms%s\n' "$GREEN" "$PLAIN" "$text" "$DIM" "$took" "$PLAIN"
    else
        printf '  %s✗%s %-46s %s%7d ms%s\n' "$RED" "$PLAIN" "$text" "$DIM" "$took" "$PLAIN"
        [ -z "${log:-}" ] || tail -n 40 "$log" >&2
    fi
    [ -z "${log:-}" ] || rm -f "$log"
    return "$status"
}

# port_taken PORT: whether something listens on it on loopback or on every address.
port_taken() { ss -Hltn "sport = :$1" | grep -q .; }

# The pinned toolchain under whatever name rustup knows it by; else rustup installs it.
use_toolchain() {
    [ -d "$HOME/.cargo/bin" ] && PATH="$HOME/.cargo/bin:$PATH"
    export PATH
    local pinned name
    pinned=$(sed -n 's/^channel *= *"\(.*\)"/\1/p' "$ROOT/rust-toolchain.toml")
    if (cd "$ROOT" && cargo --version) >/dev/null 2>&1; then
        return
    fi
    command -v rustup >/dev/null || die "cargo is missing" "run scripts/setup.sh"
    for name in $(rustup toolchain list | awk '{print $1}'); do
        if rustc "+$name" --version 2>/dev/null | grep -q "^rustc $pinned "; then
            export RUSTUP_TOOLCHAIN=$name
            return
        fi
    done
    note "installing Rust $pinned, which rust-toolchain.toml pins"
    rustup toolchain install "$pinned" --profile minimal --component rustfmt,clippy
}

# The triple of this machine; without naming it, flags for static linking would reach build scripts too.
target_triple() { echo "$(uname -m)-unknown-linux-gnu"; }
