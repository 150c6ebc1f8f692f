{{/*
Checks that the schema can't express. Each message names the value and says how to fix it; all of them are reported at
once.
*/}}

{{- define "vfe.checks" -}}
{{- $problems := dict "list" list -}}
{{- include "vfe.keys" (dict "root" . "problems" $problems) -}}
{{- include "vfe.checks.values" (dict "root" . "problems" $problems) -}}
{{- $found := $problems.list -}}
{{- if eq (len $found) 1 }}{{ fail (first $found) }}{{ end -}}
{{- if $found -}}
{{- fail (printf "%d errors in the values:\n- %s" (len $found) (join "\n- " $found)) -}}
{{- end -}}
{{- end -}}

{{/* Add a problem: (list $problems "message"). */}}
{{- define "vfe.problem" -}}
{{- $problems := first . -}}
{{- $_ := set $problems "list" (append $problems.list (last .)) -}}
{{- end -}}

{{- define "vfe.checks.values" -}}
{{- $problems := .problems -}}
{{- $root := .root -}}
{{- $v := .root.Values -}}
{{- if not $v.accounts -}}
{{- include "vfe.problem" (list $problems "accounts: is empty; define at least one, such as accounts.main with account_sid, username and credentials.existingSecret") -}}
{{- end -}}
{{- range $name, $account := $v.accounts -}}
{{- $credentials := default dict $account.credentials -}}
{{- $ways := list -}}
{{- range $way := list "existingSecret" "password" "externalSecret" "file" -}}
{{- if get $credentials $way -}}{{- $ways = append $ways $way -}}{{- end -}}
{{- end -}}
{{- if ne (len $ways) 1 -}}
{{- include "vfe.problem" (list $problems (printf "accounts.%s.credentials: has %s; set exactly one of existingSecret, externalSecret, file and (for development) password" $name (ternary "none" (join ", " $ways) (empty $ways)))) -}}
{{- end -}}
{{- if and $account.oauth $account.username -}}
{{- include "vfe.problem" (list $problems (printf "accounts.%s.username: has no effect with oauth; remove either of them" $name)) -}}
{{- end -}}
{{- if and $credentials.externalSecret (has $name (list "watchlist" "credentials")) -}}
{{- include "vfe.problem" (list $problems (printf "accounts.%s.credentials.externalSecret: its Secret %s-%s would collide with the chart's own; rename the account" $name (include "vfe.fullname" $root) $name)) -}}
{{- end -}}
{{- if contains "@" (default "" $account.proxy_url) -}}
{{- include "vfe.problem" (list $problems (printf "accounts.%s.proxy_url: contains a password, which would be stored in a ConfigMap; set HTTPS_PROXY from a Secret with extraEnv" $name)) -}}
{{- end -}}
{{- end -}}
{{- if contains "@" $v.proxy.httpsProxy -}}
{{- include "vfe.problem" (list $problems "proxy.httpsProxy: contains a password, which would be visible in the pod spec; set HTTPS_PROXY from a Secret with extraEnv") -}}
{{- end -}}
{{- range $index, $source := $v.watchlist.http -}}
{{- $place := printf "watchlist.http[%d]" $index -}}
{{- if regexMatch "^[a-zA-Z]+://[^/?#]*@" $source.url -}}
{{- include "vfe.problem" (list $problems (printf "%s.url: contains credentials, which would be stored in a ConfigMap; use username and credentials" $place)) -}}
{{- end -}}
{{- if and (hasPrefix "http:" (lower $source.url)) (not (regexMatch "^http://(localhost([:/?]|$)|127\\.|\\[)" (lower $source.url))) -}}
{{- include "vfe.problem" (list $problems (printf "%s.url: would send identities unencrypted; use https (http is accepted for a container of the same pod only, by localhost)" $place)) -}}
{{- end -}}
{{- $credentials := default dict $source.credentials -}}
{{- if and $credentials.existingSecret $credentials.file -}}
{{- include "vfe.problem" (list $problems (printf "%s.credentials: has both existingSecret and file; remove one of them" $place)) -}}
{{- end -}}
{{- if and $source.username (not (or $credentials.existingSecret $credentials.file)) -}}
{{- include "vfe.problem" (list $problems (printf "%s.credentials: is missing; set existingSecret with the password for username, or remove username" $place)) -}}
{{- end -}}
{{- end -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "watchlist.http" "items" $v.watchlist.http "key" "name" "taken" (list)) -}}
{{- if not (or $v.watchlist.factors $v.watchlist.entities $v.watchlist.services $v.watchlist.http $v.watchlist.existingSecrets $v.watchlist.sidecar.enabled) -}}
{{- include "vfe.problem" (list $problems "watchlist: is empty; set watchlist.factors, entities, services, http, existingSecrets or sidecar.enabled") -}}
{{- end -}}
{{- if $v.watchlist.sidecar.enabled }}{{ include "vfe.checks.sidecar" . }}{{ end -}}
{{- include "vfe.checks.state" . -}}
{{- if and $v.customCA.existingConfigMap $v.customCA.existingSecret -}}
{{- include "vfe.problem" (list $problems "customCA: has both existingConfigMap and existingSecret; remove one of them") -}}
{{- end -}}
{{- if and (eq (dig "metrics" "identity" "none" $v.config) "hmac") (not $v.identityKey.existingSecret) -}}
{{- include "vfe.problem" (list $problems "config.metrics.identity: \"hmac\" requires a key; set identityKey.existingSecret") -}}
{{- end -}}
{{- if and $v.identityKey.existingSecret (ne (dig "metrics" "identity" "none" $v.config) "hmac") -}}
{{- include "vfe.problem" (list $problems "identityKey.existingSecret: has no effect; set config.metrics.identity=hmac or remove it") -}}
{{- end -}}
{{- if and $v.web.config.tls (not $v.web.config.existingSecret) -}}
{{- include "vfe.problem" (list $problems "web.config.tls: requires a web configuration file; set web.config.existingSecret") -}}
{{- end -}}
{{- if and $v.web.config.tlsSecret (not (and $v.web.config.existingSecret $v.web.config.tls)) -}}
{{- include "vfe.problem" (list $problems "web.config.tlsSecret: requires a web configuration file with cert_file: tls.crt and key_file: tls.key; set web.config.existingSecret, and web.config.tls=true") -}}
{{- end -}}
{{- if and $v.web.config.authentication (not $v.web.config.existingSecret) -}}
{{- include "vfe.problem" (list $problems "web.config.authentication: requires a web configuration file; set web.config.existingSecret") -}}
{{- end -}}
{{- range $key, $needed := dict "ingress" "hosts" "httpRoute" "parentRefs" -}}
{{- $outside := get $v $key -}}
{{- if $outside.enabled -}}
{{- if not (or $v.web.config.authentication $outside.authenticated) -}}
{{- include "vfe.problem" (list $problems (printf "%s.enabled: would show everyone who can't log in; add basic_auth_users to the web configuration and set web.config.authentication=true, or authenticate in front of the exporter and set %s.authenticated=true" $key $key)) -}}
{{- end -}}
{{- if not (get $outside $needed) -}}
{{- include "vfe.problem" (list $problems (printf "%s.%s: is empty; set at least one" $key $needed)) -}}
{{- end -}}
{{- if $v.sharding.enabled -}}
{{- include "vfe.problem" (list $problems (printf "%s.enabled: every request would show another shard; with sharding, use dashboards, or forward a port of one pod" $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- if and $v.monitor.basicAuth (not $v.web.config.tls) -}}
{{- include "vfe.problem" (list $problems "monitor.basicAuth: would send the password unencrypted; add a tls_server_config to the web configuration and set web.config.tls=true") -}}
{{- end -}}
{{- if and $v.monitor.tlsConfig (not $v.web.config.tls) -}}
{{- include "vfe.problem" (list $problems "monitor.tlsConfig: has no effect without TLS; set web.config.tls=true or remove it") -}}
{{- end -}}
{{- $tests := $v.tests -}}
{{- if and $tests.basicAuth (not $v.web.config.tls) -}}
{{- include "vfe.problem" (list $problems "tests.basicAuth: would send the password unencrypted; add a tls_server_config to the web configuration and set web.config.tls=true") -}}
{{- end -}}
{{- if and $tests.basicAuth (not (and $tests.basicAuth.username $tests.basicAuth.password)) -}}
{{- include "vfe.problem" (list $problems "tests.basicAuth: needs both username and password; add the other one") -}}
{{- end -}}
{{- if and $tests.tlsConfig (not $v.web.config.tls) -}}
{{- include "vfe.problem" (list $problems "tests.tlsConfig: has no effect without TLS; set web.config.tls=true or remove it") -}}
{{- end -}}
{{- range $key, $instead := dict "caFile" "ca" "certFile" "cert" "keyFile" "keySecret" -}}
{{- if get $tests.tlsConfig $key -}}
{{- include "vfe.problem" (list $problems (printf "tests.tlsConfig.%s: the test pod has no such file; set %s" $key $instead)) -}}
{{- end -}}
{{- end -}}
{{- range $key := list "minVersion" "maxVersion" -}}
{{- if get $tests.tlsConfig $key -}}
{{- include "vfe.problem" (list $problems (printf "tests.tlsConfig.%s: has no effect on the test; remove it" $key)) -}}
{{- end -}}
{{- end -}}
{{- if ne (empty $tests.tlsConfig.cert) (empty $tests.tlsConfig.keySecret) -}}
{{- include "vfe.problem" (list $problems "tests.tlsConfig: needs both cert and keySecret; add the other one") -}}
{{- end -}}
{{- if and $v.monitor.targetLabels (eq $v.monitor.type "ScrapeConfig") -}}
{{- include "vfe.problem" (list $problems "monitor.targetLabels: has no effect on a ScrapeConfig; set monitor.relabelings instead") -}}
{{- end -}}
{{- if and $v.service.nodePort (eq $v.service.type "ClusterIP") -}}
{{- include "vfe.problem" (list $problems "service.nodePort: has no effect with service.type=ClusterIP; set service.type=NodePort or remove it") -}}
{{- end -}}
{{- if and (eq $v.service.clusterIP "None") (ne $v.service.type "ClusterIP") -}}
{{- include "vfe.problem" (list $problems (printf "service.clusterIP: None requires service.type=ClusterIP, not %s; change either of them" $v.service.type)) -}}
{{- end -}}
{{- if eq (int $v.web.port) (int $v.web.healthPort) -}}
{{- include "vfe.problem" (list $problems (printf "web.healthPort: is the same as web.port (%d); choose another port" (int $v.web.port))) -}}
{{- end -}}
{{- if and $v.web.config.existingSecret (eq (int $v.service.port) (int $v.web.healthPort)) -}}
{{- include "vfe.problem" (list $problems (printf "service.port: is the same as web.healthPort (%d); choose another port" (int $v.service.port))) -}}
{{- end -}}
{{- range $key, $file := dict "unusedPasskeys" "files/unused-passkeys.yaml" "watchdog" "files/watchdog.yaml" -}}
{{- range $name := keys $v.rules.alerts | sortAlpha -}}
{{- if and $v.rules.enabled (not (get $v.rules $key)) (contains (printf "alert: %s\n" $name) ($root.Files.Get $file)) -}}
{{- include "vfe.problem" (list $problems (printf "rules.alerts.%s: has no effect without rules.%s; set that to true, or remove it" $name $key)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- $shutdown := include "vfe.seconds" (dig "polling" "shutdown_timeout" "8s" $v.config) | int -}}
{{- if and $v.terminationGracePeriodSeconds (lt (int $v.terminationGracePeriodSeconds) (add $shutdown 3 | int)) -}}
{{- include "vfe.problem" (list $problems (printf "terminationGracePeriodSeconds: %d is too short to shut down; set at least %d (config.polling.shutdown_timeout plus 3), or 0" (int $v.terminationGracePeriodSeconds) (add $shutdown 3))) -}}
{{- end -}}
{{- include "vfe.checks.env" . -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "extraVolumes" "items" $v.extraVolumes "key" "name" "taken" (list "config" "watchlist" "watchlist-sidecar" "sidecar-token" "credentials" "web" "ca" "identity" "state")) -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "extraVolumeMounts" "items" $v.extraVolumeMounts "key" "mountPath" "taken" (list "/etc/verify-factor-exporter/config" "/etc/verify-factor-exporter/watchlist" "/etc/verify-factor-exporter/watchlist.d" "/etc/verify-factor-exporter/credentials" "/etc/verify-factor-exporter/web" "/etc/verify-factor-exporter/ca" "/etc/verify-factor-exporter/identity" "/var/lib/verify-factor-exporter")) -}}
{{- $containers := list "exporter" "watchlist-init" "watchlist-sidecar" -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "initContainers" "items" $v.initContainers "key" "name" "taken" $containers) -}}
{{- range $v.initContainers }}{{ $containers = append $containers .name }}{{ end -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "extraContainers" "items" $v.extraContainers "key" "name" "taken" $containers) -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "imagePullSecrets" "items" $v.imagePullSecrets "key" "name" "taken" (list)) -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "hostAliases" "items" $v.hostAliases "key" "ip" "taken" (list)) -}}
{{- end -}}

