{{/*
The one template of all components: a Deployment and its PodDisruptionBudget. Takes
(dict "root" $ "component" NAME "values" .Values.NAME), and of the dispatcher "http" true.
*/}}
{{- define "tidemill.workload" -}}
{{- $name := printf "%s-%s" (include "tidemill.fullname" .root) .component -}}
{{- $config := printf "%s-config" (include "tidemill.fullname" .root) -}}
{{- $selector := include "tidemill.selector" . -}}
{{- with .root.Values -}}
apiVersion: apps/v1
kind: Deployment
metadata:
  name: {{ $name }}
  labels: {{- include "tidemill.labels" $ | nindent 4 }}
spec:
  replicas: {{ $.values.replicas }}
  selector:
    matchLabels: {{- $selector | nindent 6 }}
  strategy:
    rollingUpdate: {maxSurge: 1, maxUnavailable: 0}
  template:
    metadata:
      labels: {{- include "tidemill.labels" $ | nindent 8 }}
        {{- with .podLabels }}{{- toYaml . | nindent 8 }}{{- end }}
      annotations:
        # A changed configuration restarts the pods; changed Secrets are read again without.
        checksum/config: {{ include "tidemill.config" (dict "root" $.root "owner" false) | sha256sum }}
        {{- with .podAnnotations }}{{- toYaml . | nindent 8 }}{{- end }}
    spec: {{- include "tidemill.podSecurity" $.root | nindent 6 }}
      terminationGracePeriodSeconds: {{ int64 .terminationGracePeriodSeconds }}
      topologySpreadConstraints:
        - maxSkew: 1
          topologyKey: kubernetes.io/hostname
          whenUnsatisfiable: ScheduleAnyway
          labelSelector:
            matchLabels: {{- $selector | nindent 14 }}
      containers:
        - name: {{ $.component }}
          image: {{ include "tidemill.image" $.root }}
          imagePullPolicy: {{ .image.pullPolicy }}
          command: [tidemill-{{ $.component }}, --config, /etc/tidemill/config/tidemill.toml]
          {{- if $.http }}
          env:
            - name: POD_IP
              valueFrom: {fieldRef: {fieldPath: status.podIP}}
            # Where the other dispatchers forward to.
            - {name: TIDEMILL_HTTP__ADVERTISE, value: "http://$(POD_IP):8080"}
          {{- end }}
          ports:
            {{- if $.http }}
            - {name: http, containerPort: 8080}
            {{- end }}
            - {name: admin, containerPort: 9090}
          # Fails if a loop stands still, never because of a database.
          livenessProbe:
            httpGet: {path: /livez, port: admin}
            periodSeconds: 10
            timeoutSeconds: 3
          readinessProbe:
            httpGet: {path: /readyz, port: admin}
            periodSeconds: 5
            timeoutSeconds: 3
            failureThreshold: 2
          lifecycle:
            preStop: {sleep: {seconds: {{ int64 .preStopSeconds }}}}
          resources: {{- toYaml $.values.resources | nindent 12 }}
          securityContext: {{- include "tidemill.containerSecurity" $.root | nindent 12 }}
          volumeMounts: {{- include "tidemill.mounts" $.root | nindent 12 }}
            {{- if $.http }}
            - {name: tokens, mountPath: /etc/tidemill/tokens, readOnly: true}
            {{- end }}
      volumes: {{- include "tidemill.volumes" (dict "root" $.root "config" $config "owner" false) | nindent 8 }}
        {{- if $.http }}
        - name: tokens
          secret:
            secretName: {{ $.values.tokensSecret.name }}
            defaultMode: 0440
            items: [{key: {{ $.values.tokensSecret.key | quote }}, path: tokens}]
        {{- end }}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ $name }}
  labels: {{- include "tidemill.labels" $ | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels: {{- $selector | nindent 6 }}
{{- end }}
{{- end -}}
