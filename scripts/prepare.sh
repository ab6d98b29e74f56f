#!/usr/bin/env bash
# What a fresh machine needs before the first build: Rust, a C compiler (the TLS library has some C), and the programs of
# a PostgreSQL server with pgbench. Says nothing when all is there. Installs what is missing from the distribution where
# it may (as root, or with sudo that asks nothing); otherwise says in one sentence what to do.
# It never starts a server: programs that need one start a private one of their own.
set -euo pipefail

oldest=14
again=${1:-make}

stop() {
    printf '%s\n' "$*" >&2
    exit 1
}

# As root, or not at all: never waits for a password.
as_root() {
    if [ "$(id -u)" = 0 ]; then
        "$@"
    else
        sudo -n "$@"
    fi
}

may_install() {
    command -v apt-get >/dev/null && { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }
}

install() {
    DEBIAN_FRONTEND=noninteractive as_root apt-get install -y -q --no-install-recommends "$@" >&2
}

# The folder with the newest server's programs, or nothing. `tidemill demo` and the tests look in the same places.
server_programs() {
    local dir version
    {
        command -v postgres || true
        printf '%s\n' /usr/lib/postgresql/*/bin/postgres /usr/pgsql-*/bin/postgres \
            /opt/homebrew/opt/postgresql@*/bin/postgres /usr/local/opt/postgresql@*/bin/postgres
    } | while read -r postgres; do
        dir=$(dirname "$(readlink -f "$postgres")")
        [ -x "$dir/postgres" ] && [ -x "$dir/initdb" ] && [ -x "$dir/pgbench" ] || continue
        version=$("$dir/postgres" --version | sed -E 's/^[^0-9]*([0-9]+).*/\1/')
        if [ "$version" -ge "$oldest" ]; then printf '%s %s\n' "$version" "$dir"; fi
    done | sort -rn | head -n 1 | cut -d' ' -f2-
}

# Debian's server package starts a cluster on port 5432 when it is installed; ours must not.
without_main_cluster() {
    local conf=/etc/postgresql-common/createcluster.conf
    # shellcheck disable=SC2016 # expanded by the inner shell
    as_root sh -c '
        if grep -qE "^[[:space:]]*create_main_cluster" "$1" 2>/dev/null; then
            sed -i -E "s/^[[:space:]]*create_main_cluster.*/create_main_cluster = false/" "$1"
        else
            mkdir -p "$(dirname "$1")" && echo "create_main_cluster = false" >> "$1"
        fi' sh "$conf"
}

command -v "${CARGO:-cargo}" >/dev/null ||
    stop "There is no cargo on PATH: install Rust from https://rustup.rs, then run \`$again\` again."

missing=()
command -v cc >/dev/null || missing+=(gcc libc6-dev)
[ -n "$(server_programs)" ] || missing+=(postgresql)
[ "${#missing[@]}" -gt 0 ] || exit 0

what="a C compiler and a PostgreSQL server (version $oldest or newer, with pgbench)"
case "${missing[*]}" in
    postgresql) what="a PostgreSQL server (version $oldest or newer, with pgbench)" ;;
    "gcc libc6-dev") what="a C compiler" ;;
esac
if ! may_install; then
    if command -v apt-get >/dev/null; then
        fix="sudo apt-get install -y ${missing[*]}"
    elif command -v dnf >/dev/null; then
        fix="sudo dnf install -y gcc postgresql-server postgresql-contrib"
    elif command -v brew >/dev/null; then
        fix="brew install postgresql@17"
    else
        fix="your system's package installer"
    fi
    stop "This machine lacks $what, and it cannot be installed without root: use \`$fix\`, then run \`$again\` again."
fi

printf 'Installing %s from the distribution.\n' "$what" >&2
as_root apt-get update -q >&2 || stop "\`apt-get update\` failed: see above; then run \`$again\` again."
if [[ " ${missing[*]} " == *" postgresql "* ]]; then
    install postgresql-common || stop "\`apt-get install postgresql-common\` failed: see above; then run \`$again\` again."
    without_main_cluster
fi
install "${missing[@]}" || stop "\`apt-get install ${missing[*]}\` failed: see above; then run \`$again\` again."

command -v cc >/dev/null || stop "gcc was installed, but there is still no \`cc\` on PATH."
[ -n "$(server_programs)" ] ||
    stop "The distribution has no PostgreSQL $oldest or newer: install one from https://apt.postgresql.org, then run \`$again\` again."
