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
{{- toYaml (merge (dict) (default dict .instead) $own (default dict .labels) .root.Values.commonLabels) -}}
{{- end -}}

{{/* The metadata of an object: (dict "root" $ "name" … "namespace" … "labels" (dict …) "annotations" (dict …)), and optionally "instead". */}}
{{- define "vfe.metadata" -}}
name: {{ .name | quote }}
namespace: {{ default (include "vfe.namespace" .root) .namespace | quote }}
labels:
  {{- include "vfe.labels" . | nindent 2 }}
{{- with merge (dict) (default dict .annotations) .root.Values.commonAnnotations }}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end -}}

{{/* Pod labels omit the chart version, so that a new chart version alone restarts nothing. */}}
{{- define "vfe.podLabels" -}}
{{- toYaml (merge (include "vfe.selectorLabels" . | fromYaml) .Values.podLabels .Values.commonLabels) -}}
{{- end -}}

{{- define "vfe.image" -}}
{{- $registry := default .Values.image.registry (dig "imageRegistry" "" .Values.global) -}}
{{- $repository := .Values.image.repository -}}
{{- if $registry }}{{ $repository = printf "%s/%s" (trimSuffix "/" $registry) $repository }}{{ end -}}
{{- if .Values.image.digest -}}
{{- printf "%s@%s" $repository .Values.image.digest -}}
{{- else -}}
{{- printf "%s:%s" $repository (default .Chart.AppVersion .Values.image.tag) -}}
{{- end -}}
{{- end -}}

{{- define "vfe.job" -}}
{{- default (include "vfe.name" .) .Values.monitor.job -}}
{{- end -}}

{{/* Name of the ExternalSecret of an account. Object names can't contain "_" and account names can't contain ".". */}}
{{- define "vfe.externalSecretName" -}}
{{- printf "%s-%s" (include "vfe.fullname" .root) (replace "_" "." .account) -}}
{{- end -}}
