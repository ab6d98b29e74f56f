{{/* What every pod of the chart has in common: no root, no capabilities, nothing to write to, no token of the cluster. */}}
{{- define "tidemill.podSecurity" -}}
automountServiceAccountToken: false
# TIDEMILL_…_PORT variables of other Services would only be noise.
enableServiceLinks: false
securityContext:
  runAsNonRoot: true
  runAsUser: 65532
  runAsGroup: 65532
  fsGroup: 65532
  seccompProfile: {type: RuntimeDefault}
{{- with .Values.imagePullSecrets }}
imagePullSecrets: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations: {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.affinity }}
affinity: {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{- define "tidemill.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end -}}

{{/* Where the configuration and the databases' URLs are. */}}
{{- define "tidemill.mounts" -}}
- {name: config, mountPath: /etc/tidemill/config, readOnly: true}
- {name: databases, mountPath: /etc/tidemill/databases, readOnly: true}
{{- if .Values.caConfigMap }}
- {name: ca, mountPath: /etc/tidemill/ca, readOnly: true}
{{- end }}
{{- end -}}

{{/* Takes (dict "root" $ "config" NAME "owner" BOOL): owner chooses the URLs of the schema's owner. */}}
{{- define "tidemill.volumes" -}}
{{- $owner := .owner -}}
- name: config
  configMap: {name: {{ .config }}}
- name: databases
  projected:
    defaultMode: 0440
    sources:
      {{- range .root.Values.databases }}
      {{- $secret := ternary (.ownerUrlSecret | default .urlSecret) .urlSecret $owner }}
      - secret:
          name: {{ $secret.name }}
          items: [{key: {{ $secret.key | default "url" | quote }}, path: {{ .name | quote }}}]
      {{- end }}
{{- if .root.Values.caConfigMap }}
- name: ca
  configMap: {name: {{ .root.Values.caConfigMap }}}
{{- end }}
{{- end -}}
