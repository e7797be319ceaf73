# shellcheck shell=bash
# Hetzner Cloud's API as tests/support/hetzner.py has it: actions that take a while, pages, limits, a token.
. tests/support/hetzner.sh
mkdir -p "$DIR"
trap hetzner_stop EXIT
if hetzner_start --image node-one --image node-two; then
  row hetzner --image node-one --other-image node-two --expect balancers,routes,metadata,public,node-facts,disks hetzner
else
  skip hetzner 'no python3'
fi
