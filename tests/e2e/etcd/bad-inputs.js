// Requests that no member may take: each is sent to the server under test and to a stock one, both must refuse alike, and the
// server under test must be sound afterwards. usage: bad-inputs.js FOLDER ENDPOINTS STOCK-ENDPOINTS
'use strict';
const assert = require('assert').strict;
const { Member } = require('./rpc.js');

const folder = process.argv[2];
const [tested, stock] = [process.argv[3], process.argv[4]].map((list) => list.split(',').map((host) => new Member(host, folder)));
const picked = process.env.ETCD_TEST || '';
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const b = (text) => Buffer.from(text);
const fill = (size) => Buffer.alloc(size, 'x');
const putOp = (key, value = '1', more = {}) => ({ request_put: { key: b(key), value: b(value), ...more } });
const getOp = (key, more = {}) => ({ request_range: { key: b(key), ...more } });
const deleteOp = (key, end, more = {}) => ({ request_delete_range: { key: b(key), ...(end ? { range_end: b(end) } : {}), ...more } });
const FUTURE = '9000000000000000000';

// ---- helpers of single inputs: m is one member, all are all of them ----------------------------------------------------------
const ok = async (promise) => { const r = await promise; assert.equal(r.code, 0, `setup: ${r.code} ${r.text}`); return r.response; };
const put = (m, key, value = '1', more = {}) => ok(m.call('KV', 'Put', { key: b(key), value: b(value), ...more }));
const txn = (m, success, compare = [], failure = []) => m.call('KV', 'Txn', { compare, success, failure });
const members = async (m) => (await ok(m.call('Cluster', 'MemberList', {}))).members;
const status = (m) => ok(m.call('Maintenance', 'Status'));
const roles = async (all) => {
  const found = {};
  for (const m of all) { const s = await status(m); found[s.leader === s.header.member_id ? 'leader' : 'follower'] = m; }
  return found;
};
// Two revisions of a key, the first compacted; the revision of the second.
const compacted = async (m) => {
  await put(m, 'c', '1');
  const { header } = await put(m, 'c', '2');
  await ok(m.call('KV', 'Compact', { revision: header.revision, physical: true }));
  return Number(header.revision);
};
const lease = async (m, TTL = 60, ID = 0) => (await ok(m.call('Lease', 'LeaseGrant', { TTL, ID }))).ID;
// What a watch says when it is made and, if `count` is 2, right after.
const watch = async (m, create, count = 2) => {
  const r = await m.stream('Watch', 'Watch', [{ create_request: create }], count);
  const last = r.messages[r.messages.length - 1] || {};
  return { code: r.code, text: `${r.text}${last.canceled ? 'canceled ' : ''}${last.cancel_reason || ''}${last.compact_revision > 0 ? ' with the compact revision' : ''}` };
};
const withAuth = async (m, body) => {
  const call = (method, request) => ok(m.call('Auth', method, request));
  await call('RoleAdd', { name: 'root' });
  await call('RoleAdd', { name: 'r' });
  await call('RoleGrantPermission', { name: 'r', perm: { permType: 'READWRITE', key: b('mine') } });
  for (const [name, role] of [['root', 'root'], ['ann', 'r']]) {
    await call('UserAdd', { name, password: name });
    await call('UserGrantRole', { user: name, role });
  }
  await call('UserAdd', { name: 'cert', options: { no_password: true } });
  await call('AuthEnable', {});
  const login = async (name) => (await ok(m.call('Auth', 'Authenticate', { name, password: name }))).token;
  const root = await login('root');
  try {
    return await body(login);
  } finally {
    await ok(m.call('Auth', 'AuthDisable', {}, { token: root }));
    for (const name of ['root', 'ann', 'cert']) await call('UserDelete', { name });
    for (const role of ['root', 'r']) await call('RoleDelete', { role });
  }
};
// A cluster takes no member before all of it has been connected for five seconds.
const addMember = async (m, request) => {
  for (let i = 0; ; i++) {
    const r = await m.call('Cluster', 'MemberAdd', request);
    if (i === 40 || r.text !== 'etcdserver: unhealthy cluster') return r;
    await pause(250);
  }
};
const auth = (m, method, request) => m.call('Auth', method, request);

