{{/*
config.toml and watchlist.toml. JSON strings are valid TOML strings, so toJson quotes them. YAML numbers are floats;
toJson writes whole ones without a fraction.
*/}}

{{- define "vfe.toml.keys" -}}
{{- range $key, $value := . }}
{{- if kindIs "map" $value }}
{{ $key }} = { {{- range $index, $name := keys $value | sortAlpha }}{{ if $index }},{{ end }} {{ toJson $name }} = {{ toJson (get $value $name) }}{{ end }} }
{{- else if not (kindIs "invalid" $value) }}
{{ $key }} = {{ toJson $value }}
{{- end }}
{{- end }}
{{- end -}}

{{- define "vfe.toml.config" -}}
{{- $config := .Values.config -}}
# Rendered by the chart {{ .Chart.Name }}. The exporter reloads it when it changes.

[web]
listen_address = ":{{ int .Values.web.port }}"
{{- if .Values.web.config.existingSecret }}
health_listen_address = ":{{ int .Values.web.healthPort }}"
config_file = {{ printf "/etc/verify-factor-exporter/web/%s" .Values.web.config.key | toJson }}
{{- end }}
{{- include "vfe.toml.keys" (omit (default dict $config.web) "allowed_hosts") }}
{{- $hosts := include "vfe.allowedHosts" . }}
{{- if ne $hosts "[]" }}
allowed_hosts = {{ $hosts }}
{{- end }}
{{- range $table := list "log" "polling" }}
{{- with get $config $table }}

[{{ $table }}]
{{- include "vfe.toml.keys" . }}
{{- end }}
{{- end }}
{{- range $name, $account := .Values.accounts }}

[accounts.{{ $name }}]
{{- $secret := include "vfe.secretFile" (dict "name" $name "credentials" $account.credentials) | toJson }}
{{- include "vfe.toml.keys" (omit $account "credentials" "oauth") }}
{{- if not $account.oauth }}
password_file = {{ $secret }}
{{- end }}
{{- if and (or $.Values.customCA.existingConfigMap $.Values.customCA.existingSecret) (not $account.ca_file) }}
ca_file = "/etc/verify-factor-exporter/ca/ca.crt"
{{- end }}
{{- with $account.oauth }}

[accounts.{{ $name }}.oauth]
{{- include "vfe.toml.keys" . }}
client_secret_file = {{ $secret }}
{{- end }}
{{- end }}
{{- range .Values.watchlist.services }}

[[services]]
{{- include "vfe.toml.keys" . }}
{{- end }}

[watchlist]
{{- $files := list }}
{{- if include "vfe.watchlistSources" . }}{{ $files = append $files "/etc/verify-factor-exporter/watchlist/*" }}{{ end }}
{{- if .Values.watchlist.sidecar.enabled }}{{ $files = append $files "/etc/verify-factor-exporter/watchlist.d/*" }}{{ end }}
files = {{ toJson $files }}
{{- include "vfe.toml.keys" (default dict $config.watchlist) }}
{{- range .Values.watchlist.http }}

[[watchlist.http]]
{{- include "vfe.toml.keys" (omit . "credentials") }}
{{- if .credentials }}
{{ ternary "password_file" "bearer_token_file" (not (empty .username)) }} = {{ include "vfe.secretFile" (dict "name" (include "vfe.httpName" .) "credentials" .credentials) | toJson }}
{{- end }}
{{- if and (or $.Values.customCA.existingConfigMap $.Values.customCA.existingSecret) (not .ca_file) }}
ca_file = "/etc/verify-factor-exporter/ca/ca.crt"
{{- end }}
{{- end }}
{{- if or $config.metrics .Values.identityKey.existingSecret }}

[metrics]
{{- include "vfe.toml.keys" (default dict $config.metrics) }}
{{- if .Values.identityKey.existingSecret }}
identity_key_file = "/etc/verify-factor-exporter/identity/key"
{{- end }}
{{- end }}
{{- if ne (include "vfe.state" .) "none" }}

[state]
file = "/var/lib/verify-factor-exporter/state.jsonl"
{{- end }}
{{ end -}}

{{/* The allowed hosts of the values and, if a path needs them, the names of the Service within the cluster and the hosts of
Ingress and HTTPRoute. */}}
{{- define "vfe.allowedHosts" -}}
{{- $web := default dict .Values.config.web -}}
{{- $names := list -}}
{{- range $web.allowed_hosts -}}{{- $names = append $names (lower . | trimSuffix ".") -}}{{- end -}}
{{- if or $web.enable_lifecycle $web.enable_probe -}}
{{- $service := include "vfe.fullname" . -}}
{{- $namespaced := printf "%s.%s" $service (include "vfe.namespace" .) -}}
{{- range list $service $namespaced (printf "%s.svc" $namespaced) (printf "%s.svc.cluster.local" $namespaced) -}}
{{- if not (has . $names) -}}{{- $names = append $names . -}}{{- end -}}
{{- end -}}
{{- $outside := concat (ternary .Values.ingress.hosts list .Values.ingress.enabled) (ternary .Values.httpRoute.hostnames list .Values.httpRoute.enabled) -}}
{{- range $outside -}}
{{- if not (or (contains "*" .) (has . $names)) -}}{{- $names = append $names . -}}{{- end -}}
{{- end -}}
{{- end -}}
{{- toJson $names -}}
{{- end -}}

{{- define "vfe.toml.watchlist" -}}
# Rendered by the chart {{ .Chart.Name }}. The exporter reloads it when it changes.
{{- if not (or .Values.watchlist.factors .Values.watchlist.entities) }}
factors = []
{{- end }}
{{- range $table := list "factors" "entities" }}
{{- range get $.Values.watchlist $table }}

[[{{ $table }}]]
{{- include "vfe.toml.keys" . }}
{{- end }}
{{- end }}
{{ end -}}

{{/* The file with the secret of an account or a URL: (dict "name" … "credentials" …). */}}
{{- define "vfe.secretFile" -}}
{{- default (printf "/etc/verify-factor-exporter/credentials/%s" .name) (default dict .credentials).file -}}
{{- end -}}

{{/* A duration such as "1m30s" in seconds, rounded up. */}}
{{- define "vfe.seconds" -}}
{{- $milliseconds := 0 -}}
{{- range regexFindAll "[0-9]+(ms|s|m|h|d)" . -1 -}}
{{- $count := regexFind "[0-9]+" . | int -}}
{{- $unit := regexFind "[a-z]+" . -}}
{{- $milliseconds = add $milliseconds (mul $count (get (dict "ms" 1 "s" 1000 "m" 60000 "h" 3600000 "d" 86400000) $unit)) -}}
{{- end -}}
{{- div (add $milliseconds 999) 1000 -}}
{{- end -}}

{{/* Hash of the settings that require a restart and are not part of the pod template otherwise. */}}
{{- define "vfe.restart" -}}
{{- $web := default dict .Values.config.web -}}
{{- $identity := (default dict .Values.config.metrics).identity -}}
{{- list $web.telemetry_path $web.enable_lifecycle $web.enable_probe $identity (include "vfe.state" .) | toJson | sha256sum -}}
{{- end -}}
