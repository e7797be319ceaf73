# kprov. Plain non-recursive GNU make. A folder with C files is a module and becomes one archive; PROGRAMS below says
# which module folders a program is made of; main.c is never archived. `make help` lists the targets.
BUILD   ?= build
CC      ?= gcc
AR      ?= ar
PREFIX  ?= /usr/local
DESTDIR ?=
# Of kprov and of the Kubernetes it is; lib/base/version.c is the one object that has it.
KUBERNETES_VERSION ?= v1.36.0
SAN     ?= 0
T       ?=
O       := $(BUILD)
comma   := ,
# Where programs go. With BIN and KUBERNETES_VERSION given, programs of another version are linked from the same objects.
BIN     ?= $(O)/bin

.DELETE_ON_ERROR:
.SECONDARY:
.SUFFIXES:
.DEFAULT_GOAL := all

PKGS := libuv libnghttp2 openssl lmdb yaml-0.1 jansson libprotobuf-c libnftables libmnl libcurl libssh2 zlib libcrypt libvirt libxml-2.0 libpcre2-8
LINK_PKGS := $(PKGS)
ifneq ($(filter-out clean help deps,$(or $(MAKECMDGOALS),all)),)
PKG_CFLAGS := $(shell pkg-config --cflags $(PKGS) 2>/dev/null)
PKG_LIBS   := $(shell pkg-config --libs $(LINK_PKGS) 2>/dev/null)
endif

WARN   := -Wall -Wextra -Werror -Wshadow -Wvla -Wstrict-prototypes -Wmissing-prototypes -Wno-unused-parameter \
          -Wno-missing-field-initializers
# clang 14 does not know this one.
ifeq ($(findstring clang,$(CC)),)
WARN   += -Wno-format-truncation
endif
CFLAGS_ALL  := -std=gnu17 -O2 -g $(WARN) -fstack-protector-strong -fPIE -pthread -D_GNU_SOURCE -I. -Ilib -I$(O)/gen $(PKG_CFLAGS) $(CFLAGS)
LDFLAGS_ALL := -pie -pthread -Wl,--as-needed -Wl,-z,relro,-z,now $(LDFLAGS)
ifeq ($(SAN),1)
CFLAGS_ALL  += -fsanitize=address,undefined -fno-omit-frame-pointer -fno-sanitize-recover=undefined
LDFLAGS_ALL += -fsanitize=address,undefined
else
CFLAGS_ALL  += -D_FORTIFY_SOURCE=3
endif
GEN_CFLAGS = $(filter-out -W%,$(CFLAGS_ALL))

# ---- sources ---------------------------------------------------------------------------------------------------------
SOURCES   := $(sort $(shell find lib controlplane nodeimage cloud-controller provisioner -name '*.c' \
               -not -path 'nodeimage/image/*' 2>/dev/null))
