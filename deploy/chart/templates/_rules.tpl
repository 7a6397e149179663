{{- /* What the manager needs, and why. */}}
{{- define "podwright.rules" -}}
# A pod for each job, and one watch for all of them.
- {apiGroups: [""], resources: [pods], verbs: [create, delete, get, list, watch]}
# The stream into the pod: `get` for the websocket, `create` for SPDY.
- {apiGroups: [""], resources: [pods/exec], verbs: [create, get]}
# Why a pod ended, services' logs.
- {apiGroups: [""], resources: [pods/log], verbs: [get]}
# A record for each job: ticket, plan, pull credentials, claim.
- {apiGroups: [""], resources: [secrets], verbs: [create, delete, get, list, update]}
# Who of several managers lives.
- {apiGroups: [coordination.k8s.io], resources: [leases], verbs: [create, delete, get, list, update]}
# Where a job waits for its service account.
- {apiGroups: [""], resources: [serviceaccounts], verbs: [get]}
# What happens to a job, beside its pod; and what the cluster says about it.
- {apiGroups: [""], resources: [events], verbs: [create, list, patch, watch]}
{{- with .Values.rbac.features }}
{{- if .attach }}
- {apiGroups: [""], resources: [pods/attach], verbs: [create, get]}
{{- end }}
{{- if .podDisruptionBudget }}
- {apiGroups: [policy], resources: [poddisruptionbudgets], verbs: [create, delete, get]}
{{- end }}
{{- if .services }}
- {apiGroups: [""], resources: [services], verbs: [create, delete, get]}
- {apiGroups: [""], resources: [services/proxy], verbs: [create, delete, get, patch, update]}
{{- end }}
{{- if .namespacePerJob }}
- {apiGroups: [""], resources: [namespaces], verbs: [create, delete, get, list]}
{{- end }}
{{- if .pausePods }}
- {apiGroups: [apps], resources: [deployments], verbs: [create, delete, get, list, update]}
{{- end }}
{{- end }}
{{- end }}
