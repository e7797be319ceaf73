/* Certificates wherever a cluster keeps them: kprov's state, and the machines' folders. */
#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/cli/cli.h"

#define TEXT_MAX ((size_t)1 << 20) /* of one machine */
#define PEM_BEGIN "-----BEGIN CERTIFICATE-----"

static void add(struct kp_arena *arena, struct cli_certificate_list *list, const char *where, const char *pem, size_t len)
{
    KP_AUTO(tls_cert_unref) struct tls_cert *cert = NULL;
    struct kp_error error = {0};
    if (tls_cert_from_pem(pem, len, &cert, &error) < 0) {
        kp_string_list_add(arena, &list->problems, kp_arena_printf(arena, "%s: %s", where, error.message));
        return;
    }
    const struct tls_cert_info *info = tls_cert_info(cert);
    struct cli_certificate *item = KP_LIST_ADD(arena, list);
    *item = (struct cli_certificate){
        .where = kp_arena_strdup(arena, where), .subject = kp_arena_strdup(arena, info->common_name), .not_after_s = info->not_after_s,
        .ca = info->is_ca, .issuer = kp_arena_strdup(arena, info->issuer_common_name), .fingerprint = kp_arena_strdup(arena, info->fingerprint_sha256),
    };
}

/* A kubeconfig's "client-certificate-data: BASE64" line. */
static void add_encoded(struct kp_arena *arena, struct cli_certificate_list *list, const char *where, const char *text, size_t len)
{
    static const char key[] = "client-certificate-data:";
    const char *at = memmem(text, len, key, strlen(key));
    KP_AUTO_BUF struct kp_buf pem = {0};
    if (!at)
        return;
    at += strlen(key);
    at += strspn(at, " \"");
    size_t n = strspn(at, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=");
    if (kp_base64_decode(&pem, at, n) < 0 || !pem.data)
        kp_string_list_add(arena, &list->problems, kp_arena_printf(arena, "%s: its client certificate is no base64", where));
    else
        add(arena, list, where, pem.data, pem.len);
}

void cli_certificates_parse(const char *machine, const char *text, size_t len, struct kp_arena *arena, struct cli_certificate_list *ret)
{
    const char *copy = kp_arena_strndup(arena, text, len);
    for (const char *at = kp_starts_with(copy, "## ") ? copy : NULL; at;) {
        const char *line_end = at + strcspn(at, "\n");
        const char *next = strstr(line_end, "\n## ");
        size_t body = next ? (size_t)(next - line_end) : strlen(line_end);
        const char *where = kp_arena_printf(arena, "%s:%.*s", machine, (int)(line_end - at - 3), at + 3);
        if (memmem(line_end, body, PEM_BEGIN, strlen(PEM_BEGIN)))
            add(arena, ret, where, line_end, body);
        else
            add_encoded(arena, ret, where, line_end, body);
        at = next ? next + 1 : NULL;
    }
}

static int compare_ends(const void *a, const void *b)
{
    const struct cli_certificate *x = a, *y = b;
    return x->not_after_s != y->not_after_s ? (x->not_after_s < y->not_after_s ? -1 : 1) : strcmp(x->where, y->where);
}

static int add_state(const struct state_cluster *cluster, struct kp_arena *arena, struct cli_certificate_list *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    KP_AUTO_BUF struct kp_buf kubeconfig = {0};
    KP_AUTO(pki_free) struct pki *pki = NULL;
    int r = state_read_file(cluster->name, "pki.json", &text, error);
    if (r == 0)
        r = pki_parse(text.data ? text.data : "", text.len, &pki, error);
    if (r < 0)
        return r == KP_ENOTFOUND ? 0 : r; /* it was not made yet */
    const struct {
        const char *where;
        const struct pki_ca *ca;
    } cas[] = {{"state:ca", &pki->ca}, {"state:etcd-ca", &pki->etcd_ca}, {"state:front-proxy-ca", &pki->front_proxy_ca}};
    for (size_t i = 0; i < KP_ARRAY_LEN(cas); i++) {
        KP_AUTO_BUF struct kp_buf pem = {0};
        tls_cert_to_pem(cas[i].ca->cert, &pem);
        add(arena, ret, cas[i].where, pem.data, pem.len);
    }
    r = state_read_file(cluster->name, "admin.conf", &kubeconfig, error);
    if (r == 0 && kubeconfig.data)
        add_encoded(arena, ret, "state:admin.conf", kubeconfig.data, kubeconfig.len);
    return r == KP_ENOTFOUND ? 0 : r;
}

int cli_certificates(const struct state_cluster *cluster, struct cloud *cloud, const struct cloud_machine_list *machines,
                     struct kp_arena *arena, struct cli_certificate_list *ret, struct kp_error *error)
{
    static const char *const script =
        "for f in /etc/kubernetes/pki/*.crt /etc/kubernetes/pki/etcd/*.crt /var/lib/kubelet/pki/*.crt /var/lib/kubelet/pki/*-current.pem; do"
        " [ -e \"$f\" ] && echo \"## $f\" && sed -n '/BEGIN CERTIFICATE/,/END CERTIFICATE/p' \"$f\"; done;"
        " for f in /etc/kubernetes/*.conf; do [ -e \"$f\" ] && echo \"## $f\" && grep client-certificate-data: \"$f\"; done; exit 0";
    static const char *const argv[] = {"sh", "-c", script, NULL};
    *ret = (struct cli_certificate_list){0};
    int r = add_state(cluster, arena, ret, error);
    for (size_t i = 0; r == 0 && i < machines->len; i++) {
        const struct cloud_machine *machine = &machines->items[i];
        KP_AUTO_BUF struct kp_buf text = {0};
        struct kp_error problem = {0};
        if (machine->power != CLOUD_POWER_ON)
            kp_string_list_add(arena, &ret->problems, kp_arena_printf(arena, "%s is off", machine->name));
        else if (cli_exec_output(cloud, cluster->uid, machine->name, argv, TEXT_MAX, &text, &problem) < 0)
            kp_string_list_add(arena, &ret->problems, kp_arena_printf(arena, "%s: %s", machine->name, problem.message));
        else if (text.data)
            cli_certificates_parse(machine->name, text.data, text.len, arena, ret);
    }
    if (ret->len > 1)
        qsort(ret->items, ret->len, sizeof(*ret->items), compare_ends);
    return r;
}
