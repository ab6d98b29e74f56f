#!/usr/bin/env bash
# PgQ's own programs, which the compatibility tests drive: pgqd, python-pgq, Londiste, and the C extension for the server
# in use. Says nothing when all is there. Installs what is missing from the distribution where it may; otherwise says in
# one sentence what to do. Never fails: a test of a program that is missing is reported as ignored, with its reason.
set -euo pipefail

python_has() { /usr/bin/python3 -c "import $1" 2>/dev/null; }

# The newest of Debian's servers; the extension is a package per version.
version=$(find /usr/lib/postgresql -mindepth 1 -maxdepth 1 -printf '%f\n' 2>/dev/null | sort -rn | head -n 1)

missing=()
[ -x /usr/bin/pgqd ] || missing+=(pgqd)
python_has "pgq, psycopg2" || missing+=(python3-pgq)
python_has skytools || missing+=(python3-skytools)
python_has londiste || missing+=(python3-londiste)
[ -z "$version" ] || compgen -G "/usr/share/postgresql/*/extension/pgq.control" >/dev/null ||
    missing+=("postgresql-$version-pgq3")
[ -z "$version" ] || compgen -G "/usr/share/postgresql/*/contrib/londiste.sql" >/dev/null ||
    missing+=("postgresql-$version-londiste-sql")
[ "${#missing[@]}" -gt 0 ] || exit 0

without="Without ${missing[*]} the tests with PgQ's own programs are ignored"
if ! command -v apt-get >/dev/null; then
    echo "$without: they are packages of Debian and Ubuntu." >&2
elif [ "$(id -u)" = 0 ]; then
    # pgqd's package would start it.
    export DEBIAN_FRONTEND=noninteractive RUNLEVEL=1
    apt-get update -q >&2 || true
    for package in "${missing[@]}"; do
        apt-get install -y -q --no-install-recommends "$package" >&2 ||
            echo "Without $package, which cannot be installed, the tests with it are ignored." >&2
    done
else
    echo "$without: \`sudo apt-get install -y ${missing[*]}\`." >&2
fi
