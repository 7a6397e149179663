{{- define "podwright.name" -}}
{{- default .Chart.Name .Values.nameOverride | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "podwright.fullname" -}}
{{- if .Values.fullnameOverride }}
{{- .Values.fullnameOverride | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- $name := include "podwright.name" . }}
{{- if hasPrefix $name .Release.Name }}
{{- .Release.Name | trunc 63 | trimSuffix "-" }}
{{- else }}
{{- printf "%s-%s" .Release.Name $name | trunc 63 | trimSuffix "-" }}
{{- end }}
{{- end }}
{{- end }}

{{- define "podwright.namespace" -}}
{{- default .Release.Namespace .Values.namespace }}
{{- end }}

{{- define "podwright.jobNamespace" -}}
{{- default (include "podwright.namespace" .) .Values.runners.jobNamespace }}
{{- end }}

{{- /* `app` is what selectors of the official chart's dashboards and policies use. */}}
{{- define "podwright.selector" -}}
app: {{ include "podwright.fullname" . }}
{{- end }}

{{- define "podwright.labels" -}}
{{ include "podwright.selector" . }}
app.kubernetes.io/name: {{ include "podwright.name" . }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{- end }}

{{- define "podwright.image" -}}
{{- $registry := .Values.image.registry }}
{{- $tag := default .Chart.AppVersion .Values.image.tag }}
{{- tpl (printf "%s%s:%s" (ternary "" (printf "%s/" $registry) (empty $registry)) .Values.image.image $tag) . }}
{{- end }}

{{- define "podwright.serviceAccount" -}}
{{- if or .Values.serviceAccount.create .Values.serviceAccount.name }}
{{- default (include "podwright.fullname" .) .Values.serviceAccount.name }}
{{- else }}
{{- default "default" .Values.rbac.serviceAccountName }}
{{- end }}
{{- end }}

{{- define "podwright.tokenSecret" -}}
{{- if .Values.runners.secret }}
{{- tpl .Values.runners.secret . }}
{{- else }}
{{- include "podwright.fullname" . }}
{{- end }}
{{- end }}

{{- /* Whether a token is mounted; with configOverride it may be somewhere else. */}}
{{- define "podwright.hasToken" -}}
{{- if or .Values.runners.secret .Values.runnerToken .Values.externalSecret.enabled }}yes{{ end }}
{{- end }}

{{- define "podwright.hasSecrets" -}}
{{- if or (include "podwright.hasToken" .) .Values.runners.cache.secretName .Values.secrets }}yes{{ end }}
{{- end }}

{{- define "podwright.sessionName" -}}
{{- printf "%s-session-server" (include "podwright.fullname" . | trunc 48 | trimSuffix "-") }}
{{- end }}

{{- define "podwright.sessionAddress" -}}
{{- $session := .Values.sessionServer }}
{{- $port := $session.externalPort | int }}
{{- if $session.advertiseAddress }}
{{- $session.advertiseAddress }}
{{- else if $session.publicIP }}
{{- printf "%s:%d" $session.publicIP $port }}
{{- else if eq $session.serviceType "ClusterIP" }}
{{- printf "%s.%s.svc.cluster.local:%d" (include "podwright.sessionName" .) (include "podwright.namespace" .) $port }}
{{- else }}
{{- fail "sessionServer: set publicIP or advertiseAddress, so that GitLab is told an address that stays" }}
{{- end }}
{{- end }}
