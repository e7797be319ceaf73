/* Certificate signing requests: approves what nodes may ask for by themselves and signs what is approved. */
#include "controlplane/controller-manager/controllers.h"
#include "lib/tls/tls.h"

#define SIGNER_CLIENT "kubernetes.io/kube-apiserver-client"
#define SIGNER_KUBELET_CLIENT "kubernetes.io/kube-apiserver-client-kubelet"
#define SIGNER_KUBELET_SERVING "kubernetes.io/kubelet-serving"
#define NODE_PREFIX "system:node:"
#define NODE_GROUP "system:nodes"
#define CSR_APPROVED_KEEP_S 3600      /* upstream's cleaner: approved 1 h, denied 1 h, pending 24 h */
#define CSR_PENDING_KEEP_S (24 * 3600)

static const struct k8s_certificate_signing_request_condition *find(const struct k8s_certificate_signing_request *csr, const char *type)
{
    for (size_t i = 0; i < csr->status->conditions.len; i++)
        if (kp_streq(csr->status->conditions.items[i].type, type))
            return &csr->status->conditions.items[i];
    return NULL;
}

static const struct k8s_certificate_signing_request *get(const struct plan_input *in)
{
    return client_view_get(in->view, engine_cache(in->engine, &k8s_certificatesigningrequests_resource), "", in->name);
}

static bool usages_within(const struct k8s_certificate_signing_request *csr, const char *needed)
{
    static const char *const allowed[] = {"digital signature", "key encipherment"};
    bool has = false;
    for (size_t i = 0; i < csr->spec->usages.len; i++) {
        const char *usage = csr->spec->usages.items[i];
        if (kp_streq(usage, needed))
            has = true;
        else if (!kp_streq(usage, allowed[0]) && !kp_streq(usage, allowed[1]))
            return false;
    }
    return has;
}

/* The rules of the two kubelet signers: subject O=system:nodes, CN=system:node:<name>, usages, SANs. NULL when they hold,
   else what is wrong. */
static const char *kubelet_fault(const struct k8s_certificate_signing_request *csr, const struct tls_csr *parsed, bool serving)
{
    const struct tls_cert_info *info = tls_csr_info(parsed);
    if (info->organization_count != 1 || !kp_streq(info->organizations[0], NODE_GROUP))
        return "subject organization is not system:nodes";
    if (!kp_starts_with(info->common_name, NODE_PREFIX))
        return "subject common name does not begin with system:node:";
    if (!usages_within(csr, serving ? "server auth" : "client auth"))
        return "usages did not match";
    if (tls_csr_other_names(parsed))
        return "URI and email SANs are not allowed";
    if (serving && info->dns_name_count + info->ip_address_count == 0)
        return "DNS or IP subjectAltName is required";
    if (!serving && info->dns_name_count + info->ip_address_count > 0)
        return "DNS and IP SANs are not allowed";
    return NULL;
}

static bool node_has_address(const struct k8s_node *node, const char *address)
{
    for (size_t i = 0; i < node->status->addresses.len; i++)
        if (kp_streq(node->status->addresses.items[i].address, address))
            return true;
    return kp_streq(node->metadata->name, address);
}

/* A node may have certificates for itself only: the requester is the subject, and a serving certificate names no address
   that the Node object does not have. */
static bool may_approve(const struct plan_input *in, const struct k8s_certificate_signing_request *csr, const struct tls_csr *parsed,
                        bool serving, bool *ret_wait)
{
    const struct tls_cert_info *info = tls_csr_info(parsed);
    if (!kp_streq(csr->spec->username, info->common_name) || !kp_string_list_has(&csr->spec->groups, NODE_GROUP))
        return false;
    if (!serving)
        return true;
    const struct k8s_node *node = client_view_get(in->view, engine_cache(in->engine, &k8s_nodes_resource), "", info->common_name + strlen(NODE_PREFIX));
    if (!node) {
        *ret_wait = true; /* registration is on the way */
        return false;
    }
    for (size_t i = 0; i < info->dns_name_count; i++)
        if (!node_has_address(node, info->dns_names[i]))
            return false;
    for (size_t i = 0; i < info->ip_address_count; i++)
        if (!node_has_address(node, info->ip_addresses[i])) {
            *ret_wait = node->status->addresses.len == 0;
            return false;
        }
    return true;
}

