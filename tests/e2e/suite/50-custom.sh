# Custom resources with the real kubectl: definitions, objects under their schema, versions, columns, scale, apply, and the end of all of it.
# shellcheck shell=bash

# Every test has a group of its own, named after its namespace.
widgets() { # [more of the storage version's schema]
  cat <<YAML
apiVersion: apiextensions.k8s.io/v1
kind: CustomResourceDefinition
metadata: {name: widgets.$NS.example.com}
spec:
  group: $NS.example.com
  scope: Namespaced
  names: {plural: widgets, kind: Widget, shortNames: [$NS-wd], categories: [$NS-things]}
  versions:
  - name: v1
    served: true
    storage: true
    subresources:
      status: {}
      scale: {specReplicasPath: .spec.replicas, statusReplicasPath: .status.replicas, labelSelectorPath: .status.selector}
    selectableFields: [{jsonPath: .spec.color}]
    additionalPrinterColumns:
    - {name: Color, type: string, jsonPath: .spec.color, description: What it looks like}
    - {name: Ready, type: string, jsonPath: '.status.conditions[?(@.type=="Ready")].status'}
    - {name: Weight, type: number, jsonPath: .spec.weight, priority: 1}
    - {name: Age, type: date, jsonPath: .metadata.creationTimestamp}
    schema:
      openAPIV3Schema:
        type: object
        description: Something that is made.
        required: [spec]
        properties:
          spec:
            type: object
            description: What is wanted of it.
            required: [size]
            properties:
              size: {type: integer, minimum: 1, maximum: 10, description: How large it is.}
              color: {type: string, enum: [red, green], default: red}
              name: {type: string, pattern: '^[a-z]+\d*$', maxLength: 10}
              weight: {type: number}
              replicas: {type: integer}
              port: {x-kubernetes-int-or-string: true}
              tags: {type: array, x-kubernetes-list-type: set, items: {type: string}}
              labels: {type: object, additionalProperties: {type: string}}
              parts:
                type: array
                x-kubernetes-list-type: map
                x-kubernetes-list-map-keys: [name]
                items:
                  type: object
                  required: [name]
                  properties: {name: {type: string}, count: {type: integer, default: 1}}
              free: {type: object, x-kubernetes-preserve-unknown-fields: true}
          status:
            type: object
            properties:
              replicas: {type: integer}
              selector: {type: string}
              conditions:
                type: array
                items: {type: object, properties: {type: {type: string}, status: {type: string}}}
  - name: v1alpha1
    served: true
    storage: false
    deprecated: true
    schema: {openAPIV3Schema: {type: object, x-kubernetes-preserve-unknown-fields: true}}
YAML
}
defined() {
  widgets | k apply -f - >/dev/null
  kubectl wait --for=condition=Established "crd/widgets.$NS.example.com" --timeout=10s >/dev/null
  wait_until 5 k get "widgets.$NS.example.com"
}
widget() { # name spec [version]
  k create -f - 2>&1 <<YAML
apiVersion: $NS.example.com/${3:-v1}
kind: Widget
metadata: {name: $1}
spec: $2
YAML
}
gone() { kubectl delete crd "widgets.$NS.example.com" --timeout=30s >/dev/null; }

test_custom_resources() {
  defined
  local wd=widgets.$NS.example.com
  is 'True True' "$(kubectl get crd "$wd" -o 'jsonpath={.status.conditions[?(@.type=="NamesAccepted")].status} {.status.conditions[?(@.type=="Established")].status}')"
  is '["v1"] widget WidgetList' "$(kubectl get crd "$wd" -o 'jsonpath={.status.storedVersions} {.spec.names.singular} {.status.acceptedNames.listKind}')"
  like "^widgets +$NS-wd +$NS.example.com/v1 +true +Widget +create,delete,deletecollection,get,list,patch,update,watch +$NS-things" "$(kubectl api-resources --api-group="$NS.example.com" -o wide)"
  is "widget.$NS.example.com/a created" "$(widget a '{size: 3, name: abc1, port: http, tags: [x, z], labels: {l: m}, parts: [{name: p}], free: {any: [1, {thing: null}]}}')"
  is '{"color":"red","free":{"any":[1,{"thing":null}]},"labels":{"l":"m"},"name":"abc1","parts":[{"count":1,"name":"p"}],"port":"http","size":3,"tags":["x","z"]}' "$(field "$wd" a .spec)" 'defaults, and nothing lost'
  is 1 "$(field "$wd" a .metadata.generation)"
  like '^a +red +[0-9]+s$' "$(k get "$NS-wd" --no-headers)"
  is 'NAME COLOR READY WEIGHT AGE' "$(k get "$wd" -o wide | head -n 1 | xargs)"
  like '^widget.*/a' "$(k get "$NS-things" -o name)"
  has 'How large it is.' "$(kubectl explain "$wd.spec.size")"
  has 'FIELD: size <integer>' "$(kubectl explain "$wd.spec.size")"
  k get "$wd" a -o yaml | k replace -f - >/dev/null
  k describe "$wd" a | grep -q 'Color: *red'
  is a "$(k get "$wd" --field-selector spec.color=red -o 'jsonpath={.items[*].metadata.name}')"
  is '' "$(k get "$wd" --field-selector spec.color=green -o name)"
  k label "$wd" a tier=one >/dev/null
  is "widget.$NS.example.com/a" "$(k get "$wd" -l tier=one -o name)"
  k delete "$wd" --all >/dev/null
  is '' "$(k get "$wd" -o name)"
  gone
}

