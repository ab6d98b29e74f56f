{{/* What the schema of the values cannot say: settings that do not fit together. Each failure is a sentence. */}}
{{- define "tidemill.checks" -}}
{{- with .Values -}}
{{- if not .databases }}
{{- fail "databases is empty: name at least one database with its urlSecret." }}
{{- end }}
{{- $names := list }}
{{- range .databases }}
{{- if has .name $names }}
{{- fail (printf "databases: there are two named %q." .name) }}
{{- end }}
{{- $names = append $names .name }}
{{- end }}
{{- if .mover.enabled }}
{{- if not (has (.mover.settings.destination | default "") $names) }}
{{- fail (printf "mover.settings.destination must be one of the databases (%s)." (join ", " $names)) }}
{{- end }}
{{- if not (and .mover.settings.sources .mover.settings.routes) }}
{{- fail "mover.enabled needs mover.settings.sources and mover.settings.routes: from where, and which queues." }}
{{- end }}
{{- end }}
{{- if and .dispatcher.enabled (not .dispatcher.tokensSecret.name) }}
{{- fail "dispatcher.tokensSecret.name is empty: the API is reached from other pods, so the dispatcher needs a file of tokens." }}
{{- end }}
{{- if and .dispatcher.enabled (gt (len .databases) 1) }}
{{- $served := .dispatcher.settings.databases | default list }}
{{- if not (and (eq (len $served) 1) (has (first $served) $names)) }}
{{- fail (printf "dispatcher.settings.databases must name the one database that holds the job queues (one of %s)." (join ", " $names)) }}
{{- end }}
{{- end }}
{{- $least := add .preStopSeconds (div (add .drainMs 999) 1000) 5 }}
{{- if lt (int64 .terminationGracePeriodSeconds) $least }}
{{- fail (printf "terminationGracePeriodSeconds is %d, but preStopSeconds + drainMs + 5 s are %d s: the pods would be killed while they drain." (int64 .terminationGracePeriodSeconds) $least) }}
{{- end }}
{{- end }}
{{- end -}}
