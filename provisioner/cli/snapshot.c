/* kprov etcd snapshot save, list: what is in etcd, in a file with all that is needed to restore it. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#include "provisioner/cli/snapshot_internal.h"
#include "provisioner/etcd/etcd.h"

int cli_saving_open(struct cli_saving *saving, const char *cluster, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    int r = cli_cluster_open(cluster, saving->arena, &saving->cluster, &saving->cloud, error);
    if (r == 0)
        r = state_read_file(saving->cluster.name, "pki.json", &text, error);
    if (r == 0)
        r = pki_parse(text.data ? text.data : "", text.len, &saving->pki, error);
    return r < 0 ? kp_wrap(error, "keys of cluster %s", cluster)
                 : kp_value_parse(text.data, text.len, saving->arena, NULL, &saving->pki_document, error);
}

void cli_saving_done(struct cli_saving *saving)
{
    pki_free(saving->pki);
    cloud_close(saving->cloud);
}

/* The client's own choice is a healthy voter. */
static int open_etcd(struct cli_saving *saving, struct etcd_client **ret_client, struct kp_error *error)
{
    struct cloud_machine_list machines;
    int r = cloud_machine_list(saving->cloud, saving->cluster.uid, saving->arena, &machines, error);
    return r < 0 ? r : cli_etcd_open(saving->cluster.name, saving->pki, &machines, 0, NULL, ret_client, error);
}

static int stream(struct cli_saving *saving, const char *part, struct kp_error *error)
{
    KP_AUTO(etcd_client_close) struct etcd_client *client = NULL;
    struct etcd_snapshot taken = {0};
    int r = open_etcd(saving, &client, error);
    if (r < 0)
        return r;
    KP_AUTO_CLOSE int fd = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (fd < 0)
        return kp_fail_errno(error, "create %s", part);
    r = etcd_client_snapshot(client, fd, &taken, error);
    if (r == 0 && fsync(fd) < 0)
        r = kp_fail_errno(error, "write %s", part);
    if (r == 0)
        saving->meta.endpoint = kp_arena_strdup(saving->arena, taken.endpoint);
    return r;
}

/* The description first: a snapshot that has its name has everything. */
int cli_saving_publish(struct cli_saving *saving, const char *part, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const struct config *config = &saving->cluster.config;
    struct snapshot_meta *meta = &saving->meta;
    int r = snapshot_check(part, &meta->info, error);
    if (r < 0)
        return r;
    meta->cluster = saving->cluster.name;
    meta->uid = saving->cluster.uid;
    meta->kubernetes_version = config->kubernetes_version;
    meta->pod_cidr = config->network.pod_cidr;
    meta->service_cidr = config->network.service_cidr;
    meta->dns_domain = config->network.dns_domain;
    meta->control_planes = config->control_plane.replicas;
    meta->pki = saving->pki_document;
    snapshot_meta_print(meta, saving->arena, &text);
    r = kp_write_file(kp_arena_printf(saving->arena, "%s.json", saving->path), text.data, text.len, 0600, error);
    if (r == 0 && rename(part, saving->path) < 0)
        r = kp_fail_errno(error, "rename %s to %s", part, saving->path);
    return r;
}

int cli_saving_choose(struct cli_saving *saving, const char *file, const char *name, struct kp_error *error)
{
    const char *dir = NULL;
    if (file) {
        saving->path = file;
    } else {
        int r = cli_state_path(saving->cluster.name, CLI_SNAPSHOTS_DIR, saving->arena, &dir, error);
        if (r == 0)
            r = kp_mkdir_p(dir, 0700, error);
        if (r < 0)
            return r;
        saving->path = kp_arena_printf(saving->arena, "%s/%s", dir, name);
    }
    return kp_path_exists(saving->path) ? kp_fail(error, KP_EEXISTS, "%s is there already: name another file", saving->path) : 0;
}

static struct kp_value *describe(struct kp_arena *arena, const char *path, const struct snapshot_meta *meta)
{
    char taken[KP_RFC3339_MAX];
    const char *slash = strrchr(path, '/');
    struct kp_value *root = kp_value_object(arena);
    kp_value_set(arena, root, "name", kp_value_string(arena, slash ? slash + 1 : path));
    kp_value_set(arena, root, "path", kp_value_string(arena, path));
    kp_value_set(arena, root, "where", kp_value_string(arena, ""));
    kp_value_set(arena, root, "cluster", kp_value_string(arena, meta->cluster));
    kp_value_set(arena, root, "member", kp_value_string(arena, meta->endpoint));
    kp_format_rfc3339(taken, meta->taken_s, 0, false);
    kp_value_set(arena, root, "taken", kp_value_string(arena, taken));
    kp_value_set(arena, root, "revision", kp_value_int(arena, meta->info.revision));
    kp_value_set(arena, root, "size", kp_value_int(arena, meta->info.size_bytes));
    kp_value_set(arena, root, "sha256", kp_value_string(arena, meta->info.sha256));
    return root;
}

void cli_saving_print(const struct cli_saving *saving, enum cli_output output)
{
    if (output == CLI_TABLE)
        printf("%s: revision %lld, %lld bytes, from %s\n", saving->path, (long long)saving->meta.info.revision,
               (long long)saving->meta.info.size_bytes, saving->meta.endpoint);
    else
        cli_print_value(describe(saving->arena, saving->path, &saving->meta), output);
}

