#!/usr/bin/env bash
# Are the tests of the deciding rooms able to fail? Changes the code of a room in thousands of small ways (cargo-mutants) and runs its tests against
# each: a change that no test notices is a hole in the tests.
#
#   tests/mutants.sh judge                                          all of `judge`, hours of it
#   tests/mutants.sh judge 2 -f 'src/judge/due/*.rs'                the second copy, so that two run beside each other; some files
#   tests/mutants.sh seal 1 -f src/seal/yard.rs -- --lib yard       some of the tests
#
# A room is put into a small crate with the rooms under it, so that a change is built and tried in seconds; what is compiled stays there. What comes
# of it is in `target/mutants/judge-2/mutants.out`. Further arguments go to `cargo mutants`.
set -euo pipefail
cd "$(dirname "$0")/.."

room=${1:-judge}
copy=${2:-1}
shift $(($# < 2 ? $# : 2))
if ! cargo mutants --version >/dev/null 2>&1; then
    echo "error: cargo-mutants is missing" >&2
    echo "hint: cargo install cargo-mutants --locked" >&2
    exit 1
fi

case $room in
judge)
    rooms='domain judge'
    needed='blake3|chrono|cron|jiff|serde|serde_json|sha2|strsim|thiserror|url|uuid|base64|hex|toml'
    for_tests='proptest|croner|chrono-tz|serde_json'
    ;;
seal)
    # The samples of `domain`'s tests are judged.
    rooms='domain judge seal store'
    needed='async-trait|age|base64|blake3|bytes|cron|chrono|ed25519-dalek|futures-util|getrandom|hex|jiff|percent-encoding|rustix|secrecy|serde|serde_json|sha2|strsim|tempfile|thiserror|tokio|toml|tracing|url|uuid|walkdir|zstd'
    for_tests='proptest|rustix|tempfile|croner|chrono-tz'
    ;;
*)
    echo "error: $room is no room that is tried so" >&2
    echo "hint: judge or seal, the number of the copy, then what cargo mutants takes" >&2
    exit 2
    ;;
esac

crate=target/mutants/$room-$copy
rm -rf "$crate/src" "$crate/tests"
mkdir -p "$crate/src"
for one in $rooms; do cp -r "src/$one" "$crate/src/"; done
cp Cargo.lock "$crate/"
{
    printf '//! %s, alone.\n' "$room"
    for one in $rooms; do printf 'pub mod %s;\n' "$one"; done
} >"$crate/src/lib.rs"
if [ "$room" = seal ]; then
    # It needs the contract of a store and folders; buckets would bring their whole kit along.
    rm -rf "$crate/src/store/"{buckets.rs,open.rs,s3}
    sed -i -E '/^(mod|pub use) (buckets|open|s3)\b/d' "$crate/src/store/mod.rs"
    cp src/clock.rs "$crate/src/"
    echo 'pub mod clock;' >>"$crate/src/lib.rs"
    mkdir -p "$crate/tests/it/support"
    cp tests/it/seal.rs tests/it/seal_*.rs "$crate/tests/it/"
    cp tests/it/support/artifacts.rs "$crate/tests/it/support/"
    printf '//! Its tests.\nmod seal;\nmod seal_later;\nmod seal_log;\nmod seal_marks;\nmod seal_shape;\nmod support {\n    pub mod artifacts;\n}\n' >"$crate/tests/it/main.rs"
fi
{
    printf '[package]\nname = "lifeboat"\nversion = "0.0.0"\nedition = "2024"\n\n[lib]\ndoctest = false\n\n[workspace]\n\n[dependencies]\n'
    sed -n '/^\[dependencies\]/,/^\[dev-dependencies\]/p' Cargo.toml | grep -E "^($needed) *="
    printf '\n[dev-dependencies]\n'
    sed -n '/^\[dev-dependencies\]/,/^\[lints/p' Cargo.toml | grep -E "^($for_tests) *="
    printf '\n[profile.dev]\ndebug = false\n\n[profile.dev.package."*"]\nopt-level = 1\n'
} >"$crate/Cargo.toml"

cd "$crate"
exec cargo mutants --in-place --no-shuffle "$@"
