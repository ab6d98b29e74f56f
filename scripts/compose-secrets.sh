#!/usr/bin/env bash
# Makes what compose.yaml needs and nobody should commit: a password, the databases' URLs, and a tokens file, all in
# .secrets/. What is there already stays. Prints where the API's token is.
set -euo pipefail
cd "$(dirname "$0")/.."

# Containers run under uids of their own: the files are readable, the folder only by its owner.
mkdir -p .secrets
chmod 700 .secrets
umask 022

random() {
    od -An -N32 -tx1 /dev/urandom | tr -d ' \n'
}

[ -s .secrets/password ] || random >.secrets/password
for database in app jobs; do
    printf 'postgresql://tidemill:%s@postgres/%s?sslmode=disable\n' "$(cat .secrets/password)" "$database" >".secrets/$database.url"
done
