// npm's etcd3 client against three members: one test for each feature that it documents.
// usage: etcd3.js ENDPOINTS FOLDER; the folder has the certificates, and mN.pid and mN.command of every member.
'use strict';
const assert = require('assert').strict;
const fs = require('fs');
const { spawn } = require('child_process');
const { once } = require('events');
const { noop } = require('cockatiel');
const { Etcd3, LeaseState, Role, isRecoverableError, EtcdLeaseInvalidError, EtcdLockFailedError, EtcdUserNotFoundError,
  EtcdRoleExistsError, EtcdRoleNotFoundError, EtcdPermissionDeniedError, EtcdAuthenticationFailedError, STMConflictError,
  ClientClosedError } = require('etcd3');

const hosts = process.argv[2].split(',');
const folder = process.argv[3];
const picked = process.env.ETCD_TEST || '';
const credentials = (name) => ({
  rootCertificate: fs.readFileSync(`${folder}/ca.crt`),
  privateKey: fs.readFileSync(`${folder}/${name}.key`),
  certChain: fs.readFileSync(`${folder}/${name}.crt`),
});
const open = [];
const connect = (options = {}) => {
  const c = new Etcd3({ hosts, credentials: credentials('client'), dialTimeout: 5000, ...options });
  open.push(c);
  return c;
};
const client = new Etcd3({ hosts, credentials: credentials('client') });
const pause = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const within = async (seconds, what, check) => {
  const end = Date.now() + seconds * 1000;
  for (;;) {
    let why;
    try {
      if (await check()) return;
    } catch (error) {
      why = error;
    }
    if (Date.now() > end) throw new Error(`not within ${seconds} s: ${what}${why ? `: ${why.message}` : ''}`);
    await pause(50);
  }
};
const event = (emitter, name, seconds = 10) => new Promise((resolve, reject) => {
  const timer = setTimeout(() => reject(new Error(`no "${name}" within ${seconds} s`)), seconds * 1000);
  emitter.once(name, (...values) => { clearTimeout(timer); resolve(values); });
});
// Events of a watcher as text, in the order seen.
const record = (watcher) => {
  const seen = [];
  watcher.on('put', (kv, before) => seen.push(`put ${kv.key}=${kv.value}${before ? ` was ${before.value}` : ''}`));
  watcher.on('delete', (kv, before) => seen.push(`delete ${kv.key}${before ? ` was ${before.value}` : ''}`));
  return seen;
};
const seenIs = (seen, wanted, seconds = 10) => within(seconds, `${JSON.stringify(wanted)}, seen ${JSON.stringify(seen)}`, () => {
  assert.deepEqual(seen, wanted);
  return true;
});

// ---- members as processes -------------------------------------------------------------------------------------------------
const pid = (i) => Number(fs.readFileSync(`${folder}/m${i}.pid`, 'utf8'));
const running = (id) => { try { return !/^State:\s*Z/m.test(fs.readFileSync(`/proc/${id}/status`, 'utf8')); } catch { return false; } };
const stop = async (i) => {
  process.kill(pid(i), 'SIGKILL');
  await within(5, `end of m${i}`, () => !running(pid(i)));
};
const start = async (i) => {
  const [program, ...args] = fs.readFileSync(`${folder}/m${i}.command`, 'utf8').split('\0').slice(0, -1);
  const log = fs.openSync(`${folder}/m${i}.log`, 'a');
  const child = spawn(program, args, { detached: true, stdio: ['ignore', log, log] });
  fs.closeSync(log);
  child.unref();
  fs.writeFileSync(`${folder}/m${i}.pid`, `${child.pid}\n`);
  await within(20, `m${i} serves`, async () => {
    const one = connect({ hosts: hosts[i - 1], dialTimeout: 1000, faultHandling: { host: () => noop, global: noop } });
    try { return await one.get('any').exec(); } finally { one.close(); }
  });
};
const leader = async () => {
  for (let i = 1; i <= hosts.length; i++) {
    const one = connect({ hosts: hosts[i - 1] });
    const status = await one.maintenance.status();
    one.close();
    if (status.leader === status.header.member_id) return i;
  }
  throw new Error('no leader');
};