MODULES   := $(sort $(patsubst %/,%,$(dir $(filter-out %/main.c,$(SOURCES)))))
SCHEMAS   := $(sort $(wildcard api/*.schema))
PROTOS    := $(sort $(wildcard lib/grpc/proto/*.proto))
# apigen writes <schema>.c and <schema>.h for each schema, and k8s.c and k8s.h over all of them.
GEN_API_C := $(patsubst api/%.schema,$(O)/gen/api/%.c,$(SCHEMAS)) $(if $(SCHEMAS),$(O)/gen/api/k8s.c)
GEN_PB_C  := $(patsubst lib/grpc/proto/%.proto,$(O)/gen/proto/%.pb-c.c,$(PROTOS))
GEN_STAMP := $(if $(SCHEMAS),$(O)/gen/api/.stamp) $(patsubst %.c,%.h,$(GEN_PB_C))

module_objs = $(patsubst %.c,$(O)/obj/%.o,$(filter-out %/main.c,$(filter $(1)/%,$(foreach s,$(SOURCES),$(if $(filter $(1)/,$(dir $(s))),$(s))))))
module_lib  = $(O)/$(1).a

LIB_ARCHIVES := $(foreach m,$(filter lib/%,$(MODULES)),$(call module_lib,$(m))) $(O)/gen/api.a $(O)/gen/proto.a
ALL_ARCHIVES := $(foreach m,$(MODULES),$(call module_lib,$(m))) $(O)/gen/api.a $(O)/gen/proto.a

# ---- programs: name = folder of main.c; every module below that folder belongs to it -----------------------------------
DIR_etcd                    := controlplane/etcd
DIR_kube-apiserver          := controlplane/apiserver
DIR_kube-scheduler          := controlplane/scheduler
DIR_kube-controller-manager := controlplane/controller-manager
DIR_kubelet                 := nodeimage/kubelet
DIR_kube-proxy              := nodeimage/kube-proxy
DIR_kprov-network           := nodeimage/network
DIR_kprov-dns               := nodeimage/dns
DIR_kprov-vip               := nodeimage/vip
DIR_kprov-init              := nodeimage/init
DIR_cloud-controller-manager := cloud-controller
DIR_kprov-snapshots         := provisioner/keeper
DIR_kprov                   := provisioner
PROGRAMS := $(foreach p,etcd kube-apiserver kube-scheduler kube-controller-manager kubelet kube-proxy kprov-network \
              kprov-dns kprov-vip kprov-init kprov-snapshots cloud-controller-manager kprov,$(if $(wildcard $(DIR_$(p))/main.c),$(p)))
BINARIES := $(patsubst %,$(BIN)/%,$(PROGRAMS)) $(if $(wildcard nodeimage/image/pause/pause.c),$(BIN)/pause)

all: $(BINARIES)

VERSION_O := $(O)/version/$(KUBERNETES_VERSION).o
$(O)/obj/lib/base/version.o: CFLAGS_ALL += -DKP_VERSION='"$(KUBERNETES_VERSION)"'
$(VERSION_O): lib/base/version.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -DKP_VERSION='"$(KUBERNETES_VERSION)"' -c -o $@ $<
# Newer than the programs when they were linked with another version.
$(BIN)/.version: always
	@mkdir -p $(@D)
	@echo $(KUBERNETES_VERSION) | cmp -s - $@ || echo $(KUBERNETES_VERSION) > $@
always:

define program_rule
$(BIN)/$(1): $(O)/obj/$(DIR_$(1))/main.o $(foreach m,$(filter $(DIR_$(1)) $(DIR_$(1))/%,$(MODULES)),$(call module_lib,$(m))) $(LIB_ARCHIVES) $(VERSION_O) $(BIN)/.version
	@mkdir -p $$(@D)
	@echo "  LD    $$@"
	@$(CC) $(LDFLAGS_ALL) -o $$@ $$< $(VERSION_O) -Wl,--start-group $$(filter %.a,$$^) -Wl,--end-group $(LIBS_$(1)) $(PKG_LIBS) -lm
endef
$(foreach p,$(PROGRAMS),$(eval $(call program_rule,$(p))))

define module_rule
$(call module_lib,$(1)): $(call module_objs,$(1))
	@mkdir -p $$(@D)
	@rm -f $$@
	@$(AR) rcs $$@ $$^
endef
$(foreach m,$(MODULES),$(eval $(call module_rule,$(m))))

$(O)/obj/%.o: %.c | $(GEN_STAMP)
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(O)/obj/lib/cloud/external/script.o: lib/cloud/external/node.sh
# On the machines, of the same parts as kprov on the laptop.
$(BIN)/kprov-snapshots: $(foreach m,bootstrap config etcd remote snapshot state,$(call module_lib,provisioner/$(m)))
# PID 1 of every pod: static and tiny, without libc's start-up cost in pages.
$(BIN)/pause: nodeimage/image/pause/pause.c
	@mkdir -p $(@D)
	@$(CC) -std=gnu17 -Os -Wall -Wextra -Werror -static -s -o $@ $<

# ---- generated code --------------------------------------------------------------------------------------------------
$(O)/bin/apigen: $(patsubst %.c,$(O)/obj/%.o,$(wildcard api/gen/*.c)) $(O)/lib/base.a
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS_ALL) -o $@ $^ $(PKG_LIBS) -lm
$(O)/obj/api/gen/%.o: api/gen/%.c
	@mkdir -p $(@D)
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<
$(O)/obj/lib/base/%.o: lib/base/%.c
	@mkdir -p $(@D)
	@echo "  CC    $<"
	@$(CC) $(CFLAGS_ALL) -MMD -MP -c -o $@ $<

$(O)/gen/api/.stamp: $(O)/bin/apigen $(SCHEMAS)
	@mkdir -p $(@D)
	@echo "  GEN   $(O)/gen/api"
	@ASAN_OPTIONS=detect_leaks=0 $(O)/bin/apigen -o $(O)/gen/api $(SCHEMAS)
	@touch $@
$(GEN_API_C): $(O)/gen/api/.stamp ;
$(O)/gen/api/%.o: $(O)/gen/api/%.c
	@echo "  CC    $<"
	@$(CC) $(GEN_CFLAGS) -MMD -MP -c -o $@ $<
$(O)/gen/api.a: $(GEN_API_C:.c=.o)
	@mkdir -p $(@D)
	@rm -f $@
	@$(AR) rcs $@ $^
$(O)/gen/proto/%.pb-c.c $(O)/gen/proto/%.pb-c.h: lib/grpc/proto/%.proto
	@mkdir -p $(@D)
	@echo "  GEN   $<"
	@protoc-c --proto_path=lib/grpc/proto --c_out=$(O)/gen/proto $<
$(O)/gen/proto/%.o: $(O)/gen/proto/%.c | $(GEN_STAMP)
	@echo "  CC    $<"
	@$(CC) $(GEN_CFLAGS) -I$(O)/gen/proto -MMD -MP -c -o $@ $<
$(O)/gen/proto.a: $(GEN_PB_C:.c=.o)
	@mkdir -p $(@D)
	@rm -f $@
	@$(AR) rcs $@ $^

# ---- unit tests: tests/unit/**/test_*.c, one binary each, linked with every module ---------------------------------------
TEST_SRCS := $(sort $(shell find tests/unit -name 'test_*.c' 2>/dev/null))
TEST_SUPPORT := $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/support/*.c))
TEST_BINS := $(patsubst tests/unit/%.c,$(O)/tests/%,$(foreach s,$(TEST_SRCS),$(if $(or $(if $(T),,all),$(findstring $(T),$(s))),$(s))))
$(O)/tests/%: $(O)/obj/tests/unit/%.o $(TEST_SUPPORT) $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lcmocka -lm
test-unit: $(TEST_BINS)
	@BUILD=$(O) tests/run-unit $(TEST_BINS)

# ---- fault tests of the provisioner: kprov with a cloud that fails on demand, and the machines of that cloud ------------------------
FAULT_WRAPS := cloud_open cloud_driver_names cli_image_ensure cli_image_version state_journal state_journal_end kp_write_file
FAULT_LIBS := $(foreach m,$(filter provisioner provisioner/%,$(MODULES)),$(call module_lib,$(m))) $(LIB_ARCHIVES)
FAKE_CLOUD := $(patsubst %,$(O)/obj/tests/support/fake_cloud/%.o,fake_cloud services exec balancers faults power)
FAKE_MACHINE := $(patsubst %,$(O)/obj/tests/support/fake_cloud/%.o,machine machine_client machine_kubelet machine_pods machine_vip machine_leases machine_workloads machine_node)
$(O)/faults/kprov: $(O)/obj/tests/faults/kprov.o $(O)/obj/tests/faults/inspect.o $(FAKE_CLOUD) $(FAULT_LIBS)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) $(addprefix -Wl$(comma)--wrap=,$(FAULT_WRAPS)) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
$(O)/faults/fake-machine: $(FAKE_MACHINE) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
# The promises of lib/cloud/cloud.h, against every driver that can run here.
$(O)/faults/contract: $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/contract/*.c)) $(FAKE_CLOUD) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
test-contract: $(O)/faults/contract $(BINARIES)
	@BUILD=$(O) tests/contract/run
# The driver "external" alone, and what its machines run.
$(O)/faults/external: $(O)/obj/tests/faults-external/call.o $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
$(O)/faults/external-node: tests/faults-external/node.c
	@mkdir -p $(@D)
	@$(CC) -O2 -Wall -Wextra -Werror -static -o $@ $<
faults-bins: $(O)/faults/kprov $(O)/faults/fake-machine $(O)/faults/external $(O)/faults/external-node $(O)/bin/etcd $(O)/bin/kube-apiserver
# The same for the cloud-controller-manager, against a real API server.
$(O)/faults/ccm: $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/faults-ccm/*.c)) $(FAKE_CLOUD) $(FAULT_LIBS) $(foreach m,$(filter cloud-controller/%,$(MODULES)),$(call module_lib,$(m)))
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
faults-ccm: $(O)/faults/ccm $(O)/bin/etcd $(O)/bin/kube-apiserver
	@BUILD=$(O) tests/faults-ccm/run
# Every driver call fails, hangs or loses its answer, every journal entry is the last: the same command again converges.
faults: faults-bins
	@BUILD=$(O) tests/faults/clouds.sh
	@BUILD=$(O) tests/faults/run
	@BUILD=$(O) tests/faults-external/run

# ---- what the end-to-end tests bring along: tests/e2e/<name>/*.c ------------------------------------------------------------
$(O)/e2e/webhook: $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/e2e/webhook/*.c)) $(LIB_ARCHIVES)
	@mkdir -p $(@D); echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
e2e-bins: $(O)/e2e/webhook

# ---- fuzz targets: tests/fuzz/fuzz_*.c, clang's libFuzzer ----------------------------------------------------------------
FUZZ_SRCS := $(sort $(wildcard tests/fuzz/fuzz_*.c))
FUZZ_CC   ?= clang
FUZZ_O    := $(O)/fuzz
ifeq ($(FUZZING),1)
$(O)/fuzz_%: $(O)/obj/tests/fuzz/fuzz_%.o $(ALL_ARCHIVES)
	@$(CC) $(LDFLAGS_ALL) -fsanitize=fuzzer -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
fuzz-bins: $(patsubst tests/fuzz/%.c,$(O)/%,$(FUZZ_SRCS))
endif
FUZZ_MAKE = $(MAKE) --no-print-directory BUILD=$(FUZZ_O) FUZZING=1 CC="$(FUZZ_CC)" SAN=1 CFLAGS="-fsanitize=fuzzer-no-link"
fuzz:
	+@$(FUZZ_MAKE) fuzz-bins
	@BUILD=$(FUZZ_O) tests/run-fuzz $(patsubst tests/fuzz/%.c,$(FUZZ_O)/%,$(FUZZ_SRCS))

# The unit tests, linked from the same objects.
test-unit-fuzz:
	+@$(FUZZ_MAKE) test-unit

# ---- micro benchmarks: tests/bench/<name>/bench_<name>.c ----------------------------------------------------------------
$(O)/bench/etcd/load: $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/bench/etcd/load/*.c)) $(O)/lib/base.a $(O)/lib/tls.a
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
# Beside a stock etcd; BENCH_QUICK=1 is a smoke run.
bench-etcd: $(O)/bin/etcd $(O)/bench/etcd/load
	@BUILD=$(O) tests/bench/etcd/run
$(O)/bench/%: $(O)/obj/tests/bench/%.o $(ALL_ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS_ALL) -o $@ $< -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm

# ---- checkers of histories: tests/check/check_*.c, on libc alone; sim-real: members as real processes under faults -----------
CHECKERS := $(patsubst tests/check/%.c,$(O)/check/%,$(wildcard tests/check/check_*.c tests/check/make_*.c))
CHECK_OBJS := $(patsubst %.c,$(O)/obj/%.o,$(filter-out tests/check/check_%.c tests/check/make_%.c,$(wildcard tests/check/*.c)))
$(O)/check/%: $(O)/obj/tests/check/%.o $(CHECK_OBJS)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS_ALL) -o $@ $^ -lm
checkers: $(CHECKERS)
test-checkers: $(CHECKERS)
	@BUILD=$(O) tests/check/run
$(O)/sim-real/load: $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/sim-real/*.c) tests/check/history.c) $(LIB_ARCHIVES)
	@mkdir -p $(@D)
	@$(CC) $(LDFLAGS_ALL) -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -Wl,--end-group $(PKG_LIBS) -lm
sim-real: $(O)/bin/etcd $(CHECKERS) $(O)/sim-real/load
	@BUILD=$(O) tests/sim-real/run

# ---- the simulator: tests/sim, the shipped members on a simulated clock, network, disk and allocator --------------------------
# LMDB from its archive and calls by --wrap (tests/sim/wraps), so that every call a member makes can be the simulator's.
SIM_OBJS := $(patsubst %.c,$(O)/obj/%.o,$(wildcard tests/sim/*.c)) $(O)/obj/tests/check/history.o
SIM_LIBS := $(foreach m,$(filter controlplane/etcd controlplane/etcd/%,$(MODULES)),$(call module_lib,$(m))) $(LIB_ARCHIVES)
SEEDS ?= 500
$(O)/sim/sim: $(SIM_OBJS) $(SIM_LIBS) tests/sim/wraps
	@mkdir -p $(@D)
	@echo "  LD    $@"
	@$(CC) $(LDFLAGS_ALL) -Wl,@tests/sim/wraps -o $@ $(filter %.o,$^) -Wl,--start-group $(filter %.a,$^) -l:liblmdb.a -Wl,--end-group $(filter-out -llmdb,$(PKG_LIBS)) -lm
sim-bins: $(O)/sim/sim checkers
# SEED=n replays one (SIM_TRACE=1 prints it), SEEDS=n runs many from FIRST=1 on.
sim: sim-bins
	@BUILD=$(O) tests/sim/run $(if $(SEED),seed $(SEED),seeds $(or $(FIRST),1) $(SEEDS))
sim-planted: sim-bins
	@BUILD=$(O) tests/sim/run planted

# ---- the rest ------------------------------------------------------------------------------------------------------------
DEPS := build-essential ca-certificates pkg-config libuv1-dev libnghttp2-dev libssl-dev liblmdb-dev libyaml-dev libjansson-dev libprotobuf-c-dev \
        protobuf-c-compiler protobuf-compiler libnftables-dev libmnl-dev libcmocka-dev libcurl4-openssl-dev uthash-dev zlib1g-dev \
        libssh2-1-dev libcrypt-dev libseccomp-dev libvirt-dev libxml2-dev libpcre2-dev iproute2 nftables mmdebstrap curl erofs-utils lz4 \
        grub-common grub-pc-bin grub-efi-amd64-bin mtools fdisk
# The daemon and what its networks and machines run on: for --provider libvirt with machines of this host.
LIBVIRT_DEPS := libvirt-daemon-system libvirt-daemon-driver-qemu libvirt-clients qemu-system-x86 qemu-utils seabios ipxe-qemu dnsmasq-base iptables
TEST_DEPS := openssl python3 python3-grpcio python3-grpc-tools bind9-dnsutils clang libclang-rt-14-dev etcd-client npm unzip containerd runc containernetworking-plugins \
             busybox-static openssh-server dropbear-bin ovmf $(LIBVIRT_DEPS)

deps:
	@tests/install-packages $(DEPS)
test-deps: deps
	@tests/install-packages $(TEST_DEPS)

lint:
	@tests/lint/lint
	@tests/lint/test-lint
test:
	@BUILD=$(O) STAGES="$(STAGES)" tests/run-all
bench: all
	@BUILD=$(O) tests/bench/run
# A cluster on a real OpenStack: the test-bed, or the project of OS_*.
e2e-openstack: all
	@E2E_OPENSTACK=1 BUILD=$(O) tests/e2e-openstack/run
# Clusters on AWS's and Hetzner's APIs in memory, whose servers are machines here, and terraform's examples; E2E="aws terraform" picks.
e2e-clouds: all
	@BUILD=$(O) tests/e2e-clouds/run
# The API through the loss of machines, gaps measured; PROVIDER=local|libvirt picks one.
e2e-ha: all
	@for provider in $(or $(PROVIDER),local libvirt); do PROVIDER=$$provider BUILD=$(O) E2E=/ha.sh tests/e2e/run || exit 1; done
# What virtual machines live through; SECTIONS="lb day2 upgrade repair" picks.
e2e-libvirt: all
	@BUILD=$(O) E2E=/libvirt-life.sh tests/e2e/run
image: all
	@$(O)/bin/kprov image build
demo: deps
	@$(if $(filter libvirt,$(PROVIDER)),tests/install-packages $(LIBVIRT_DEPS))
	@$(MAKE) --no-print-directory -j2 all
	@BUILD=$(O) PROVIDER=$(PROVIDER) tests/demo
install: all
	@install -d $(DESTDIR)$(PREFIX)/bin $(DESTDIR)$(PREFIX)/lib/kprov/bin $(DESTDIR)$(PREFIX)/share/kprov
	@install -m 0755 $(O)/bin/kprov $(DESTDIR)$(PREFIX)/bin/kprov
	@install -m 0755 $(filter-out $(O)/bin/kprov,$(BINARIES)) $(DESTDIR)$(PREFIX)/lib/kprov/bin
	@ln -sf etcd $(DESTDIR)$(PREFIX)/lib/kprov/bin/etcdutl
	@cp -R nodeimage/image $(DESTDIR)$(PREFIX)/share/kprov/
clean:
	@rm -rf $(O)
help:
	@echo "make            build every program into build/bin"
	@echo "make deps       install the Debian packages the build needs (root)"
	@echo "make test       everything CI runs (root); STAGES=\"lint unit\" picks of: deps lint build unit fuzz check faults ccm sim real bench e2e contract"
	@echo "make test-unit  unit tests; T=part-of-a-path picks some, SAN=1 turns the sanitizers on"
	@echo "make test-unit-fuzz  the same of the fuzz targets' objects, with clang's sanitizers"
	@echo "make fuzz       every fuzz target for FUZZ_SECONDS (default 10) each"
	@echo "make lint       house rules: includes, calls, sizes, the map"
	@echo "make sim        seeds of etcd's simulator, SEEDS=500 FIRST=1, or SEED=n; sim-planted: the planted bugs"
	@echo "make sim-real   three etcd members as processes under faults, SIM_REAL_SECONDS=600 (root); test-checkers: what judges them"
	@echo "make faults     kprov against a cloud that fails, FAULTS_EVERY=5 for a slice; test-contract: what drivers promise"
	@echo "make faults-ccm the cloud-controller-manager against a cloud that fails"
	@echo "make bench-etcd our etcd beside a stock one; BENCH_QUICK=1, BENCH_TLS=1"
	@echo "make bench      memory, create to Ready, pod start; table and build/bench.json (root)"
	@echo "make e2e-openstack  a cluster on a real OpenStack: the test-bed, or the project of OS_* (root)"
	@echo "make e2e-clouds   clusters on AWS's and Hetzner's APIs in memory, whose servers are machines here; terraform; E2E=\"aws terraform\" picks (root)"
	@echo "make e2e-libvirt  virtual machines: Services' addresses, upgrades, repairs; SECTIONS=\"lb day2 upgrade repair\" picks (root)"
	@echo "make e2e-ha     the API's availability through the loss of machines; PROVIDER=local, libvirt, or both (root)"
	@echo "make demo       packages, build, node image, cluster 'demo', an application on it (root)"
	@echo "make install    DESTDIR= PREFIX=/usr/local"
	@echo "make clean"

.PHONY: all e2e-clouds e2e-openstack e2e-libvirt faults faults-bins faults-ccm test-contract always bench-etcd e2e-ha sim-real sim sim-bins sim-planted checkers test-checkers test test-unit test-unit-fuzz test-deps fuzz fuzz-bins lint bench image demo deps install clean help

-include $(shell find $(O)/obj $(O)/gen -name '*.d' 2>/dev/null)
