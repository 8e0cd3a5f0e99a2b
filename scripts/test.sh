#!/usr/bin/env bash
# Runs all tests; words are handed to nextest as filters. The last it prints is nextest's summary.
set -euo pipefail
. "$(dirname "$0")/lib.sh"
need_root
bash "$ROOT/scripts/setup.sh" --tests
use_toolchain
cd "$ROOT"
exec cargo nextest run --workspace --cargo-profile ci "$@"
