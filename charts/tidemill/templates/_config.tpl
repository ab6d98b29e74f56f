{{/*
A value as TOML writes it: numbers without a fraction (values are floats to Helm), texts and lists of texts as JSON,
which TOML reads as well.
*/}}
{{- define "tidemill.toml" -}}
{{- if or (kindIs "float64" .) (kindIs "int64" .) (kindIs "int" .) -}}
{{ printf "%d" (int64 .) }}
{{- else -}}
{{ toJson . }}
{{- end -}}
{{- end -}}

{{/* A section's settings, one a line, but not its tables. */}}
{{- define "tidemill.section" -}}
{{- range $key, $value := . }}
{{- if ne $key "routes" }}
{{ $key }} = {{ include "tidemill.toml" $value }}
{{- end }}
{{- end }}
{{- end -}}

{{/* One file for all components. It holds no secret. Takes (dict "root" $ "owner" BOOL). */}}
{{- define "tidemill.config" -}}
{{- $owner := .owner -}}
{{- with .root.Values -}}
{{- range .databases }}
[[databases]]
name = {{ .name | quote }}
url_file = {{ printf "/etc/tidemill/databases/%s" .name | quote }}
allow_plaintext = {{ .allowPlaintext | default false }}
pooler = {{ .pooler | default "none" | quote }}
{{ end }}
[log]
format = {{ .log.format | quote }}
level = {{ .log.level | quote }}
{{- if not $owner }}

[admin]
listen = "0.0.0.0:9090"
drain_ms = {{ int64 .drainMs }}

[ticker]
{{- include "tidemill.section" .ticker.settings }}

[mover]
{{- include "tidemill.section" .mover.settings }}
{{- range .mover.settings.routes }}

[[mover.routes]]
from = {{ .from | quote }}
to = {{ .to | quote }}
{{- end }}

[dispatcher]
{{- include "tidemill.section" .dispatcher.settings }}
{{- if .dispatcher.enabled }}

[http]
listen = "0.0.0.0:8080"
body_limit_bytes = {{ int64 .dispatcher.http.bodyLimitBytes }}
max_polls = {{ int64 .dispatcher.http.maxPolls }}
tokens_file = "/etc/tidemill/tokens/tokens"
{{- end }}
{{- end }}
{{- end }}
{{- end -}}
