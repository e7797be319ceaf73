/* From the pod's spec: environment, references, resources, hosts, DNS, sandbox, security, admission, static manifests, flags. */
#include "nodeimage/kubelet/kubelet_internal.h"
#include "nodeimage/kubelet/probe_internal.h"
#include "nodeimage/kubelet/server_internal.h"
#include "tests/unit/nodeimage/kubelet/kubelet_test.h"

static int config_map(void *arg, const char *ns, const char *name, const struct k8s_config_map **ret, struct kp_error *error)
{
    void *obj = NULL;
    static const char yaml[] = "{metadata: {name: conf}, data: {a: one, b.c: two}}";
    if (!kp_streq(name, "conf"))
        return kp_fail(error, KP_ENOTFOUND, "not found");
    int rc = kp_yaml_decode(&k8s_config_map_type, yaml, sizeof(yaml) - 1, arg, NULL, &obj, error);
    *ret = obj;
    return rc;
}

static int secret(void *arg, const char *ns, const char *name, const struct k8s_secret **ret, struct kp_error *error)
{
    void *obj = NULL;
    static const char yaml[] = "{metadata: {name: sec}, data: {pw: aHVudGVyMg==}}";
    if (!kp_streq(name, "sec"))
        return kp_fail(error, KP_ENOTFOUND, "not found");
    int rc = kp_yaml_decode(&k8s_secret_type, yaml, sizeof(yaml) - 1, arg, NULL, &obj, error);
    *ret = obj;
    return rc;
}

static int make_env(struct kp_arena *arena, const char *container, struct cri_pairs *env, struct kp_error *error)
{
    struct k8s_pod *pod = pod_of(arena, kp_arena_printf(arena,
        "{metadata: {name: p, namespace: ns, uid: u, labels: {l: lv}}, spec: {containers: [{name: c, image: i, %s}]}}", container));
    void *service = NULL;
    static const char yaml[] = "{metadata: {name: my-svc, namespace: ns}, spec: {clusterIP: 10.96.0.7, ports: [{name: web, port: 80}]}}";
    assert_int_equal(kp_yaml_decode(&k8s_service_type, yaml, sizeof(yaml) - 1, arena, NULL, &service, error), 0);
    const struct k8s_service *const services[] = {service};
    struct kp_string_map allocatable = {0};
    kp_string_map_set(arena, &allocatable, "cpu", "4");
    kp_string_map_set(arena, &allocatable, "memory", "8Gi");
    struct kubelet_getter getter = {.config_map = config_map, .secret = secret, .arg = arena};
    struct kubelet_env_input in = {.pod = pod, .container = &pod->spec->containers.items[0], .getter = &getter,
                                   .allocatable = &allocatable, .services = services, .n_services = 1, .pod_ip = "10.0.0.5",
                                   .host_ip = "192.168.0.1", .node_name = "n1"};
    return kubelet_make_env(&in, arena, env, error);
}

