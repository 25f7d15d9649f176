{{- define "unsee.selector" -}}
app.kubernetes.io/name: unsee
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "unsee.metadata" -}}
name: {{ .Release.Name }}
namespace: {{ .Release.Namespace }}
labels:
  {{- include "unsee.selector" . | nindent 2 }}
  app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
  app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- define "unsee.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{- define "unsee.followerMounts" -}}
- {name: repository, mountPath: /repository}
- {name: store, mountPath: /store, subPath: {{ .Values.store.path | quote }}, readOnly: true}
{{- if .Values.pointer.configMap }}
- {name: pointer, mountPath: /pointer, readOnly: true}
{{- end }}
{{- end }}

{{- define "unsee.followerArguments" -}}
- follow
- --store=/store
- --repository=/repository
{{- if .Values.pointer.configMap }}
- --pointer-dir=/pointer
{{- end }}
- --max-lag={{ .Values.follower.maxLagS }}
{{- end }}

{{- define "unsee.image" -}}
{{- if .image.digest -}}
{{ .image.repository }}@{{ .image.digest }}
{{- else if .required -}}
{{- fail (printf "images.requireDigests is set, but the image %s:%s has no digest; set images.*.digest" .image.repository .image.tag) -}}
{{- else -}}
{{ .image.repository }}:{{ .image.tag }}
{{- end -}}
{{- end }}

{{- define "unsee.gatewayImage" -}}
image: {{ include "unsee.image" (dict "image" .Values.images.gateway "required" .Values.images.requireDigests) | quote }}
imagePullPolicy: {{ .Values.images.pullPolicy }}
{{- end }}
