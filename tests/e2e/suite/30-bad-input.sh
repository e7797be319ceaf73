# Wrong requests and wrong cluster files: status, reason and message as upstream gives them, by table.
# shellcheck shell=bash

# One row a request: what | method | path | content type | body | status | reason | message.
# @NS is the test's namespace; a message that begins with ~ is a regular expression, an empty one is not looked at.
bad_requests() {
  cat <<'TABLE'
no such object | GET | /api/v1/namespaces/@NS/pods/none | | | 404 | NotFound | pods "none" not found
no such object of a group | GET | /apis/apps/v1/namespaces/@NS/deployments/none | | | 404 | NotFound | deployments.apps "none" not found
no such resource | GET | /apis/apps/v1/namespaces/@NS/nothings | | | 404 | | ~page not found|could not find the requested resource
no such group | GET | /apis/nothing.example.com/v1/things | | | 404 | | ~page not found|could not find the requested resource
no such namespace | POST | /api/v1/namespaces/none-such/configmaps | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"}} | 404 | NotFound | namespaces "none-such" not found
exists already | POST | /api/v1/namespaces/@NS/configmaps | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kept"}} | 409 | AlreadyExists | configmaps "kept" already exists
stale resourceVersion | PUT | /api/v1/namespaces/@NS/configmaps/kept | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"kept","resourceVersion":"1"}} | 409 | Conflict | Operation cannot be fulfilled on configmaps "kept": the object has been modified; please apply your changes to the latest version and try again
wrong name in the body | PUT | /api/v1/namespaces/@NS/configmaps/kept | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"other"}} | 400 | BadRequest | the name of the object (other) does not match the name on the URL (kept)
wrong namespace in the body | POST | /api/v1/namespaces/@NS/configmaps | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","namespace":"default"}} | 400 | BadRequest | the namespace of the provided object does not match the namespace sent on the request
uid precondition | DELETE | /api/v1/namespaces/@NS/configmaps/kept | json | {"apiVersion":"v1","kind":"DeleteOptions","preconditions":{"uid":"wrong"}} | 409 | Conflict | ~^Operation cannot be fulfilled on (configmaps|ConfigMap) "kept": the UID in the precondition \(wrong\) does not match the UID in record \([0-9a-f-]{36}\)\. The object might have been deleted and then recreated$
no name | POST | /api/v1/namespaces/@NS/configmaps | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{}} | 422 | Invalid | ConfigMap "" is invalid: metadata.name: Required value: name or generateName is required
bad name | POST | /api/v1/namespaces/@NS/configmaps | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"Bad_Name"}} | 422 | Invalid | ConfigMap "Bad_Name" is invalid: metadata.name: Invalid value: "Bad_Name": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
bad label | POST | /api/v1/namespaces/@NS/configmaps | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a","labels":{"a":"b c"}}} | 422 | Invalid | ~^ConfigMap "a" is invalid: metadata.labels: Invalid value: "b c": a valid label must be an empty string or consist of alphanumeric characters
body cut short | POST | /api/v1/namespaces/@NS/configmaps | json | { | 400 | BadRequest | ~json parse error|unexpected end of JSON input
wrong kind | POST | /api/v1/namespaces/@NS/configmaps | json | {"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"}} | 400 | BadRequest | ~Secret in version "v1" cannot be handled as a ConfigMap
wrong type of a field | POST | /api/v1/namespaces/@NS/configmaps | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":"x"} | 400 | BadRequest | ~^ConfigMap in version "v1" cannot be handled as a ConfigMap: json: cannot unmarshal string into Go struct field ConfigMap.data of type map\[string\]string$
unknown field, strict | POST | /api/v1/namespaces/@NS/configmaps?fieldValidation=Strict | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"dta":{}} | 400 | BadRequest | ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: unknown field "dta"
duplicate field, strict | POST | /api/v1/namespaces/@NS/configmaps?fieldValidation=Strict | json | {"apiVersion":"v1","kind":"ConfigMap","metadata":{"name":"a"},"data":{"a":"1"},"data":{"a":"2"}} | 400 | BadRequest | ConfigMap in version "v1" cannot be handled as a ConfigMap: strict decoding error: duplicate field "data"
bad base64 | POST | /api/v1/namespaces/@NS/secrets | json | {"apiVersion":"v1","kind":"Secret","metadata":{"name":"a"},"data":{"a":"!"}} | 400 | BadRequest | Secret in version "v1" cannot be handled as a Secret: illegal base64 data at input byte 0
bad quantity | POST | /api/v1/namespaces/@NS/pods | json | {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"name":"c","image":"i","resources":{"limits":{"cpu":"x"}}}]}} | 400 | BadRequest | Pod in version "v1" cannot be handled as a Pod: quantities must match the regular expression '^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$'
no containers | POST | /api/v1/namespaces/@NS/pods | json | {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[]}} | 422 | Invalid | Pod "a" is invalid: spec.containers: Required value
container without a name | POST | /api/v1/namespaces/@NS/pods | json | {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"containers":[{"image":"i"}]}} | 422 | Invalid | Pod "a" is invalid: spec.containers[0].name: Required value
unknown restart policy | POST | /api/v1/namespaces/@NS/pods | json | {"apiVersion":"v1","kind":"Pod","metadata":{"name":"a"},"spec":{"restartPolicy":"Maybe","containers":[{"name":"c","image":"i"}]}} | 422 | Invalid | Pod "a" is invalid: spec.restartPolicy: Unsupported value: "Maybe": supported values: "Always", "OnFailure", "Never"
negative replicas | POST | /apis/apps/v1/namespaces/@NS/deployments | json | {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"replicas":-1,"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"b"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}} | 422 | Invalid | Deployment.apps "a" is invalid: spec.replicas: Invalid value: -1: must be greater than or equal to 0
selector that matches no template | POST | /apis/apps/v1/namespaces/@NS/deployments | json | {"apiVersion":"apps/v1","kind":"Deployment","metadata":{"name":"a"},"spec":{"selector":{"matchLabels":{"a":"b"}},"template":{"metadata":{"labels":{"a":"c"}},"spec":{"containers":[{"name":"c","image":"i"}]}}}} | 422 | Invalid | Deployment.apps "a" is invalid: spec.template.metadata.labels: Invalid value: {"a":"c"}: `selector` does not match template `labels`
service without ports | POST | /api/v1/namespaces/@NS/services | json | {"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{}} | 422 | Invalid | Service "a" is invalid: spec.ports: Required value
node port out of range | POST | /api/v1/namespaces/@NS/services | json | {"apiVersion":"v1","kind":"Service","metadata":{"name":"a"},"spec":{"type":"NodePort","ports":[{"port":80,"nodePort":80}]}} | 422 | Invalid | Service "a" is invalid: spec.ports[0].nodePort: Invalid value: 80: provided port is not in the valid range. The range of valid ports is 30000-32767
unsupported content type | POST | /api/v1/namespaces/@NS/configmaps | text/plain | x | 415 | UnsupportedMediaType | ~^the body of the request was in an unknown format - accepted media types include: application/json, application/yaml, application/vnd.kubernetes.protobuf
unsupported patch type | PATCH | /api/v1/namespaces/@NS/configmaps/kept | json | {} | 415 | UnsupportedMediaType | ~^the body of the request was in an unknown format - accepted media types include: application/json-patch\+json, application/merge-patch\+json, application/strategic-merge-patch\+json, application/apply-patch\+yaml
broken JSON patch | PATCH | /api/v1/namespaces/@NS/configmaps/kept | application/json-patch+json | [{"op":"remove","path":"/data/none"}] | 422 | Invalid | the server rejected our request due to an error in our request
method not allowed | PATCH | /api/v1/namespaces/@NS/configmaps | application/merge-patch+json | {} | 405 | MethodNotAllowed | the server does not allow this method on the requested resource
unsupported field selector | GET | /api/v1/namespaces/@NS/pods?fieldSelector=spec.colour%3Dred | | | 400 | BadRequest | field label not supported: spec.colour
broken label selector | GET | /api/v1/namespaces/@NS/pods?labelSelector=a%20in%20b | | | 400 | BadRequest |
broken continue token | GET | /api/v1/namespaces/@NS/pods?limit=1&continue=%21 | | | 400 | BadRequest |
resource version that is none | GET | /api/v1/namespaces/@NS/pods?watch=1&resourceVersion=abc | | | 400 | BadRequest |
protected namespace | DELETE | /api/v1/namespaces/kube-system | | | 403 | Forbidden | namespaces "kube-system" is forbidden: this namespace may not be deleted
TABLE
}

test_bad_requests() {
  k create configmap kept --from-literal=a=1 >/dev/null
  local what method path type body code reason message out got rows=0 bad=0
  local trim='s/^ *//; s/ *$//'
  while IFS='|' read -r line; do
    IFS=$'\x1f' read -r what method path type body code reason message < <(awk -F ' *[|] +| +[|]$' -v OFS=$'\x1f' '{ m = $8; for (i = 9; i <= NF; i++) m = m "|" $i; print $1, $2, $3, $4, $5, $6, $7, m }' <<<"$line")
    path=${path//@NS/$NS}
    [ "$type" != json ] || type=application/json
    rows=$((rows + 1))
    out=$(api "$method" "$path" ${type:+-H "Content-Type: $type"} ${body:+--data-binary "$body"})
    got=${out##*$'\n'} out=${out%$'\n'*}
    printf '%s' "$out" >"$DIR/status"
    wanted=ok
    [ "$got" = "$code" ] || wanted="status $code, got $got"
    [ -z "$reason" ] || [ "$(status_field reason)" = "$reason" ] || wanted="reason $reason, got $(status_field reason)"
    case $message in
    '') ;;
    '~'*) grep -qE -- "${message#\~}" <<<"$(status_field message)" || wanted="message $message, got $(status_field message)" ;;
    *) [ "$(status_field message)" = "$message" ] || wanted="message $message, got $(status_field message)" ;;
    esac
    [ "$wanted" = ok ] || { echo "$what: $method $path: wanted $wanted"; bad=$((bad + 1)); }
  done < <(bad_requests | sed "$trim")
  echo "$rows requests"
  [ $rows -gt 30 ] || fail 'the table was not read'
  is 0 $bad 'answers that differ'
}
# A field of the Status in $DIR/status; a plain text answer is its own message.
status_field() {
  if grep -q '"kind": *"Status"' "$DIR/status"; then
    perl -0777 -ne 'if (/"'"$1"'": *"((?:[^"\\]|\\.)*)"/) { my $v = $1; $v =~ s/\\u([0-9a-fA-F]{4})/chr hex $1/ge; $v =~ s/\\n/\n/g; $v =~ s/\\(.)/$1/g; print $v }' "$DIR/status"
  else
    cat "$DIR/status"
  fi
}