const tests = [];
const test = (name, body) => tests.push([name, body]);

// ---- keys -------------------------------------------------------------------------------------------------------------------
test('put and get: string, json, number, buffer, exists', async (p) => {
  await client.put(`${p}a`).value('text');
  assert.equal(await client.get(`${p}a`), 'text');
  assert.equal(await client.get(`${p}a`).string(), 'text');
  assert.equal(await client.get(`${p}a`).string('base64'), Buffer.from('text').toString('base64'));
  await client.put(`${p}n`).value(42.5);
  assert.equal(await client.get(`${p}n`).number(), 42.5);
  await client.put(`${p}j`).value(JSON.stringify({ x: [1, 2] }));
  assert.deepEqual(await client.get(`${p}j`).json(), { x: [1, 2] });
  const bytes = Buffer.from([0, 255, 1, 254]);
  await client.put(`${p}b`).value(bytes);
  assert.deepEqual(await client.get(`${p}b`).buffer(), bytes);
  assert.equal(await client.get(`${p}b`).exists(), true);
  assert.equal(await client.get(`${p}none`).exists(), false);
  assert.equal(await client.get(`${p}none`), null);
});
test('keys of bytes', async (p) => {
  const key = Buffer.concat([Buffer.from(p), Buffer.from([0, 128, 255])]);
  await client.put(key).value('x');
  assert.equal(await client.get(key), 'x');
  assert.deepEqual(await client.getAll().prefix(p).keyBuffers(), [key]);
});
test('put: getPrevious, touch, ignoreLease', async (p) => {
  await client.put(`${p}a`).value('1');
  assert.equal((await client.put(`${p}a`).value('2').getPrevious()).value.toString(), '1');
  await client.put(`${p}a`).touch();
  const kv = (await client.get(`${p}a`).exec()).kvs[0];
  assert.equal(kv.value.toString(), '2');
  assert.equal(kv.version, '3');
  const lease = client.lease(60);
  await lease.put(`${p}b`).value('1');
  await client.put(`${p}b`).value('2').ignoreLease();
  await lease.revoke();
  assert.equal(await client.get(`${p}b`), null);
});
test('getAll: prefix, keys, strings, numbers, json, buffers, count, limit', async (p) => {
  for (const [k, v] of [['a', '1'], ['b', '2'], ['c', '3']]) await client.put(p + k).value(v);
  const all = () => client.getAll().prefix(p);
  assert.deepEqual(await all(), { [`${p}a`]: '1', [`${p}b`]: '2', [`${p}c`]: '3' });
  assert.deepEqual(await all().keys(), [`${p}a`, `${p}b`, `${p}c`]);
  assert.deepEqual(await all().numbers(), { [`${p}a`]: 1, [`${p}b`]: 2, [`${p}c`]: 3 });
  assert.deepEqual(await all().json(), { [`${p}a`]: 1, [`${p}b`]: 2, [`${p}c`]: 3 });
  assert.deepEqual((await all().buffers())[`${p}b`], Buffer.from('2'));
  assert.equal(await all().count(), 3);
  const some = await all().limit(2).exec();
  assert.deepEqual([some.kvs.length, some.more, some.count], [2, true, '3']);
});
test('getAll: sort by every target, both ways', async (p) => {
  await client.put(`${p}a`).value('2');
  await client.put(`${p}b`).value('3');
  await client.put(`${p}c`).value('1');
  await client.put(`${p}a`).value('2');
  const order = async (target, way) => (await client.getAll().prefix(p).sort(target, way).keys()).map((k) => k.slice(p.length)).join('');
  assert.equal(await order('Key', 'Ascend'), 'abc');
  assert.equal(await order('Key', 'Descend'), 'cba');
  assert.equal(await order('Value', 'Ascend'), 'cab');
  assert.equal(await order('Mod', 'Ascend'), 'bca');
  assert.equal(await order('Mod', 'Descend'), 'acb');
  assert.equal(await order('Create', 'Descend'), 'cba');
  assert.equal(await order('Version', 'Descend').then((o) => o[0]), 'a');
});
test('get and getAll at a revision, between revisions, serializable', async (p) => {
  const first = (await client.put(`${p}a`).value('1')).header.revision;
  const second = (await client.put(`${p}b`).value('1')).header.revision;
  const third = (await client.put(`${p}a`).value('2')).header.revision;
  assert.equal(await client.get(`${p}a`).revision(first), '1');
  assert.deepEqual(await client.getAll().prefix(p).revision(first).keys(), [`${p}a`]);
  assert.deepEqual(await client.getAll().prefix(p).minModRevision(third).keys(), [`${p}a`]);
  assert.deepEqual(await client.getAll().prefix(p).maxModRevision(second).keys(), [`${p}b`]);
  assert.deepEqual(await client.getAll().prefix(p).minCreateRevision(second).keys(), [`${p}b`]);
  assert.deepEqual(await client.getAll().prefix(p).maxCreateRevision(first).keys(), [`${p}a`]);
  await within(5, 'serializable', async () => (await client.get(`${p}a`).serializable(true)) === '2');
});
test('ranges', async (p) => {
  for (const k of ['a', 'b', 'c', 'd']) await client.put(p + k).value(k);
  assert.deepEqual(await client.getAll().inRange({ start: `${p}b`, end: `${p}d` }).keys(), [`${p}b`, `${p}c`]);
  assert.deepEqual(await client.getAll().inRange({ prefix: `${p}d` }).keys(), [`${p}d`]);
  assert.equal((await client.delete().inRange({ start: `${p}a`, end: `${p}c` })).deleted, '2');
  assert.deepEqual(await client.getAll().prefix(p).keys(), [`${p}c`, `${p}d`]);
});
test('delete: key, prefix, range, getPrevious', async (p) => {
  for (const k of ['a', 'b', 'c', 'd', 'e']) await client.put(p + k).value(k);
  assert.equal((await client.delete().key(`${p}a`)).deleted, '1');
  assert.equal((await client.delete().key(`${p}a`)).deleted, '0');
  assert.deepEqual((await client.delete().key(`${p}b`).getPrevious()).map((kv) => kv.value.toString()), ['b']);
  assert.equal((await client.delete().range(client.range({ start: `${p}c`, end: `${p}e` }))).deleted, '2');
  assert.equal((await client.delete().prefix(p)).deleted, '1');
});
test('namespaces', async (p) => {
  const space = client.namespace(p);
  await space.put('a').value('1');
  await space.namespace('inner/').put('b').value('2');
  assert.equal(await client.get(`${p}a`), '1');
  assert.equal(await client.get(`${p}inner/b`), '2');
  assert.deepEqual(await space.getAll().all().keys(), ['a', 'inner/b']);
  const watcher = await space.watch().key('a').create();
  const seen = record(watcher);
  await space.put('a').value('3');
  await seenIs(seen, ['put a=3']);
  await watcher.cancel();
  await space.delete().all();
  assert.equal(await client.getAll().prefix(p).count(), 0);
});

