{{/* What the images are: port, pages of the probes, seconds of a start and an end, folders. As JSON: use `| fromJson`. */}}
{{- define "brewcast.image" -}}
{{ .Files.Get "files/image.yaml" | fromYaml | toJson }}
{{- end }}

{{/* Labels that select pods. With the component they never change: a Deployment's selector cannot. */}}
{{- define "brewcast.selector" -}}
app.kubernetes.io/name: {{ .Chart.Name }}
app.kubernetes.io/instance: {{ .Release.Name }}
{{- end }}

{{- define "brewcast.labels" -}}
helm.sh/chart: {{ .Chart.Name }}-{{ .Chart.Version | replace "+" "_" }}
{{ include "brewcast.selector" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{/* An image by its digest, never by a tag: a tag may be another image tomorrow. Call with (list . "image"). */}}
{{- define "brewcast.reference" -}}
{{- $name := index . 1 }}
{{- $image := index (index . 0).Values $name }}
{{- if or (eq $image.repository "CHANGE-ME") (eq $image.digest "CHANGE-ME") }}
{{- fail (printf "%s.repository and %s.digest: push the image, then say where it is and what its digest is" $name $name) }}
{{- end }}
{{- printf "%s@%s" $image.repository $image.digest }}
{{- end }}

{{/* What every pod has: no rights in the cluster, no root, nothing of other Services in its environment. */}}
{{- define "brewcast.pod" -}}
serviceAccountName: {{ .Release.Name }}
automountServiceAccountToken: false
enableServiceLinks: false # else a Service named brewcast sets BREWCAST_PORT=tcp://..., as if it were a setting
{{- with .Values.image.pullSecret }}
imagePullSecrets: [{name: {{ . }}}]
{{- end }}
{{- with .Values.nodeSelector }}
nodeSelector: {{- toYaml . | nindent 2 }}
{{- end }}
securityContext:
  runAsNonRoot: true
  runAsUser: {{ (include "brewcast.image" . | fromJson).user }}
  runAsGroup: {{ (include "brewcast.image" . | fromJson).user }}
  fsGroup: {{ (include "brewcast.image" . | fromJson).user }} # the volumes are writable for this group
  fsGroupChangePolicy: OnRootMismatch
  seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "brewcast.container" -}}
imagePullPolicy: IfNotPresent
securityContext:
  allowPrivilegeEscalation: false
  readOnlyRootFilesystem: true
  capabilities: {drop: [ALL]}
{{- end }}

{{/* The address of Feast's online store, with its password. */}}
{{- define "brewcast.onlineStore" -}}
- name: BREWCAST_ONLINE_STORE
  valueFrom: {secretKeyRef: {name: {{ .Values.onlineStore.secret }}, key: url}}
{{- end }}

{{/* A container of the stage image, but for its name and arguments: where alerts go, and the state. */}}
{{- define "brewcast.stage" -}}
{{- $image := include "brewcast.image" . | fromJson -}}
image: {{ include "brewcast.reference" (list . "stageImage") }}
{{ include "brewcast.container" . }}
{{- if or .Values.onlineStore.enabled .Values.monthly.alertmanager .Values.monthly.alertSecret }}
env:
  {{- if .Values.onlineStore.enabled }}
  {{- include "brewcast.onlineStore" . | nindent 2 }}
  {{- end }}
  {{- with .Values.monthly.alertmanager }}
  - {name: BREWCAST_ALERTMANAGER, value: {{ . | quote }}}
  {{- end }}
  {{- with .Values.monthly.alertSecret }}
  - name: BREWCAST_ALERT_WEBHOOK
    valueFrom: {secretKeyRef: {name: {{ . }}, key: url}}
  - name: BREWCAST_ALERT_TOKEN
    valueFrom: {secretKeyRef: {name: {{ . }}, key: token, optional: true}}
  {{- end }}
{{- end }}
resources: {{- toYaml .Values.monthly.resources | nindent 2 }}
volumeMounts:
  {{- range $image.writable }}
  - {name: state, mountPath: {{ . }}, subPath: {{ base . }}}
  {{- end }}
  - {name: tmp, mountPath: /tmp}
{{- end }}

{{- define "brewcast.stageVolumes" -}}
- {name: state, persistentVolumeClaim: {claimName: {{ .Release.Name }}-state}}
- {name: tmp, emptyDir: {sizeLimit: 4Gi}} # on disk: in memory it would count as the step's own
{{- end }}

{{/* What no schema can say. */}}
{{- define "brewcast.check" -}}
{{- if not (regexMatch "^[a-z]([-a-z0-9]*[a-z0-9])?$" .Release.Name) }}
{{- fail (printf "the name of the release is %s: a Service has that name, so give one that begins with a letter and has letters, digits and - only, such as brewcast" .Release.Name) }}
{{- end }}
{{- if gt (len .Release.Name) 44 }}
{{- fail "the name of the release is longer than 44 characters: Kubernetes allows a CronJob 52, with -monthly" }}
{{- end }}
{{- range $name, $scaler := .Values.autoscaling }}
{{- if gt (int $scaler.minReplicas) (int $scaler.maxReplicas) }}
{{- fail (printf "autoscaling.%s: minReplicas %v is more than maxReplicas %v" $name $scaler.minReplicas $scaler.maxReplicas) }}
{{- end }}
{{- end }}
{{- end }}