test_anonymous_and_bad_tokens() {
  local out
  out=$(anonymous GET /api/v1/pods)
  is 403 "${out##*$'\n'}"
  has 'pods is forbidden: User \"system:anonymous\" cannot list resource \"pods\" in API group \"\" at the cluster scope' "$out"
  out=$(anonymous GET /api/v1/pods -H 'Authorization: Bearer nonsense')
  is 401 "${out##*$'\n'}"
  has '"message":"Unauthorized"' "${out//: /:}"
  out=$(anonymous GET /version)
  is 200 "${out##*$'\n'}"
}

test_limits_of_requests() {
  local out
  head -c 4000000 /dev/zero | tr '\0' x >"$DIR/big"
  out=$(api POST "/api/v1/namespaces/$NS/configmaps" --http1.1 -H 'Content-Type: application/json' --data-binary "@$DIR/big")
  is 413 "${out##*$'\n'}"
  is ok "$(kubectl get --raw /readyz)"
}

# One row a cluster file: what | text (\n for line breaks) | message.
bad_cluster_files() {
  cat <<'TABLE'
unknown field | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec:\n  provder: local | :5: unknown field "spec.provder"
unknown field of a pool | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec:\n  nodePools:\n  - name: a\n    sise: 3 | :7: unknown field "spec.nodePools[0].sise"
wrong kind | apiVersion: kprov.dev/v1alpha1\nkind: Pod\nmetadata: {name: x} | :2: kind: must be "Cluster"
wrong version | apiVersion: v1\nkind: Cluster\nmetadata: {name: x} | :1: apiVersion: must be "kprov.dev/v1alpha1"
no name | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {} | metadata.name: is required
replicas that are no number | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec:\n  controlPlane:\n    replicas: many | :6: spec.controlPlane.replicas: must be a whole number
negative replicas | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec:\n  nodePools: [{name: a, replicas: -1}] | must be between 0 and
two pools of one name | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec:\n  nodePools: [{name: a}, {name: a}] | is the name of another pool too
unknown provider | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec: {provider: moon} | moon
bad pod network | apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: x}\nspec: {network: {podCIDR: 10.244.0.0}} | podCIDR
broken YAML | apiVersion: [ | bad.yaml
TABLE
}