// ---- the inputs: name, code, part of the text, what is sent; 'new' harms a 3.5 member: it is not sent there ---------------------------------------------------------------------
const INVALID = 3, NOT_FOUND = 5, EXISTS = 6, DENIED = 7, EXHAUSTED = 8, PRECONDITION = 9, OUT_OF_RANGE = 11, UNIMPLEMENTED = 12,
  INTERNAL = 13, UNAVAILABLE = 14, UNAUTHENTICATED = 16, OK = 0, UNKNOWN = 2;
const inputs = [
  ['a request above the limit', INVALID, 'etcdserver: request is too large', (m) => m.call('KV', 'Put', { key: b('big'), value: fill(1600000) })],
  ['a message above what gRPC takes', EXHAUSTED, 'larger than max', (m) => m.call('KV', 'Put', { key: b('big'), value: fill(4000000) })],
  ['a transaction above the limit', INVALID, 'etcdserver: request is too large', (m) => txn(m, [putOp('a', 'x'.repeat(800000)), putOp('b', 'x'.repeat(800000))])],
  ['129 operations in a transaction', INVALID, 'etcdserver: too many operations in txn request', (m) => txn(m, Array.from({ length: 129 }, (_, i) => putOp(`k${i}`)))],
  ['129 compares in a transaction', INVALID, 'etcdserver: too many operations in txn request',
    (m) => txn(m, [], Array.from({ length: 129 }, (_, i) => ({ key: b(`k${i}`), target: 'VERSION', result: 'EQUAL', version: 0 })))],
  ['a key put twice in a transaction', INVALID, 'etcdserver: duplicate key given in txn request', (m) => txn(m, [putOp('d'), putOp('d', '2')])],
  ['a key put inside a deleted range', INVALID, 'etcdserver: duplicate key given in txn request', (m) => txn(m, [deleteOp('a', 'z'), putOp('d')])],
  ['a key put twice, once in a nested transaction', INVALID, 'etcdserver: duplicate key given in txn request',
    (m) => txn(m, [putOp('d'), { request_txn: { compare: [], success: [putOp('d', '2')], failure: [] } }])],
  ['put without a key', INVALID, 'etcdserver: key is not provided', (m) => m.call('KV', 'Put', { value: b('x') })],
  ['range without a key', INVALID, 'etcdserver: key is not provided', (m) => m.call('KV', 'Range', {})],
  ['delete without a key', INVALID, 'etcdserver: key is not provided', (m) => m.call('KV', 'DeleteRange', {})],
  ['a transaction that puts no key', INVALID, 'etcdserver: key is not provided', (m) => txn(m, [putOp('')])],
  ['a compare without a key', INVALID, 'etcdserver: key is not provided', (m) => txn(m, [putOp('a')], [{ target: 'VERSION', result: 'EQUAL', version: 0 }])],
  ['a value with ignore_value', INVALID, 'etcdserver: value is provided', (m) => m.call('KV', 'Put', { key: b('a'), value: b('1'), ignore_value: true })],
  ['a lease with ignore_lease', INVALID, 'etcdserver: lease is provided', (m) => m.call('KV', 'Put', { key: b('a'), value: b('1'), lease: 5, ignore_lease: true })],
  ['ignore_value of a key that is not there', INVALID, 'etcdserver: key not found', (m) => m.call('KV', 'Put', { key: b('not-there'), ignore_value: true })],
  ['ignore_lease of a key that is not there', INVALID, 'etcdserver: key not found', (m) => m.call('KV', 'Put', { key: b('not-there'), value: b('1'), ignore_lease: true })],
  ['a sort order that is none', INVALID, 'etcdserver: invalid sort option', (m) => m.call('KV', 'Range', { key: b('a'), sort_order: 99 }), 'new'],
  ['a sort target that is none', INVALID, 'etcdserver: invalid sort option', (m) => m.call('KV', 'Range', { key: b('a'), sort_target: 99 }), 'new'],
  ['a future revision', OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision', (m) => m.call('KV', 'Range', { key: b('a'), revision: FUTURE })],
  ['a future revision in a transaction', OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision', (m) => txn(m, [putOp('a'), getOp('a', { revision: FUTURE })]), 'new'],
  ['a compacted revision', OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted',
    async (m) => { const r = await compacted(m); return m.call('KV', 'Range', { key: b('c'), revision: r - 1 }); }],
  ['a compacted revision in a transaction', OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted',
    async (m) => { const r = await compacted(m); return txn(m, [getOp('c', { revision: r - 1 }), putOp('a')]); }, 'new'],
  ['a watch of a compacted revision', OK, 'canceled', async (m) => { await compacted(m); return watch(m, { key: b('c'), start_revision: 1 }); }],
  ['a watch of an empty range', OK, '', (m) => watch(m, { key: b('z'), range_end: b('a') }, 1)],
  ['a watch with an id that the stream has', OK, 'duplicate watch ID', async (m) => {
    const create = { create_request: { key: b('w'), watch_id: 7 } };
    const r = await m.stream('Watch', 'Watch', [create, create], 2);
    return { code: r.code, text: r.messages.map((x) => `${x.created} ${x.canceled} ${x.cancel_reason}`).join('; ') };
  }],
  ['compaction of the future', OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision', (m) => m.call('KV', 'Compact', { revision: FUTURE })],
  ['compaction of what is compacted', OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted',
    async (m) => { const r = await compacted(m); return m.call('KV', 'Compact', { revision: r }); }],
  ['a hash of a future revision', OUT_OF_RANGE, 'etcdserver: mvcc: required revision is a future revision', (m) => m.call('Maintenance', 'HashKV', { revision: FUTURE })],
  ['a hash of a compacted revision', OUT_OF_RANGE, 'etcdserver: mvcc: required revision has been compacted',
    async (m) => { const r = await compacted(m); return m.call('Maintenance', 'HashKV', { revision: r - 1 }); }],
  ['a lease that is not there', NOT_FOUND, 'etcdserver: requested lease not found', (m) => m.call('KV', 'Put', { key: b('a'), value: b('1'), lease: 4242 })],
  ['a lease that is not there in a transaction', NOT_FOUND, 'etcdserver: requested lease not found', (m) => txn(m, [putOp('a', '1', { lease: 4242 })])],
  ['revocation of no lease', NOT_FOUND, 'etcdserver: requested lease not found', (m) => m.call('Lease', 'LeaseRevoke', { ID: 4242 })],
  ['keep-alive of no lease', OK, 'TTL 0', async (m) => {
    const r = await m.stream('Lease', 'LeaseKeepAlive', [{ ID: 4242 }], 1);
    return { code: r.code, text: r.messages.length ? `TTL ${r.messages[0].TTL} of ${r.messages[0].ID}` : r.text };
  }],
  ['time to live of no lease', OK, '-1', async (m) => {
    const r = await m.call('Lease', 'LeaseTimeToLive', { ID: 4242, keys: true });
    return { code: r.code, text: r.code ? r.text : `${r.response.TTL} ${r.response.grantedTTL} ${r.response.keys.length}` };
  }],
  ['a lease id that is taken', PRECONDITION, 'etcdserver: lease already exists', async (m) => {
    await m.call('Lease', 'LeaseRevoke', { ID: 777 });
    await lease(m, 60, 777);
    return m.call('Lease', 'LeaseGrant', { TTL: 60, ID: 777 });
  }],
  ['a time to live above the limit', OUT_OF_RANGE, 'etcdserver: too large lease TTL', (m) => m.call('Lease', 'LeaseGrant', { TTL: '9000000001' })],
  ['a member with a URL that is taken', PRECONDITION, 'etcdserver: Peer URLs already exists',
    async (m) => addMember(m, { peerURLs: (await members(m))[0].peerURLs })],
  ['a member with a URL that is none', INVALID, 'etcdserver: given member URLs are invalid', (m) => m.call('Cluster', 'MemberAdd', { peerURLs: ['nonsense'] })],
  ['a member without a URL', INVALID, 'etcdserver: given member URLs are invalid', (m) => m.call('Cluster', 'MemberAdd', { peerURLs: [] })],
  ['removal of an unknown member', NOT_FOUND, 'etcdserver: member not found', (m) => m.call('Cluster', 'MemberRemove', { ID: 4242 })],
  ['promotion of an unknown member', NOT_FOUND, 'etcdserver: member not found', (m) => m.call('Cluster', 'MemberPromote', { ID: 4242 })],
  ['update of an unknown member', NOT_FOUND, 'etcdserver: member not found', (m) => m.call('Cluster', 'MemberUpdate', { ID: 4242, peerURLs: ['http://127.0.0.1:1'] })],
  ['update to a URL that another has', PRECONDITION, 'etcdserver: Peer URLs already exists',
    async (m) => { const list = await members(m); return m.call('Cluster', 'MemberUpdate', { ID: list[0].ID, peerURLs: list[1].peerURLs }); }],
  ['promotion of a voter', PRECONDITION, 'etcdserver: can only promote a learner member',
    async (m) => m.call('Cluster', 'MemberPromote', { ID: (await members(m))[0].ID })],
  ['promotion of a learner that is behind', PRECONDITION, 'etcdserver: can only promote a learner member which is in sync with leader', async (m) => {
    const { member } = await ok(addMember(m, { peerURLs: ['https://127.0.0.1:1'], isLearner: true }));
    const r = await m.call('Cluster', 'MemberPromote', { ID: member.ID });
    await ok(m.call('Cluster', 'MemberRemove', { ID: member.ID }));
    return r;
  }],
  ['one learner too many', PRECONDITION, 'etcdserver: too many learner members in cluster', async (m) => {
    const { member } = await ok(addMember(m, { peerURLs: ['https://127.0.0.1:3'], isLearner: true }));
    const r = await m.call('Cluster', 'MemberAdd', { peerURLs: ['https://127.0.0.1:2'], isLearner: true });
    await ok(m.call('Cluster', 'MemberRemove', { ID: member.ID }));
    return r;
  }],
  ['leadership to an unknown member', PRECONDITION, 'etcdserver: bad leader transferee', async (m, all) => (await roles(all)).leader.call('Maintenance', 'MoveLeader', { targetID: 4242 })],
  ['leadership moved by a follower', PRECONDITION, 'etcdserver: not leader',
    async (m, all) => { const r = await roles(all); return r.follower.call('Maintenance', 'MoveLeader', { targetID: (await status(m)).leader }); }],
  ['an alarm action that is none', OK, '', async (m) => { const r = await m.call('Maintenance', 'Alarm', { action: 99 }); return { code: r.code, text: r.text }; }, 'new'],
  ['a downgrade to no version', INVALID, 'etcdserver: wrong downgrade target version format', (m) => m.call('Maintenance', 'Downgrade', { action: 'VALIDATE', version: 'nonsense' })],
  ['a downgrade too far', INVALID, 'etcdserver: invalid downgrade target version', (m) => m.call('Maintenance', 'Downgrade', { action: 'VALIDATE', version: '3.0.0' })],
  ['the end of no downgrade', OK, '', 
    async (m) => { const v = (await status(m)).version.split('.'); return m.call('Maintenance', 'Downgrade', { action: 'CANCEL', version: `${v[0]}.${v[1] - 1}.0` }); }],
  ['authentication while there is none', PRECONDITION, 'etcdserver: authentication is not enabled', (m) => auth(m, 'Authenticate', { name: 'root', password: 'root' })],
  ['authentication enabled without root', PRECONDITION, 'etcdserver: root user does not exist', (m) => auth(m, 'AuthEnable', {})],
  ['a user without a name', INVALID, 'etcdserver: user name is empty', (m) => auth(m, 'UserAdd', { name: '', password: 'x' })],
  ['an unknown user', PRECONDITION, 'etcdserver: user name not found', (m) => auth(m, 'UserGet', { name: 'nobody' })],
  ['an unknown role', PRECONDITION, 'etcdserver: role name not found', (m) => auth(m, 'RoleGet', { role: 'none' })],
  ['a role without a name', INVALID, 'etcdserver: role name is empty', (m) => auth(m, 'RoleAdd', { name: '' })],
  ['a role for an unknown user', PRECONDITION, 'etcdserver: user name not found', (m) => auth(m, 'UserGrantRole', { user: 'nobody', role: 'none' })],
  ['a permission for an unknown role', PRECONDITION, 'etcdserver: role name not found', (m) => auth(m, 'RoleGrantPermission', { name: 'none', perm: { permType: 'READ', key: b('a') } })],
  ['a permission that is none', INVALID, 'etcdserver: permission not given', (m) => auth(m, 'RoleGrantPermission', { name: 'none' })],
  ['a wrong password', INVALID, 'etcdserver: authentication failed, invalid user ID or password', (m) => withAuth(m, () => auth(m, 'Authenticate', { name: 'ann', password: 'wrong' }))],
  ['an unknown user who logs in', INVALID, 'etcdserver: authentication failed, invalid user ID or password', (m) => withAuth(m, () => auth(m, 'Authenticate', { name: 'nobody', password: 'x' }))],
  ['a password for a user without one', UNKNOWN, 'auth: authentication failed, password was given for no password user',
    (m) => withAuth(m, () => auth(m, 'Authenticate', { name: 'cert', password: 'x' }))],
  ['a token that is none', UNAUTHENTICATED, 'etcdserver: invalid auth token', (m) => withAuth(m, () => m.call('KV', 'Put', { key: b('mine'), value: b('1') }, { token: 'nonsense.1' }))],
  ['a key of others', DENIED, 'etcdserver: permission denied',
    (m) => withAuth(m, async (login) => m.call('KV', 'Put', { key: b('theirs'), value: b('1') }, { token: await login('ann') }))],
  ['a range beyond the own', DENIED, 'etcdserver: permission denied',
    (m) => withAuth(m, async (login) => m.call('KV', 'Range', { key: b('mine'), range_end: b('n') }, { token: await login('ann') }))],
  ['administration by a user', DENIED, 'etcdserver: permission denied',
    (m) => withAuth(m, async (login) => m.call('Cluster', 'MemberRemove', { ID: 4242 }, { token: await login('ann') }))],
  ['a watch of others\' keys', OK, 'etcdserver: permission denied', (m) => withAuth(m, async (login) => {
    const r = await m.stream('Watch', 'Watch', [{ create_request: { key: b('theirs') } }], 1, { token: await login('ann') });
    return { code: r.code, text: r.messages.map((x) => `${x.created} ${x.canceled} ${x.cancel_reason}`).join() };
  })],
  ['the deletion of root while authentication is on', INVALID, 'etcdserver: invalid auth management',
    (m) => withAuth(m, async (login) => m.call('Auth', 'UserDelete', { name: 'root' }, { token: await login('root') }))],
  ['a lock with a lease that is not there', UNKNOWN, 'etcdserver: requested lease not found', (m) => m.call('v3lockpb.Lock', 'Lock', { name: b('l'), lease: 4242 })],
  ['an election with a lease that is not there', UNKNOWN, 'etcdserver: requested lease not found',
    (m) => m.call('v3electionpb.Election', 'Campaign', { name: b('e'), lease: 4242, value: b('x') })],
  ['the leader of no election', UNKNOWN, 'election: no leader', (m) => m.call('v3electionpb.Election', 'Leader', { name: b('none') })],
  ['a proclamation by nobody', UNKNOWN, '"leader" field must be provided', (m) => m.call('v3electionpb.Election', 'Proclaim', { value: b('x') })],
  ['a proclamation by who does not lead', UNKNOWN, 'election: not leader',
    (m) => m.call('v3electionpb.Election', 'Proclaim', { leader: { name: b('e'), key: b('e/1'), rev: 5, lease: 1 }, value: b('x') })],
  ['the health of an unknown service', NOT_FOUND, 'unknown service', (m) => m.call('grpc.health.v1.Health', 'Check', { service: 'none' })],
  ['a method that is none', UNIMPLEMENTED, 'unknown method Fly for service etcdserverpb.KV', (m) => m.bytes('/etcdserverpb.KV/Fly', b(''))],
  ['a service that is none', UNIMPLEMENTED, 'unknown service nowhere.None', (m) => m.bytes('/nowhere.None/Get', b(''))],
  ['a message of the wrong wire type', INTERNAL, 'grpc: error unmarshalling request', (m) => m.bytes('/etcdserverpb.KV/Range', Buffer.from([0x08, 0x01]))],
  ['a message that is cut off', INTERNAL, 'grpc: error unmarshalling request', (m) => m.bytes('/etcdserverpb.KV/Put', Buffer.from([0x0a, 0x7f, 0x61]))],
  ['a message of noise', INTERNAL, 'grpc: error unmarshalling request', (m) => m.bytes('/etcdserverpb.KV/Txn', Buffer.from('f7ffffffffffffffffffff0a', 'hex'))],
];

// ---- soundness ------------------------------------------------------------------------------------------------------------------
let writes = 0;
const sound = async (all) => {
  const value = `sound ${++writes}`;
  const { header } = await put(all[writes % all.length], 'sound', value);
  for (const m of all) assert.equal((await ok(m.call('KV', 'Range', { key: b('sound') }))).kvs[0].value.toString(), value, 'a write is not seen everywhere');
  const hashes = [];
  for (const m of all) hashes.push((await ok(m.call('Maintenance', 'HashKV', { revision: header.revision }))).hash);
  assert.equal(new Set(hashes).size, 1, `members hash differently: ${hashes}`);
  assert.deepEqual((await ok(all[0].call('Maintenance', 'Alarm', { action: 'GET' }))).alarms, []);
};

// ---- running --------------------------------------------------------------------------------------------------------------------
// What may differ in the same answer of two servers: the parser's own words after "unmarshalling request", sizes in brackets.
const same = (text) => text.replace(/(error unmarshalling request).*/, '$1').replace(/ \(\d+ vs\. \d+\)/, '');
const main = async () => {
  let number = 0, passed = 0, failed = 0;
  for (const [name, code, text, send, since] of inputs) {
    if (!name.includes(picked)) continue;
    number++;
    const began = Date.now();
    try {
      if (since && process.env.ETCD_IS_STOCK) continue;
      const reference = since ? { code, text } : await send(stock[0], stock);
      const answer = await send(tested[0], tested);
      const [wanted, got] = [reference, answer].map((r) => `${r.code} ${same(r.text)}`);
      assert.equal(reference.code, code, `of the stock server: ${wanted}`);
      assert.ok(reference.text.includes(text), `of the stock server: ${wanted}`);
      assert.equal(got, wanted);
      await sound(tested);
      passed++;
      console.log(`ok ${number} - bad input: ${name}: "${answer.code} ${answer.text.slice(0, 90)}" (${Date.now() - began} ms)`);
    } catch (error) {
      failed++;
      console.log(`not ok ${number} - bad input: ${name} (${Date.now() - began} ms)`);
      console.log(String(error.message).split('\n').slice(0, 8).map((l) => `    ${l.slice(0, 300)}`).join('\n'));
    }
  }
  console.log(`requests: ${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
};
main();
