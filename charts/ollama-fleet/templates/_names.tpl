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

{{- define "ollama-fleet.mirror" -}}
{{- include "ollama-fleet.fullname" . -}}-mirror
{{- end -}}

{{- /* Of another name than the operator, which servers let in. */}}
{{- define "ollama-fleet.mirrorSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-mirror
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: mirror
{{- end -}}

{{- define "ollama-fleet.mirrorLabels" -}}
{{ include "ollama-fleet.mirrorSelector" . }}
{{ include "ollama-fleet.commonLabels" . }}
{{- end -}}

{{- define "ollama-fleet.labels" -}}
{{ include "ollama-fleet.selector" . }}
{{ include "ollama-fleet.commonLabels" . }}
{{- end -}}

{{- define "ollama-fleet.commonLabels" -}}
app.kubernetes.io/part-of: ollama-fleet
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version }}
{{- end -}}
