#!/usr/bin/env bash
# Builds the guest role as a program of its own, linked statically, and tells nextest where it is.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_toolchain
cd "$ROOT"
out="${CARGO_TARGET_DIR:-$ROOT/target}/guest"
# Only the last step is static: what it stands on is built as for everything else.
cargo rustc --quiet --locked --profile ci -p cakework-guest --example guest --target-dir "$out" -- -C target-feature=+crt-static
echo "CAKEWORK_TEST_GUEST=$out/ci/examples/guest" >>"${NEXTEST_ENV:-/dev/stdout}"
