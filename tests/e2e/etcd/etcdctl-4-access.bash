# etcdctl on who may what: user, role, auth. Each test leaves the cluster without users and without auth.
# shellcheck shell=bash

no_access_control() {
  local name
  ctl --user root:root auth disable >/dev/null 2>&1 || ctl auth disable >/dev/null || return 1
  for name in $(ctl user list 2>/dev/null); do ctl user delete "$name" >/dev/null; done
  for name in $(ctl role list 2>/dev/null); do ctl role delete "$name" >/dev/null; done
}
as() { ctl --user "$1" "${@:2}"; } # name:password, command
auth_on() {
  no_access_control
  ctl user add root:root >/dev/null
  ctl role add root >/dev/null
  ctl user grant-role root root >/dev/null
  ctl auth enable >/dev/null
}

# ---- user ---------------------------------------------------------------------------------------------------------------
test_user_add_get_list_delete() {
  no_access_control
  is "User bob created" "$(ctl user add bob:secret)"
  is "User eve created" "$(ctl user add eve --new-user-password other)"
  is "User alice created" "$(ctl user add alice --no-password)"
  is "alice bob eve" "$(lines "$(ctl user list)")"
  is "User: bob Roles:" "$(lines "$(ctl user get bob)")"
  refused 'etcdserver: user name already exists' ctl user add bob:again
  refused 'etcdserver: user name not found' ctl user get nobody
  is "User bob deleted" "$(ctl user delete bob)"
  refused 'etcdserver: user name not found' ctl user delete bob
  is "alice eve" "$(lines "$(ctl user list)")"
  no_access_control
}
test_user_grant_and_revoke_role() {
  no_access_control
  ctl user add bob:secret >/dev/null
  ctl role add reader >/dev/null
  ctl role add writer >/dev/null
  is "Role reader is granted to user bob" "$(ctl user grant-role bob reader)"
  is "Role writer is granted to user bob" "$(ctl user grant-role bob writer)"
  is "User: bob Roles: reader writer" "$(lines "$(ctl user get bob)")"
  refused 'etcdserver: role name not found' ctl user grant-role bob none
  is "Role reader is revoked from user bob" "$(ctl user revoke-role bob reader)"
  is "User: bob Roles: writer" "$(lines "$(ctl user get bob)")"
  refused 'etcdserver: role is not granted to the user' ctl user revoke-role bob reader
  no_access_control
}
test_user_passwd() {
  auth_on
  as root:root user add bob:old >/dev/null
  is "Password updated" "$(echo new | as root:root user passwd bob --interactive=false)"
  refused 'etcdserver: authentication failed, invalid user ID or password' as bob:old get x
  refused 'etcdserver: permission denied' as bob:new get x
  no_access_control
}

# ---- role ---------------------------------------------------------------------------------------------------------------
test_role_add_get_list_delete() {
  no_access_control
  is "Role reader created" "$(ctl role add reader)"
  ctl role add writer >/dev/null
  is "reader writer" "$(lines "$(ctl role list)")"
  refused 'etcdserver: role name already exists' ctl role add reader
  is "Role reader KV Read: KV Write:" "$(lines "$(ctl role get reader)")"
  refused 'etcdserver: role name not found' ctl role get none
  is "Role reader deleted" "$(ctl role delete reader)"
  is "writer" "$(lines "$(ctl role list)")"
  no_access_control
}
test_role_grant_and_revoke_permission() {
  no_access_control
  ctl role add r >/dev/null
  is "Role r updated" "$(ctl role grant-permission r read a)"
  is "Role r updated" "$(ctl role grant-permission r write b --prefix)"
  is "Role r updated" "$(ctl role grant-permission r readwrite c e)"
  local out
  out=$(lines "$(ctl role get r | tr -d '\t')")
  has "KV Read: a [c, e) KV Write:" "$out"
  has "KV Write: [b, c) (prefix b) [c, e)" "$out"
  has "Permission of key a is revoked from role r" "$(ctl role revoke-permission r a)"
  has "Permission of range [b, c) is revoked from role r" "$(ctl role revoke-permission r b --prefix)"
  is "Role r KV Read: [c, e) KV Write: [c, e)" "$(lines "$(ctl role get r | tr -d '\t')" | sed 's/ (prefix [a-z])//g')"
  refused 'etcdserver: permission is not granted to the role' ctl role revoke-permission r zzz
  no_access_control
}