{{- define "vfe.checks.sidecar" -}}
{{- $problems := .problems -}}
{{- $root := .root -}}
{{- $v := .root.Values -}}
{{- $sidecar := $v.watchlist.sidecar -}}
{{- if and (has "ALL" $sidecar.searchNamespaces) (gt (len $sidecar.searchNamespaces) 1) -}}
{{- include "vfe.problem" (list $problems "watchlist.sidecar.searchNamespaces: ALL already includes the other namespaces; remove either of them") -}}
{{- end -}}
{{- if and $sidecar.rbac.create (eq (include "vfe.serviceAccountName" $root) "default") -}}
{{- include "vfe.problem" (list $problems "watchlist.sidecar.rbac.create: would let every pod with the service account \"default\" read Secrets; set serviceAccount.create=true or serviceAccount.name") -}}
{{- end -}}
{{- if has (int $sidecar.healthPort) (list (int $v.web.port) (int $v.web.healthPort)) -}}
{{- include "vfe.problem" (list $problems (printf "watchlist.sidecar.healthPort: %d is already a port of the exporter; choose another port" (int $sidecar.healthPort))) -}}
{{- end -}}
{{- range $index, $item := $sidecar.extraEnv -}}
{{- if and (eq $item.name "LOG_LEVEL") (eq (default "" $item.value | upper) "DEBUG") -}}
{{- include "vfe.problem" (list $problems (printf "watchlist.sidecar.extraEnv[%d]: at this level, the sidecar logs the contents of Secrets; set another level" $index)) -}}
{{- end -}}
{{- end -}}
{{- $taken := keys (include "vfe.sidecar.env" (dict "root" $root "method" "SLEEP") | fromYaml) -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "watchlist.sidecar.extraEnv" "items" $sidecar.extraEnv "key" "name" "taken" $taken) -}}
{{- end -}}

