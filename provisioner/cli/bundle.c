/* kprov support-bundle: all that helps to see what is wrong with a cluster, in one file that may be given away. */
#include <sys/stat.h>
#include <time.h>

#include "provisioner/cli/bundle_internal.h"

void bundle_error(struct bundle *bundle, const char *what, const char *format, ...)
{
    char text[KP_ERROR_MESSAGE_MAX];
    va_list ap;
    va_start(ap, format);
    vsnprintf(text, sizeof(text), format, ap);
    va_end(ap);
    kp_buf_printf(&bundle->errors, "%s: %s\n", what, text);
    bundle->n_errors++;
}

void bundle_add(struct bundle *bundle, const char *path, const char *text, size_t len)
{
    KP_AUTO_BUF struct kp_buf clean = {0};
    if (bundle->failed < 0)
        return;
    if (len > BUNDLE_FILE_MAX) {
        bundle_error(bundle, path, "of %zu bytes the last %zu are here", len, BUNDLE_FILE_MAX);
        text += len - BUNDLE_FILE_MAX;
        len = BUNDLE_FILE_MAX;
    }
    cli_redact(text, len, &clean);
    if (bundle->bytes + clean.len > BUNDLE_TOTAL_MAX) {
        bundle_error(bundle, path, "left out: the bundle is full");
        return;
    }
    path = kp_arena_printf(bundle->arena, "kprov-%s/%s", bundle->name, path);
    bundle->failed = archive_add(bundle->archive, path, clean.data ? clean.data : "", clean.len, kp_now_s(), &bundle->failure);
    bundle->bytes += clean.len;
    bundle->n_files++;
}

void bundle_add_value(struct bundle *bundle, const char *path, const struct kp_value *value)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_value_print_pretty(value, 2, &text);
    kp_buf_putc(&text, '\n');
    bundle_add(bundle, path, text.data, text.len);
}

static const char *default_file(const char *name, struct kp_arena *arena)
{
    char time[KP_RFC3339_MAX], plain[KP_RFC3339_MAX];
    size_t n = 0;
    kp_format_rfc3339(time, kp_now_s(), 0, false);
    for (const char *at = time; *at; at++)
        if (*at != '-' && *at != ':')
            plain[n++] = *at;
    plain[n] = 0;
    return kp_arena_printf(arena, "kprov-%s-%s.tar.gz", name, plain);
}

/* What of the cluster can be opened; each part is gone without when it cannot. */
static int open_cluster(struct bundle *bundle, struct kp_error *error)
{
    struct kp_error problem = {0};
    const char *path = NULL;
    int r = cli_state_path(bundle->name, "", bundle->arena, &path, error);
    if (r == 0 && (strchr(bundle->name, '/') || bundle->name[0] == '.' || !kp_path_exists(path)))
        r = kp_fail(error, KP_ENOTFOUND, "cluster \"%s\" does not exist: see kprov get clusters", bundle->name);
    if (r < 0)
        return r;
    if (state_read(bundle->name, bundle->arena, &bundle->cluster, &problem) < 0) {
        bundle_error(bundle, "state", "%s", problem.message);
        return 0;
    }
    bundle->has_cluster = true;
    if (cli_cluster_open(bundle->name, bundle->arena, &bundle->cluster, &bundle->cloud, &problem) < 0)
        bundle_error(bundle, "provider", "%s", problem.message);
    else if (cloud_machine_list(bundle->cloud, bundle->cluster.uid, bundle->arena, &bundle->machines, &problem) < 0)
        bundle_error(bundle, "machines", "%s", problem.message);
    r = cli_state_path(bundle->name, "admin.conf", bundle->arena, &path, error);
    if (r == 0 && cli_api_open(path, &bundle->api, &problem) < 0)
        bundle_error(bundle, "API", "%s", problem.message);
    return r;
}