# ---- auth ---------------------------------------------------------------------------------------------------------------
test_auth_enable_needs_root() {
  no_access_control
  refused 'etcdserver: root user does not exist' ctl auth enable
  ctl user add root:root >/dev/null
  case $CTL_VERSION in
  3.4.*) ctl user revoke-role root root >/dev/null 2>&1 || true ;;
  esac
  ctl role add root >/dev/null
  ctl user grant-role root root >/dev/null
  is "Authentication Enabled" "$(ctl auth enable)"
  is "Authentication Disabled" "$(as root:root auth disable)"
  no_access_control
}
test_auth_status() {
  no_access_control
  case $CTL_VERSION in 3.4.*) ;; *) has "Authentication Status: false" "$(ctl auth status)" ;; esac
  auth_on
  case $CTL_VERSION in 3.4.*) ;; *) has "Authentication Status: true" "$(as root:root auth status)" ;; esac
  no_access_control
}
test_auth_enforces_ranges() {
  auth_on
  as root:root user add bob:bob >/dev/null
  as root:root role add r >/dev/null
  as root:root role grant-permission r read "$P"read/ --prefix >/dev/null
  as root:root role grant-permission r readwrite "$P"both/ --prefix >/dev/null
  as root:root role grant-permission r write "$P"write >/dev/null
  as root:root user grant-role bob r >/dev/null
  local i
  as root:root put "$P"read/a 1 >/dev/null
  for i in 1 2 3; do
    is OK "$(at "$i" --user bob:bob put "$P"both/a "$i")"
    is "$i" "$(at "$i" --user bob:bob get "$P"both/a --print-value-only)"
    refused 'etcdserver: permission denied' at "$i" --user bob:bob put "$P"read/a 2
  done
  is 1 "$(as bob:bob get "$P"read/a --print-value-only)"
  is OK "$(as bob:bob put "$P"write 1)"
  refused 'etcdserver: permission denied' as bob:bob get "$P"write
  refused 'etcdserver: permission denied' as bob:bob put "$P"write 2 --prev-kv
  refused 'etcdserver: permission denied' as bob:bob get "$P" --prefix
  refused 'etcdserver: permission denied' as bob:bob del "$P"both --prefix
  is 1 "$(as bob:bob del "$P"both/a)"
  refused 'etcdserver: permission denied' as bob:bob user list
  refused 'etcdserver: permission denied' as bob:bob member add nobody --peer-urls http://127.0.0.1:1
  no_access_control
}
test_auth_enforces_txn_watch_and_lease() {
  auth_on
  as root:root user add bob:bob >/dev/null
  as root:root role add r >/dev/null
  as root:root role grant-permission r readwrite "$P"ok/ --prefix >/dev/null
  as root:root user grant-role bob r >/dev/null
  is "SUCCESS OK" "$(lines "$(printf '\nput %sok/a 1\n\n\n' "$P" | as bob:bob txn)")"
  has 'etcdserver: permission denied' "$(printf '\nput %sok/a 1\n\nput %sno 2\n\n' "$P" "$P" | as bob:bob txn 2>&1)"
  has 'etcdserver: permission denied' "$(printf 'mod("%sno") = "0"\n\nput %sok/a 1\n\n\n' "$P" "$P" | as bob:bob txn 2>&1)"
  has 'permission denied' "$(as bob:bob watch "$P"no 2>&1 || true)"
  ctl_background "$DIR/out" --user bob:bob watch "$P"ok/ --prefix
  wrote() { as bob:bob put "$P"ok/b 1 >/dev/null; file_has "$DIR/out" "$P"ok/b; }
  wait_until 10 wrote
  local lease
  lease=$(as root:root lease grant 100 | awk '{print $2}')
  as root:root put "$P"no 1 --lease "$lease" >/dev/null
  refused 'etcdserver: permission denied' as bob:bob lease revoke "$lease"
  refused 'etcdserver: permission denied' as bob:bob lease timetolive "$lease" --keys
  is "lease $lease revoked" "$(as root:root lease revoke "$lease")"
  no_access_control
}
test_auth_by_the_common_name_of_the_certificate() {
  auth_on
  as root:root user add alice --no-password >/dev/null
  as root:root role add r >/dev/null
  as root:root role grant-permission r readwrite "$P"alice/ --prefix >/dev/null
  as root:root user grant-role alice r >/dev/null
  alice() { timeout 20 "$CTL" --endpoints "$EP" --cacert "$DIR/ca.crt" --cert "$DIR/alice.crt" --key "$DIR/alice.key" "$@"; }
  is OK "$(alice put "$P"alice/a 1)"
  is 1 "$(alice get "$P"alice/a --print-value-only)"
  refused 'etcdserver: permission denied' alice get "$P"other
  refused 'authentication failed, password was given for no password user' alice --user alice:guessed get "$P"alice/a
  refused 'etcdserver: permission denied' ctl get "$P"alice/a
  no_access_control
}
test_auth_survives_a_change_of_leader_and_a_restart() {
  auth_on
  as root:root user add bob:bob >/dev/null
  local old
  old=$(for i in 1 2 3; do [ "$(at "$i" --user root:root endpoint status | tr -d ' ' | cut -d , -f 5)" != true ] || echo "$i"; done)
  member_stop "$old" 9
  serves() { is OK "$(as root:root put "$P"a 1 2>&1)"; }
  wait_until 15 serves
  refused 'etcdserver: permission denied' as bob:bob get "$P"a
  member_start "$old" --initial-cluster "$INITIAL" --initial-cluster-state existing
  back() { is 1 "$(at "$old" --user root:root get "$P"a --print-value-only)"; }
  wait_until 15 back
  refused 'etcdserver: permission denied' at "$old" --user bob:bob get "$P"a
  refused 'etcdserver: authentication failed, invalid user ID or password' at "$old" --user bob:wrong get "$P"a
  no_access_control
  store_is_sound
}
