/* Old audit logs: what they are called, which of them go, and their compression. Names are lumberjack's, so that who collects them finds what they know. */
#include "controlplane/apiserver/audit/audit_internal.h"

#include "lib/archive/archive.h"

#include <dirent.h>
#include <errno.h>
#include <time.h>
#include <unistd.h>

#define PACKED ".gz"
#define STAMP_LEN 23 /* "2026-11-23T02-00-00.123" */
#define DAY_NS (86400LL * 1000000000)

/* "/a/audit.log" in "/a", "audit" and ".log". */
struct parts {
    char *dir, *prefix, *extension;
};

static struct parts split(const char *path)
{
    const char *slash = strrchr(path, '/'), *base = slash ? slash + 1 : path, *dot = strrchr(base, '.');
    size_t len = dot ? (size_t)(dot - base) : strlen(base);
    return (struct parts){.dir = slash ? kp_strndup(path, (size_t)KP_MAX(slash - path, 1)) : kp_strdup("."), .prefix = kp_strndup(base, len), .extension = kp_strdup(base + len)};
}

static void parts_done(struct parts *parts)
{
    free(parts->dir);
    free(parts->prefix);
    free(parts->extension);
}

char *audit_backup_name(const char *path, int64_t now_ns)
{
    struct parts parts = split(path);
    char stamp[KP_RFC3339_MAX];
    kp_format_rfc3339(stamp, now_ns / 1000000000, (int32_t)(now_ns % 1000000000), true);
    stamp[13] = stamp[16] = '-';
    stamp[STAMP_LEN] = '\0';
    char *name = kp_asprintf("%s/%s-%s%s", parts.dir, parts.prefix, stamp, parts.extension);
    parts_done(&parts);
    return name;
}

static bool stamp_time(const char *stamp, int64_t *ret_ns)
{
    char text[KP_RFC3339_MAX];
    int64_t seconds;
    int32_t nanos;
    snprintf(text, sizeof(text), "%.*sZ", STAMP_LEN, stamp);
    if (strlen(text) != STAMP_LEN + 1 || text[13] != '-' || text[16] != '-')
        return false;
    text[13] = text[16] = ':';
    if (kp_parse_rfc3339(text, &seconds, &nanos) < 0)
        return false;
    *ret_ns = seconds * 1000000000 + nanos;
    return true;
}

static bool backup_time(const struct parts *parts, const char *name, int64_t *ret_ns)
{
    size_t prefix = strlen(parts->prefix), extension = strlen(parts->extension), len = strlen(name);
    if (kp_ends_with(name, PACKED))
        len -= strlen(PACKED);
    if (len != prefix + 1 + STAMP_LEN + extension || strncmp(name, parts->prefix, prefix) != 0 || name[prefix] != '-' ||
        strncmp(name + prefix + 1 + STAMP_LEN, parts->extension, extension) != 0)
        return false;
    return stamp_time(name + prefix + 1, ret_ns);
}

bool audit_backup_time(const char *path, const char *name, int64_t *ret_ns)
{
    struct parts parts = split(path);
    bool is = backup_time(&parts, name, ret_ns);
    parts_done(&parts);
    return is;
}

/* ---- which go ---------------------------------------------------------------------------------------------------------------------------- */
struct backup {
    char *path;
    int64_t time_ns;
};
struct backups {
    struct backup *items;
    size_t len;
};

static int newest_first(const void *a, const void *b)
{
    const struct backup *x = a, *y = b;
    if (x->time_ns != y->time_ns)
        return x->time_ns > y->time_ns ? -1 : 1;
    return strcmp(x->path, y->path);
}

static int list(const struct parts *parts, struct backups *ret, struct kp_error *error)
{
    DIR *dir = opendir(parts->dir);
    if (!dir)
        return kp_fail_errno(error, "%s", parts->dir);
    for (struct dirent *entry; (entry = readdir(dir)) && ret->len < AUDIT_BACKUPS_MAX;) {
        int64_t time_ns;
        if (!backup_time(parts, entry->d_name, &time_ns))
            continue;
        ret->items = kp_realloc(ret->items, (ret->len + 1) * sizeof(*ret->items));
        ret->items[ret->len++] = (struct backup){kp_asprintf("%s/%s", parts->dir, entry->d_name), time_ns};
    }
    closedir(dir);
    if (ret->len)
        qsort(ret->items, ret->len, sizeof(*ret->items), newest_first);
    return 0;
}

static void backups_done(struct backups *backups)
{
    for (size_t i = 0; i < backups->len; i++)
        free(backups->items[i].path);
    free(backups->items);
}

/* The packed file gets its name when it is whole: until then the other one counts. */
static int pack(const char *path, struct kp_error *error)
{
    KP_AUTO_FREE char *part = kp_asprintf("%s" PACKED ".part", path), *packed = kp_asprintf("%s" PACKED, path);
    if (archive_gzip_file(path, part, error) < 0) {
        unlink(part);
        return error->code;
    }
    if (rename(part, packed) < 0 || unlink(path) < 0)
        return kp_fail_errno(error, "%s", packed);
    return 0;
}

static int tidy_one(const struct audit_log_config *config, const struct backup *backup, bool go, struct kp_error *error)
{
    if (go)
        return unlink(backup->path) < 0 && errno != ENOENT ? kp_fail_errno(error, "%s cannot be removed", backup->path) : 0;
    return config->compress && !kp_ends_with(backup->path, PACKED) ? pack(backup->path, error) : 0;
}

int audit_backups_tidy(const struct audit_log_config *config, int64_t now_ns, struct kp_error *error)
{
    struct parts parts = split(config->path);
    struct backups backups = {0};
    int64_t kept = 0, last_ns = -1;
    int code = list(&parts, &backups, error);
    for (size_t i = 0; i < backups.len; i++) {
        const struct backup *backup = &backups.items[i];
        kept += backup->time_ns != last_ns; /* one that is packed, and not removed yet, is one */
        last_ns = backup->time_ns;
        bool old = config->max_age_days && backup->time_ns < now_ns - config->max_age_days * DAY_NS;
        struct kp_error one = {0};
        if (tidy_one(config, backup, old || (config->max_backups && kept > config->max_backups), &one) < 0 && code == 0) {
            code = one.code; /* the others are seen to all the same */
            *error = one;
        }
    }
    backups_done(&backups);
    parts_done(&parts);
    return code;
}
