#!/usr/bin/env bash
# Fuzzes everything that reads bytes from outside, each target for FUZZ_SECS (60), as many at once as there are CPUs.
# A crash, an endless input (10 s) or one that takes 1 GiB fails, and its input stays under fuzz/artifacts.
#
#   scripts/fuzz.sh             all targets
#   scripts/fuzz.sh tar dns     these
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_toolchain
cd "$ROOT"

secs=${FUZZ_SECS:-60}
if ! cargo fuzz --version >/dev/null 2>&1; then
    say "  installing cargo-fuzz from source, which takes a minute"
    cargo install --quiet --locked cargo-fuzz
fi
command -v c++ >/dev/null || die "there is no C++ compiler, which libFuzzer needs" "apt-get install g++"

targets=("$@")
[ ${#targets[@]} -gt 0 ] || mapfile -t targets < <(cargo fuzz list --fuzz-dir fuzz)
# No sanitizer: our code has next to no `unsafe`, and without one the pinned toolchain will do. Overflows and debug
# assertions fail as they do in tests.
build=(--fuzz-dir fuzz --sanitizer none --target "$(target_triple)")
export CARGO_TARGET_DIR="${CARGO_TARGET_DIR:-$ROOT/target}/fuzz"
step "build of ${#targets[@]} targets" cargo fuzz build "${build[@]}"

# one TARGET: what it learns goes to a directory of this run; the seeds stay as they are.
one() {
    local learned log found
    learned=$(mktemp -d) log=$(mktemp)
    if cargo fuzz run "${build[@]}" "$1" "$learned" "fuzz/corpus/$1" -- \
        -max_total_time="$secs" -timeout=10 -rss_limit_mb=1024 -max_len=65536 -print_final_stats=1 >"$log" 2>&1; then
        found=$(sed -n 's/^stat::number_of_executed_units: *//p' "$log")
        printf '  %s✓%s %-14s %12s inputs in %d s, none fails\n' "$GREEN" "$PLAIN" "$1" "$found" "$secs"
        rm -rf "$learned" "$log"
    else
        printf '  %s✗%s %-14s fails\n' "$RED" "$PLAIN" "$1"
        tail -n 60 "$log" >&2
        rm -rf "$learned" "$log"
        return 1
    fi
}
export -f one
export secs GREEN RED PLAIN
# Bash hands no arrays to its children.
export BUILD="${build[*]}"
printf '%s\0' "${targets[@]}" | xargs -0 -n 1 -P "$(nproc)" bash -c 'read -ra build <<<"$BUILD"; one "$1"' one
