// Plain gRPC calls to one member, with whatever is in them: answers and refusals alike come back as values.
'use strict';
const fs = require('fs');
const path = require('path');
const grpc = require('@grpc/grpc-js');
const loader = require('@grpc/proto-loader');

const protos = path.resolve(path.dirname(require.resolve('etcd3')), '../proto');
const options = { keepCase: true, longs: String, enums: String, defaults: true, oneofs: true, includeDirs: [protos, path.join(__dirname, 'proto')] };
const load = (file) => grpc.loadPackageDefinition(loader.loadSync(file, options));
const packages = { ...load('rpc.proto'), ...load('health.proto'), ...load('lock.proto'), ...load('election.proto') };
const find = (service) => service.split('.').reduce((at, name) => at && at[name], packages) || packages.etcdserverpb[service];

class Member {
  constructor(host, folder, name = 'client') {
    const file = (f) => fs.readFileSync(`${folder}/${f}`);
    this.address = host.replace(/^https?:\/\//, '');
    this.credentials = grpc.credentials.createSsl(file('ca.crt'), file(`${name}.key`), file(`${name}.crt`));
    this.clients = {};
    this.raw = new grpc.Client(this.address, this.credentials, { 'grpc.max_receive_message_length': -1 });
  }

  client(service) {
    this.clients[service] ||= new (find(service))(this.address, this.credentials, { 'grpc.max_send_message_length': -1 });
    return this.clients[service];
  }

  // call('KV', 'Put', {key, value}): {code, text, response}; code 0 is success.
  call(service, method, request = {}, { token, seconds = 15 } = {}) {
    const metadata = new grpc.Metadata();
    if (token) metadata.set('token', token);
    return new Promise((resolve) => {
      this.client(service)[method](request, metadata, { deadline: Date.now() + seconds * 1000 },
        (error, response) => resolve(error ? { code: error.code, text: error.details } : { code: 0, text: '', response }));
    });
  }

  // Bytes in, bytes out, to any path.
  bytes(method, bytes) {
    const same = (x) => x;
    return new Promise((resolve) => {
      this.raw.makeUnaryRequest(method, same, same, bytes, new grpc.Metadata(), { deadline: Date.now() + 10000 },
        (error, response) => resolve(error ? { code: error.code, text: error.details } : { code: 0, text: '', response }));
    });
  }

  // stream('Watch', 'Watch', [requests], n): the first n messages of a stream that is sent these, or its end.
  stream(service, method, requests, count, { token } = {}) {
    const metadata = new grpc.Metadata();
    if (token) metadata.set('token', token);
    return new Promise((resolve) => {
      const stream = this.client(service)[method](metadata, { deadline: Date.now() + 10000 });
      const messages = [];
      const done = (code, text) => { stream.cancel(); resolve({ code, text, messages }); };
      stream.on('data', (message) => { messages.push(message); if (messages.length === count) done(0, ''); });
      stream.on('error', (error) => done(error.code, error.details));
      stream.on('end', () => done(0, 'ended'));
      for (const request of requests) stream.write(request);
    });
  }

  close() {
    for (const client of [...Object.values(this.clients), this.raw]) client.close();
  }
}
module.exports = { Member };