static int save(struct cli_saving *saving, const char *cluster, const char *file, enum cli_output output, struct kp_error *error)
{
    char name[SNAPSHOT_NAME_MAX];
    int r = cli_saving_open(saving, cluster, error);
    if (r < 0)
        return r;
    saving->meta.taken_s = kp_now_s();
    snapshot_name(saving->cluster.name, saving->meta.taken_s, name);
    r = cli_saving_choose(saving, file, name, error);
    if (r < 0)
        return r;
    const char *part = kp_arena_printf(saving->arena, "%s.part", saving->path);
    r = stream(saving, part, error);
    if (r == 0)
        r = cli_saving_publish(saving, part, error);
    if (r < 0) {
        unlink(part);
        return kp_wrap(error, "snapshot of cluster %s", cluster);
    }
    cli_saving_print(saving, output);
    return 0;
}

int cli_snapshot_save(int argc, char **argv, struct kp_error *error)
{
    const char *format = "table";
    enum cli_output output;
    bool help = false;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &format, "json or yaml: print what was saved", NULL}, {0}};
    struct kp_strings rest = {0};
    int r = cli_parse("etcd snapshot save", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("etcd snapshot save", &rest, 1, 2, error);
    if (r == 0 && !help)
        r = cli_output_parse(format, &output, error);
    if (r == 0 && !help) {
        struct cli_saving saving = {.arena = kp_arena_new(0)};
        r = save(&saving, rest.items[0], rest.len == 2 ? rest.items[1] : NULL, output, error);
        cli_saving_done(&saving);
        kp_arena_free(saving.arena);
    }
    kp_strings_done(&rest);
    return r;
}

int cli_snapshot_find(const char *cluster, const char *word, struct kp_arena *arena, const char **ret_path, struct kp_error *error)
{
    const char *dir = NULL;
    *ret_path = word;
    if (strchr(word, '/') || kp_path_exists(word))
        return 0;
    int r = cluster ? cli_state_path(cluster, CLI_SNAPSHOTS_DIR, arena, &dir, error) : 0;
    if (r < 0)
        return r;
    for (size_t i = 0; dir && i < 2; i++) {
        *ret_path = kp_arena_printf(arena, "%s/%s%s", dir, word, i ? ".db" : "");
        if (kp_path_exists(*ret_path))
            return 0;
    }
    return kp_fail(error, KP_ENOTFOUND, "there is no file %s%s%s", word, cluster ? ", and no snapshot of that name: see kprov etcd snapshot list " : "",
                   cluster ? cluster : "");
}

static int by_name(const void *a, const void *b)
{
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static int list_names(const char *path, struct kp_strings *ret, struct kp_error *error)
{
    DIR *dir = opendir(path);
    if (!dir)
        return errno == ENOENT ? 0 : kp_fail_errno(error, "list %s", path);
    for (struct dirent *entry; (entry = readdir(dir));) {
        if (kp_ends_with(entry->d_name, ".db"))
            kp_strings_add(ret, entry->d_name);
    }
    closedir(dir);
    if (ret->len > 1)
        qsort(ret->items, ret->len, sizeof(*ret->items), by_name);
    return 0;
}

/* A file without its description is shown by what it tells itself. */
static int describe_file(const char *path, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error)
{
    struct snapshot_meta meta;
    struct kp_error why = {0};
    char age[CLI_AGE_MAX];
    if (snapshot_meta_load(path, NULL, arena, &meta, &why) < 0) {
        meta = (struct snapshot_meta){.cluster = "", .endpoint = ""};
        int r = snapshot_check(path, &meta.info, error);
        if (r < 0)
            return r;
        if (snapshot_name_time(path, &meta.taken_s) < 0)
            meta.taken_s = 0;
    }
    *ret = describe(arena, path, &meta);
    cli_format_age(meta.taken_s, kp_now_s(), age);
    kp_value_set(arena, *ret, "age", kp_value_string(arena, age));
    return 0;
}

static int list(const char *cluster, enum cli_output output, struct kp_arena *arena, struct kp_error *error)
{
    static const char *const columns[] = {"name", "where", "age", "revision", "size", "member", NULL};
    struct kp_value *rows = kp_value_array(arena);
    struct state_cluster read;
    struct kp_strings names = {0};
    const char *dir = NULL;
    int r = state_read(cluster, arena, &read, error);
    if (r == 0)
        r = cli_state_path(cluster, CLI_SNAPSHOTS_DIR, arena, &dir, error);
    if (r == 0)
        r = list_names(dir, &names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        struct kp_value *row = NULL;
        struct kp_error why = {0};
        if (describe_file(kp_arena_printf(arena, "%s/%s", dir, names.items[i]), arena, &row, &why) < 0)
            fprintf(stderr, "kprov: %s\n", why.message); /* the others are worth seeing all the same */
        else
            kp_value_append(arena, rows, row);
    }
    if (r == 0)
        cli_snapshot_list_machines(&read, rows, arena);
    if (r == 0)
        cli_print_list(rows, columns, output);
    kp_strings_done(&names);
    return r;
}

int cli_snapshot_list(int argc, char **argv, struct kp_error *error)
{
    const char *format = "table";
    enum cli_output output;
    bool help = false;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &format, "table, json or yaml", NULL}, {0}};
    struct kp_strings rest = {0};
    int r = cli_parse("etcd snapshot list", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("etcd snapshot list", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(format, &output, error);
    if (r == 0 && !help) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        r = list(rest.items[0], output, arena, error);
    }
    kp_strings_done(&rest);
    return r;
}
