{{/* The pod template, for both the Deployment and the StatefulSet. */}}

{{- define "vfe.pod" -}}
metadata:
  labels:
    {{- include "vfe.podLabels" . | nindent 4 }}
  annotations:
    # Changes with the settings that the exporter reads only on start-up; it reloads changed files by itself.
    verify-factor-exporter/restart: {{ include "vfe.restart" . | quote }}
    {{- with merge (dict) .Values.podAnnotations .Values.commonAnnotations }}
    {{- include "vfe.tpl" (dict "root" $ "texts" .) | nindent 4 }}
    {{- end }}
spec:
  serviceAccountName: {{ include "vfe.serviceAccountName" . | quote }}
  automountServiceAccountToken: false
  enableServiceLinks: false
  {{- if not (kindIs "invalid" .Values.hostUsers) }}
  hostUsers: {{ .Values.hostUsers }}
  {{- end }}
  {{- with include "vfe.imagePullSecrets" . | trim }}
  imagePullSecrets:
    {{- . | nindent 4 }}
  {{- end }}
  {{- with .Values.podSecurityContext }}
  securityContext:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  terminationGracePeriodSeconds: {{ include "vfe.terminationGracePeriodSeconds" . }}
  {{- range $key := list "priorityClassName" "runtimeClassName" }}
  {{- with get $.Values $key }}
  {{ $key }}: {{ . | quote }}
  {{- end }}
  {{- end }}
  {{- if .Values.hostNetwork }}
  hostNetwork: true
  {{- end }}
  {{- with default (ternary "ClusterFirstWithHostNet" "" .Values.hostNetwork) .Values.dnsPolicy }}
  dnsPolicy: {{ . | quote }}
  {{- end }}
  {{- range $key := list "nodeSelector" "tolerations" "affinity" "hostAliases" "dnsConfig" }}
  {{- with get $.Values $key }}
  {{ $key }}:
    {{- toYaml . | nindent 4 }}
  {{- end }}
  {{- end }}
  {{- $sidecar := .Values.watchlist.sidecar }}
  {{- if or .Values.initContainers $sidecar.enabled }}
  initContainers:
    {{- with .Values.initContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
    {{- if $sidecar.enabled }}
    - {{ include "vfe.sidecar.container" (dict "root" . "name" "watchlist-init" "method" "LIST") | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  {{- with .Values.topologySpreadConstraints }}
  topologySpreadConstraints:
    {{- range . }}
    {{- $selector := dict "labelSelector" (dict "matchLabels" (include "vfe.selectorLabels" $ | fromYaml)) }}
    - {{ toYaml (merge (dict) . (ternary (dict) $selector (hasKey . "labelSelector"))) | nindent 6 | trim }}
    {{- end }}
  {{- end }}
  containers:
    - name: exporter
      image: {{ include "vfe.image" . | quote }}
      imagePullPolicy: {{ .Values.image.pullPolicy }}
      args:
        - run
        - --config.file=/etc/verify-factor-exporter/config/config.toml
        {{- if .Values.sharding.enabled }}
        # Here and not in the ConfigMap, so that a container of an old revision restarts with the old number.
        - --shard=auto/{{ include "vfe.shards" . }}
        {{- end }}
        {{- with .Values.extraArgs }}
        {{- toYaml . | nindent 8 }}
        {{- end }}
      {{- with include "vfe.env" . | trim }}
      env:
        {{- . | nindent 8 }}
      {{- end }}
      {{- with .Values.extraEnvFrom }}
      envFrom:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.lifecycle }}
      lifecycle:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      ports:
        - name: metrics
          containerPort: {{ .Values.web.port }}
          protocol: TCP
        {{- if .Values.web.config.existingSecret }}
        - name: health
          containerPort: {{ .Values.web.healthPort }}
          protocol: TCP
        {{- end }}
      {{- include "vfe.probes" . | nindent 6 }}
      {{- with .Values.resources }}
      resources:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      {{- with .Values.securityContext }}
      securityContext:
        {{- toYaml . | nindent 8 }}
      {{- end }}
      volumeMounts:
        {{- include "vfe.volumeMounts" . | nindent 8 }}
    {{- if $sidecar.enabled }}
    - {{ include "vfe.sidecar.container" (dict "root" . "name" "watchlist-sidecar" "method" $sidecar.watchMethod) | nindent 6 | trim }}
      {{- include "vfe.sidecar.probes" . | nindent 6 }}
    {{- end }}
    {{- with .Values.extraContainers }}
    {{- toYaml . | nindent 4 }}
    {{- end }}
  volumes:
    {{- include "vfe.volumes" . | nindent 4 }}
{{- end -}}

{{/* The exporter gives in-flight requests shutdown_timeout, then saves its state and closes its connections. */}}
{{- define "vfe.terminationGracePeriodSeconds" -}}
{{- if .Values.terminationGracePeriodSeconds -}}
{{- int .Values.terminationGracePeriodSeconds -}}
{{- else -}}
{{- add 12 (include "vfe.seconds" (dig "polling" "shutdown_timeout" "8s" .Values.config) | int) -}}
{{- end -}}
{{- end -}}

{{- define "vfe.env" -}}
{{- if .Values.sharding.enabled }}
- name: POD_NAME
  valueFrom:
    fieldRef:
      fieldPath: metadata.name
{{- end }}
{{- with .Values.proxy.httpsProxy }}
- name: HTTPS_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.proxy.noProxy }}
- name: NO_PROXY
  value: {{ . | quote }}
{{- end }}
{{- with .Values.extraEnv }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "vfe.probes" -}}
{{- $port := ternary "health" "metrics" (not (empty .Values.web.config.existingSecret)) -}}
startupProbe:
  httpGet:
    path: /-/healthy
    port: {{ $port }}
  periodSeconds: {{ .Values.startupProbe.periodSeconds }}
  timeoutSeconds: 5
  failureThreshold: {{ .Values.startupProbe.failureThreshold }}
livenessProbe:
  httpGet:
    path: /-/healthy
    port: {{ $port }}
  periodSeconds: {{ .Values.livenessProbe.periodSeconds }}
  timeoutSeconds: {{ .Values.livenessProbe.timeoutSeconds }}
  failureThreshold: {{ .Values.livenessProbe.failureThreshold }}
readinessProbe:
  httpGet:
    path: /-/ready
    port: {{ $port }}
  periodSeconds: {{ .Values.readinessProbe.periodSeconds }}
  timeoutSeconds: {{ .Values.readinessProbe.timeoutSeconds }}
  failureThreshold: {{ .Values.readinessProbe.failureThreshold }}
{{- end -}}
