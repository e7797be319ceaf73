# shellcheck shell=bash
# What libvirt's own test driver can: networks and addresses, no machines.
row libvirt-test --uri test:///default libvirt
