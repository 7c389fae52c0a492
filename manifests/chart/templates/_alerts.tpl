{{/*
Whether an alert is wanted: prometheusRule's values and the alert's name.
The stock alerts of kube-prometheus have those about what is full or without inodes.
*/}}
{{- define "disk-usage-exporter.isEnabled" -}}
{{- $values := first . }}
{{- $name := last . }}
{{- $settings := get $values.alerts $name | default dict }}
{{- $isStock := regexMatch "^(Volume|Claim)(NearlyFull|FillingUp|NearlyOutOfInodes|RunningOutOfInodes)$" $name }}
{{- if not (or (eq (toString $settings.enabled) "false") (and $isStock $values.onlyMissingFromKubePrometheus)) }}true{{ end }}
{{- end }}

{{/*
Sets in an alert what its values say: prometheusRule's values and the rule.
An expression's threshold is the number after its first ">". What foretells that a volume is full leaves to another alert
what is nearly full already: the number after its "<=" is that one's threshold, or 100 where nobody watches from there on.
*/}}
{{- define "disk-usage-exporter.adjustAlert" -}}
{{- $values := first . }}
{{- $rule := last . }}
{{- $settings := get $values.alerts $rule.alert | default dict }}
{{- with $settings.severity }}
{{- $_ := set $rule.labels "severity" . }}
{{- end }}
{{- if eq (toString $settings.for) "0s" }}
{{- $_ := unset $rule "for" }}
{{- else if $settings.for }}
{{- $_ := set $rule "for" $settings.for }}
{{- end }}
{{- with $settings.threshold }}
{{- $_ := set $rule "expr" (regexReplaceAll "^([^>]*> )[0-9.]+" $rule.expr (printf "${1}%v" .)) }}
{{- end }}
{{- $next := $rule.alert | replace "FillingUp" "NearlyFull" | replace "RunningOutOfInodes" "NearlyOutOfInodes" }}
{{- if ne $next $rule.alert }}
{{- $end := 100 }}
{{- if include "disk-usage-exporter.isEnabled" (list $values $next) }}
{{- $end = (get $values.alerts $next | default dict).threshold }}
{{- end }}
{{- with $end }}
{{- if ge (float64 $settings.threshold) (float64 .) }}
{{- fail (printf "prometheusRule.alerts.%s.threshold must be below %v, from where %s fires" $rule.alert . $next) }}
{{- end }}
{{- $_ := set $rule "expr" (regexReplaceAll "<= [0-9.]+" $rule.expr (printf "<= %v" .)) }}
{{- end }}
{{- end }}
{{- with $values.runbookBaseUrl }}
{{- $_ := set $rule.annotations "runbook_url" (printf "%s#%s" . (lower $rule.alert)) }}
{{- end }}
{{- end }}
