#!/usr/bin/env bash
# Do the documents speak of this tree? Every relative link leads somewhere; every file, function, table, setting and metric
# that they name in backticks is there; and docs/METRICS.md names every metric there is. Prints what is not, and fails.
set -euo pipefail
cd "$(dirname "$0")/.."

mapfile -t documents < <(git ls-files '*.md')
files=$(git ls-files)
# All that is not a document, once, to look words up in.
words=$(git ls-files -z -- ':!*.md' ':!Cargo.lock' ':!LICENSE-*' | xargs -0 cat | grep -aoE '[A-Za-z_][A-Za-z0-9_]*' | sort -u)
# What belongs to others, or is named to say that it is not there.
elsewhere=" pgq_coop utils pg_prepared_xacts xact_start "
failed=0

complain() {
    printf '%s\n' "$*"
    failed=1
}

for document in "${documents[@]}"; do
    folder=$(dirname "$document")
    # Code blocks are programs, checked elsewhere.
    prose=$(awk '/^ *```/ { code = !code; next } !code' "$document")

    while read -r link; do
        [ -e "$folder/${link%%#*}" ] || complain "$document: the link to $link leads nowhere"
    done < <(grep -oE '\]\([^)#:]+(#[^)]*)?\)' <<<"$prose" | sed -E 's/^\]\(|\)$//g')

    while read -r span; do
        case $span in
            # A path: the end of some file's or folder's.
            */*.* | *.rs | *.sql | *.toml | *.sh | *.yaml)
                [[ $span =~ ^[a-z0-9_./-]+$ ]] || continue
                grep -qE "(^|/)${span//./\\.}(/|$)" <<<"$files" || complain "$document: there is no file $span"
                ;;
            # A name, maybe with its schema, module or arguments: each word of it is somewhere in the code.
            *)
                [[ $span =~ ^[A-Za-z_][A-Za-z0-9_.:]*(\(.*\))?$ ]] || continue
                name=${span%%(*}
                for word in ${name//[.:]/ }; do
                    [[ $elsewhere != *" $word "* ]] || continue
                    grep -qxF -- "$word" <<<"$words" || complain "$document: nothing in the code is called $span"
                done
                ;;
        esac
    done < <(grep -oE '`[^`]+`' <<<"$prose" | tr -d '`' | sort -u)
done

metrics=$(git ls-files -z -- '*/src/*metrics.rs' | xargs -0 grep -ohE '"tidemill_[a-z_]+"' | tr -d '"' | sort -u)
for metric in $metrics; do
    grep -qF "\`$metric\`" docs/METRICS.md || complain "docs/METRICS.md: the metric $metric is missing"
done

[ "$failed" = 0 ] && echo "The documents name nothing that is not there."
exit "$failed"