// ---- transactions -----------------------------------------------------------------------------------------------------------
test('if, and, then, else: value, version, create, mod', async (p) => {
  const { header } = await client.put(`${p}a`).value('1');
  let r = await client.if(`${p}a`, 'Value', '==', '1').and(`${p}a`, 'Version', '==', 1).and(`${p}a`, 'Mod', '==', Number(header.revision))
    .and(`${p}none`, 'Create', '==', 0).then(client.put(`${p}b`).value('yes'), client.get(`${p}a`)).else(client.put(`${p}b`).value('no')).commit();
  assert.equal(r.succeeded, true);
  assert.equal(r.responses.length, 2);
  assert.equal(r.responses[1].response_range.kvs[0].value.toString(), '1');
  r = await client.if(`${p}a`, 'Value', '>', '1').then(client.put(`${p}b`).value('never')).else(client.get(`${p}b`), client.delete().key(`${p}a`)).commit();
  assert.equal(r.succeeded, false);
  assert.equal(r.responses[0].response_range.kvs[0].value.toString(), 'yes');
  assert.equal(r.responses[1].response_delete_range.deleted, '1');
});
test('if: a lease is compared', async (p) => {
  const lease = client.lease(60);
  const id = await lease.grant();
  await lease.put(`${p}a`).value('1');
  assert.equal((await client.if(`${p}a`, 'Lease', '==', id).then(client.get(`${p}a`)).commit()).succeeded, true);
  assert.equal((await client.if(`${p}a`, 'Lease', '!=', id).then(client.get(`${p}a`)).commit()).succeeded, false);
  await lease.revoke();
});
test('transactions inside transactions', async (p) => {
  const put = (k, v) => ({ request_put: { key: Buffer.from(p + k), value: Buffer.from(v) } });
  const inner = { request_txn: { compare: [{ key: Buffer.from(`${p}none`), target: 'Version', result: 'Equal', version: 0 }], success: [put('in', 'yes')], failure: [put('in', 'no')] } };
  const r = await client.kv.txn({ compare: [], success: [put('out', '1'), inner], failure: [] });
  assert.equal(r.succeeded, true);
  assert.deepEqual(await client.getAll().prefix(p), { [`${p}in`]: 'yes', [`${p}out`]: '1' });
});
// This client's transactions read without asking the leader, at a revision that another member may have told: of one member alone, as with etcd itself.
test('stm: reads and writes as one, a conflict is tried again', async (p) => {
  const one = connect({ hosts: hosts[0] });
  // Of one revision: this client never commits a default transaction over keys of several.
  await one.if(`${p}a`, 'Version', '==', 0).then(one.put(`${p}a`).value(100), one.put(`${p}b`).value(0)).commit();
  const move = (amount) => one.stm({ retries: 50 }).transact(async (tx) => {
    const [a, b] = [await tx.get(`${p}a`).number(), await tx.get(`${p}b`).number()];
    await tx.put(`${p}a`).value(a - amount);
    await tx.put(`${p}b`).value(b + amount);
  });
  await Promise.all([1, 2, 3, 4, 5].map(move));
  assert.deepEqual(await client.getAll().prefix(p).numbers(), { [`${p}a`]: 85, [`${p}b`]: 15 });
});
test('stm: gives up after its retries; every isolation commits alone', async (p) => {
  const one = connect({ hosts: hosts[0] });
  await one.put(`${p}a`).value(1);
  await assert.rejects(one.stm({ retries: 0 }).transact(async (tx) => {
    await tx.get(`${p}a`);
    await one.put(`${p}a`).value('meanwhile');
    await tx.put(`${p}a`).value('lost');
  }), STMConflictError);
  for (const isolation of [0, 1, 2, 3]) {
    await one.stm({ isolation, prefetch: [`${p}a`] }).transact(async (tx) => {
      await tx.put(`${p}a`).value(`${await tx.get(`${p}a`)}${isolation}`);
      await tx.delete().key(`${p}b`);
    });
  }
  assert.equal(await one.get(`${p}a`), 'meanwhile0123');
});