test_bad_cluster_files() {
  local what text message out rc bad=0 rows=0
  while read -r line; do
    IFS=$'\x1f' read -r what text message < <(awk -F ' [|] ' -v OFS=$'\x1f' '{print $1, $2, $3}' <<<"$line")
    rows=$((rows + 1))
    printf '%b\n' "$text" >"$DIR/bad.yaml"
    rc=0
    out=$(XDG_STATE_HOME=$DIR/bad-state timeout 20 "$KPROV" create cluster -f "$DIR/bad.yaml" --kubeconfig "$DIR/bad-kubeconfig" 2>&1) || rc=$?
    case $out in *"$message"*) ;; *) echo "$what: wanted \"$message\", got: $out"; bad=$((bad + 1)) ;; esac
    [ $rc -eq 1 ] || [ $rc -eq 2 ] || { echo "$what: ended with $rc"; bad=$((bad + 1)); }
    [ ! -e "$DIR/bad-kubeconfig" ] || { echo "$what: wrote a kubeconfig"; bad=$((bad + 1)); }
  done < <(bad_cluster_files)
  [ $rows -gt 8 ] || fail 'the table was not read'
  is 0 $bad 'files that were not refused as they should be'
  is '' "$(find "$DIR/bad-state" -name cluster.json 2>/dev/null)" 'state of refused clusters'
}

test_bad_command_lines() {
  local rc out row
  while IFS='|' read -r args code text; do
    rc=0
    # shellcheck disable=SC2086 # words of a command line
    out=$(XDG_STATE_HOME=$DIR/bad-state timeout 20 "$KPROV" $args 2>&1) || rc=$?
    is "$code" $rc "kprov $args"
    has "$text" "$out"
  done <<'TABLE'
frobnicate|2|unknown command "frobnicate
create cluster x y|2|usage: kprov create cluster
create cluster x --no-such-flag|2|no-such-flag
get nodes --cluster nothing|1|nothing
delete cluster nothing --yes|1|nothing
kubeconfig|2|usage: kprov kubeconfig NAME
TABLE
}
