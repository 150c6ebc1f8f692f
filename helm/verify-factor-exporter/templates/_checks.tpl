{{/* Checks that the schema can't express. Each message names the value and says how to fix it. */}}

{{- define "vfe.checks" -}}
{{- $v := .Values -}}
{{- if not $v.accounts -}}
{{- fail "accounts: is empty; define at least one, such as accounts.main with account_sid, username and credentials.existingSecret" -}}
{{- end -}}
{{- range $name, $account := $v.accounts -}}
{{- $credentials := default dict $account.credentials -}}
{{- $ways := list -}}
{{- range $way := list "existingSecret" "password" "externalSecret" "file" -}}
{{- if get $credentials $way -}}{{- $ways = append $ways $way -}}{{- end -}}
{{- end -}}
{{- if ne (len $ways) 1 -}}
{{- fail (printf "accounts.%s.credentials: has %s; set exactly one of existingSecret, externalSecret, file and (for development) password" $name (ternary "none" (join ", " $ways) (empty $ways))) -}}
{{- end -}}
{{- if and $account.oauth $account.username -}}
{{- fail (printf "accounts.%s.username: has no effect with oauth; remove either of them" $name) -}}
{{- end -}}
{{- if and $credentials.externalSecret (has $name (list "watchlist" "credentials")) -}}
{{- fail (printf "accounts.%s.credentials.externalSecret: its Secret %s-%s would collide with the chart's own; rename the account" $name (include "vfe.fullname" $) $name) -}}
{{- end -}}
{{- if contains "@" (default "" $account.proxy_url) -}}
{{- fail (printf "accounts.%s.proxy_url: contains a password, which would be stored in a ConfigMap; set HTTPS_PROXY from a Secret with extraEnv" $name) -}}
{{- end -}}
{{- end -}}
{{- if contains "@" $v.proxy.httpsProxy -}}
{{- fail "proxy.httpsProxy: contains a password, which would be visible in the pod spec; set HTTPS_PROXY from a Secret with extraEnv" -}}
{{- end -}}
{{- range $index, $source := $v.watchlist.http -}}
{{- $place := printf "watchlist.http[%d]" $index -}}
{{- if regexMatch "^[a-zA-Z]+://[^/?#]*@" $source.url -}}
{{- fail (printf "%s.url: contains credentials, which would be stored in a ConfigMap; use username and credentials" $place) -}}
{{- end -}}
{{- if and (hasPrefix "http:" (lower $source.url)) (not (regexMatch "^http://(localhost([:/?]|$)|127\\.|\\[)" (lower $source.url))) -}}
{{- fail (printf "%s.url: would send identities unencrypted; use https (http is accepted for a container of the same pod only, by localhost)" $place) -}}
{{- end -}}
{{- $credentials := default dict $source.credentials -}}
{{- if and $credentials.existingSecret $credentials.file -}}
{{- fail (printf "%s.credentials: has both existingSecret and file; remove one of them" $place) -}}
{{- end -}}
{{- if and $source.username (not (or $credentials.existingSecret $credentials.file)) -}}
{{- fail (printf "%s.credentials: is missing; set existingSecret with the password for username, or remove username" $place) -}}
{{- end -}}
{{- end -}}
{{- include "vfe.checks.names" (dict "place" "watchlist.http" "items" $v.watchlist.http "key" "name" "taken" (list)) -}}
{{- if not (or $v.watchlist.factors $v.watchlist.entities $v.watchlist.services $v.watchlist.http $v.watchlist.existingSecrets $v.watchlist.sidecar.enabled) -}}
{{- fail "watchlist: is empty; set watchlist.factors, entities, services, http, existingSecrets or sidecar.enabled" -}}
{{- end -}}
{{- if $v.watchlist.sidecar.enabled }}{{ include "vfe.checks.sidecar" . }}{{ end -}}
{{- if and (gt (int $v.replicaCount) 1) (not $v.sharding.enabled) -}}
{{- fail (printf "replicaCount: is %d without sharding, so every pod would poll the whole watchlist; set sharding.enabled=true or replicaCount=1" (int $v.replicaCount)) -}}
{{- end -}}
{{- if and $v.sharding.enabled (lt (int $v.replicaCount) 1) -}}
{{- fail "replicaCount: is 0 with sharding.enabled; set at least 1" -}}
{{- end -}}
{{- if and $v.sharding.enabled $v.state.existingClaim -}}
{{- fail "state.existingClaim: one claim can't be shared by several shards; remove it, and each shard gets its own claim" -}}
{{- end -}}
{{- if and $v.state.existingClaim (ne $v.state.type "persistentVolumeClaim") -}}
{{- fail "state.existingClaim: has no effect with this state.type; set state.type=persistentVolumeClaim or remove it" -}}
{{- end -}}
{{- if and $v.customCA.existingConfigMap $v.customCA.existingSecret -}}
{{- fail "customCA: has both existingConfigMap and existingSecret; remove one of them" -}}
{{- end -}}
{{- if and (eq (dig "metrics" "identity" "none" $v.config) "hmac") (not $v.identityKey.existingSecret) -}}
{{- fail "config.metrics.identity: \"hmac\" requires a key; set identityKey.existingSecret" -}}
{{- end -}}
{{- if and $v.identityKey.existingSecret (ne (dig "metrics" "identity" "none" $v.config) "hmac") -}}
{{- fail "identityKey.existingSecret: has no effect; set config.metrics.identity=hmac or remove it" -}}
{{- end -}}
{{- if and $v.web.config.tls (not $v.web.config.existingSecret) -}}
{{- fail "web.config.tls: requires a web configuration file; set web.config.existingSecret" -}}
{{- end -}}
{{- if and $v.monitor.basicAuth (not $v.web.config.tls) -}}
{{- fail "monitor.basicAuth: would send the password unencrypted; add a tls_server_config to the web configuration and set web.config.tls=true" -}}
{{- end -}}
{{- if and $v.monitor.tlsConfig (not $v.web.config.tls) -}}
{{- fail "monitor.tlsConfig: has no effect without TLS; set web.config.tls=true or remove it" -}}
{{- end -}}
{{- if eq (int $v.web.port) (int $v.web.healthPort) -}}
{{- fail (printf "web.healthPort: is the same as web.port (%d); choose another port" (int $v.web.port)) -}}
{{- end -}}
{{- if and $v.web.config.existingSecret (eq (int $v.service.port) (int $v.web.healthPort)) -}}
{{- fail (printf "service.port: is the same as web.healthPort (%d); choose another port" (int $v.service.port)) -}}
{{- end -}}
{{- $shutdown := include "vfe.seconds" (dig "polling" "shutdown_timeout" "8s" $v.config) | int -}}
{{- if and $v.terminationGracePeriodSeconds (lt (int $v.terminationGracePeriodSeconds) (add $shutdown 3 | int)) -}}
{{- fail (printf "terminationGracePeriodSeconds: %d is too short to shut down; set at least %d (config.polling.shutdown_timeout plus 3), or 0" (int $v.terminationGracePeriodSeconds) (add $shutdown 3)) -}}
{{- end -}}
{{- include "vfe.checks.env" . -}}
{{- include "vfe.checks.names" (dict "place" "extraVolumes" "items" $v.extraVolumes "key" "name" "taken" (list "config" "watchlist" "watchlist-sidecar" "sidecar-token" "credentials" "web" "ca" "identity" "state")) -}}
{{- include "vfe.checks.names" (dict "place" "extraVolumeMounts" "items" $v.extraVolumeMounts "key" "mountPath" "taken" (list "/etc/verify-factor-exporter/config" "/etc/verify-factor-exporter/watchlist" "/etc/verify-factor-exporter/watchlist.d" "/etc/verify-factor-exporter/credentials" "/etc/verify-factor-exporter/web" "/etc/verify-factor-exporter/ca" "/etc/verify-factor-exporter/identity" "/var/lib/verify-factor-exporter")) -}}
{{- $containers := list "exporter" "watchlist-init" "watchlist-sidecar" -}}
{{- include "vfe.checks.names" (dict "place" "initContainers" "items" $v.initContainers "key" "name" "taken" $containers) -}}
{{- range $v.initContainers }}{{ $containers = append $containers .name }}{{ end -}}
{{- include "vfe.checks.names" (dict "place" "extraContainers" "items" $v.extraContainers "key" "name" "taken" $containers) -}}
{{- include "vfe.checks.names" (dict "place" "imagePullSecrets" "items" $v.imagePullSecrets "key" "name" "taken" (list)) -}}
{{- include "vfe.checks.names" (dict "place" "hostAliases" "items" $v.hostAliases "key" "ip" "taken" (list)) -}}
{{- end -}}

