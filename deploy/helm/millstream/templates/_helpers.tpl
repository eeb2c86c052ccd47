{{- define "millstream.name" -}}
{{- $name := .Chart.Name -}}
{{- if contains $name .Release.Name }}{{ .Release.Name | trunc 40 | trimSuffix "-" }}{{ else }}{{ printf "%s-%s" .Release.Name $name | trunc 40 | trimSuffix "-" }}{{ end -}}
{{- end }}

{{/* Which pods these are: (dict "root" $ "part" "gateway" "model" "name or nothing"). They never change. */}}
{{- define "millstream.selector" -}}
app.kubernetes.io/name: millstream
app.kubernetes.io/instance: {{ .root.Release.Name }}
app.kubernetes.io/component: {{ .part }}
{{- with .model }}
millstream/model: {{ . }}
{{- end }}
{{- end }}

{{- define "millstream.labels" -}}
{{ include "millstream.selector" . }}
app.kubernetes.io/version: {{ .root.Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .root.Release.Service }}
helm.sh/chart: {{ .root.Chart.Name }}-{{ .root.Chart.Version }}
{{- end }}

{{- define "millstream.image" -}}
{{ .root.Values.image.registry }}{{ .name }}:{{ .root.Values.image.tag | default .root.Chart.AppVersion }}
{{- end }}

{{- define "millstream.serviceAccount" -}}
{{- if .Values.serviceAccount.create }}{{ .Values.serviceAccount.name | default (include "millstream.name" .) }}{{ else }}{{ .Values.serviceAccount.name | default "default" }}{{ end -}}
{{- end }}

{{/* Settings as variables: maps in the order of their weight, the last one wins. (list map map) */}}
{{- define "millstream.settings" -}}
{{- $all := dict }}
{{- range . }}{{ $all = mergeOverwrite $all (deepCopy (. | default dict)) }}{{ end }}
{{- range $name, $value := $all }}
- name: MILLSTREAM_{{ upper $name }}
  value: {{ if kindIs "slice" $value }}{{ toJson $value | quote }}{{ else if kindIs "float64" $value }}{{ if eq $value (floor $value) }}{{ int64 $value | toString | quote }}{{ else }}{{ toString $value | quote }}{{ end }}{{ else }}{{ toString $value | quote }}{{ end }}
{{- end }}
{{- end }}

{{/* Where the queue lives, and what every process is told. */}}
{{- define "millstream.env" -}}
{{- $redis := .Values.redis }}
{{- if $redis.internal.enabled }}
{{- with $redis.internal.passwordSecret }}
- name: REDIS_PASSWORD
  valueFrom: {secretKeyRef: {name: {{ . }}, key: password}}
{{- end }}
- name: MILLSTREAM_REDIS_URL
  value: redis://{{ if $redis.internal.passwordSecret }}:$(REDIS_PASSWORD)@{{ end }}{{ include "millstream.name" . }}-redis:6379/0
{{- else if $redis.existingSecret }}
- name: MILLSTREAM_REDIS_URL
  valueFrom: {secretKeyRef: {name: {{ $redis.existingSecret }}, key: url}}
{{- else }}
- name: MILLSTREAM_REDIS_URL
  value: {{ $redis.url | quote }}
{{- end }}
{{- $servers := list }}
{{- range $at, $server := $redis.models }}
{{- if .existingSecret }}
- name: MODEL_REDIS_URL_{{ $at }}
  valueFrom: {secretKeyRef: {name: {{ .existingSecret }}, key: url}}
{{- $servers = append $servers (printf "%s=$(MODEL_REDIS_URL_%d)" .pattern $at) }}
{{- else }}
{{- $servers = append $servers (printf "%s=%s" .pattern .url) }}
{{- end }}
{{- end }}
{{- with $servers }}
- name: MILLSTREAM_MODEL_REDIS
  value: {{ join "," . | quote }}
{{- end }}
- name: MILLSTREAM_LOG_FORMAT
  value: json
{{- end }}

{{/* What a process may: nothing. */}}
{{- define "millstream.podSecurity" -}}
runAsNonRoot: true
runAsUser: 10001
runAsGroup: 10001
fsGroup: 10001
fsGroupChangePolicy: OnRootMismatch
seccompProfile: {type: RuntimeDefault}
{{- end }}

{{- define "millstream.containerSecurity" -}}
allowPrivilegeEscalation: false
readOnlyRootFilesystem: true
capabilities: {drop: [ALL]}
{{- end }}

{{/* The beginning of every pod's spec: (dict "root" $ "part" … "model" … "drain" seconds "placed" what has nodeSelector…) */}}
{{- define "millstream.pod" -}}
serviceAccountName: {{ include "millstream.serviceAccount" .root }}
automountServiceAccountToken: false
enableServiceLinks: false
terminationGracePeriodSeconds: {{ add .drain 15 }}
securityContext:
  {{- include "millstream.podSecurity" . | nindent 2 }}
{{- with .root.Values.image.pullSecrets }}
imagePullSecrets:
  {{- range . }}
  - name: {{ . }}
  {{- end }}
{{- end }}
{{- if .root.Values.topologySpread.enabled }}
topologySpreadConstraints:
  - maxSkew: 1
    topologyKey: {{ .root.Values.topologySpread.key }}
    whenUnsatisfiable: ScheduleAnyway
    labelSelector:
      matchLabels:
        {{- include "millstream.selector" . | nindent 8 }}
{{- end }}
{{- with .placed.nodeSelector }}
nodeSelector:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .placed.tolerations }}
tolerations:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- with .placed.affinity }}
affinity:
  {{- toYaml . | nindent 2 }}
{{- end }}
{{- end }}

