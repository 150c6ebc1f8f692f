{{/*
Where the exporter's state is, how many shards there are, and how pods are replaced.
*/}}

{{/* The type of storage: by default, shards have claims. */}}
{{- define "vfe.state" -}}
{{- default (ternary "persistentVolumeClaim" "emptyDir" .Values.sharding.enabled) .Values.state.type -}}
{{- end -}}

{{/* The number of shards: less than replicaCount only while scaling down. */}}
{{- define "vfe.shards" -}}
{{- default .Values.replicaCount .Values.sharding.shards | int -}}
{{- end -}}

{{/*
The strategy of the Deployment. By default, the old pod stays until the new one is ready, unless the new one needs what
the old one holds: the lock of the state file on a claim, or ports of the node. All fields are rendered, so that a change
of the type leaves none behind.
*/}}
{{- define "vfe.strategy" -}}
{{- $given := .Values.strategy -}}
{{- $held := or .Values.hostNetwork (eq (include "vfe.state" .) "persistentVolumeClaim") -}}
{{- $default := ternary "Recreate" "RollingUpdate" (and $held (empty $given)) -}}
type: {{ default $default $given.type }}
{{- if ne (default $default $given.type) "Recreate" }}
rollingUpdate:
  {{- /* Not by merge, which takes a 0 for missing. */}}
  {{- $rolling := default dict $given.rollingUpdate }}
  maxSurge: {{ ternary $rolling.maxSurge 1 (hasKey $rolling "maxSurge") }}
  maxUnavailable: {{ ternary $rolling.maxUnavailable 0 (hasKey $rolling "maxUnavailable") }}
{{- end }}
{{- end -}}

{{- define "vfe.claim" -}}
accessModes: [ReadWriteOnce]
{{- with .Values.state.storageClassName }}
storageClassName: {{ . | quote }}
{{- end }}
resources:
  requests:
    storage: {{ .Values.state.size | quote }}
{{- end -}}

{{- define "vfe.checks.state" -}}
{{- $problems := .problems -}}
{{- $v := .root.Values -}}
{{- $type := include "vfe.state" .root -}}
{{- $claims := eq $type "persistentVolumeClaim" -}}
{{- if and $v.sharding.enabled $v.state.existingClaim -}}
{{- include "vfe.problem" (list $problems "state.existingClaim: one claim can't be shared by several shards; remove it, and each shard gets its own claim") -}}
{{- end -}}
{{- range $key := list "existingClaim" "storageClassName" -}}
{{- if and (get $v.state $key) (not $claims) -}}
{{- include "vfe.problem" (list $problems (printf "state.%s: has no effect with this state.type; set state.type=persistentVolumeClaim or remove it" $key)) -}}
{{- end -}}
{{- end -}}
{{- if and $v.state.existingClaim $v.state.storageClassName -}}
{{- include "vfe.problem" (list $problems "state.storageClassName: has no effect on state.existingClaim; remove either of them") -}}
{{- end -}}
{{- range $key := list "whenDeleted" "whenScaled" -}}
{{- if and (eq (get $v.state.retentionPolicy $key) "Delete") (not (and $claims $v.sharding.enabled)) -}}
{{- include "vfe.problem" (list $problems (printf "state.retentionPolicy.%s: has an effect on the claims of shards only; remove it, or set sharding.enabled=true and state.type=persistentVolumeClaim" $key)) -}}
{{- end -}}
{{- end -}}
{{- if $v.sharding.enabled -}}
{{- include "vfe.checks.shards" . -}}
{{- include "vfe.checks.claims" . -}}
{{- else -}}
{{- include "vfe.checks.strategy" . -}}
{{- end -}}
{{- end -}}

{{- define "vfe.checks.shards" -}}
{{- $problems := .problems -}}
{{- $v := .root.Values -}}
{{- $pods := int $v.replicaCount -}}
{{- $shards := include "vfe.shards" .root | int -}}
{{- if lt $pods 1 -}}
{{- include "vfe.problem" (list $problems "replicaCount: is 0 with sharding.enabled; set at least 1") -}}
{{- end -}}
{{- if gt $shards $pods -}}
{{- include "vfe.problem" (list $problems (printf "sharding.shards: is %d, more than the %d pods of replicaCount, so the other shards would not be watched; set replicaCount=%d, or remove it" $shards $pods $shards)) -}}
{{- end -}}
{{- if and (lt $shards $pods) (ne (default "RollingUpdate" $v.updateStrategy.type) "OnDelete") -}}
{{- include "vfe.problem" (list $problems (printf "sharding.shards: is %d, less than the %d pods of replicaCount, and a restarted pod without a shard can't start; while scaling down, set updateStrategy.type=OnDelete (\"Remove shards\" in docs/kubernetes.md), otherwise remove it" $shards $pods)) -}}
{{- end -}}
{{- if $v.strategy -}}
{{- include "vfe.problem" (list $problems "strategy: has no effect with sharding.enabled; set updateStrategy instead") -}}
{{- end -}}
{{- end -}}

