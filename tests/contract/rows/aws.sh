# shellcheck shell=bash
# AWS's API as moto's server has it, with authentication on.
. tests/support/moto/moto.sh
mkdir -p "$DIR"
trap moto_stop EXIT
if moto_start; then
  moto_image node-one >/dev/null
  moto_image node-two >/dev/null
  ROW_LIMIT=240 row aws --endpoint "$MOTO_URL" --image node-one --other-image node-two --expect console,balancers,routes,metadata,public,node-facts,disks aws
else
  skip aws 'no moto_server'
fi