// ---- leases -----------------------------------------------------------------------------------------------------------------
test('lease: grant, put, revoke', async (p) => {
  const lease = client.lease(60);
  assert.match(await lease.grant(), /^[0-9]+$/);
  await lease.put(`${p}a`).value('1');
  assert.equal(lease.state, LeaseState.Alive);
  assert.equal(await client.get(`${p}a`), '1');
  await lease.revoke();
  assert.equal(lease.revoked(), true);
  assert.equal(await client.get(`${p}a`), null);
});
test('lease: kept alive by itself, keepaliveOnce', async (p) => {
  const lease = client.lease(2);
  await lease.put(`${p}a`).value('1');
  await event(lease, 'keepaliveSucceeded');
  await pause(3000);
  assert.equal(await client.get(`${p}a`), '1');
  assert.equal((await lease.keepaliveOnce()).TTL, '2');
  await lease.revoke();
});
test('lease: not kept alive, it expires', async (p) => {
  const lease = client.lease(1, { autoKeepAlive: false });
  await lease.put(`${p}a`).value('1');
  await within(10, 'expiry', async () => (await client.get(`${p}a`)) === null);
  const released = client.lease(1);
  await released.put(`${p}b`).value('1');
  released.release();
  await within(10, 'expiry', async () => (await client.get(`${p}b`)) === null);
});
test('lease: lost when it is revoked elsewhere', async (p) => {
  const lease = client.lease(2);
  const id = await lease.grant();
  await lease.put(`${p}a`).value('1');
  const lost = event(lease, 'lost');
  await client.leaseClient.leaseRevoke({ ID: id });
  const [error] = await lost;
  assert.ok(error instanceof EtcdLeaseInvalidError, String(error));
  assert.equal(lease.revoked(), true);
});
test('lease: time to live, keys, list', async (p) => {
  const lease = client.lease(100);
  const id = await lease.grant();
  await lease.put(`${p}a`).value('1');
  const r = await client.leaseClient.leaseTimeToLive({ ID: id, keys: true });
  assert.equal(r.grantedTTL, '100');
  assert.ok(Number(r.TTL) > 90);
  assert.deepEqual(r.keys.map(String), [`${p}a`]);
  assert.ok((await client.leaseClient.leaseLeases({})).leases.some((l) => l.ID === id));
  await lease.revoke();
});

