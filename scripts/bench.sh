#!/usr/bin/env bash
# Measures Cakework beside the plain tools and prints a table: bench/RESULTS.md says what came out where.
# Words choose what is measured (start, import); BENCH_RUNS how often.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
bash "$ROOT/scripts/setup.sh" --tests
use_toolchain
bash "$ROOT/scripts/build.sh"
cd "$ROOT"
cargo build --locked --profile ci -p cakework-testkit --bin bench
out="${CARGO_TARGET_DIR:-target}"
[ $# -gt 0 ] || set -- start import
say "$(nproc) cores, $(uname -r), $(runsc --version | head -n1), $(date -u +%F)"
exec "$out/ci/bench" "$out/release/cakework" "$@"
