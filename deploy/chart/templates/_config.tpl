{{- /* config.toml. `runners.config` is the official chart's template for `register`; what register would add is put in here. */}}
{{- define "podwright.config" -}}
{{- if .Values.runners.configOverride }}
{{- tpl .Values.runners.configOverride . }}
{{- else }}
concurrent = {{ .Values.concurrent | int }}
check_interval = {{ .Values.checkInterval | int }}
log_level = {{ default "info" .Values.logLevel | quote }}
{{- with .Values.logFormat }}
log_format = {{ . | quote }}
{{- end }}
{{- with .Values.shutdown_timeout }}
shutdown_timeout = {{ . | int }}
{{- end }}
{{- with .Values.connectionMaxAge }}
connection_max_age = {{ . | quote }}
{{- end }}
{{- if and .Values.drainOnStop .Values.unregisterRunners }}
unregister_on_stop = true
{{- end }}
{{- if .Values.sessionServer.enabled }}

[session_server]
session_timeout = {{ .Values.sessionServer.timeout | int }}
listen_address = "0.0.0.0:{{ .Values.sessionServer.internalPort | int }}"
advertise_address = {{ include "podwright.sessionAddress" . | quote }}
{{- end }}

{{ include "podwright.runner" . }}
{{- end }}
{{- end }}

{{- define "podwright.runner" -}}
{{- $text := tpl .Values.runners.config . }}
{{- $start := "(?m)^[ \\t]*\\[\\[runners\\]\\][ \\t]*(#.*)?$" }}
{{- $parts := regexSplit $start $text -1 }}
{{- if ne (len $parts) 2 }}
{{- fail "runners.config has to hold exactly one [[runners]]; for several use runners.configOverride" }}
{{- end }}
{{- $rest := index $parts 1 }}
{{- $own := first (regexSplit "(?m)^[ \\t]*\\[" $rest 2) }}
{{- index $parts 0 }}[[runners]]
{{- if not (regexMatch "(?m)^[ \\t]*url[ \\t]*=" $own) }}
url = {{ required "gitlabUrl is needed: GitLab's address" .Values.gitlabUrl | quote }}
{{- end }}
{{- if not (regexMatch "(?m)^[ \\t]*token(_file)?[ \\t]*=" $own) }}
{{- if not (include "podwright.hasToken" .) }}
{{- fail "no token: set runners.secret (a secret with the key runner-token), externalSecret or runnerToken" }}
{{- end }}
token_file = "/secrets/runner-token"
{{- end }}
{{- if not (regexMatch "(?m)^[ \\t]*executor[ \\t]*=" $own) }}
executor = "kubernetes"
{{- end }}
{{- if not (regexMatch "(?m)^[ \\t]*name[ \\t]*=" $own) }}
name = {{ default (include "podwright.fullname" .) .Values.runners.name | quote }}
{{- end }}
{{- $table := "(?m)^[ \\t]*\\[runners\\.kubernetes\\][ \\t]*(#.*)?$" }}
{{- $namespace := printf "namespace = %s" (include "podwright.jobNamespace" . | quote) }}
{{- if regexMatch "(?m)^[ \\t]*namespace[ \\t]*=" $rest }}
{{ trimPrefix "\n" $rest }}
{{- else if regexMatch $table $rest }}
{{ regexReplaceAll $table (trimPrefix "\n" $rest) (printf "[runners.kubernetes]\n%s" $namespace) }}
{{- else }}
{{ trimPrefix "\n" $rest }}
[runners.kubernetes]
{{ $namespace }}
{{- end }}
{{- end }}