// ---- locks and elections ----------------------------------------------------------------------------------------------------
test('lock: acquire, release', async (p) => {
  const lock = client.lock(`${p}lock`);
  await lock.acquire();
  assert.equal(await client.getAll().prefix(`${p}lock`).count(), 1);
  assert.match(String(await lock.leaseId()), /^[0-9]+$/);
  await lock.release();
  assert.equal(await client.getAll().prefix(`${p}lock`).count(), 0);
});
test('lock: contention', async (p) => {
  const lock = await client.lock(`${p}lock`).ttl(10).acquire();
  await assert.rejects(connect().lock(`${p}lock`).acquire(), EtcdLockFailedError);
  await lock.release();
  const again = await connect().lock(`${p}lock`).acquire();
  await again.release();
});
test('lock: do', async (p) => {
  let inside = 0;
  const result = await client.lock(`${p}lock`).do(async () => { inside += await client.getAll().prefix(`${p}lock`).count(); return 'done'; });
  assert.deepEqual([result, inside], ['done', 1]);
  await assert.rejects(client.lock(`${p}lock`).do(() => { throw new Error('of the work'); }), /of the work/);
  assert.equal(await client.getAll().prefix(`${p}lock`).count(), 0);
});
test('election: campaign, leader, proclaim, resign', async (p) => {
  const election = client.election(`${p}office`, 10);
  assert.equal(await election.leader(), undefined);
  const campaign = election.campaign('first');
  await campaign.wait();
  assert.equal(await election.leader(), 'first');
  assert.match(String(await campaign.getCampaignKey()), /office/);
  await campaign.proclaim('renamed');
  assert.equal(await election.leader(), 'renamed');
  await campaign.resign();
  assert.equal(await election.leader(), undefined);
});
test('election: the next one follows, observers see it', async (p) => {
  const election = client.election(`${p}office`, 10);
  const observer = await connect().election(`${p}office`).observe();
  const changes = [];
  observer.on('change', (value) => changes.push(value));
  const first = election.campaign('first');
  await first.wait();
  await within(10, 'the observer sees the first', () => observer.hasLeader && observer.leader() === 'first');
  const second = connect().election(`${p}office`, 10).campaign('second');
  let elected = false;
  second.on('elected', () => { elected = true; });
  await pause(300);
  assert.equal(elected, false);
  await first.resign();
  await second.wait();
  await seenIs(changes, ['first', 'second']);
  assert.equal(observer.leader(), 'second');
  assert.equal(observer.hasLeader, true);
  await second.resign();
  await within(10, 'nobody leads', () => observer.hasLeader === false);
  await observer.cancel();
});

