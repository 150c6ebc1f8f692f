{{/* Files for the exporter. No mount uses subPath, because such mounts are not updated. */}}

{{- define "vfe.volumeMounts" -}}
- name: config
  mountPath: /etc/verify-factor-exporter/config
  readOnly: true
{{- if include "vfe.watchlistSources" . }}
- name: watchlist
  mountPath: /etc/verify-factor-exporter/watchlist
  readOnly: true
{{- end }}
{{- if .Values.watchlist.sidecar.enabled }}
- name: watchlist-sidecar
  mountPath: /etc/verify-factor-exporter/watchlist.d
  readOnly: true
{{- end }}
{{- if include "vfe.credentialSources" . }}
- name: credentials
  mountPath: /etc/verify-factor-exporter/credentials
  readOnly: true
{{- end }}
{{- if .Values.web.config.existingSecret }}
- name: web
  mountPath: /etc/verify-factor-exporter/web
  readOnly: true
{{- end }}
{{- if or .Values.customCA.existingConfigMap .Values.customCA.existingSecret }}
- name: ca
  mountPath: /etc/verify-factor-exporter/ca
  readOnly: true
{{- end }}
{{- if .Values.identityKey.existingSecret }}
- name: identity
  mountPath: /etc/verify-factor-exporter/identity
  readOnly: true
{{- end }}
{{- if ne (include "vfe.state" .) "none" }}
- name: state
  mountPath: /var/lib/verify-factor-exporter
{{- end }}
{{- with .Values.extraVolumeMounts }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- define "vfe.volumes" -}}
{{- $fullname := include "vfe.fullname" . -}}
- name: config
  configMap:
    name: {{ $fullname | quote }}
    defaultMode: 0440
{{- with include "vfe.watchlistSources" . | trim }}
- name: watchlist
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- if .Values.watchlist.sidecar.enabled }}
{{ include "vfe.sidecar.volumes" . }}
{{- end }}
{{- with include "vfe.credentialSources" . | trim }}
- name: credentials
  projected:
    defaultMode: 0440
    sources:
      {{- . | nindent 6 }}
{{- end }}
{{- with .Values.web.config }}
{{- if and .existingSecret .tlsSecret }}
- name: web
  projected:
    defaultMode: 0440
    sources:
      - secret:
          name: {{ .existingSecret | quote }}
      - secret:
          name: {{ .tlsSecret | quote }}
          items:
            - key: tls.crt
              path: tls.crt
            - key: tls.key
              path: tls.key
{{- else if .existingSecret }}
- name: web
  secret:
    secretName: {{ .existingSecret | quote }}
    defaultMode: 0440
{{- end }}
{{- end }}
{{- with .Values.customCA }}
{{- if .existingConfigMap }}
- name: ca
  configMap:
    name: {{ .existingConfigMap | quote }}
    defaultMode: 0440
    items:
      - key: {{ .key | quote }}
        path: ca.crt
{{- else if .existingSecret }}
- name: ca
  secret:
    secretName: {{ .existingSecret | quote }}
    defaultMode: 0440
    items:
      - key: {{ .key | quote }}
        path: ca.crt
{{- end }}
{{- end }}
{{- with .Values.identityKey.existingSecret }}
- name: identity
  secret:
    secretName: {{ . | quote }}
    defaultMode: 0440
    items:
      - key: {{ $.Values.identityKey.key | quote }}
        path: key
{{- end }}
{{- $type := include "vfe.state" . }}
{{- with .Values.state }}
{{- if eq $type "emptyDir" }}
- name: state
  emptyDir:
    sizeLimit: {{ .size | quote }}
{{- else if and (eq $type "persistentVolumeClaim") (not $.Values.sharding.enabled) }}
- name: state
  persistentVolumeClaim:
    claimName: {{ default $fullname .existingClaim | quote }}
{{- end }}
{{- end }}
{{- with .Values.extraVolumes }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{/* The Secrets with the watchlist: the chart's own, and existing ones. */}}
{{- define "vfe.watchlistSources" -}}
{{- if or .Values.watchlist.factors .Values.watchlist.entities }}
- secret:
    name: {{ printf "%s-watchlist" (include "vfe.fullname" .) | quote }}
{{- end }}
{{- range .Values.watchlist.existingSecrets }}
- secret:
    name: {{ . | quote }}
{{- end }}
{{- end -}}

{{/* One file per account, named after the account, from the Secret with its password or client secret; and per URL. */}}
{{- define "vfe.credentialSources" -}}
{{- range $name, $account := .Values.accounts -}}
{{- $credentials := default dict $account.credentials -}}
{{- if $credentials.password }}
- secret:
    name: {{ printf "%s-credentials" (include "vfe.fullname" $) | quote }}
    items:
      - key: {{ $name | quote }}
        path: {{ $name | quote }}
{{- else if $credentials.externalSecret }}
- secret:
    name: {{ include "vfe.externalSecretName" (dict "root" $ "account" $name) | quote }}
    items:
      - key: password
        path: {{ $name | quote }}
{{- else if $credentials.existingSecret }}
- secret:
    name: {{ $credentials.existingSecret.name | quote }}
    items:
      - key: {{ default (ternary "password" "client_secret" (empty $account.oauth)) $credentials.existingSecret.key | quote }}
        path: {{ $name | quote }}
{{- end }}
{{- end }}
{{- range .Values.watchlist.http }}
{{- $source := . }}
{{- with (default dict .credentials).existingSecret }}
- secret:
    name: {{ .name | quote }}
    items:
      - key: {{ default (ternary "token" "password" (empty $source.username)) .key | quote }}
        path: {{ include "vfe.httpName" $source | quote }}
{{- end }}
{{- end }}
{{- end -}}
