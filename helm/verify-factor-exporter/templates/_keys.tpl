{{/*
Unknown keys, all at once, each with its path and what was probably meant. files/keys.json has the known keys, down to
the fields of Kubernetes. values.schema.json can't do this: Helm's message for an unknown key names no other key.
*/}}

{{/* Add the unknown keys of the values to a list of problems: (dict "root" $ "problems" (dict "list" …)). */}}
{{- define "vfe.keys" -}}
{{- $known := .root.Files.Get "files/keys.json" | fromJson -}}
{{- include "vfe.keys.below" (dict "known" $known "problems" .problems "node" $known.values "value" .root.Values "path" "" "place" "") -}}
{{- end -}}

{{/* "path" is where the value is, with indexes; "place" is where guesses.yaml has it, from the last definition on. */}}
{{- define "vfe.keys.below" -}}
{{- $at := . -}}
{{- if kindIs "string" .node -}}
{{- include "vfe.keys.below" (dict "known" .known "problems" .problems "node" (get .known.definitions .node) "value" .value "path" .path "place" .node) -}}
{{- else if and (kindIs "slice" .node) (kindIs "slice" .value) -}}
{{- range $index, $item := .value -}}
{{- include "vfe.keys.below" (dict "known" $at.known "problems" $at.problems "node" (first $at.node) "value" $item "path" (printf "%s[%d]" $at.path $index) "place" $at.place) -}}
{{- end -}}
{{- else if and (kindIs "map" .node) (kindIs "map" .value) -}}
{{- range $key := keys .value | sortAlpha -}}
{{- $path := list $at.path $key | compact | join "." -}}
{{- $place := list $at.place $key | compact | join "." -}}
{{- if or (hasKey $at.node $key) (hasKey $at.node "*") -}}
{{- $node := ternary (get $at.node $key) (get $at.node "*") (hasKey $at.node $key) -}}
{{- include "vfe.keys.below" (dict "known" $at.known "problems" $at.problems "node" $node "value" (get $at.value $key) "path" $path "place" $place) -}}
{{- else -}}
{{- $answer := include "vfe.keys.answer" (dict "known" $at.known "node" $at.node "key" $key "place" $place) -}}
{{- include "vfe.problem" (list $at.problems (printf "%s: unknown key; %s" $path $answer)) -}}
{{- end -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{/* What was probably meant: the name that this chart has for it, the nearest key, or the same key elsewhere. */}}
{{- define "vfe.keys.answer" -}}
{{- $key := .key -}}
{{- $near := list -}}
{{- $longer := list -}}
{{- $least := max 2 (div (len $key) 3) -}}
{{- range $candidate := keys .node | sortAlpha -}}
{{- if le (sub (max (len $key) (len $candidate)) (min (len $key) (len $candidate))) $least -}}
{{- $distance := include "vfe.keys.distance" (list (lower $key) (lower $candidate)) | int64 -}}
{{- if lt $distance $least }}{{ $near = list }}{{ end -}}
{{- if le $distance $least }}{{ $least = $distance }}{{ $near = append $near $candidate }}{{ end -}}
{{- end -}}
{{- if and (hasPrefix (lower $key) (lower $candidate)) (gt (len $key) 3) }}{{ $longer = append $longer $candidate }}{{ end -}}
{{- end -}}
{{- $near = default $longer $near -}}
{{- if hasKey .known.guesses .place -}}
{{- get .known.guesses .place -}}
{{- else if $near -}}
did you mean {{ join " or " $near }}?
{{- else if hasKey .known.places $key -}}
did you mean {{ get .known.places $key | first }}?
{{- else if le (len .node) 20 -}}
the keys here are {{ keys .node | sortAlpha | join ", " }}
{{- else -}}
the README of the chart lists all keys
{{- end -}}
{{- end -}}

{{/* The Levenshtein distance of two words: (list "one" "other"). */}}
{{- define "vfe.keys.distance" -}}
{{- $other := splitList "" (last .) -}}
{{- $row := until (add (len $other) 1 | int) -}}
{{- range $i, $letter := splitList "" (first .) -}}
{{- $above := $row -}}
{{- $row = list (add $i 1) -}}
{{- range $j, $with := $other -}}
{{- $replaced := add (index $above $j) (ternary 0 1 (eq $letter $with)) -}}
{{- $row = append $row (min $replaced (add 1 (last $row)) (add 1 (index $above (add $j 1)))) -}}
{{- end -}}
{{- end -}}
{{- last $row -}}
{{- end -}}