// ---- watches ----------------------------------------------------------------------------------------------------------------
test('watch: key, prefix, range', async (p) => {
  const key = await client.watch().key(`${p}a`).create();
  const prefix = await client.watch().prefix(p).create();
  const range = await client.watch().inRange({ start: `${p}b`, end: `${p}c` }).create();
  const [k, f, r] = [record(key), record(prefix), record(range)];
  await client.put(`${p}a`).value('1');
  await client.put(`${p}b`).value('2');
  await client.delete().key(`${p}a`);
  await seenIs(k, [`put ${p}a=1`, `delete ${p}a`]);
  await seenIs(f, [`put ${p}a=1`, `put ${p}b=2`, `delete ${p}a`]);
  await seenIs(r, [`put ${p}b=2`]);
  for (const w of [key, prefix, range]) await w.cancel();
  await client.put(`${p}a`).value('after');
  await pause(200);
  assert.equal(k.length, 2, 'nothing after cancel');
});
test('watch: with the previous value', async (p) => {
  // Another member may serve the watch than the put, and be behind: "now" would be its own.
  const { header } = await client.put(`${p}a`).value('1');
  const watcher = await client.watch().key(`${p}a`).startRevision(String(Number(header.revision) + 1)).withPreviousKV().create();
  const seen = record(watcher);
  await client.put(`${p}a`).value('2');
  await client.delete().key(`${p}a`);
  await seenIs(seen, [`put ${p}a=2 was 1`, `delete ${p}a was 2`]);
  await watcher.cancel();
});
test('watch: from a revision', async (p) => {
  const { header } = await client.put(`${p}a`).value('1');
  await client.put(`${p}a`).value('2');
  const watcher = await client.watch().key(`${p}a`).startRevision(header.revision).create();
  const seen = record(watcher);
  await seenIs(seen, [`put ${p}a=1`, `put ${p}a=2`]);
  await client.put(`${p}a`).value('3');
  await seenIs(seen, [`put ${p}a=1`, `put ${p}a=2`, `put ${p}a=3`]);
  assert.ok(watcher.lastRevision() >= Number(header.revision) + 2);
  await watcher.cancel();
});
test('watch: ignore and only', async (p) => {
  // The deprecated "ignore" of this client is its "only" by another name.
  const puts = await client.watch().prefix(p).ignore('put').create();
  const deletes = await client.watch().prefix(p).only('delete').create();
  const [a, b] = [record(puts), record(deletes)];
  await client.put(`${p}a`).value('1');
  await client.delete().key(`${p}a`);
  await client.put(`${p}a`).value('2');
  await seenIs(a, [`put ${p}a=1`, `put ${p}a=2`]);
  await seenIs(b, [`delete ${p}a`]);
  await puts.cancel();
  await deletes.cancel();
});
test('watch: of compacted history it is cancelled', async (p) => {
  await client.put(`${p}a`).value('1');
  const { header } = await client.put(`${p}a`).value('2');
  await client.kv.compact({ revision: header.revision });
  const watcher = client.watch().key(`${p}a`).startRevision('1').watcher();
  const [error] = await event(watcher, 'error');
  assert.match(String(error), /Watcher canceled/);
});
test('watch: fifty on one stream, each gets its own', async (p) => {
  const names = Array.from({ length: 50 }, (_, i) => `${p}${String(i).padStart(2, '0')}`);
  const watchers = await Promise.all(names.map((n) => client.watch().key(n).create()));
  const seen = watchers.map(record);
  await Promise.all(names.map((n) => client.put(n).value('x')));
  for (let i = 0; i < names.length; i++) await seenIs(seen[i], [`put ${names[i]}=x`]);
  for (const w of watchers) await w.cancel();
});
test('watch: goes on after its member was killed, without a gap or a repeat', async (p) => {
  const one = connect({ hosts: [hosts[0], hosts[1]] });
  const watcher = await one.watch().prefix(p).create();
  const seen = record(watcher);
  const wanted = [];
  const write = async (n) => { await client.put(`${p}${n}`).value(n); wanted.push(`put ${p}${n}=${n}`); };
  await write(1);
  await seenIs(seen, wanted);
  for (const [i, n] of [[1, 2], [2, 4]]) { // whichever it talks to, both go once
    await stop(i);
    await write(n);
    await write(n + 1);
    await start(i);
  }
  await write(6);
  await seenIs(seen, wanted, 20);
  await watcher.cancel();
});

