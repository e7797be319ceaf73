# shellcheck shell=bash disable=SC2034
# The operations of the fault tests: what is there BEFORE (fault-free commands), the COMMAND under test, and its words for the table.
# A cluster is always called f; pod and files are made by the functions below.
SCENARIOS='create create-ha scale-up scale-down apply-change apply-pools start delete grow-members shrink-members repair repair-member upgrade rollback renew restore
  apply-image apply-image-back rotate-cluster rotate-etcd rotate-front-proxy rotate-accounts create-from adopt gc gc-machine'
# What leaves no cluster behind.
removes() { [ "$1" = delete ] || [ "$1" = gc ]; } # SCENARIO

cluster_file() { # FILE CONTROL_PLANES POOLS...: name:replicas[:label]
  local file=$1 replicas=$2 pool
  shift 2
  {
    printf 'apiVersion: kprov.dev/v1alpha1\nkind: Cluster\nmetadata: {name: f}\nspec:\n  provider: fake\n'
    printf '  controlPlane: {replicas: %s}\n  nodePools:\n' "$replicas"
    for pool in "$@"; do
      IFS=: read -r name count label <<<"$pool"
      printf '  - {name: %s, replicas: %s%s}\n' "$name" "$count" "${label:+, labels: {tier: $label\}}"
    done
  } >"$D/$file"
}
before() { # SCENARIO
  case $1 in
    create | create-ha) ;;
    scale-up) new_cluster 1 worker:1 ;;
    scale-down) new_cluster 1 worker:2 && kprov add-pod f f-worker-2 ;;
    apply-change) new_cluster 1 worker:1:old ;;
    apply-pools) new_cluster 1 worker:2 batch:1 && kprov add-pod f f-batch-1 ;;
    start) new_cluster 1 worker:1 && kprov node stop f worker-1 --force ;;
    delete) new_cluster 1 worker:1 ;;
    grow-members) new_cluster 1 worker:0 ;;
    shrink-members) new_cluster 3 worker:0 ;;
    repair) new_cluster 1 worker:2 && lose f-worker-1 && kprov node stop f worker-2 --force ;;
    repair-member) new_cluster 3 worker:0 && lose f-cp-3 ;;
    upgrade) new_cluster 1 worker:1 ;;
    renew) new_cluster 1 worker:1 ;;
    restore) new_cluster 1 worker:1 && rm -f "$D"/f.db* && kprov etcd snapshot save f "$D/f.db" && kprov add-pod f f-worker-1 ;;
    apply-image) new_cluster 1 worker:1:old ;;
    apply-image-back) new_cluster 1 worker:1 && kprov upgrade cluster f --image node-other --yes --machine-timeout 30s ;;
    rotate-*) new_cluster 1 worker:1 ;;
    create-from) [ -e "$D/from.db" ] || { new_cluster 1 worker:1 && kprov etcd snapshot save f "$D/from.db" && kprov delete cluster f --yes; } ;;
    adopt) new_cluster 1 worker:1 && forget ;;
    gc) new_cluster 1 worker:1 && forget ;;
    gc-machine) new_cluster 1 worker:1 && stray f-worker-9 ;;
    rollback) new_cluster 1 worker:1 && kprov upgrade cluster f --image node-other --yes --machine-timeout 30s ;;
  esac
}
# A machine that somebody else removed.
lose() { # NAME
  local dir
  for dir in "$D"/world/*/machines/"$1"; do kill -9 -- "-$(cat "$dir/pid")" && rm -rf "$dir"; done
}
# The state is lost, and with it what the kubeconfig says of the cluster.
forget() {
  OF=$(uid_of)
  [ -n "$OF" ] && rm -rf "${KPROV_STATE_DIR:?}/f" "$D/kubeconfig"
}
# A machine of the cluster that nobody wants, with an address of its own.
stray() { # NAME
  local dir
  for dir in "$D"/world/*/machines/f-worker-1; do
    mkdir "${dir%/*}/$1" && sed 's/\(127[0-9.]*\)\.[0-9]*/\1.240/' "$dir/machine" >"${dir%/*}/$1/machine" && echo >"${dir%/*}/$1/user-data" &&
      printf 127.%s.0.240 $((90 + SLOT)) >"${dir%/*/*}/addresses/$1"
  done
}
new_cluster() { cluster_file before.yaml "$@"; kprov create cluster -f "$D/before.yaml" --wait 30s; }
command_of() { # SCENARIO: sets COMMAND
  case $1 in
    create) cluster_file f.yaml 1 worker:1 && COMMAND=(create cluster -f "$D/f.yaml" --wait 30s) ;;
    create-ha) cluster_file f.yaml 3 worker:1 && COMMAND=(create cluster -f "$D/f.yaml" --wait 30s) ;;
    scale-up) COMMAND=(scale nodepool f worker --replicas 2 --wait 30s) ;;
    scale-down) COMMAND=(scale nodepool f worker --replicas 1 --wait 30s --drain-timeout 30s) ;;
    apply-change) cluster_file f.yaml 1 worker:1:new && COMMAND=(apply -f "$D/f.yaml" --yes --wait 30s) ;;
    apply-pools) cluster_file f.yaml 1 worker:1:new gpu:1 && COMMAND=(apply -f "$D/f.yaml" --yes --wait 30s --drain-timeout 30s) ;;
    start) cluster_file f.yaml 1 worker:1 && COMMAND=(apply -f "$D/f.yaml" --yes --wait 30s) ;;
    delete) COMMAND=(delete cluster f --yes) ;;
    grow-members) cluster_file f.yaml 3 worker:0 && COMMAND=(apply -f "$D/f.yaml" --yes --wait 60s) ;;
    shrink-members) cluster_file f.yaml 1 worker:0 && COMMAND=(apply -f "$D/f.yaml" --yes --wait 60s --drain-timeout 30s) ;;
    repair | repair-member) COMMAND=(repair f --yes --wait 60s --settle 1s) ;;
    upgrade) COMMAND=(upgrade cluster f --image node-other --yes --machine-timeout 30s --drain-timeout 30s) ;;
    renew) COMMAND=(certs renew f) ;;
    restore) COMMAND=(etcd snapshot restore f "$D/f.db" --yes) ;;
    apply-image) cluster_file f.yaml 1 worker:2:new && echo '  image: node-other' >>"$D/f.yaml" && COMMAND=(apply -f "$D/f.yaml" --yes --wait 30s --drain-timeout 30s) ;;
    apply-image-back) cluster_file f.yaml 1 worker:1 && echo '  image: node-fake' >>"$D/f.yaml" && COMMAND=(apply -f "$D/f.yaml" --yes --wait 30s --drain-timeout 30s) ;;
    rotate-accounts) COMMAND=(certs rotate-ca f --authority service-accounts) ;;
    rotate-*) COMMAND=(certs rotate-ca f --authority "${1#rotate-}") ;;
    create-from) cluster_file f.yaml 1 worker:1 && COMMAND=(create cluster -f "$D/f.yaml" --from-snapshot "$D/from.db" --wait 30s) ;;
    adopt) COMMAND=(adopt "$OF" --provider fake) ;;
    gc) COMMAND=(gc --provider fake --cluster-uid "$OF" --yes) ;;
    gc-machine) COMMAND=(gc --yes) ;;
    rollback) COMMAND=(rollback cluster f --yes --machine-timeout 30s --drain-timeout 30s) ;;
  esac
}
