# shellcheck shell=bash
# This host's own machines: real ones, of the newest node image (kprov image build); any will do.
image=$(newest_image)
if [ "$(id -u)" != 0 ]; then
  skip local 'machines of this host need root'
else
  [ -n "$image" ] || echo 'local: machines are left out: there is no node image (kprov image build)'
  row local --state "$DIR/local" ${image:+--image "$image"} local
fi
