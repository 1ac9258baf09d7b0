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

{{- define "ollama-fleet.console" -}}
{{- include "ollama-fleet.fullname" . -}}-console
{{- end -}}

{{- /* Not without rights to the cluster: nobody else may ask whose a token is. */}}
{{- define "ollama-fleet.hasConsole" -}}
{{- if and .Values.console.enabled (ne .Values.rbac.scope "Namespaced") }}yes{{ end -}}
{{- end -}}

{{- /* Of the operator's name, as servers let that in: they are asked what models they have. */}}
{{- define "ollama-fleet.consoleSelector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
app.kubernetes.io/component: console
{{- end -}}

{{- define "ollama-fleet.consoleLabels" -}}
{{ include "ollama-fleet.consoleSelector" . }}
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
{{- with .Values.commonLabels }}
{{ toYaml . }}
{{- end }}
{{- end -}}

{{- /* Of the programs that hooks run: of another name too. */}}
{{- define "ollama-fleet.hookLabels" -}}
app.kubernetes.io/name: {{ .Chart.Name }}-hook
app.kubernetes.io/instance: {{ .Release.Name }}
{{ include "ollama-fleet.commonLabels" . }}
{{- end -}}

{{- /* commonAnnotations, and those in "own", which win. */}}
{{- define "ollama-fleet.annotations" -}}
{{- with merge (dict) (.own | default dict) .Values.commonAnnotations -}}
annotations:
  {{- toYaml . | nindent 2 }}
{{- end -}}
{{- end -}}

{{- /* The namespaces it serves, as JSON; none: all of them. */}}
{{- define "ollama-fleet.namespaces" -}}
{{- if and (eq .Values.rbac.scope "Namespaced") (not .Values.watchNamespaces) -}}
{{- list .Release.Namespace | toJson -}}
{{- else -}}
{{- .Values.watchNamespaces | toJson -}}
{{- end -}}
{{- end -}}

{{- define "ollama-fleet.podSecurity" -}}
runAsNonRoot: true
runAsUser: 65532
runAsGroup: 65532
seccompProfile:
  type: RuntimeDefault
{{- end -}}

{{- define "ollama-fleet.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities:
  drop: [ALL]
{{- end -}}

{{- /* The spec of a hook's pod; its arguments follow. */}}
{{- define "ollama-fleet.hookPod" -}}
{{- with .root -}}
restartPolicy: Never
serviceAccountName: {{ $.account }}
automountServiceAccountToken: true
{{- with .Values.imagePullSecrets }}
imagePullSecrets:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.priorityClassName }}
priorityClassName: {{ . }}
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .Values.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  {{- include "ollama-fleet.podSecurity" . | nindent 2 }}
volumes:
- name: tmp
  emptyDir:
    sizeLimit: 16Mi
containers:
- name: {{ $.name }}
  image: {{ include "ollama-fleet.image" . | quote }}
  imagePullPolicy: {{ .Values.image.pullPolicy }}
  command: [ollama-fleet-hook]
  securityContext:
    {{- include "ollama-fleet.containerSecurity" . | nindent 4 }}
  resources:
    requests:
      cpu: 10m
      memory: 64Mi
    limits:
      memory: 256Mi
  volumeMounts:
  - name: tmp
    mountPath: /tmp
{{- end }}
{{- end -}}
