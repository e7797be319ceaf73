#!/usr/bin/env bash
# The cluster that `kprov create cluster` makes, driven by the real kubectl: one test for every command and behaviour in suite/.
# E2E_TEST=part picks tests by name; E2E_KUBECONFIG=file E2E_CLUSTER=name uses a cluster that runs already.
set -u
cd "$(dirname "$0")/../.." || exit 1
. tests/e2e/lib.sh
[ "$(id -u)" = 0 ] || { echo 'SKIP: machines of this host need root'; exit 77; }
[ -x "$KUBECTL" ] || { echo "no $KUBECTL: tests/tools/fetch-clients brings it" >&2; exit 1; }
cluster_up
for suite in tests/e2e/suite/*.sh; do . "$suite"; done
run_tests