test_custom_refusals() {
  defined
  has 'spec.size: Invalid value: 11: spec.size in body should be less than or equal to 10' "$(widget a '{size: 11}')"
  has 'spec.size: Invalid value: "string": spec.size in body must be of type integer: "string"' "$(widget a '{size: many}')"
  has 'spec.size: Required value' "$(widget a '{color: red}')"
  has 'spec.color: Unsupported value: "blue": supported values: "red", "green"' "$(widget a '{size: 1, color: blue}')"
  has "spec.name: Invalid value: \"A\": spec.name in body should match '^[a-z]+\\d*\$'" "$(widget a '{size: 1, name: A}')"
  has 'strict decoding error: unknown field "spec.colour"' "$(widget a '{size: 1, colour: red}')"
  has 'spec.tags[1]: Duplicate value: "x"' "$(widget a '{size: 1, tags: [x, x]}')"
  has 'spec in body must be of type object' "$(widget a 7)"
  is '' "$(k get "widgets.$NS.example.com" -o name)" 'nothing was made'
  has 'must be spec.names.plural+"."+spec.group' "$(widgets | sed 's/name: widgets\./name: gadgets./' | kubectl create -f - 2>&1)"
  has 'must have exactly one version marked as storage version' "$(widgets | sed 's/storage: true/storage: false/' | kubectl create -f - 2>&1)"
  has 'field is immutable' "$(widgets | sed 's/scope: Namespaced/scope: Cluster/' | kubectl apply -f - 2>&1)"
  has 'must appear in spec.versions' "$(widgets | sed 's/name: v1$/name: v2/' | kubectl apply -f - 2>&1)"
  # More than the server would hold several times.
  has 'the limit is 33554432: make it smaller' "$({
    widgets | sed '/^              free:/q'
    seq 80000 | sed 's/.*/              p&: {type: string}/'
  } | sed "s/widgets\\./huge./; s/plural: widgets/plural: huge/" | kubectl create -f - 2>&1)"
  # Names that somebody has are not given twice.
  widgets | sed "s/widgets/gadgets/; s/widgets/gadgets/" | kubectl apply -f - >/dev/null
  names_conflict() { is ListKindConflict "$(kubectl get crd "gadgets.$NS.example.com" -o 'jsonpath={.status.conditions[?(@.type=="NamesAccepted")].reason}')"; }
  wait_until 5 names_conflict
  kubectl delete crd "gadgets.$NS.example.com" >/dev/null
  gone
}

# Rules in CEL, as Gateway API's definitions have them.
ruled() { # [sed's words about the rules]
  cat >"$DIR/rules-$NS" <<'YAML'
            x-kubernetes-validations:
            - {rule: "!has(self.replicas) || self.replicas <= self.size", messageExpression: "'at most %d'.format([self.size])", fieldPath: .replicas}
            - {rule: "!has(self.tags) || self.tags.all(t, t.matches('^[a-z]+$'))", message: tags are of letters}
            - {rule: "self.size >= oldSelf.size", message: it does not shrink, reason: FieldValueForbidden, fieldPath: .size}
            - {rule: "!has(self.parts) || self.parts.exists_one(p, p.count == 1)", reason: FieldValueInvalid}
YAML
  widgets | sed "/required: \[size\]/r $DIR/rules-$NS" | sed "${1:-}"
}
test_custom_rules() {
  local wd=widgets.$NS.example.com
  ruled | k apply -f - >/dev/null
  kubectl wait --for=condition=Established "crd/$wd" --timeout=10s >/dev/null
  wait_until 5 k get "$wd"
  is "widget.$NS.example.com/a created" "$(widget a '{size: 3, replicas: 3, tags: [x], parts: [{name: p}, {name: q, count: 2}]}')"
  has 'spec.replicas: Invalid value: at most 3' "$(widget b '{size: 3, replicas: 4}')"
  has 'spec: Invalid value: tags are of letters' "$(widget b '{size: 3, tags: ["1"]}')"
  has 'spec: Invalid value: failed rule: !has(self.parts) || self.parts.exists_one(p, p.count == 1)' "$(widget b '{size: 3, parts: [{name: p}, {name: q}]}')"
  has 'some validation rules were not checked because the object was invalid' "$(widget b '{size: many}')"
  has 'spec.size: Forbidden: it does not shrink' "$(k patch "$wd" a --type merge -p '{"spec":{"size":2,"replicas":1}}' 2>&1)"
  has 'spec.replicas: Invalid value: at most 3' "$(k scale "$wd/a" --replicas=9 2>&1)"
  has 'patched' "$(k patch "$wd" a --type merge -p '{"spec":{"size":4}}')"
  has "undefined field 'sise'" "$(ruled 's/self.size >= oldSelf.size/self.sise >= oldSelf.size/' | k apply -f - 2>&1)"
  # What was stored before there was such a rule may stay as it is while something else changes.
  ruled 's/self.tags.all(t, .*))", message: tags are of letters/false", message: nothing/' | k apply -f - >/dev/null
  refused() { has 'spec: Invalid value: nothing' "$(widget c '{size: 1, tags: [x]}')"; }
  wait_until 10 refused
  has 'Warning: spec: Invalid value: nothing' "$(k label "$wd" a tier=two 2>&1)"
  gone
}