// ---- several hosts ----------------------------------------------------------------------------------------------------------
test('hosts: writes and reads go on when one is killed', async (p) => {
  const c = connect();
  const gone = await leader();
  await stop(gone);
  await within(10, 'a write', () => c.put(`${p}a`).value('1'));
  for (let i = 0; i < 10; i++) {
    await within(10, 'a read', async () => (await c.get(`${p}a`)) === '1');
  }
  await start(gone);
  assert.equal(await client.get(`${p}a`), '1');
});
test('hosts: a lease is kept over a change of leader', async (p) => {
  const lease = connect().lease(3);
  let lost = false;
  lease.on('lost', () => { lost = true; });
  await lease.put(`${p}a`).value('1');
  const gone = await leader();
  await stop(gone);
  await pause(5000);
  await start(gone);
  assert.equal(lost, false);
  await within(5, 'the key', async () => (await client.get(`${p}a`)) === '1');
  await lease.revoke();
});
test('hosts: nobody there is a recoverable error', async () => {
  const c = connect({ hosts: 'https://127.0.0.1:1', dialTimeout: 500 });
  const error = await c.get('a').exec().then(() => null, (e) => e);
  assert.ok(error && isRecoverableError(error), String(error));
});
test('deadline of a call', async (p) => {
  await assert.rejects(client.get(`${p}a`).options({ deadline: Date.now() - 1 }).exec(), /[Dd]eadline/);
  const c = connect({ defaultCallOptions: (context) => (context.isStream ? {} : { deadline: Date.now() + 5000 }) });
  assert.equal(await c.get(`${p}a`), null);
});
test('a closed client refuses', async () => {
  const c = connect();
  await c.get('a');
  c.close();
  await assert.rejects(c.get('a').exec(), ClientClosedError);
});
test('credentials: without a client certificate, and with a stranger\'s, nothing is answered', async () => {
  const rootCertificate = fs.readFileSync(`${folder}/ca.crt`);
  const without = connect({ credentials: { rootCertificate }, dialTimeout: 1000 });
  await assert.rejects(without.get('a').exec());
  const stranger = connect({ credentials: credentials('intruder'), dialTimeout: 1000 });
  await assert.rejects(stranger.get('a').exec());
  const other = { ...credentials('client'), rootCertificate: fs.readFileSync(`${folder}/stranger.crt`) };
  await assert.rejects(connect({ credentials: other, dialTimeout: 1000 }).get('a').exec());
});

// ---- cluster and maintenance ------------------------------------------------------------------------------------------------
test('cluster: memberList', async () => {
  const { members } = await client.cluster.memberList({});
  assert.deepEqual(members.map((m) => m.name).sort(), ['m1', 'm2', 'm3']);
  assert.deepEqual(members.flatMap((m) => m.clientURLs).sort(), [...hosts].sort());
});
test('maintenance: status, alarm, hash, defragment', async () => {
  const status = await client.maintenance.status();
  assert.match(status.version, /^3\.\d+\.\d+$/);
  assert.ok(Number(status.dbSize) > 0 && Number(status.raftIndex) > 0 && Number(status.raftTerm) > 0 && status.leader !== '0');
  assert.deepEqual((await client.maintenance.alarm({ action: 'Get' })).alarms, []);
  assert.equal(typeof (await client.maintenance.hash()).hash, 'number');
  await client.maintenance.defragment();
});
test('maintenance: snapshot', async () => {
  const stream = await client.maintenance.snapshot();
  let bytes = 0;
  let last;
  stream.on('data', (part) => { bytes += part.blob.length; last = part.remaining_bytes; });
  await once(stream, 'end');
  assert.equal(bytes % 512, 32, `${bytes} bytes: pages and a checksum`);
  assert.equal(last, '0');
});

