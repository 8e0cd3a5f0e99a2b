#!/usr/bin/env bash
# Measures Cakework beside the tools that it stands on and prints tables: bench/RESULTS.md explains them.
# Words choose what is measured (start, cached, cycles, import, get, memory, build, client); BENCH_RUNS how often.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
bash "$ROOT/scripts/setup.sh" --bench
use_toolchain
cd "$ROOT"
bash scripts/build.sh
cargo build --locked --profile ci -p cakework-bench
out="${CARGO_TARGET_DIR:-target}"
bench() { "$out/ci/cakework-bench" --runs "${BENCH_RUNS:-11}" --program "$out/release/cakework" "$@"; }

[ $# -gt 0 ] || set -- start cached cycles import get logs memory build client
say "$(nproc) cores, $(uname -r), $(runsc --version | head -n1), $(date -u +%F)"
for what in "$@"; do
    say "" "## $what"
    if [ "$what" = import ]; then
        # The file system decides: memory first, then the disk.
        TMPDIR=/dev/shm bench import
        TMPDIR=/var/tmp bench import
    else
        bench "$what"
    fi
done
