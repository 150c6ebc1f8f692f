{{/*
The sidecar that collects labelled Secrets: kiwigrid's k8s-sidecar. Its variables are documented at
https://github.com/kiwigrid/k8s-sidecar.
*/}}

{{/* A container: (dict "root" $ "name" … "method" …). The init container lists once, so that the exporter starts with all files. */}}
{{- define "vfe.sidecar.container" -}}
{{- $sidecar := .root.Values.watchlist.sidecar -}}
name: {{ .name }}
image: {{ include "vfe.imageOf" (dict "root" .root "image" $sidecar.image) | quote }}
imagePullPolicy: {{ $sidecar.image.pullPolicy }}
env:
  {{- range $name, $value := include "vfe.sidecar.env" . | fromYaml }}
  - name: {{ $name }}
    value: {{ $value | quote }}
  {{- end }}
  {{- with $sidecar.extraEnv }}
  {{- toYaml . | nindent 2 }}
  {{- end }}
{{- with $sidecar.resources }}
resources:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with $sidecar.securityContext }}
securityContext:
  {{- toYaml . | nindent 2 }}
{{- end }}
volumeMounts:
  - name: watchlist-sidecar
    mountPath: /etc/verify-factor-exporter/watchlist.d
  - name: sidecar-token
    mountPath: /var/run/secrets/kubernetes.io/serviceaccount
    readOnly: true
{{- end -}}

{{/* The variables that the chart sets, as a map of strings. */}}
{{- define "vfe.sidecar.env" -}}
{{- $sidecar := .root.Values.watchlist.sidecar -}}
METHOD: {{ .method }}
{{- if eq .method "SLEEP" }}
SLEEP_TIME: {{ $sidecar.sleepSeconds | quote }}
{{- end }}
LABEL: {{ $sidecar.label | quote }}
{{- with $sidecar.labelValue }}
LABEL_VALUE: {{ . | quote }}
{{- end }}
RESOURCE: {{ $sidecar.resource }}
NAMESPACE: {{ default (list (include "vfe.namespace" .root)) $sidecar.searchNamespaces | join "," | quote }}
FOLDER: /etc/verify-factor-exporter/watchlist.d
# No annotation can have this name, so that every file ends up in FOLDER, where the exporter expects it.
FOLDER_ANNOTATION: "-"
# Files of the same name in two Secrets would replace each other. These names also tell whose file has an error.
UNIQUE_FILENAMES: "true"
DEFAULT_FILE_MODE: "640"
HEALTH_PORT: {{ $sidecar.healthPort | quote }}
# The sidecar requests the URL in a file NAME.url. A proxy that doesn't exist prevents this; the API server is exempt.
HTTP_PROXY: http://127.0.0.1:9
HTTPS_PROXY: http://127.0.0.1:9
NO_PROXY: $(KUBERNETES_SERVICE_HOST)
{{- end -}}

{{/* It answers 503 until it has listed once, and when one of its threads has ended. */}}
{{- define "vfe.sidecar.probes" -}}
{{- $get := dict "httpGet" (dict "path" "/healthz" "port" .Values.watchlist.sidecar.healthPort) -}}
startupProbe:
  {{- toYaml $get | nindent 2 }}
  periodSeconds: 5
  timeoutSeconds: 5
  failureThreshold: 60
livenessProbe:
  {{- toYaml $get | nindent 2 }}
  periodSeconds: 15
  timeoutSeconds: 5
  failureThreshold: 4
{{- end -}}

{{/* The rules of its Roles, or of its ClusterRole. A label selector can't be part of a rule. */}}
{{- define "vfe.sidecar.rules" -}}
{{- $resources := get (dict "secret" (list "secrets") "configmap" (list "configmaps") "both" (list "secrets" "configmaps")) .Values.watchlist.sidecar.resource -}}
- apiGroups: [""]
  resources: {{ toJson $resources }}
  verbs: {{ ternary (list "list" "watch") (list "list") (eq .Values.watchlist.sidecar.watchMethod "WATCH") | toJson }}
{{- end -}}

{{- define "vfe.sidecar.volumes" -}}
- name: watchlist-sidecar
  emptyDir:
    medium: Memory
    sizeLimit: {{ .Values.watchlist.sidecar.sizeLimit | quote }}
# What automountServiceAccountToken would mount, but only into the sidecar's containers.
- name: sidecar-token
  projected:
    defaultMode: 0440
    sources:
      - serviceAccountToken:
          path: token
          expirationSeconds: 3607
      - configMap:
          name: kube-root-ca.crt
          items:
            - key: ca.crt
              path: ca.crt
      - downwardAPI:
          items:
            - path: namespace
              fieldRef:
                fieldPath: metadata.namespace
{{- end -}}
