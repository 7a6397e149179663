{{- /* What the manager needs, and why; deploy/rbac has the same rules for those who use no chart. */}}
{{- define "podwright.rules.records" -}}
# Job records, plans and pull credentials.
- {apiGroups: [""], resources: [secrets], verbs: [create, delete, get, list, update]}
# Which managers live. Without this, ConfigMaps with the same verbs do.
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, delete, list, update]}
{{- end }}

{{- define "podwright.rules.pods" -}}
# Jobs' pods, and the one watch of them.
- {apiGroups: [""], resources: [pods], verbs: [create, delete, get, list, watch]}
# The stream to the agent: a websocket is a `get` before Kubernetes 1.35 and both from then on; with `create` alone SPDY is used.
- {apiGroups: [""], resources: [pods/exec], verbs: [create, get]}
# Output of services and of entry points.
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
{{- with .Values.rbac.features }}
{{- if .events }}
# What happens to a job, said on its pod.
- {apiGroups: [""], resources: [events], verbs: [create]}
{{- end }}
{{- if .readEvents }}
# print_pod_warning_events (list) and FF_PRINT_POD_EVENTS (both).
- {apiGroups: [""], resources: [events], verbs: [list, watch]}
{{- end }}
{{- if .warmPods }}
# warm_pods: a waiting pod gets its job's labels and deadline.
- {apiGroups: [""], resources: [pods], verbs: [patch]}
{{- end }}
{{- if .pausePods }}
# autoscaler: the Deployment of pause pods.
- {apiGroups: [apps], resources: [deployments], verbs: [create, delete, get, list, update]}
{{- end }}
{{- if .podDisruptionBudget }}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [create]}
{{- end }}
{{- if .resourceChecks }}
# resource_availability_check_max_attempts.
- {apiGroups: [""], resources: [serviceaccounts], verbs: [get]}
{{- end }}
{{- end }}
{{- end }}

{{- /* Where pods are in namespaces that do not exist yet, and records are not. */}}
{{- define "podwright.rules.namespaces" -}}
- {apiGroups: [""], resources: [namespaces], verbs: [create, delete, get, list]}
# Plans and pull credentials, beside the pod. `update` is for a manager that died in between.
- {apiGroups: [""], resources: [secrets], verbs: [create, update]}
{{- end }}

{{- /* The user's rules. A key that is not there means what it does in the official chart. */}}
{{- define "podwright.rules.own" -}}
{{- range . }}
- apiGroups: {{ default (list "") .apiGroups | toJson }}
  resources: {{ default (list "*") .resources | toJson }}
  verbs: {{ default (list "*") .verbs | toJson }}
  {{- with .resourceNames }}
  resourceNames: {{ toJson . }}
  {{- end }}
{{- end }}
{{- end }}

{{- /* A role and its binding. Takes root, scope ("" or "Cluster"), suffix, rules. */}}
{{- define "podwright.role" -}}
{{- $name := printf "%s%s" (include "podwright.fullname" .root) .suffix }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .scope }}Role
metadata:
  name: {{ $name }}
  {{- if not .scope }}
  namespace: {{ include "podwright.jobNamespace" .root }}
  {{- end }}
  labels:
    {{- include "podwright.labels" .root | nindent 4 }}
rules:
  {{- .rules | nindent 2 }}
---
apiVersion: rbac.authorization.k8s.io/v1
kind: {{ .scope }}RoleBinding
metadata:
  name: {{ $name }}
  {{- if not .scope }}
  namespace: {{ include "podwright.jobNamespace" .root }}
  {{- end }}
  labels:
    {{- include "podwright.labels" .root | nindent 4 }}
roleRef:
  apiGroup: rbac.authorization.k8s.io
  kind: {{ .scope }}Role
  name: {{ $name }}
subjects:
  - kind: ServiceAccount
    name: {{ include "podwright.serviceAccount" .root }}
    namespace: {{ include "podwright.namespace" .root }}
{{- end }}