{{/* Server-side apply refuses lists with duplicate keys. */}}
{{- define "vfe.checks.names" -}}
{{- $problems := .problems -}}
{{- $seen := .taken -}}
{{- $key := .key -}}
{{- $place := .place -}}
{{- range $index, $item := .items -}}
{{- $name := get $item $key -}}
{{- if has $name $seen -}}
{{- include "vfe.problem" (list $problems (printf "%s[%d].%s: %s is already used; choose another" $place $index $key $name)) -}}
{{- end -}}
{{- $seen = append $seen $name -}}
{{- end -}}
{{- end -}}

{{- define "vfe.checks.env" -}}
{{- $problems := .problems -}}
{{- $v := .root.Values -}}
{{- $taken := list -}}
{{- if $v.sharding.enabled }}{{ $taken = append $taken "POD_NAME" }}{{ end -}}
{{- if $v.proxy.httpsProxy }}{{ $taken = append $taken "HTTPS_PROXY" }}{{ end -}}
{{- if $v.proxy.noProxy }}{{ $taken = append $taken "NO_PROXY" }}{{ end -}}
{{- range $index, $item := $v.extraEnv -}}
{{- if regexMatch "^(?i)VERIFY_EXPORTER_(WEB__(LISTEN_ADDRESS|HEALTH_LISTEN_ADDRESS|CONFIG_FILE|TELEMETRY_PATH)|SHARDING__|STATE__)" $item.name -}}
{{- include "vfe.problem" (list $problems (printf "extraEnv[%d].name: %s would contradict the objects that the chart renders; use the chart's values (web, config.web, sharding, state)" $index $item.name)) -}}
{{- end -}}
{{- end -}}
{{- include "vfe.checks.names" (dict "problems" $problems "place" "extraEnv" "items" $v.extraEnv "key" "name" "taken" $taken) -}}
{{- range $argument := $v.extraArgs -}}
{{- if regexMatch "^--(config\\.file|shard|web\\.(listen-address|config\\.file|telemetry-path))" $argument -}}
{{- include "vfe.problem" (list $problems (printf "extraArgs: %s is set by the chart; use the chart's values (web, config.web, sharding)" $argument)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
