#!/usr/bin/env bash
# Are the tests of the deciding rooms able to fail? Changes the code of `judge`, `seal` and `domain` in thousands of small ways (cargo-mutants) and
# runs their tests against each: a change that no test notices is a hole in the tests.
#
# The rooms are put into a small crate of their own (they depend on nothing but `domain` and `store`), so that one change is built and tried in
# seconds. Arguments go to `cargo mutants`: `--list`, `--file 'src/judge/**'`, `--jobs 2`, …
set -euo pipefail
cd "$(dirname "$0")/.."

if ! cargo mutants --version >/dev/null 2>&1; then
    echo "error: cargo-mutants is missing" >&2
    echo "hint: cargo install cargo-mutants --locked" >&2
    exit 1
fi

crate=target/mutants/rooms
rm -rf "$crate/src" "$crate/tests"
mkdir -p "$crate/src" "$crate/tests/it/support"
cp -r src/domain src/judge src/seal src/store src/clock.rs "$crate/src/"
cp tests/it/seal.rs tests/it/seal_later.rs tests/it/seal_shape.rs "$crate/tests/it/"
cp tests/it/support/artifacts.rs "$crate/tests/it/support/"
cp Cargo.lock "$crate/"

cat >"$crate/src/lib.rs" <<'RUST'
//! The deciding rooms, alone.
pub mod clock;
pub mod domain;
pub mod judge;
pub mod seal;
pub mod store;
RUST
cat >"$crate/tests/it/main.rs" <<'RUST'
//! Their tests.
mod seal;
mod seal_later;
mod seal_shape;
mod support {
    pub mod artifacts;
}
RUST

needed='async-trait|age|aws-config|aws-runtime|aws-sdk-s3|aws-smithy-http-client|base64|blake3|bytes|chrono|crc32c|cron|ed25519-dalek|futures-util|getrandom|hex|jiff|percent-encoding|rustix|rustls-pki-types|secrecy|serde|serde_json|sha2|strsim|tempfile|thiserror|tokio|toml|tracing|url|uuid|walkdir|zstd'
{
    printf '[package]\nname = "lifeboat"\nversion = "0.0.0"\nedition = "2024"\n\n[lib]\ndoctest = false\n\n[workspace]\n\n[dependencies]\n'
    sed -n '/^\[dependencies\]/,/^\[dev-dependencies\]/p' Cargo.toml | grep -E "^($needed) *="
    sed -n '/^\[dev-dependencies\]/,/^\[lints/p' Cargo.toml | grep -vE '^\[lints' | grep -vE '^(assert_cmd|predicates)'
    sed -n '/^\[profile.dev/,$p' Cargo.toml | sed '/^\[profile.release\]/,$d' | sed 's/^debug = .*/debug = false/'
} >"$crate/Cargo.toml"

cd "$crate"
exec cargo mutants --output .. --no-shuffle "$@"