{{- define "vfe.checks.sidecar" -}}
{{- $v := .Values -}}
{{- $sidecar := $v.watchlist.sidecar -}}
{{- if and (has "ALL" $sidecar.searchNamespaces) (gt (len $sidecar.searchNamespaces) 1) -}}
{{- fail "watchlist.sidecar.searchNamespaces: ALL already includes the other namespaces; remove either of them" -}}
{{- end -}}
{{- if and $sidecar.rbac.create (eq (include "vfe.serviceAccountName" .) "default") -}}
{{- fail "watchlist.sidecar.rbac.create: would let every pod with the service account \"default\" read Secrets; set serviceAccount.create=true or serviceAccount.name" -}}
{{- end -}}
{{- if has (int $sidecar.healthPort) (list (int $v.web.port) (int $v.web.healthPort)) -}}
{{- fail (printf "watchlist.sidecar.healthPort: %d is already a port of the exporter; choose another port" (int $sidecar.healthPort)) -}}
{{- end -}}
{{- range $index, $item := $sidecar.extraEnv -}}
{{- if and (eq $item.name "LOG_LEVEL") (eq (default "" $item.value | upper) "DEBUG") -}}
{{- fail (printf "watchlist.sidecar.extraEnv[%d]: at this level, the sidecar logs the contents of Secrets; set another level" $index) -}}
{{- end -}}
{{- end -}}
{{- $taken := keys (include "vfe.sidecar.env" (dict "root" . "method" "SLEEP") | fromYaml) -}}
{{- include "vfe.checks.names" (dict "place" "watchlist.sidecar.extraEnv" "items" $sidecar.extraEnv "key" "name" "taken" $taken) -}}
{{- end -}}