static int plan_approve(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct k8s_certificate_signing_request *csr = get(in);
    if (!csr)
        return 0;
    bool decided = find(csr, "Approved") || find(csr, "Denied") || find(csr, "Failed");
    int64_t age_s = in->now_s - csr->metadata->creation_timestamp.seconds;
    int64_t keep_s = decided ? CSR_APPROVED_KEEP_S : CSR_PENDING_KEEP_S;
    if (age_s > keep_s) {
        plan_delete(plan, &k8s_certificatesigningrequests_resource, "", in->name, csr->metadata->uid, -1, NULL);
        return 0;
    }
    plan_requeue_after_ms(plan, (keep_s - age_s + 1) * 1000);
    bool serving = kp_streq(csr->spec->signer_name, SIGNER_KUBELET_SERVING);
    if (decided || (!serving && !kp_streq(csr->spec->signer_name, SIGNER_KUBELET_CLIENT)))
        return 0;
    KP_AUTO(tls_csr_free) struct tls_csr *parsed = NULL;
    struct kp_error bad = {0};
    if (tls_csr_from_pem((const char *)csr->spec->request.data, csr->spec->request.len, &parsed, &bad) < 0)
        return 0; /* left for a human to deny, as upstream does */
    bool wait = false;
    if (kubelet_fault(csr, parsed, serving) || !may_approve(in, csr, parsed, serving, &wait)) {
        if (wait)
            plan_requeue_after_ms(plan, 500);
        return 0;
    }
    struct k8s_certificate_signing_request *copy = KP_OBJECT_CLONE(in->arena, k8s_certificate_signing_request, csr);
    struct k8s_certificate_signing_request_condition *condition = KP_LIST_ADD(in->arena, &copy->status->conditions);
    condition->type = "Approved";
    condition->status = "True";
    condition->reason = "AutoApproved";
    condition->message = serving ? "Auto approving kubelet serving certificate: the names are those of the requesting node."
                                 : "Auto approving kubelet client certificate after SubjectAccessReview.";
    condition->last_update_time = condition->last_transition_time = KP_TIME_OF(in->now_s);
    plan_update_sub(plan, &k8s_certificatesigningrequests_resource, "approval", copy);
    return 0;
}

static int setup_approve(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    engine_informer(engine, &k8s_nodes_resource);
    engine_watch(run, &k8s_certificatesigningrequests_resource, engine_map_self);
    return 0;
}

const struct controller csr_approving_controller = {
    .name = "certificatesigningrequest-approving-controller", .setup = setup_approve, .plan = plan_approve,
};

/* ---- signing --------------------------------------------------------------------------------------------------------------- */
struct signer {
    struct tls_cert *cert;
    struct tls_key *key;
};

static void fail_csr(const struct plan_input *in, struct plan *plan, const struct k8s_certificate_signing_request *csr, const char *message)
{
    struct k8s_certificate_signing_request *copy = KP_OBJECT_CLONE(in->arena, k8s_certificate_signing_request, csr);
    struct k8s_certificate_signing_request_condition *condition = KP_LIST_ADD(in->arena, &copy->status->conditions);
    condition->type = "Failed";
    condition->status = "True";
    condition->reason = "SignerValidationFailure";
    condition->message = message;
    condition->last_update_time = condition->last_transition_time = KP_TIME_OF(in->now_s);
    plan_update_status(plan, &k8s_certificatesigningrequests_resource, copy);
}

static unsigned usage_bits(const struct k8s_certificate_signing_request *csr)
{
    static const struct {
        const char *name;
        unsigned bit;
    } names[] = {
        {"server auth", TLS_USAGE_SERVER},
        {"client auth", TLS_USAGE_CLIENT},
        {"digital signature", TLS_USAGE_DIGITAL_SIGNATURE},
        {"key encipherment", TLS_USAGE_KEY_ENCIPHERMENT},
    };
    unsigned bits = 0;
    for (size_t i = 0; i < csr->spec->usages.len; i++)
        for (size_t k = 0; k < KP_ARRAY_LEN(names); k++)
            if (kp_streq(csr->spec->usages.items[i], names[k].name))
                bits |= names[k].bit;
    return bits;
}

