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

# The file that the dispatcher reads has only the token's SHA-256: NAME SHA256 SCOPES.
if [ ! -s .secrets/token ] || [ ! -s .secrets/tokens ]; then
    random >.secrets/token
    printf 'trial %s produce,work,read,admin\n' "$(sha256sum <.secrets/token | cut -d' ' -f1)" >.secrets/tokens
fi
echo "The API's token is in .secrets/token:"
echo "  curl -H \"authorization: Bearer \$(cat .secrets/token)\" http://127.0.0.1:8080/v1/queues"
