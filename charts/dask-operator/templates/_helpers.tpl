{{- define "dask-operator.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "dask-operator.fullname" -}}
{{- $name := include "dask-operator.name" . }}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else if contains $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}

{{- define "dask-operator.selectorLabels" -}}
app.kubernetes.io/name: {{ include "dask-operator.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "dask-operator.labels" -}}
{{ include "dask-operator.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "dask-operator.serviceAccountName" -}}
{{- if .Values.serviceAccount.create }}
{{- default (include "dask-operator.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.serviceAccount.name }}
{{- end }}
{{- end }}

{{/*
What the operator watches, as JSON {all, namespaces, args}: all namespaces or these, and the arguments that
say so beyond kopfArgs, in which users of dask-kubernetes-operator may have said it already.
*/}}
{{- define "dask-operator.scope" -}}
{{- $all := false }}
{{- $inArgs := list }}
{{- $expectName := false }}
{{- range .Values.kopfArgs }}
  {{- if $expectName }}
    {{- $inArgs = append $inArgs . }}
    {{- $expectName = false }}
  {{- else if or (eq . "--all-namespaces") (eq . "-A") }}
    {{- $all = true }}
  {{- else if or (eq . "--namespace") (eq . "-n") }}
    {{- $expectName = true }}
  {{- else if or (hasPrefix "--namespace=" .) (hasPrefix "-n=" .) }}
    {{- $inArgs = append $inArgs (regexReplaceAll "^(--namespace|-n)=" . "") }}
  {{- end }}
{{- end }}
{{- $added := .Values.namespaces }}
{{- if not (or $all $inArgs $added .Values.rbac.cluster) }}
  {{- $added = list .Release.Namespace }}
{{- end }}
{{- $namespaces := concat $inArgs $added | uniq }}
{{- if and $all (or $namespaces (not .Values.rbac.cluster)) }}
  {{- fail "kopfArgs says --all-namespaces, but namespaces, --namespace or rbac.cluster=false limit the operator: remove one of the two" }}
{{- end }}
{{- $args := list }}
{{- if not (or $all $namespaces) }}
  {{- $args = list "--all-namespaces" }}
{{- end }}
{{- range $added }}
  {{- $args = append $args (printf "--namespace=%s" .) }}
{{- end }}
{{- dict "all" (empty $namespaces) "namespaces" $namespaces "args" $args | toJson }}
{{- end }}

{{/* Refuses values that cannot work together, with the cure. */}}
{{- define "dask-operator.validate" -}}
{{- if and (gt (int .Values.replicas) 1) (not .Values.leaderElection.enabled) }}
  {{- fail (printf "replicas is %d and leaderElection.enabled is false: two operators would write at once; set replicas to 1 or enable leader election" (int .Values.replicas)) }}
{{- end }}
{{- if contains "dask-kubernetes-operator" .Values.image.name }}
  {{- fail (printf "image.name is %s, the Python operator: remove image.name and image.tag from the values" .Values.image.name) }}
{{- end }}
{{- end }}