static int plan_sign(const struct plan_input *in, struct plan *plan, struct kp_error *error)
{
    const struct signer *signer = in->state;
    const struct k8s_certificate_signing_request *csr = get(in);
    if (!csr || !signer || !find(csr, "Approved") || find(csr, "Denied") || find(csr, "Failed") || csr->status->certificate.len)
        return 0;
    bool serving = kp_streq(csr->spec->signer_name, SIGNER_KUBELET_SERVING);
    bool kubelet = serving || kp_streq(csr->spec->signer_name, SIGNER_KUBELET_CLIENT);
    if (!kubelet && !kp_streq(csr->spec->signer_name, SIGNER_CLIENT))
        return 0;
    KP_AUTO(tls_csr_free) struct tls_csr *parsed = NULL;
    if (tls_csr_from_pem((const char *)csr->spec->request.data, csr->spec->request.len, &parsed, error) < 0) {
        fail_csr(in, plan, csr, kp_arena_strdup(in->arena, error->message));
        return 0;
    }
    const char *fault = kubelet ? kubelet_fault(csr, parsed, serving)
                        : !usages_within(csr, "client auth") ? "usages did not match"
                        : kp_string_list_has(&(const struct kp_string_list){(const char **)tls_csr_info(parsed)->organizations, tls_csr_info(parsed)->organization_count}, "system:masters")
                            ? "the signer does not sign certificates of group system:masters"
                            : NULL;
    if (fault) {
        fail_csr(in, plan, csr, fault);
        return 0;
    }
    int64_t lifetime_s = engine_config(in->engine)->cluster_signing_duration_s;
    if (csr->spec->has_expiration_seconds && csr->spec->expiration_seconds < lifetime_s)
        lifetime_s = KP_MAX((int64_t)600, (int64_t)csr->spec->expiration_seconds);
    const struct tls_cert_options options = {.usages = usage_bits(csr), .lifetime_s = lifetime_s};
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    if (tls_csr_sign(parsed, &options, signer->cert, signer->key, &cert, error) < 0)
        return error->code;
    KP_AUTO_BUF struct kp_buf pem = {0};
    tls_cert_to_pem(cert, &pem);
    struct k8s_certificate_signing_request *copy = KP_OBJECT_CLONE(in->arena, k8s_certificate_signing_request, csr);
    copy->status->certificate = (struct kp_bytes){kp_arena_memdup(in->arena, pem.data, pem.len), pem.len};
    plan_update_status(plan, &k8s_certificatesigningrequests_resource, copy);
    return 0;
}

static int setup_sign(struct engine *engine, struct controller_run *run, void **ret_state, struct kp_error *error)
{
    const struct engine_config *config = engine_config(engine);
    if (!config->signing_cert_pem || !config->signing_key_pem)
        return 0;
    struct signer *signer = kp_calloc(1, sizeof(*signer));
    *ret_state = signer;
    if (tls_cert_from_pem(config->signing_cert_pem, strlen(config->signing_cert_pem), &signer->cert, error) < 0 ||
        tls_key_from_pem(config->signing_key_pem, strlen(config->signing_key_pem), &signer->key, error) < 0)
        return kp_wrap(error, "--cluster-signing-cert-file or --cluster-signing-key-file");
    engine_watch(run, &k8s_certificatesigningrequests_resource, engine_map_self);
    return 0;
}

static void free_signer(void *p)
{
    struct signer *signer = p;
    tls_cert_unref(signer->cert);
    tls_key_unref(signer->key);
    free(signer);
}

const struct controller csr_signing_controller = {
    .name = "certificatesigningrequest-signing-controller", .setup = setup_sign, .plan = plan_sign, .teardown = free_signer,
};
