# shellcheck shell=bash
# Starts and ends tests/support/hetzner.py, a Hetzner Cloud API in memory; $DIR is a scratch folder. Its environment is that of the hcloud command.
hetzner_start() { # FLAGS...: false when this machine has no python3
  command -v python3 >/dev/null || return 1
  coproc HETZNER { exec python3 tests/support/hetzner.py --host "${HETZNER_HOST:-127.0.0.1}" "$@" 2>"$DIR/hetzner.log"; }
  hetzner_pid=$HETZNER_PID
  local port
  read -r -t 10 -u "${HETZNER[0]}" port || { cat "$DIR/hetzner.log" >&2; return 1; }
  hetzner_url=http://${HETZNER_HOST:-127.0.0.1}:$port
  export HCLOUD_TOKEN=secret-of-a-test HCLOUD_ENDPOINT=$hetzner_url/v1 HCLOUD_POLL_INTERVAL=2ms
}
hetzner_stop() { [ -z "${hetzner_pid:-}" ] || { kill "$hetzner_pid" 2>/dev/null; wait "$hetzner_pid" 2>/dev/null; }; }
