#!/usr/bin/env python3
# A CSI driver for the end-to-end suite: volumes are folders of a node, mounted by binding. It runs on the host, beside a node whose machine is
# namespaces of it: --pid is a process in them. It speaks by Debian's gRPC for Python, not by ours. What it is asked it writes to --log, a line a call.
import argparse
import os
import signal
import subprocess
import sys
import tempfile
from concurrent import futures

import grpc
from grpc_tools import protoc

PROTO = '''
syntax = "proto3";
package csi.v1;
service Identity {
  rpc GetPluginInfo(Empty) returns (PluginInfo);
  rpc Probe(Empty) returns (Empty);
}
service Node {
  rpc NodeStageVolume(Stage) returns (Empty);
  rpc NodeUnstageVolume(Unstage) returns (Empty);
  rpc NodePublishVolume(Publish) returns (Empty);
  rpc NodeUnpublishVolume(Unpublish) returns (Empty);
  rpc NodeGetCapabilities(Empty) returns (Capabilities);
  rpc NodeGetInfo(Empty) returns (Info);
}
message Empty {}
message PluginInfo { string name = 1; string vendor_version = 2; }
message Mount { string fs_type = 1; repeated string mount_flags = 2; string volume_mount_group = 3; }
message Mode { int32 mode = 1; }
message Capability { oneof access_type { Empty block = 1; Mount mount = 2; } Mode access_mode = 3; }
message Stage { string volume_id = 1; map<string, string> publish_context = 2; string staging_target_path = 3; Capability volume_capability = 4;
  map<string, string> secrets = 5; map<string, string> volume_context = 6; }
message Unstage { string volume_id = 1; string staging_target_path = 2; }
message Publish { string volume_id = 1; map<string, string> publish_context = 2; string staging_target_path = 3; string target_path = 4;
  Capability volume_capability = 5; bool readonly = 6; map<string, string> secrets = 7; map<string, string> volume_context = 8; }
message Unpublish { string volume_id = 1; string target_path = 2; }
message Rpc { int32 type = 1; }
message OneCapability { oneof type { Rpc rpc = 1; } }
message Capabilities { repeated OneCapability capabilities = 1; }
message Topology { map<string, string> segments = 1; }
message Info { string node_id = 1; int64 max_volumes_per_node = 2; Topology accessible_topology = 3; }
'''
REGISTRATION = '''
syntax = "proto3";
package pluginregistration;
service Registration {
  rpc GetInfo(InfoRequest) returns (PluginInfo);
  rpc NotifyRegistrationStatus(RegistrationStatus) returns (RegistrationStatusResponse);
}
message InfoRequest {}
message PluginInfo { string type = 1; string name = 2; string endpoint = 3; repeated string supported_versions = 4; }
message RegistrationStatus { bool plugin_registered = 1; string error = 2; }
message RegistrationStatusResponse {}
'''
STAGE_UNSTAGE_VOLUME = 1


def compile_protos():
    folder = tempfile.mkdtemp(prefix='csi-driver-')
    for name, text in (('csi_driver', PROTO), ('csi_registration', REGISTRATION)):
        with open(f'{folder}/{name}.proto', 'w', encoding='utf8') as out:
            out.write(text)
        if protoc.main(['protoc', f'-I{folder}', f'--python_out={folder}', f'--grpc_python_out={folder}', f'{folder}/{name}.proto']) != 0:
            sys.exit('protoc failed')
    sys.path.insert(0, folder)


class Driver:
    def __init__(self, options):
        self.options = options
        self.root = f'/proc/{options.pid}/root'  # the node's files as this process reaches them

    def log(self, *words):
        with open(self.options.log, 'a', encoding='utf8') as out:
            print(*words, file=out, flush=True)

    def within(self, *command):
        spaces = f'/proc/{self.options.pid}/ns'  # the processes' too: umount reads /proc/self
        return subprocess.run(['nsenter', f'--mount={spaces}/mnt', f'--pid={spaces}/pid', '--', *command], capture_output=True, text=True, check=False)

    def mounted(self, path):
        return self.within('mountpoint', '-q', path).returncode == 0

    def bind(self, source, target, context, flags=()):
        self.within('mkdir', '-p', target)
        if self.mounted(target):
            return
        done = self.within('mount', '--bind', source, target)
        if done.returncode == 0 and flags:
            done = self.within('mount', '-o', 'remount,bind,' + ','.join(flags), target)
        if done.returncode != 0:
            context.abort(grpc.StatusCode.INTERNAL, f'mount: {done.stderr.strip()}')

    def unbind(self, target, context):
        if self.mounted(target):
            done = self.within('umount', target)
            if done.returncode != 0:
                context.abort(grpc.StatusCode.INTERNAL, f'umount: {done.stderr.strip()}')


