{{- define "ollama-fleet.fullname" -}}
{{- if contains .Chart.Name .Release.Name -}}
{{- .Release.Name | trunc 52 | trimSuffix "-" -}}
{{- else -}}
{{- printf "%s-%s" .Release.Name .Chart.Name | trunc 52 | trimSuffix "-" -}}
{{- end -}}
{{- end -}}

{{- define "ollama-fleet.serviceAccount" -}}
{{- .Values.serviceAccount.name | default (include "ollama-fleet.fullname" .) -}}
{{- end -}}

{{- define "ollama-fleet.operatorRole" -}}
{{- include "ollama-fleet.fullname" . -}}-operator
{{- end -}}

{{- define "ollama-fleet.routerRole" -}}
{{- include "ollama-fleet.fullname" . -}}-router
{{- end -}}

{{- define "ollama-fleet.image" -}}
{{- if .Values.image.digest -}}
{{- .Values.image.repository -}}@{{- .Values.image.digest -}}
{{- else -}}
{{- .Values.image.repository -}}:{{- .Values.image.tag | default .Chart.AppVersion -}}
{{- end -}}
{{- end -}}

{{- define "ollama-fleet.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: operator
{{- end -}}

{{- define "ollama-fleet.labels" -}}
{{ include "ollama-fleet.selector" . }}
app.kubernetes.io/part-of: ollama-fleet
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