test_custom_changes() {
  defined
  local wd=widgets.$NS.example.com
  widget a '{size: 1, replicas: 2, parts: [{name: p}, {name: q}]}' >/dev/null
  k patch "$wd" a --type merge -p '{"spec":{"size":2,"color":null}}' >/dev/null
  is '2 red 2' "$(k get "$wd" a -o 'jsonpath={.spec.size} {.spec.color} {.metadata.generation}')"
  k patch "$wd" a --type json -p '[{"op":"replace","path":"/spec/parts/1/count","value":5}]' >/dev/null
  is 5 "$(field "$wd" a '.spec.parts[?(@.name=="q")].count')"
  k patch "$wd" a --subresource status --type merge -p '{"spec":{"size":9},"status":{"replicas":2,"selector":"app=a","conditions":[{"type":"Ready","status":"True"}]}}' >/dev/null
  is '2 2 3' "$(k get "$wd" a -o 'jsonpath={.spec.size} {.status.replicas} {.metadata.generation}')" 'the status alone, and no new generation'
  k patch "$wd" a --type merge -p '{"status":{"replicas":7}}' >/dev/null
  is 2 "$(field "$wd" a .status.replicas)" 'the status is its subresource'"'"'s'
  like '^a +red +True' "$(k get "$wd" a --no-headers)"
  has 'scaled' "$(k scale "$wd/a" --replicas=4)"
  is 4 "$(field "$wd" a .spec.replicas)"
  is '4 2 app=a' "$(k get --raw "/apis/$NS.example.com/v1/namespaces/$NS/widgets/a/scale" | sed 's/.*"spec":{"replicas":\([0-9]*\)}.*"replicas":\([0-9]*\),"selector":"\([^"]*\)".*/\1 \2 \3/')"
  has 'is deprecated' "$(k get "widgets.v1alpha1.$NS.example.com" a 2>&1)"
  is "$NS.example.com/v1alpha1 2" "$(k get "widgets.v1alpha1.$NS.example.com" a -o 'jsonpath={.apiVersion} {.spec.size}' 2>/dev/null)"
  # Another schema: what is watched ends and goes on, what is there is served by it.
  widgets | sed 's/maximum: 10/maximum: 20/' | kubectl apply -f - >/dev/null
  wait_until 10 k patch "$wd" a --type merge -p '{"spec":{"size":15}}'
  gone
}

test_custom_apply() {
  defined
  local wd=widgets.$NS.example.com
  applied() { # manager spec [flags]
    k apply --server-side --field-manager="$1" "${@:3}" -f - 2>&1 <<YAML
apiVersion: $NS.example.com/v1
kind: Widget
metadata: {name: a}
spec: $2
YAML
  }
  has 'serverside-applied' "$(applied one '{size: 1, tags: [x], parts: [{name: p, count: 2}]}')"
  has 'serverside-applied' "$(applied two '{size: 1, tags: [z], parts: [{name: q}]}')"
  is '["x","z"] ["p","q"]' "$(k get "$wd" a -o 'jsonpath={.spec.tags} ["{.spec.parts[0].name}","{.spec.parts[1].name}"]')" 'sets and lists by key are merged'
  has 'conflict with "one": .spec.size' "$(applied two '{size: 2, tags: [z]}')"
  has 'serverside-applied' "$(applied two '{size: 2, tags: [z]}' --force-conflicts)"
  is '2 ["p"]' "$(k get "$wd" a -o 'jsonpath={.spec.size} ["{.spec.parts[*].name}"]')" 'what is given up goes'
  has 'unknown field "spec.colour"' "$(applied one '{size: 2, colour: red}' --validate=strict --force-conflicts)"
  widget b '{size: 1}' >/dev/null
  has 'configured' "$(k get "$wd" b -o yaml | sed 's/size: 1/size: 4/' | k apply -f - 2>/dev/null)"
  gone
}

test_custom_watch() {
  defined
  local wd=widgets.$NS.example.com
  "$KUBECTL" -n "$NS" get "$wd" --watch --output-watch-events -o 'jsonpath={.type} {.object.metadata.name} {.object.spec.size}{"\n"}' >"$DIR/watched" &
  local watch=$!
  wait_until 10 k get "$wd"
  sleep 1
  widget a '{size: 1}' >/dev/null
  k patch "$wd" a --type merge -p '{"spec":{"size":2}}' >/dev/null
  k delete "$wd" a >/dev/null
  wait_until 10 grep -q DELETED "$DIR/watched"
  kill $watch
  is 'ADDED a 1 MODIFIED a 2 DELETED a 2' "$(xargs <"$DIR/watched")"
  gone
}

test_custom_end() {
  defined
  local wd=widgets.$NS.example.com uid
  # Dependents go with their owner, of whatever kind each is.
  widget owner '{size: 1}' >/dev/null
  uid=$(field "$wd" owner .metadata.uid)
  k apply -f - >/dev/null <<YAML
apiVersion: v1
kind: ConfigMap
metadata: {name: dependent, ownerReferences: [{apiVersion: $NS.example.com/v1, kind: Widget, name: owner, uid: $uid}]}
---
apiVersion: $NS.example.com/v1
kind: Widget
metadata: {name: dependent, ownerReferences: [{apiVersion: $NS.example.com/v1, kind: Widget, name: owner, uid: $uid}]}
spec: {size: 1}
YAML
  sleep 1
  k get configmap dependent >/dev/null && k get "$wd" dependent >/dev/null
  k delete "$wd" owner >/dev/null
  collected() { has_not dependent "$(k get "$wd,configmap" -o name 2>&1)"; }
  wait_until 20 collected
  # A namespace takes its objects with it.
  kubectl create namespace "$NS-inner" >/dev/null
  widget a '{size: 1}' >/dev/null
  k get "$wd" a -o json | sed "s/\"namespace\": \"$NS\"/\"namespace\": \"$NS-inner\"/; /resourceVersion/d; /uid/d" | kubectl create -f - >/dev/null
  kubectl delete namespace "$NS-inner" --timeout=30s >/dev/null
  # And a definition all of them, after their finalizers.
  widget held '{size: 1}' >/dev/null
  k patch "$wd" held --type merge -p '{"metadata":{"finalizers":["example.com/held"]}}' >/dev/null
  kubectl delete crd "$wd" --wait=false >/dev/null
  only_held() { is held "$(k get "$wd" -o 'jsonpath={.items[*].metadata.name}')"; }
  wait_until 10 only_held
  has 'create not allowed while custom resource definition is terminating' "$(widget late '{size: 1}')"
  k patch "$wd" held --type merge -p '{"metadata":{"finalizers":null}}' >/dev/null
  kubectl wait --for=delete "crd/$wd" --timeout=20s >/dev/null
  unknown() { has "the server doesn't have a resource type" "$(k get "$wd" 2>&1)"; }
  wait_until 5 unknown
  # The same name again, and nothing of the old is there.
  defined
  is '' "$(k get "$wd" -o name)"
  gone
}

# A chart that brings its definition and an object of it, as most that have definitions do.
test_custom_helm() {
  local helm=$CACHE/helm chart=$DIR/chart-$NS
  [ -x "$helm" ] || skip "no $helm: tests/tools/fetch-clients brings it"
  mkdir -p "$chart/crds" "$chart/templates"
  printf 'apiVersion: v2\nname: widgets\nversion: 1.0.0\n' >"$chart/Chart.yaml"
  widgets >"$chart/crds/widgets.yaml"
  cat >"$chart/templates/widget.yaml" <<YAML
apiVersion: $NS.example.com/v1
kind: Widget
metadata: {name: {{ .Release.Name }}}
spec: {size: {{ .Values.size | default 1 }}}
YAML
  timeout 60 "$helm" -n "$NS" install a "$chart" >/dev/null
  is 1 "$(field "widgets.$NS.example.com" a .spec.size)"
  timeout 60 "$helm" -n "$NS" upgrade a "$chart" --set size=5 >/dev/null
  is '5 red' "$(k get "widgets.$NS.example.com" a -o 'jsonpath={.spec.size} {.spec.color}')"
  has 'should be less than or equal to 10' "$(timeout 60 "$helm" -n "$NS" upgrade a "$chart" --set size=11 2>&1)"
  timeout 60 "$helm" -n "$NS" uninstall a >/dev/null
  is '' "$(k get "widgets.$NS.example.com" -o name)"
  gone
}