def services(driver, pb, reg, base, registration_base):
    options = driver.options

    class Identity(base.IdentityServicer):
        def GetPluginInfo(self, request, context):
            return pb.PluginInfo(name=options.name, vendor_version='1')

        def Probe(self, request, context):
            return pb.Empty()

    class Node(base.NodeServicer):
        def NodeGetInfo(self, request, context):
            return pb.Info(node_id=options.node, max_volumes_per_node=options.max_volumes,
                           accessible_topology=pb.Topology(segments={f'topology.{options.name}/node': options.node}))

        def NodeGetCapabilities(self, request, context):
            return pb.Capabilities(capabilities=[pb.OneCapability(rpc=pb.Rpc(type=STAGE_UNSTAGE_VOLUME))])

        def NodeStageVolume(self, request, context):
            driver.log('stage', request.volume_id, request.volume_capability.mount.fs_type or '-', request.volume_capability.access_mode.mode)
            if not request.volume_id or not os.path.isdir(driver.root + request.staging_target_path):
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, 'no volume, or no staging path')
            folder = f'/var/lib/{options.name}/{request.volume_id}'
            driver.within('mkdir', '-p', folder)
            driver.bind(folder, request.staging_target_path, context)
            return pb.Empty()

        def NodeUnstageVolume(self, request, context):
            driver.log('unstage', request.volume_id)
            driver.unbind(request.staging_target_path, context)
            return pb.Empty()

        def NodePublishVolume(self, request, context):
            pod = request.volume_context.get('csi.storage.k8s.io/pod.name', '-')
            driver.log('publish', request.volume_id, pod, 'ro' if request.readonly else 'rw', request.secrets.get('password', '-'))
            if request.volume_context.get('broken') == 'yes':
                context.abort(grpc.StatusCode.INTERNAL, 'the volume is broken')
            source = request.staging_target_path
            if not source:  # an ephemeral volume
                source = f'/var/lib/{options.name}/{request.volume_id}'
                driver.within('mkdir', '-p', source)
            driver.bind(source, request.target_path, context, ['ro'] if request.readonly else [])
            return pb.Empty()

        def NodeUnpublishVolume(self, request, context):
            driver.log('unpublish', request.volume_id)
            driver.unbind(request.target_path, context)
            driver.within('rmdir', request.target_path)
            return pb.Empty()

    class Registration(registration_base.RegistrationServicer):
        def GetInfo(self, request, context):
            return reg.PluginInfo(type='CSIPlugin', name=options.name, endpoint=f'/var/lib/kubelet/plugins/{options.name}/csi.sock',
                                  supported_versions=['1.0.0'])

        def NotifyRegistrationStatus(self, request, context):
            driver.log('registered' if request.plugin_registered else f'refused {request.error}')
            return reg.RegistrationStatusResponse()

    return Identity(), Node(), Registration()


def listen(socket, *adders):
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=4))
    for add in adders:
        add(server)
    if os.path.exists(socket):
        os.unlink(socket)
    os.makedirs(os.path.dirname(socket), exist_ok=True)
    server.add_insecure_port(f'unix:{socket}')
    server.start()
    return server


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument('--pid', type=int, required=True)
    parser.add_argument('--node', required=True)
    parser.add_argument('--name', default='dir.csi.test')
    parser.add_argument('--max-volumes', type=int, default=5)
    parser.add_argument('--log', required=True)
    options = parser.parse_args()
    compile_protos()
    import csi_driver_pb2 as pb
    import csi_driver_pb2_grpc as base
    import csi_registration_pb2 as reg
    import csi_registration_pb2_grpc as registration_base
    driver = Driver(options)
    identity, node, registration = services(driver, pb, reg, base, registration_base)
    kubelet = f'{driver.root}/var/lib/kubelet'
    registry = f'{kubelet}/plugins_registry/{options.name}-reg.sock'
    server = listen(f'{kubelet}/plugins/{options.name}/csi.sock', lambda s: base.add_IdentityServicer_to_server(identity, s),
                    lambda s: base.add_NodeServicer_to_server(node, s))
    registrar = listen(registry, lambda s: registration_base.add_RegistrationServicer_to_server(registration, s))
    signal.sigwait({signal.SIGTERM, signal.SIGINT})
    registrar.stop(0)
    server.stop(0)
    for socket in (registry, f'{kubelet}/plugins/{options.name}/csi.sock'):
        if os.path.exists(socket):
            os.unlink(socket)


if __name__ == '__main__':
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGINT})
    main()