{{/* Volumes that several parts have: a folder for files in passing, Redis' authority, the clients' files. */}}
{{- define "millstream.mounts" -}}
- {name: tmp, mountPath: /tmp}
{{- if .root.Values.redis.caSecret }}
- {name: redis-ca, mountPath: /etc/millstream/redis, readOnly: true}
{{- end }}
{{- if and .files (not .root.Values.files.url) }}
- {name: files, mountPath: /home/millstream/files}
{{- end }}
{{- end }}

{{- define "millstream.volumes" -}}
- name: tmp
  emptyDir: {}
{{- with .root.Values.redis.caSecret }}
- name: redis-ca
  secret:
    secretName: {{ . }}
    items: [{key: ca.crt, path: ca.crt}]
{{- end }}
{{- if and .files (not .root.Values.files.url) }}
- name: files
  persistentVolumeClaim:
    claimName: {{ .root.Values.files.existingClaim | default (printf "%s-files" (include "millstream.name" .root)) }}
{{- end }}
{{- end }}

{{- define "millstream.filesUrl" -}}
- name: MILLSTREAM_FILES_URL
  value: {{ .Values.files.url | default "/home/millstream/files" | quote }}
{{- end }}

{{/* A budget: (dict "root" $ "part" … "model" … "name" …) */}}
{{- define "millstream.budget" -}}
---
apiVersion: policy/v1
kind: PodDisruptionBudget
metadata:
  name: {{ .name }}
  labels:
    {{- include "millstream.labels" . | nindent 4 }}
spec:
  maxUnavailable: 1
  selector:
    matchLabels:
      {{- include "millstream.selector" . | nindent 6 }}
{{- end }}

{{/* What cannot be meant. */}}
{{- define "millstream.check" -}}
{{- $redis := .Values.redis }}
{{- $places := list }}
{{- if $redis.internal.enabled }}{{ $places = append $places "redis.internal.enabled" }}{{ end }}
{{- if $redis.url }}{{ $places = append $places "redis.url" }}{{ end }}
{{- if $redis.existingSecret }}{{ $places = append $places "redis.existingSecret" }}{{ end }}
{{- if ne (len $places) 1 }}
{{- fail (printf "Exactly one of redis.internal.enabled, redis.url and redis.existingSecret says where the queue lives; given: %s." (join ", " $places | default "none")) }}
{{- end }}
{{- if regexMatch "^[a-z+]+://[^/]*:[^/@]+@" $redis.url }}
{{- fail "redis.url has a password: put the URL into a Secret and name it in redis.existingSecret." }}
{{- end }}
{{- range $redis.models }}
{{- if eq (empty .url) (empty .existingSecret) }}
{{- fail (printf "Either url or existingSecret says where the models %s of redis.models lie." .pattern) }}
{{- end }}
{{- if regexMatch "^[a-z+]+://[^/]*:[^/@]+@" (.url | default "") }}
{{- fail (printf "The url of %s in redis.models has a password: put it into a Secret and name that in existingSecret." .pattern) }}
{{- end }}
{{- end }}
{{- if and (contains "+cluster://" $redis.url) .Values.background.enabled (not .Values.background.redisSecret) }}
{{- fail "background cannot use a Redis Cluster for its own jobs: name another Redis in background.redisSecret, or set background.enabled=false." }}
{{- end }}
{{- if not (or .Values.auth.requireKeys .Values.auth.existingSecret .Values.auth.insecureNoAuth) }}
{{- fail "Nobody would need a key: set auth.requireKeys, auth.existingSecret, or auth.insecureNoAuth if that is meant." }}
{{- end }}
{{- if and .Values.httpRoute.enabled (not .Values.httpRoute.parentRefs) }}
{{- fail "httpRoute.parentRefs names the Gateway that the route hangs on." }}
{{- end }}
{{- $names := dict }}
{{- range .Values.models }}
{{- if hasKey $names .name }}{{ fail (printf "Two models are named %s: each needs a name of its own." .name) }}{{ end }}
{{- $_ := set $names .name true }}
{{- $scaling := .autoscaling | default dict }}
{{- if and $scaling.enabled (not .servedNames) }}
{{- fail (printf "The model %s is scaled by its metrics, so it needs servedNames: the first is the name that they have." .name) }}
{{- end }}
{{- if and .tensorParallel (lt (int (.gpus | default 0)) 2) }}
{{- fail (printf "The model %s has tensorParallel, which needs gpus of 2 or more." .name) }}
{{- end }}
{{- end }}
{{- end }}