static void environment_comes_from_everything(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct cri_pairs env;
    struct kp_error error = {0};
    int rc = make_env(arena,
        "envFrom: [{prefix: P_, configMapRef: {name: conf}}, {secretRef: {name: none, optional: true}}], "
        "resources: {limits: {memory: 64Mi}, requests: {cpu: 250m}}, "
        "env: [{name: A, value: '$(P_a)-$(NO)-$(MY_SVC_SERVICE_HOST)'}, {name: PW, valueFrom: {secretKeyRef: {name: sec, key: pw}}}, "
        "{name: L, valueFrom: {fieldRef: {fieldPath: \"metadata.labels['l']\"}}}, {name: IP, valueFrom: {fieldRef: {fieldPath: status.podIP}}}, "
        "{name: NODE, valueFrom: {fieldRef: {fieldPath: spec.nodeName}}}, {name: MEM, valueFrom: {resourceFieldRef: {resource: limits.memory, divisor: 1Mi}}}, "
        "{name: CPU, valueFrom: {resourceFieldRef: {resource: limits.cpu}}}, {name: REQ, valueFrom: {resourceFieldRef: {resource: requests.cpu, divisor: 1m}}}, "
        "{name: OPT, valueFrom: {configMapKeyRef: {name: conf, key: zz, optional: true}}}, {name: A2, value: first}, {name: A2, value: 'x$(A2)'}]",
        &env, &error);
    if (rc < 0)
        fail_msg("%s", error.message);
    static const char *const expected[][2] = {
        {"A", "one-$(NO)-10.96.0.7"}, {"P_a", "one"}, {"P_b.c", "two"}, {"PW", "hunter2"}, {"L", "lv"}, {"IP", "10.0.0.5"},
        {"NODE", "n1"}, {"MEM", "64"}, {"CPU", "4"}, {"REQ", "250"}, {"A2", "xfirst"}, {"MY_SVC_SERVICE_PORT_WEB", "80"},
        {"MY_SVC_PORT_80_TCP", "tcp://10.96.0.7:80"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(expected); i++)
        assert_string_equal(cri_pairs_get(&env, expected[i][0]), expected[i][1]);
    assert_null(cri_pairs_get(&env, "OPT"));
    kp_arena_free(arena);
}

static void missing_references_are_named(void **state)
{
    static const char *const rows[][2] = {
        {"env: [{name: X, valueFrom: {configMapKeyRef: {name: none, key: k}}}]", "configmap \"none\" not found"},
        {"env: [{name: X, valueFrom: {configMapKeyRef: {name: conf, key: k}}}]", "couldn't find key k in ConfigMap ns/conf"},
        {"envFrom: [{secretRef: {name: none}}]", "secret \"none\" not found"},
        {"env: [{name: X, valueFrom: {fieldRef: {fieldPath: spec.nothing}}}]", "unsupported fieldPath: spec.nothing"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct kp_arena *arena = kp_arena_new(0);
        struct cri_pairs env;
        struct kp_error error = {0};
        assert_true(make_env(arena, rows[i][0], &env, &error) < 0);
        assert_string_equal(error.message, rows[i][1]);
        kp_arena_free(arena);
    }
}

static void cpu_and_memory_become_cgroup_numbers(void **state)
{
    assert_int_equal(kubelet_cpu_shares(0), 2);
    assert_int_equal(kubelet_cpu_shares(1000), 1024);
    assert_int_equal(kubelet_cpu_quota(500, 100000), 50000);
    assert_int_equal(kubelet_cpu_quota(1, 100000), 1000);
    struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *pod = pod_of(arena, "{metadata: {name: p}, spec: {containers: [{name: c, image: i, resources: {limits: {cpu: 500m, memory: 64Mi}}}]}}");
    struct cri_resources r;
    kubelet_container_resources(pod, &pod->spec->containers.items[0], (int64_t)1 << 30, &r);
    assert_int_equal(r.cpu_shares, 512); /* the limit stands in for the request */
    assert_int_equal(r.cpu_quota, 50000);
    assert_int_equal(r.memory_limit_bytes, 64 << 20);
    assert_int_equal(r.oom_score_adj, -997);
    pod = pod_of(arena, "{metadata: {name: p}, spec: {containers: [{name: c, image: i, resources: {requests: {memory: 512Mi}}}]}}");
    kubelet_container_resources(pod, &pod->spec->containers.items[0], (int64_t)1 << 30, &r);
    assert_int_equal(r.oom_score_adj, 500);
    assert_string_equal(kubelet_qos_class(pod), "Burstable");
    kp_arena_free(arena);
}

static void requests_count_init_and_sidecar_containers(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *pod = pod_of(arena,
        "{metadata: {name: p}, spec: {initContainers: [{name: s, image: i, restartPolicy: Always, resources: {requests: {cpu: 100m}}}, "
        "{name: i, image: i, resources: {requests: {cpu: 900m}}}], containers: [{name: a, image: i, resources: {requests: {cpu: 300m}}}, "
        "{name: b, image: i, resources: {requests: {cpu: 200m}}}]}}");
    struct kp_string_map sum;
    kubelet_pod_requests(pod, arena, &sum);
    assert_int_equal(kp_quantity_str_milli(kp_string_map_get(&sum, "cpu")), 1000);
    kp_arena_free(arena);
}

static void node_refuses_what_does_not_fit(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *pod = pod_of(arena, "{metadata: {name: p}, spec: {containers: [{name: a, image: i, resources: {requests: {cpu: 600m}}}]}}");
    struct kp_string_map allocatable = {0}, others = {0}, labels = {0};
    kp_string_map_set(arena, &allocatable, "cpu", "1");
    kp_string_map_set(arena, &allocatable, "pods", "2");
    kp_string_map_set(arena, &others, "cpu", "400m");
    struct kubelet_admission verdict;
    kubelet_admit(pod, &allocatable, &others, 1, &labels, arena, &verdict);
    assert_true(verdict.ok);
    kp_string_map_set(arena, &others, "cpu", "500m");
    kubelet_admit(pod, &allocatable, &others, 1, &labels, arena, &verdict);
    assert_string_equal(verdict.reason, "OutOfcpu");
    assert_string_equal(verdict.message,
                        "Pod was rejected: Node didn't have enough resource: cpu, requested: 600, used: 500, capacity: 1000");
    kubelet_admit(pod, &allocatable, &labels, 2, &labels, arena, &verdict);
    assert_string_equal(verdict.reason, "OutOfpods");
    kp_string_map_set(arena, &pod->spec->node_selector, "disk", "ssd");
    kubelet_admit(pod, &allocatable, &labels, 0, &labels, arena, &verdict);
    assert_string_equal(verdict.reason, "NodeAffinity");
    kp_arena_free(arena);
}

static void hosts_file_names_the_pod_and_its_aliases(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *pod = pod_of(arena, "{metadata: {name: p}, spec: {hostAliases: [{ip: 1.2.3.4, hostnames: [foo, bar]}], containers: [{name: a, image: i}]}}");
    const char *const ips[] = {"10.0.0.5"};
    struct kp_buf out = {0};
    kubelet_hosts_file(&out, pod, ips, 1, "p", "sub.ns.svc.cluster.local", NULL);
    assert_non_null(strstr(out.data, "# Kubernetes-managed hosts file.\n127.0.0.1\tlocalhost\n"));
    assert_non_null(strstr(out.data, "10.0.0.5\tp.sub.ns.svc.cluster.local\tp\n"));
    assert_true(kp_ends_with(out.data, "\n# Entries added by HostAliases.\n1.2.3.4\tfoo\tbar\n"));
    kp_buf_done(&out);
    kp_arena_free(arena);
}

static void dns_policy_chooses_the_resolver(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    static const char node_text[] = "nameserver 8.8.8.8\nsearch home.example";
    struct kubelet_dns node, dns;
    const char *const cluster[] = {"10.96.0.10"};
    kubelet_dns_parse(arena, node_text, sizeof(node_text) - 1, &node);
    struct kubelet_dns_input in = {.cluster_servers = cluster, .n_cluster_servers = 1, .cluster_domain = "cluster.local", .node = &node};
    struct k8s_pod *pod = pod_of(arena, "{metadata: {name: p, namespace: ns}, spec: {containers: [{name: a, image: i}], dnsConfig: {searches: [own.example], options: [{name: ndots, value: '2'}]}}}");
    kubelet_pod_dns(pod, &in, arena, &dns);
    assert_string_equal(dns.servers[0], "10.96.0.10");
    assert_string_equal(dns.searches[0], "ns.svc.cluster.local");
    assert_string_equal(dns.searches[3], "home.example");
    assert_string_equal(dns.searches[4], "own.example");
    assert_string_equal(dns.options[0], "ndots:2");
    pod->spec->host_network = true; /* ClusterFirst falls back to the node's */
    kubelet_pod_dns(pod, &in, arena, &dns);
    assert_string_equal(dns.servers[0], "8.8.8.8");
    pod->spec->dns_policy = "None";
    kubelet_pod_dns(pod, &in, arena, &dns);
    assert_int_equal(dns.n_servers, 0);
    kp_arena_free(arena);
}

static void sandbox_takes_namespaces_ports_and_labels(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *pod = pod_of(arena,
        "{metadata: {name: p, namespace: ns, uid: u, labels: {app: x}}, spec: {shareProcessNamespace: true, hostIPC: true, "
        "securityContext: {sysctls: [{name: kernel.shm_rmid_forced, value: '1'}]}, "
        "containers: [{name: a, image: i, ports: [{containerPort: 53, hostPort: 5353, protocol: UDP, hostIP: 127.0.0.1}, {containerPort: 80}]}]}}");
    struct cri_sandbox_config c;
    struct kubelet_dns_input dns = {0};
    kubelet_sandbox_config(pod, 3, &dns, "p", "crun", 0, arena, &c);
    assert_int_equal(c.attempt, 3);
    assert_int_equal(c.n_ports, 1);
    assert_int_equal(c.ports[0].protocol, CRI_UDP);
    assert_string_equal(c.ports[0].host_ip, "127.0.0.1");
    assert_int_equal(c.security.pid, CRI_NS_POD);
    assert_int_equal(c.security.ipc, CRI_NS_NODE);
    assert_string_equal(c.cgroup_parent, "/kubepods/besteffort/podu");
    assert_string_equal(c.log_directory, "/var/log/pods/ns_p_u");
    assert_string_equal(cri_pairs_get(&c.labels, KUBELET_LABEL_POD_UID), "u");
    assert_string_equal(cri_pairs_get(&c.labels, "app"), "x");
    assert_string_equal(cri_pairs_get(&c.sysctls, "kernel.shm_rmid_forced"), "1");
    kp_arena_free(arena);
}

static void security_of_container_overrides_the_pods(void **state)
{
    struct kp_arena *arena = kp_arena_new(0);
    struct k8s_pod *pod = pod_of(arena,
        "{metadata: {name: p, namespace: ns, uid: u}, spec: {securityContext: {runAsUser: 1000, fsGroup: 2000, supplementalGroups: [5], seccompProfile: {type: RuntimeDefault}}, "
        "containers: [{name: a, image: i, securityContext: {runAsUser: 7, allowPrivilegeEscalation: false, readOnlyRootFilesystem: true, capabilities: {add: [NET_ADMIN], drop: [ALL]}}}, "
        "{name: b, image: i, securityContext: {runAsNonRoot: true, runAsUser: 0}}, {name: c, image: i, securityContext: {privileged: true}}]}}");
    struct cri_security s;
    struct kp_error error = {0};
    assert_int_equal(kubelet_container_security(pod, &pod->spec->containers.items[0], NULL, NULL, arena, &s, &error), 0);
    assert_int_equal(s.run_as_user, 7);
    assert_true(s.no_new_privs && s.readonly_rootfs && s.mask_proc);
    assert_int_equal(s.n_supplemental_groups, 2);
    assert_int_equal(s.seccomp, CRI_SECCOMP_RUNTIME_DEFAULT);
    assert_string_equal(s.drop_capabilities.items[0], "ALL");
    assert_true(kubelet_container_security(pod, &pod->spec->containers.items[1], NULL, NULL, arena, &s, &error) < 0);
    assert_true(kp_starts_with(error.message, "container's runAsUser breaks non-root policy"));
    assert_int_equal(kubelet_container_security(pod, &pod->spec->containers.items[2], NULL, NULL, arena, &s, &error), 0);
    assert_true(s.privileged && !s.mask_proc);
    kp_arena_free(arena);
}

static void image_names_are_completed(void **state)
{
    static const char *const rows[][2] = {
        {"nginx", "docker.io/library/nginx:latest"}, {"a/b:1", "docker.io/a/b:1"}, {"localhost/x", "localhost/x:latest"},
        {"r.example:5000/x/y@sha256:0a", "r.example:5000/x/y@sha256:0a"}, {"Bad Name", NULL}, {"", NULL}, {"UPPER/x", NULL}};
    struct kp_arena *arena = kp_arena_new(0);
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        const char *name = kubelet_image_normalize(rows[i][0], arena);
        if (rows[i][1])
            assert_string_equal(name, rows[i][1]);
        else
            assert_null(name);
    }
    assert_true(kubelet_image_tag_latest("r:5000/x"));
    assert_false(kubelet_image_tag_latest("x:1"));
    kp_arena_free(arena);
}

static void probe_counts_to_its_thresholds(void **state)
{
    struct k8s_probe spec = {.failure_threshold = 2, .success_threshold = 2, .period_seconds = 3};
    struct kubelet_probe_core core;
    kubelet_probe_init(&core, KUBELET_READINESS, &spec);
    assert_int_equal(core.period_ms, 3000);
    assert_int_equal(core.timeout_ms, 1000);
    assert_false(kubelet_probe_count(&core, true));
    assert_true(kubelet_probe_count(&core, true));
    assert_false(kubelet_probe_count(&core, false));
    assert_false(kubelet_probe_count(&core, true)); /* the count of failures begins anew */
    assert_false(kubelet_probe_count(&core, false));
    assert_true(kubelet_probe_count(&core, false));
    kubelet_probe_init(&core, KUBELET_LIVENESS, &spec);
    assert_int_equal(core.result, KUBELET_PROBE_SUCCESS);
    kubelet_probe_count(&core, false);
    assert_true(kubelet_probe_count(&core, false));
    assert_true(core.settled);
}

static void static_manifest_becomes_a_pod_of_this_node(void **state)
{
    static const char text[] = "apiVersion: v1\nkind: Pod\nmetadata: {name: etcd, namespace: kube-system}\nspec: {containers: [{name: e, image: i}]}\n";
    struct kubelet_pod *a, *b;
    struct kp_error error = {0};
    assert_int_equal(kubelet_static_parse("/m/e.yaml", text, sizeof(text) - 1, "n1", &a, &error), 0);
    assert_string_equal(a->name, "etcd-n1");
    assert_int_equal(strlen(a->uid), 32);
    assert_string_equal(kp_string_map_get(&a->data->metadata->annotations, KUBELET_ANNOTATION_CONFIG_HASH), a->uid);
    assert_string_equal(a->data->spec->restart_policy, "Always");
    assert_int_equal(kubelet_static_parse("/m/e.yaml", text, sizeof(text) - 2, "n1", &b, &error), 0);
    assert_string_not_equal(a->uid, b->uid);
    assert_true(kubelet_pod_critical(a->data));
    kubelet_pod_unref(a);
    kubelet_pod_unref(b);
    static const char *const bad[] = {"kind: Pod", "apiVersion: v1\nkind: Service\nmetadata: {name: x}",
                                      "apiVersion: v1\nkind: Pod\nmetadata: {name: x}\nspec: {nope: 1, containers: [{name: c}]}",
                                      "apiVersion: v1\nkind: Pod\nmetadata: {}\nspec: {containers: [{name: c}]}", "{"};
    for (size_t i = 0; i < KP_ARRAY_LEN(bad); i++)
        assert_true(kubelet_static_parse("/m/e.yaml", bad[i], strlen(bad[i]), "n1", &b, &error) < 0);
}

static void configuration_file_and_flags_are_checked(void **state)
{
    struct kubelet_config config = {.arena = kp_arena_new(0)};
    struct kp_error error = {0};
    static const char good[] = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nstaticPodPath: /m\nmaxPods: 5\n"
                               "clusterDNS: [10.96.0.10]\nauthentication: {anonymous: {enabled: false}, x509: {clientCAFile: /ca}}\n"
                               "containerLogMaxSize: 1Mi\nnodeStatusUpdateFrequency: 4s\nsystemReserved: {cpu: 100m}\n"
                               "evictionHard: {memory.available: 5%}\nevictionPressureTransitionPeriod: 30s\nmergeDefaultEvictionSettings: true\n";
    assert_int_equal(kubelet_config_parse(good, sizeof(good) - 1, &config, &error), 0);
    assert_string_equal(config.pod_manifest_path, "/m");
    assert_string_equal(config.client_ca_file, "/ca");
    assert_int_equal(config.pods_max, 5);
    assert_int_equal(config.container_log_bytes_max, 1 << 20);
    assert_int_equal(config.status_frequency_s, 4);
    assert_string_equal(config.cluster_dns[0], "10.96.0.10");
    assert_int_equal(config.eviction.transition_s, 30);
    assert_int_equal(eviction_reserved(&config.eviction, EVICTION_MEMORY, 1000), 50);
    assert_int_equal(config.eviction.len, 5);
    static const char bad_share[] = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nevictionHard: {memory.available: 500%}\n";
    assert_true(kubelet_config_parse(bad_share, sizeof(bad_share) - 1, &config, &error) < 0);
    assert_non_null(strstr(error.message, "evictionHard: memory.available: 500%"));
    static const char bad[] = "apiVersion: kubelet.config.k8s.io/v1beta1\nkind: KubeletConfiguration\nauthentication: {x509: {nope: 1}}\n";
    assert_true(kubelet_config_parse(bad, sizeof(bad) - 1, &config, &error) < 0);
    assert_non_null(strstr(error.message, "unknown field \"authentication.x509.nope\""));
    struct kp_string_map labels = {0};
    struct k8s_taint_items taints = {0};
    assert_int_equal(kubelet_parse_labels("a=b,x.example/c=", config.arena, &labels, &error), 0);
    assert_int_equal(labels.len, 2);
    assert_true(kubelet_parse_labels("novalue", config.arena, &labels, &error) < 0);
    assert_int_equal(kubelet_parse_taints("k=v:NoSchedule,k2:NoExecute", config.arena, &taints, &error), 0);
    assert_string_equal(taints.items[1].effect, "NoExecute");
    assert_true(kubelet_parse_taints("k=v:Sometimes", config.arena, &taints, &error) < 0);
    kubelet_config_done(&config);
}

static void server_paths_map_to_node_subresources(void **state)
{
    assert_string_equal(kubelet_auth_subresource("/metrics/resource"), "metrics");
    assert_string_equal(kubelet_auth_subresource("/stats/summary"), "stats");
    assert_string_equal(kubelet_auth_subresource("/exec/ns/p/c"), "proxy");
    assert_string_equal(kubelet_auth_subresource("/podsx"), "proxy");
    struct kp_arena *arena = kp_arena_new(0);
    struct kubelet_target t;
    assert_true(kubelet_target_parse("/exec/ns/p/uid/c", true, arena, &t));
    assert_string_equal(t.container, "c");
    assert_string_equal(t.uid, "uid");
    assert_true(kubelet_target_parse("/portForward/ns/p", false, arena, &t));
    assert_false(kubelet_target_parse("/exec/ns/p", true, arena, &t));
    assert_false(kubelet_target_parse("/exec/a/b/c/d/e", true, arena, &t));
    kp_arena_free(arena);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(environment_comes_from_everything),
        cmocka_unit_test(missing_references_are_named),
        cmocka_unit_test(cpu_and_memory_become_cgroup_numbers),
        cmocka_unit_test(requests_count_init_and_sidecar_containers),
        cmocka_unit_test(node_refuses_what_does_not_fit),
        cmocka_unit_test(hosts_file_names_the_pod_and_its_aliases),
        cmocka_unit_test(dns_policy_chooses_the_resolver),
        cmocka_unit_test(sandbox_takes_namespaces_ports_and_labels),
        cmocka_unit_test(security_of_container_overrides_the_pods),
        cmocka_unit_test(image_names_are_completed),
        cmocka_unit_test(probe_counts_to_its_thresholds),
        cmocka_unit_test(static_manifest_becomes_a_pod_of_this_node),
        cmocka_unit_test(configuration_file_and_flags_are_checked),
        cmocka_unit_test(server_paths_map_to_node_subresources),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
