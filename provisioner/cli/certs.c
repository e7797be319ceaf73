/* kprov certs list: when a cluster's certificates end, and whether the machines use those that they have. */
#include "provisioner/cli/certs_internal.h"

struct listing {
    struct kp_arena *arena;
    struct cloud *cloud;
    struct state_cluster cluster;
    struct cloud_machine_list machines;
    const char *trust;
    int64_t now_s;
    size_t soon; /* how many end within CERTS_WARN_S */
};

static void format_residual(int64_t left_s, char out[CLI_AGE_MAX])
{
    if (left_s < 0)
        snprintf(out, CLI_AGE_MAX, "expired");
    else
        cli_format_age(0, left_s, out);
}

/* "/etc/kubernetes/pki/etcd/server.crt" -> "etcd/server", "/etc/kubernetes/scheduler.conf" -> "scheduler.conf" */
static const char *short_name(struct kp_arena *arena, const char *path)
{
    static const char *const folders[] = {"/etc/kubernetes/pki/", "/etc/kubernetes/", "/var/lib/kubelet/pki/"};
    for (size_t i = 0; i < KP_ARRAY_LEN(folders); i++) {
        if (kp_starts_with(path, folders[i])) {
            path += strlen(folders[i]);
            break;
        }
    }
    return kp_ends_with(path, ".crt") ? kp_arena_strndup(arena, path, strlen(path) - 4) : path;
}

static struct kp_value *make_row(struct listing *listing, const struct cli_certificate *cert, const char *machine, const char *path)
{
    struct kp_arena *arena = listing->arena;
    char end[KP_RFC3339_MAX], residual[CLI_AGE_MAX];
    const int64_t left_s = cert->not_after_s - listing->now_s;
    struct kp_value *row = kp_value_object(arena);
    kp_format_rfc3339(end, cert->not_after_s, 0, false);
    format_residual(left_s, residual);
    kp_value_set(arena, row, "name", kp_value_string(arena, short_name(arena, path)));
    kp_value_set(arena, row, "machine", kp_value_string(arena, machine));
    kp_value_set(arena, row, "path", kp_value_string(arena, path));
    kp_value_set(arena, row, "subject", kp_value_string(arena, cert->subject));
    kp_value_set(arena, row, "authority", kp_value_string(arena, cert->ca ? "" : cert->issuer));
    kp_value_set(arena, row, "ca", kp_value_bool(arena, cert->ca));
    kp_value_set(arena, row, "expires", kp_value_string(arena, end));
    kp_value_set(arena, row, "residual", kp_value_string(arena, residual));
    kp_value_set(arena, row, "residualSeconds", kp_value_int(arena, left_s));
    kp_value_set(arena, row, "fingerprint", kp_value_string(arena, cert->fingerprint));
    kp_value_set(arena, row, "inUse", kp_value_string(arena, ""));
    listing->soon += left_s < CERTS_WARN_S;
    return row;
}

/* The files of a machine that a port serves are compared with what it does serve. */
static void mark_served(struct listing *listing, struct kp_value *rows, const struct cloud_machine *machine)
{
    const struct certs_port *port = certs_ports(kp_streq(machine->role, "control-plane"));
    for (; machine->power == CLOUD_POWER_ON && port->port; port++) {
        char fingerprint[65] = "";
        struct kp_error error = {0};
        const bool answered = certs_served(machine->address, port->port, listing->trust, fingerprint, &error) == 0;
        for (size_t i = 0; i < rows->array.len; i++) {
            struct kp_value *row = rows->array.items[i];
            if (!kp_streq(kp_value_str(kp_value_get(row, "machine")), machine->name) ||
                !kp_streq(kp_value_str(kp_value_get(row, "path")), port->file))
                continue;
            const bool same = kp_streq(kp_value_str(kp_value_get(row, "fingerprint")), fingerprint);
            kp_value_set(listing->arena, row, "inUse", kp_value_string(listing->arena, !answered ? "unknown" : same ? "yes" : "no"));
        }
        if (!answered)
            fprintf(stderr, "kprov: %s\n", error.message);
    }
}

static int read_trust(struct listing *listing, struct kp_error *error)
{
    KP_AUTO(pki_free) struct pki *pki = NULL;
    KP_AUTO_BUF struct kp_buf text = {0}, pem = {0};
    int r = state_read_file(listing->cluster.name, "pki.json", &text, error);
    if (r == 0)
        r = pki_parse(text.data ? text.data : "", text.len, &pki, error);
    if (r < 0)
        return r;
    certs_all_trust(pki, &pem);
    listing->trust = kp_arena_strndup(listing->arena, pem.data, pem.len);
    if (pki->phase != PKI_STEADY)
        fprintf(stderr, "kprov: authority %s is being replaced (phase %s): kprov certs rotate-ca %s --authority %s goes on\n",
                pki_authority_name(pki->rotating), pki_phase_name(pki->phase), listing->cluster.name, pki_authority_name(pki->rotating));
    return 0;
}

static int list(struct listing *listing, const char *name, enum cli_output output, struct kp_error *error)
{
    static const char *const columns[] = {"name", "machine", "expires", "residual", "authority", "inUse", NULL};
    struct cli_certificate_list certificates;
    struct kp_value *rows = kp_value_array(listing->arena);
    int r = cli_cluster_open(name, listing->arena, &listing->cluster, &listing->cloud, error);
    if (r == 0)
        r = read_trust(listing, error);
    if (r == 0)
        r = cloud_machine_list(listing->cloud, listing->cluster.uid, listing->arena, &listing->machines, error);
    if (r == 0)
        r = cli_certificates(&listing->cluster, listing->cloud, &listing->machines, listing->arena, &certificates, error);
    if (r < 0)
        return r;
    for (size_t i = 0; i < certificates.len; i++) {
        const char *where = certificates.items[i].where, *colon = strchr(where, ':');
        const char *machine = kp_starts_with(where, "state:") ? "" : kp_arena_strndup(listing->arena, where, (size_t)(colon - where));
        if (*machine && certificates.items[i].ca)
            continue; /* a copy of one that is kept in the state */
        kp_value_append(listing->arena, rows, make_row(listing, &certificates.items[i], machine, colon + 1));
    }
    for (size_t i = 0; i < listing->machines.len; i++)
        mark_served(listing, rows, &listing->machines.items[i]);
    for (size_t i = 0; i < certificates.problems.len; i++)
        fprintf(stderr, "kprov: %s\n", certificates.problems.items[i]);
    cli_print_list(rows, columns, output);
    if (listing->soon)
        fprintf(stderr, "kprov: %zu of %zu end within %lld days: kprov certs renew %s\n", listing->soon, rows->array.len,
                CERTS_WARN_S / 86400, name);
    return 0;
}

int cli_certs_list(int argc, char **argv, struct kp_error *error)
{
    const char *format = "table";
    enum cli_output output;
    bool help = false;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &format, "table, json or yaml", NULL}, {0}};
    struct kp_strings rest = {0};
    int r = cli_parse("certs list", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("certs list", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(format, &output, error);
    if (r == 0 && !help) {
        struct listing listing = {.arena = kp_arena_new(0), .now_s = kp_now_s()};
        r = list(&listing, rest.items[0], output, error);
        cloud_close(listing.cloud);
        kp_arena_free(listing.arena);
    }
    kp_strings_done(&rest);
    return r;
}
