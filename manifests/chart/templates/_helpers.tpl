{{- define "disk-usage-exporter.name" -}}
{{- .Values.nameOverride | default .Chart.Name | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- /* As `helm create` makes it: a release that has the chart's name in its own is called by that alone. */}}
{{- define "disk-usage-exporter.fullname" -}}
{{- $name := include "disk-usage-exporter.name" . }}
{{- $full := ternary .Release.Name (printf "%s-%s" .Release.Name $name) (contains $name .Release.Name) }}
{{- .Values.fullnameOverride | default $full | trunc 63 | trimSuffix "-" }}
{{- end }}

{{- define "disk-usage-exporter.selectorLabels" -}}
app.kubernetes.io/name: {{ include "disk-usage-exporter.name" . | quote }}
app.kubernetes.io/instance: {{ .Release.Name | quote }}
{{- end }}

{{- define "disk-usage-exporter.labels" -}}
helm.sh/chart: {{ printf "%s-%s" .Chart.Name .Chart.Version | replace "+" "_" }}
{{ include "disk-usage-exporter.selectorLabels" . }}
app.kubernetes.io/version: {{ .Chart.AppVersion | quote }}
app.kubernetes.io/managed-by: {{ .Release.Service }}
{{- end }}

{{- /* The labels, and those that a user gives besides: of a list of the root and of them. They win, each once. */}}
{{- define "disk-usage-exporter.labelsWith" -}}
{{- merge (dict) (index . 1 | default dict) (include "disk-usage-exporter.labels" (index . 0) | fromYaml) | toYaml }}
{{- end }}

{{- define "disk-usage-exporter.serviceAccountName" -}}
{{- $own := ternary (include "disk-usage-exporter.fullname" .) "default" .Values.serviceAccount.create }}
{{- .Values.serviceAccount.name | default $own }}
{{- end }}

{{- define "disk-usage-exporter.priorityClassName" -}}
{{- $own := ternary (include "disk-usage-exporter.fullname" .) "" .Values.priorityClass.create }}
{{- .Values.priorityClass.name | default $own }}
{{- end }}

{{- define "disk-usage-exporter.image" -}}
{{- with .Values.image }}
{{- .repository }}{{ if .digest }}@{{ .digest }}{{ else }}:{{ .tag | default $.Chart.AppVersion }}{{ end }}
{{- end }}
{{- end }}

{{- /* Off without quotes is false in YAML. */}}
{{- define "disk-usage-exporter.word" -}}
{{- toString . | replace "false" "off" }}
{{- end }}

{{- /* What follows from the values, for fromYaml. */}}
{{- define "disk-usage-exporter.facts" -}}
{{- $usual := ternary "kubelet" "mounts" (eq .Values.mode "kubeletOnly") }}
{{- $sources := .Values.sources | default (list $usual) }}
{{- $missing := eq (toString .Values.kubeletVolumeStats) "missing" }}
sources: {{ join "," $sources | quote }}
mounts: {{ has "mounts" $sources }}
kubelet: {{ has "kubelet" $sources }}
missing: {{ $missing }}
asksKubelet: {{ or $missing (has "kubelet" $sources) }}
asksKubernetes: {{ and (has "mounts" $sources) (ne (include "disk-usage-exporter.word" .Values.kubernetes) "off") }}
{{- end }}

{{- /* Settings that are not the program's own defaults: variables, so that `kubectl exec … -- /disk-usage-exporter df` has
them too. */}}
{{- define "disk-usage-exporter.settings" -}}
{{- $facts := include "disk-usage-exporter.facts" . | fromYaml }}
{{- $flags := list }}
{{- if ne .Values.mode "kubeletOnly" }}
{{- $flags = concat $flags (list
  (list "rootfs" "/rootfs" "")
  (list "kubelet-root" .Values.kubelet.root "/var/lib/kubelet")) }}
{{- end }}
{{- if $facts.mounts }}
{{- $flags = concat $flags (list
  (list "pv-labels" .Values.pvLabels "*")
  (list "pvc-labels" .Values.pvcLabels "*")
  (list "volume-labels" .Values.volumeLabels "")) }}
{{- end }}
{{- $flags = concat $flags (list
  (list "fs-types-exclude" .Values.exclude.fsTypes "")
  (list "storage-classes-exclude" .Values.exclude.storageClasses "")
  (list "namespaces-exclude" .Values.exclude.namespaces "")
  (list "sources" $facts.sources "")
  (list "kubelet-endpoint" .Values.kubelet.endpoint "")
  (list "kubelet-volume-stats" (include "disk-usage-exporter.word" .Values.kubeletVolumeStats) "auto")
  (list "kubelet-volume-stats-labels" .Values.kubeletVolumeStatsLabels "kubelet")) }}
{{- if $facts.asksKubelet }}
{{- with .Values.kubelet }}
{{- $ca := ternary (printf "/etc/kubelet-ca/%s" .ca.key) "" (ne .ca.configMap "") }}
{{- $flags = concat $flags (list
  (list "kubelet-ca-file" $ca "")
  (list "kubelet-server-name" .serverName "")
  (list "insecure-skip-tls-verify" .insecureSkipTLSVerify "false")
  (list "scrape-interval" .scrapeInterval "30s")) }}
{{- end }}
{{- end }}
{{- $flags = concat $flags (list
  (list "kubernetes" (include "disk-usage-exporter.word" .Values.kubernetes) "auto")
  (list "log-level" .Values.logLevel "info")
  (list "listen-port" (int .Values.port) "9274")) }}
{{- range $flags }}
{{- if ne (toString (index . 1)) (index . 2) }}
- name: {{ printf "disk-usage-exporter-%s" (index . 0) | replace "-" "_" | upper }}
  value: {{ index . 1 | toString | quote }}
{{- end }}
{{- end }}
{{- end }}