{{- define "vfe.checks.strategy" -}}
{{- $problems := .problems -}}
{{- $root := .root -}}
{{- $v := .root.Values -}}
{{- if gt (int $v.replicaCount) 1 -}}
{{- include "vfe.problem" (list $problems (printf "replicaCount: is %d without sharding, so every pod would poll the whole watchlist; set sharding.enabled=true or replicaCount=1" (int $v.replicaCount))) -}}
{{- end -}}
{{- if $v.sharding.shards -}}
{{- include "vfe.problem" (list $problems "sharding.shards: has no effect without sharding.enabled; set that to true, or remove it") -}}
{{- end -}}
{{- if $v.updateStrategy -}}
{{- include "vfe.problem" (list $problems "updateStrategy: has no effect without sharding.enabled; set strategy instead") -}}
{{- end -}}
{{- $strategy := include "vfe.strategy" $root | fromYaml -}}
{{- if and (ne $strategy.type "Recreate") (eq (include "vfe.state" $root) "persistentVolumeClaim") -}}
{{- include "vfe.problem" (list $problems (printf "strategy.type: %s can't work with state.type=persistentVolumeClaim: the new pod would wait for the state file, which the old pod locks until the new one is ready; set strategy.type=Recreate, or state.type=emptyDir" $strategy.type)) -}}
{{- end -}}
{{- if and (eq $strategy.type "Recreate") $v.strategy.rollingUpdate -}}
{{- include "vfe.problem" (list $problems "strategy.rollingUpdate: is not allowed with strategy.type=Recreate; remove either of them") -}}
{{- end -}}
{{- with $strategy.rollingUpdate -}}
{{- if and (has (toString .maxSurge) (list "0" "0%")) (has (toString .maxUnavailable) (list "0" "0%")) -}}
{{- include "vfe.problem" (list $problems "strategy.rollingUpdate: maxSurge and maxUnavailable (by default 0) are both 0, so no pod could be replaced; set maxSurge=1") -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/*
Kubernetes doesn't allow changing the claims of a StatefulSet. Its own message names neither the value nor the way out.
Without access to the cluster (helm template, Argo CD), there is nothing to compare with.
*/}}
{{- define "vfe.checks.claims" -}}
{{- $problems := .problems -}}
{{- $v := .root.Values -}}
{{- $name := include "vfe.fullname" .root -}}
{{- $namespace := include "vfe.namespace" .root -}}
{{- with lookup "apps/v1" "StatefulSet" $namespace $name -}}
{{- $claim := dig "spec" "volumeClaimTemplates" list . | default list | first | default dict -}}
{{- $old := "none" -}}
{{- range dig "spec" "template" "spec" "volumes" list . | default list -}}
{{- if eq .name "state" }}{{ $old = "emptyDir" }}{{ end -}}
{{- end -}}
{{- if $claim }}{{ $old = "persistentVolumeClaim" }}{{ end -}}
{{- $type := include "vfe.state" $.root -}}
{{- $changes := dict -}}
{{- if ne (eq $old "persistentVolumeClaim") (eq $type "persistentVolumeClaim") -}}
{{- $_ := set $changes "type" (list $type $old) -}}
{{- else if $claim -}}
{{- $size := dig "spec" "resources" "requests" "storage" "" $claim -}}
{{- if ne (include "vfe.bytes" $size) (include "vfe.bytes" $v.state.size) -}}
{{- $_ := set $changes "size" (list $v.state.size $size) -}}
{{- end -}}
{{- $class := dig "spec" "storageClassName" "" $claim -}}
{{- if ne $class $v.state.storageClassName -}}
{{- $_ := set $changes "storageClassName" (list (toJson $v.state.storageClassName) (toJson $class)) -}}
{{- end -}}
{{- end -}}
{{- range $key, $change := $changes -}}
{{- include "vfe.problem" (list $problems (printf "state.%s: is %s, but %s in the existing StatefulSet, whose volumeClaimTemplates can't be changed; set state.%s=%s, or replace the StatefulSet as described in \"Change the storage of shards\" in docs/kubernetes.md, beginning with: kubectl --namespace %s delete statefulset %s --cascade=orphan" $key (first $change) (last $change) $key (last $change) $namespace $name)) -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* A quantity in bytes: 1Gi and 1024Mi are the same. */}}
{{- define "vfe.bytes" -}}
{{- $units := dict "" 1 "k" 1000 "K" 1000 "M" 1000000 "G" 1000000000 "T" 1000000000000 "Ki" 1024 "Mi" 1048576 "Gi" 1073741824 "Ti" 1099511627776 -}}
{{- $unit := regexFind "[A-Za-z]*$" . -}}
{{- mulf (regexFind "^[0-9.]+" .) (get $units $unit) | int64 -}}
{{- end -}}