static int fill(struct bundle *bundle, struct cli_progress *progress, struct kp_error *error)
{
    static const struct {
        const char *name;
        void (*run)(struct bundle *bundle);
    } parts[] = {{"state", bundle_state}, {"API objects", bundle_api}, {"etcd", bundle_etcd}, {"machines", bundle_machines}, {"host", bundle_host}};
    for (size_t i = 0; i < KP_ARRAY_LEN(parts); i++) {
        if (progress->terminal)
            cli_progress_begin(progress, parts[i].name);
        parts[i].run(bundle);
        if (progress->terminal)
            cli_progress_done(progress);
        int r = cli_interrupted(error);
        if (r < 0)
            return r;
    }
    if (!bundle->errors.len)
        kp_buf_puts(&bundle->errors, "everything could be read\n");
    bundle_add(bundle, "errors.txt", bundle->errors.data, bundle->errors.len);
    return bundle->failed < 0 ? kp_fail(error, bundle->failed, "%s", bundle->failure.message) : 0;
}

static void print_result(struct bundle *bundle, const char *file, size_t bytes, enum cli_output output)
{
    struct kp_arena *arena = bundle->arena;
    if (output == CLI_TABLE) {
        printf("%s\n", file);
        fflush(stdout);
        fprintf(stderr, "%zu files, %zu KiB%s; secrets were removed, but look before you give it away\n", bundle->n_files, bytes / 1024,
                bundle->n_errors ? "; what could not be read is in errors.txt" : "");
        return;
    }
    struct kp_value *root = kp_value_object(arena);
    kp_value_set(arena, root, "cluster", kp_value_string(arena, bundle->name));
    kp_value_set(arena, root, "file", kp_value_string(arena, file));
    kp_value_set(arena, root, "bytes", kp_value_int(arena, (int64_t)bytes));
    kp_value_set(arena, root, "files", kp_value_int(arena, (int64_t)bundle->n_files));
    kp_value_set(arena, root, "errors", kp_value_int(arena, (int64_t)bundle->n_errors));
    cli_print_value(root, output);
}

static int make_bundle(const char *name, const char *file, enum cli_output output, struct kp_error *error)
{
    struct bundle bundle = {.arena = kp_arena_new(0), .name = name};
    struct cli_progress progress = {0};
    size_t bytes = 0;
    cli_interrupt_catch();
    cli_progress_start(&progress);
    if (!file)
        file = default_file(name, bundle.arena);
    int r = open_cluster(&bundle, error);
    if (r == 0)
        r = archive_create(file, &bundle.archive, error);
    if (r == 0)
        r = fill(&bundle, &progress, error);
    if (r == 0)
        r = archive_finish(bundle.archive, &bytes, error);
    cli_progress_fail(&progress);
    if (r == 0)
        print_result(&bundle, file, bytes, output);
    cli_progress_end(&progress);
    archive_free(bundle.archive);
    kp_buf_done(&bundle.errors);
    cli_api_close(bundle.api);
    cloud_close(bundle.cloud);
    kp_arena_free(bundle.arena);
    return r < 0 ? kp_wrap(error, "support bundle") : 0;
}

int cli_support_bundle(int argc, char **argv, struct kp_error *error)
{
    const char *output = "table", *file = NULL;
    enum cli_output format;
    bool help = false;
    const struct kp_flag flags[] = {
        {"file", 'f', KP_FLAG_STRING, &file, "file to write (kprov-CLUSTER-TIME.tar.gz)", NULL},
        {"output", 'o', KP_FLAG_STRING, &output, "json or yaml; otherwise the file's name", NULL},
        {0},
    };
    struct kp_strings rest = {0};
    int r = cli_parse("support-bundle", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("support-bundle", &rest, 1, 1, error);
    if (r == 0 && !help)
        r = cli_output_parse(output, &format, error);
    if (r == 0 && !help)
        r = make_bundle(rest.items[0], file, format, error);
    kp_strings_done(&rest);
    return r;
}
