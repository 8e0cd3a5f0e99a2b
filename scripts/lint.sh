#!/usr/bin/env bash
# Formatting, clippy at -D warnings, shell syntax; dependencies and licences where cargo-deny is (--deny installs it).
set -euo pipefail
. "$(dirname "$0")/lib.sh"
use_toolchain
cd "$ROOT"

for script in scripts/*.sh .ci/run; do bash -n "$script"; done
cargo fmt --all --check
cargo fmt --manifest-path fuzz/Cargo.toml --check
cargo clippy --locked --workspace --all-targets -- -D warnings

if [ "${1:-}" = --deny ] && ! cargo deny --version >/dev/null 2>&1; then
    cargo install --locked cargo-deny
fi
if cargo deny --version >/dev/null 2>&1; then
    cargo deny --offline check bans licenses sources
else
    note "cargo-deny is not installed: dependencies and licences were not checked (make deny)"
fi