// ---- users and roles --------------------------------------------------------------------------------------------------------
const quiet = (promise) => promise.then(() => {}, () => {});
const noAuth = async () => {
  const root = connect({ auth: { username: 'root', password: 'root' } });
  await quiet(root.auth.authDisable());
  for (const u of await client.getUsers()) await u.delete();
  for (const r of await client.getRoles()) await r.delete();
};
test('roles: create, grant, permissions, revoke, delete', async (p) => {
  await noAuth();
  const role = client.role('worker');
  await role.create();
  await assert.rejects(client.role('worker').create(), EtcdRoleExistsError);
  const range = client.range({ prefix: p });
  await role.grant([{ permission: 'Read', range }, { permission: 'Readwrite', key: `${p}key` }]);
  const permissions = await role.permissions();
  assert.deepEqual(permissions.map((x) => x.permission).sort(), ['Read', 'Readwrite']);
  await role.revoke({ permission: 'Read', range });
  assert.equal((await role.permissions()).length, 1);
  assert.deepEqual((await client.getRoles()).map((r) => r.name), ['worker']);
  await role.delete();
  await assert.rejects(role.permissions(), EtcdRoleNotFoundError);
});
test('users: create, roles, password, delete', async () => {
  await noAuth();
  await client.role('worker').create();
  const user = await client.user('ann').create('first');
  await user.addRole('worker');
  assert.deepEqual((await user.roles()).map((r) => r instanceof Role && r.name), ['worker']);
  await user.setPassword('second');
  assert.deepEqual((await client.getUsers()).map((u) => u.name), ['ann']);
  await client.role('worker').removeUser(user);
  assert.deepEqual(await user.roles(), []);
  await user.delete();
  await assert.rejects(user.roles(), EtcdUserNotFoundError);
  await noAuth();
});
test('auth: enabled, each user within its range', async (p) => {
  await noAuth();
  await client.role('root').create();
  await client.user('root').create('root').then((u) => u.addRole('root'));
  await client.role('worker').create().then((r) => r.grant({ permission: 'Readwrite', range: client.range({ prefix: `${p}mine/` }) }));
  await client.user('ann').create('pass').then((u) => u.addRole('worker'));
  await client.auth.authEnable();
  try {
    const ann = connect({ auth: { username: 'ann', password: 'pass' } });
    await ann.put(`${p}mine/a`).value('1');
    assert.equal(await ann.get(`${p}mine/a`), '1');
    await assert.rejects(ann.put(`${p}other`).value('1').exec(), EtcdPermissionDeniedError);
    await assert.rejects(ann.if(`${p}mine/a`, 'Value', '==', '1').then(ann.get(`${p}other`)).commit(), EtcdPermissionDeniedError);
    const watcher = await ann.watch().prefix(`${p}mine/`).create();
    const seen = record(watcher);
    await ann.put(`${p}mine/b`).value('2');
    await seenIs(seen, [`put ${p}mine/b=2`]);
    await watcher.cancel();
    const wrong = connect({ auth: { username: 'ann', password: 'wrong' } });
    await assert.rejects(wrong.get(`${p}mine/a`).exec(), EtcdAuthenticationFailedError);
  } finally {
    await noAuth();
  }
  await client.put(`${p}other`).value('1');
});

// ---- running ----------------------------------------------------------------------------------------------------------------
const main = async () => {
  let number = 0, passed = 0, failed = 0;
  for (const [name, body] of tests) {
    if (!name.includes(picked)) continue;
    number++;
    const began = Date.now();
    let timer;
    try {
      const limit = new Promise((_, reject) => { timer = setTimeout(() => reject(new Error('not done within 40 s')), 40000); });
      await Promise.race([body(`n${number}/`), limit]);
      passed++;
      console.log(`ok ${number} - etcd3: ${name} (${Date.now() - began} ms)`);
    } catch (error) {
      failed++;
      console.log(`not ok ${number} - etcd3: ${name} (${Date.now() - began} ms)`);
      console.log(String(error && error.stack || error).split('\n').slice(0, 8).map((l) => `    ${l.slice(0, 300)}`).join('\n'));
    } finally {
      clearTimeout(timer);
      for (const c of open.splice(0)) { try { c.close(); } catch { /* closed by the test */ } }
    }
  }
  console.log(`1..${number}`);
  console.log(`etcd/etcd3: ${passed} passed, ${failed} failed`);
  process.exit(failed === 0 && passed > 0 ? 0 : 1);
};
process.on('unhandledRejection', (error) => console.log(`    unhandled: ${error && error.message}`));
main();
