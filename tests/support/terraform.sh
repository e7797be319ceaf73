# The real terraform without a registry, for scripts to read; needs $DIR, a scratch folder, $KPROV and tests/e2e/checks.sh.
#   terraform_setup            no registry, no settings of this user's, no colour, no questions
#   tf FOLDER WORDS...         runs it there, within TF_SECONDS; what it says is in $DIR/out
#   tf_prepare EXAMPLE FOLDER  a copy of terraform-examples/EXAMPLE: init, validate, and nothing was installed
#   tf_life FOLDER CLUSTER WORKERS WORKERS_AFTER [WORDS...]  apply, empty plan, another number of workers, empty plan, destroy; WORDS are of all of them
# shellcheck shell=bash
terraform_setup() {
  printf 'disable_checkpoint = true\nprovider_installation {\n  filesystem_mirror {\n    path = "%s/none"\n  }\n}\n' "$DIR" >"$DIR/terraformrc"
  mkdir -p "$HOME" "$DIR/none"
  export TF_CLI_CONFIG_FILE=$DIR/terraformrc TF_IN_AUTOMATION=1 TF_INPUT=0 TF_CLI_ARGS=-no-color TF_VAR_kprov=$KPROV
}
tf() {
  local folder=$1
  shift
  (cd "$folder" && timeout "${TF_SECONDS:-150}" terraform "$@") >"$DIR/out" 2>&1
}
tail_out() { grep -v '^ *$' "$DIR/out" | tail -n 5; }
tf_prepare() {
  mkdir -p "$2" && cp "terraform-examples/$1"/*.tf "$2"
  tf "$2" init && tf "$2" validate
  result $? "$1: init without a registry, validate" "$(tail_out)"
  ! [ -d "$2/.terraform/providers" ]
  result $? "$1: nothing was installed"
}
tf_nodes_ready() { [ "$(timeout 20 "$KUBECTL" --kubeconfig "$1" get nodes --no-headers 2>/dev/null | grep -c ' Ready')" = "$2" ]; }
tf_workers() { timeout 60 "$KPROV" get nodes --cluster "$1" 2>/dev/null | grep -c -- '-worker-'; }
tf_step() { # WHAT FOLDER WORDS...
  local what=$1 start
  shift
  start=$(now_ms)
  tf "$@"
  result $? "$what ($(($(now_ms) - start)) ms)" "$(tail_out)"
}
tf_life() {
  local folder=$1 cluster=$2 before=$3 after=$4 kubeconfig=$1/$2.kubeconfig endpoint
  shift 4
  tf_step 'apply makes the cluster' "$folder" apply -auto-approve -var "name=$cluster" -var "workers=$before" "$@"
  is "$before" "$(tf_workers "$cluster")" "with $before workers"
  tf "$folder" plan -detailed-exitcode -var "name=$cluster" -var "workers=$before" "$@"
  is 0 $? 'plan again is empty'
  tf "$folder" output -raw endpoint
  endpoint=$(cat "$DIR/out")
  tf "$folder" output -raw ca_certificate
  cp "$DIR/out" "$DIR/ca.crt"
  timeout 20 curl -sf --cacert "$DIR/ca.crt" "$endpoint/version" | grep -q gitVersion
  result $? 'the API answers at the endpoint, with the CA that are outputs' "$endpoint"
  tf_step "apply with $after workers" "$folder" apply -auto-approve -var "name=$cluster" -var "workers=$after" "$@"
  is "$after" "$(tf_workers "$cluster")" 'there are as many'
  eventually 60 tf_nodes_ready "$kubeconfig" "$(timeout 60 "$KPROV" get nodes --cluster "$cluster" | grep -c "^$cluster-")"
  result $? 'all nodes are Ready' "$(timeout 20 "$KUBECTL" --kubeconfig "$kubeconfig" get nodes 2>&1)"
  tf "$folder" plan -detailed-exitcode -var "name=$cluster" -var "workers=$after" "$@"
  is 0 $? 'plan again is empty'
  tf_step destroy "$folder" destroy -auto-approve -var "name=$cluster" -var "workers=$after" "$@"
  is '[]' "$("$KPROV" get clusters -o json | tr -d ' \n')" 'kprov knows no cluster'
  is '' "$(ls "$folder"/*.yaml "$kubeconfig" 2>/dev/null)" 'and its files are gone'
}