{{/* Server-side apply refuses lists with duplicate keys. */}}
{{- define "vfe.checks.names" -}}
{{- $seen := .taken -}}
{{- $key := .key -}}
{{- $place := .place -}}
{{- range $index, $item := .items -}}
{{- $name := get $item $key -}}
{{- if has $name $seen -}}
{{- fail (printf "%s[%d].%s: %s is already used; choose another" $place $index $key $name) -}}
{{- end -}}
{{- $seen = append $seen $name -}}
{{- end -}}
{{- end -}}

{{- define "vfe.checks.env" -}}
{{- $taken := list -}}
{{- if .Values.sharding.enabled }}{{ $taken = append $taken "POD_NAME" }}{{ end -}}
{{- if .Values.proxy.httpsProxy }}{{ $taken = append $taken "HTTPS_PROXY" }}{{ end -}}
{{- if .Values.proxy.noProxy }}{{ $taken = append $taken "NO_PROXY" }}{{ end -}}
{{- range $index, $item := .Values.extraEnv -}}
{{- if regexMatch "^(?i)VERIFY_EXPORTER_(WEB__(LISTEN_ADDRESS|HEALTH_LISTEN_ADDRESS|CONFIG_FILE|TELEMETRY_PATH)|SHARDING__|STATE__)" $item.name -}}
{{- fail (printf "extraEnv[%d].name: %s would contradict the objects that the chart renders; use the chart's values (web, config.web, sharding, state)" $index $item.name) -}}
{{- end -}}
{{- end -}}
{{- include "vfe.checks.names" (dict "place" "extraEnv" "items" .Values.extraEnv "key" "name" "taken" $taken) -}}
{{- range $argument := .Values.extraArgs -}}
{{- if regexMatch "^--(config\\.file|shard|web\\.(listen-address|config\\.file|telemetry-path))" $argument -}}
{{- fail (printf "extraArgs: %s is set by the chart; use the chart's values (web, config.web, sharding)" $argument) -}}
{{- end -}}
{{- end -}}
{{- end -}}
