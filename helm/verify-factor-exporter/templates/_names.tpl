{{/*
Names and labels. Names are limited to 52 characters, because a label of a StatefulSet's pods appends a hash. Every
name is quoted where it is rendered: YAML reads `123`, `1e3` and `true` as other types.
*/}}

{{- define "vfe.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 40 | trimSuffix "-" -}}
{{- end -}}

{{- define "vfe.fullname" -}}
{{- if .Values.fullnameOverride -}}
{{- .Values.fullnameOverride | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- $name := default .Chart.Name .Values.nameOverride -}}
{{- if contains $name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name $name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}
{{- end -}}

{{- define "vfe.namespace" -}}
{{- default .Release.Namespace .Values.namespaceOverride -}}
{{- end -}}

{{- define "vfe.serviceAccountName" -}}
{{- if .Values.serviceAccount.name -}}
{{- .Values.serviceAccount.name -}}
{{- else if .Values.serviceAccount.create -}}
{{- include "vfe.fullname" . -}}
{{- else -}}
default
{{- end -}}
{{- end -}}

{{/* These never change between chart versions: selectors are immutable. */}}
{{- define "vfe.selectorLabels" -}}
app.kubernetes.io/name: {{ include "vfe.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end -}}

{{/*
Labels of an object: (dict "root" $ "labels" (dict …) "instead" (dict …)). Precedence, highest first: "instead", the
chart's labels, the labels of the object, commonLabels.
*/}}
{{- define "vfe.labels" -}}
{{- $own := dict
      "helm.sh/chart" (printf "%s-%s" .root.Chart.Name .root.Chart.Version | replace "+" "_" | trunc 63 | trimSuffix "-")
      "app.kubernetes.io/version" (.root.Chart.AppVersion | replace "+" "_")
      "app.kubernetes.io/managed-by" .root.Release.Service
      "app.kubernetes.io/name" (include "vfe.name" .root)
      "app.kubernetes.io/instance" .root.Release.Name -}}
{{- $given := include "vfe.tpl" (dict "root" .root "texts" (merge (dict) (default dict .labels) .root.Values.commonLabels)) | fromYaml -}}
{{- toYaml (merge (dict) (default dict .instead) $own $given) -}}
{{- end -}}

{{/* The metadata of an object: (dict "root" $ "name" … "namespace" … "labels" (dict …) "annotations" (dict …)), and optionally "instead", or "cluster" if it has no namespace. */}}
{{- define "vfe.metadata" -}}
name: {{ .name | quote }}
{{- if not .cluster }}
namespace: {{ default (include "vfe.namespace" .root) .namespace | quote }}
{{- end }}
labels:
  {{- include "vfe.labels" . | nindent 2 }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- include "vfe.tpl" (dict "root" $.root "texts" .) | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Labels or annotations with their templates rendered: (dict "root" $ "texts" (dict …)). */}}
{{- define "vfe.tpl" -}}
{{- $root := .root -}}
{{- $rendered := dict -}}
{{- range $name, $text := .texts -}}
{{- if contains "{{" $text }}{{ $text = tpl $text $root }}{{ end -}}
{{- $_ := set $rendered $name $text -}}
{{- end -}}
{{- toYaml $rendered -}}
{{- end -}}

{{/* Pod labels omit the chart version, so that a new chart version alone restarts nothing. */}}
{{- define "vfe.podLabels" -}}
{{- $given := include "vfe.tpl" (dict "root" . "texts" (merge (dict) .Values.podLabels .Values.commonLabels)) | fromYaml -}}
{{- toYaml (merge (include "vfe.selectorLabels" . | fromYaml) $given) -}}
{{- end -}}

{{/* The exporter's image. */}}
{{- define "vfe.image" -}}
{{- include "vfe.imageOf" (dict "root" . "image" (merge (dict "tag" (default .Chart.AppVersion .Values.image.tag)) .Values.image)) -}}
{{- end -}}

{{/* An image from the values: (dict "root" $ "image" (dict "registry" … "repository" … "tag" … "digest" …)). */}}
{{- define "vfe.imageOf" -}}
{{- $registry := default .image.registry (dig "imageRegistry" "" .root.Values.global) -}}
{{- $repository := .image.repository -}}
{{- if $registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" $registry) $repository }}{{ end -}}
{{- if .image.digest -}}
{{- printf "%s@%s" $repository .image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository .image.tag -}}
{{- end -}}
{{- end -}}

{{/* The pull secrets of the release and of its parent charts. */}}
{{- define "vfe.imagePullSecrets" -}}
{{- $names := list -}}
{{- range concat .Values.imagePullSecrets (dig "imagePullSecrets" list .Values.global) -}}
{{- if kindIs "string" . }}{{ $names = append $names . }}{{ else }}{{ $names = append $names .name }}{{ end -}}
{{- end -}}
{{- range uniq $names }}
- name: {{ . | quote }}
{{- end }}
{{- end -}}

{{- define "vfe.job" -}}
{{- default (include "vfe.name" .) .Values.monitor.job -}}
{{- end -}}

{{/* Name of the ExternalSecret of an account. Object names can't contain "_" and account names can't contain ".". */}}
{{- define "vfe.externalSecretName" -}}
{{- printf "%s-%s" (include "vfe.fullname" .root) (replace "_" "." .account) -}}
{{- end -}}

{{/*
Name of the file with the secret of a URL. It depends on the URL's name, so that no other URL gets the secret while the
config is newer than the pod; names of accounts can't contain ".".
*/}}
{{- define "vfe.httpName" -}}
{{- printf "http.%s" (.name | sha256sum | trunc 16) -}}
{{- end -}}
