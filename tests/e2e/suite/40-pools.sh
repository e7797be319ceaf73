# Worker pools: plan, apply and scale with a pool of their own, so that the other tests' workers stay.
# shellcheck shell=bash

pool_file() { # lines of further pools
  local audit=''
  ! grep -qs '^  audit:' "$DIR/cluster.yaml" || audit=$AUDIT
  cat <<YAML
apiVersion: kprov.dev/v1alpha1
kind: Cluster
metadata: {name: $CLUSTER}
spec:
$audit
  nodePools:
  - {name: worker, replicas: 2}
$1
YAML
}
kprov_status() { # status command...: its output, when it ends with this status
  local wanted=$1 out rc=0
  shift
  out=$("$KPROV" "$@" 2>&1 </dev/null) || rc=$?
  is "$wanted" "$rc" "kprov $*: $out"
  echo "$out"
}
spare_names() { kubectl get nodes -l kprov.dev/pool=spare -o 'jsonpath={.items[*].metadata.name}'; }
on_spare() { # name replicas
  k create deployment "$1" --image="$BUSYBOX" --replicas="$2" --dry-run=client -o yaml -- sleep 3600 |
    sed 's/^    spec:$/    spec:\n      terminationGracePeriodSeconds: 0\n      nodeSelector: {kprov.dev\/pool: spare}/' | k apply -f - >/dev/null
  k rollout status "deployment/$1" --timeout=30s >/dev/null
}

test_pools_come_grow_shrink_and_go() {
  local file=$DIR/pools.yaml out
  pool_file '' >"$file"
  has 'Nothing to do' "$(kprov_status 0 plan -f "$file")"
  pool_file '  - {name: spare, replicas: 1, labels: {tier: spare}}' >"$file"
  has "machine $CLUSTER-spare-1" "$(kprov_status 2 plan -f "$file")"
  kprov_status 0 apply -f "$file" --wait 60s >/dev/null
  is "$CLUSTER-spare-1" "$(spare_names)"
  is spare "$(kubectl get node "$CLUSTER-spare-1" -o 'jsonpath={.metadata.labels.tier}')"

  kprov_status 0 scale nodepool "$CLUSTER" spare --replicas 2 --wait 60s >/dev/null
  is "$CLUSTER-spare-1 $CLUSTER-spare-2" "$(spare_names)"
  on_spare pinned 3
  k create poddisruptionbudget pinned --selector=app=pinned --max-unavailable=1 >/dev/null
  kprov_status 0 scale nodepool "$CLUSTER" spare --replicas 1 --remove spare-1 --drain-timeout 60s >/dev/null
  is "$CLUSTER-spare-2" "$(spare_names)"
  k rollout status deployment/pinned --timeout=30s >/dev/null
  is "$CLUSTER-spare-2" "$(k get pods -l app=pinned -o 'jsonpath={.items[*].spec.nodeName}' | tr ' ' '\n' | sort -u)"

  out=$(kprov_status 1 scale nodepool "$CLUSTER" spare --replicas 1 --remove worker-1)
  has 'is not in pool spare' "$out"
  k delete deployment pinned --wait=false >/dev/null
  pool_file '' >"$file"
  has 'pass --yes' "$(kprov_status 2 apply -f "$file")"
  is "$CLUSTER-spare-2" "$(spare_names)"
  kprov_status 0 apply -f "$file" --yes >/dev/null
  is '' "$(spare_names)"
  has 'Nothing to do' "$(kprov_status 0 plan -f "$file" )"
}

test_a_budget_that_allows_nothing_stops_the_removal_of_a_node() {
  local file=$DIR/guard.yaml out
  pool_file '  - {name: spare, replicas: 1}' >"$file"
  kprov_status 0 apply -f "$file" --wait 60s >/dev/null
  on_spare guarded 1
  k create poddisruptionbudget guarded --selector=app=guarded --min-available=1 >/dev/null
  out=$(kprov_status 1 scale nodepool "$CLUSTER" spare --replicas 0 --drain-timeout 2s)
  has 'disruption budget' "$out"
  has "$NS/guarded" "$out"
  k delete poddisruptionbudget guarded >/dev/null
  kprov_status 0 scale nodepool "$CLUSTER" spare --replicas 0 --drain-timeout 30s >/dev/null
  is '' "$(spare_names)"
  pool_file '' >"$file"
  kprov_status 0 apply -f "$file" --yes >/dev/null
}

test_what_cannot_change_is_refused() {
  local file=$DIR/fixed.yaml
  pool_file '  network: {podCIDR: 10.1.0.0/16}' >"$file"
  has 'spec.network' "$(kprov_status 1 plan -f "$file")"
  has 'spec.network' "$(kprov_status 1 apply -f "$file" --yes)"
}
