/* Snapshot files: checked whole before anything relies on them, described by a document beside them. */
#include "provisioner/snapshot/snapshot.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "tls/tls.h"

#define KIND "EtcdSnapshot"
#define PAGE_MIN 512 /* etcd takes 32 bytes more than a multiple of this for a file with a checksum */

static void hash_file(const uint8_t *data, size_t len, uint8_t content[TLS_SHA256_BYTES], uint8_t whole[TLS_SHA256_BYTES])
{
    tls_sha256(data, len - TLS_SHA256_BYTES, content);
    tls_sha256(data, len, whole);
}

int snapshot_check(const char *path, struct snapshot_info *ret, struct kp_error *error)
{
    struct stat st;
    uint8_t content[TLS_SHA256_BYTES], whole[TLS_SHA256_BYTES];
    KP_AUTO_BUF struct kp_buf hex = {0};
    KP_AUTO_CLOSE int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) < 0)
        return kp_fail_errno(error, "open snapshot %s", path);
    if (!S_ISREG(st.st_mode) || st.st_size <= TLS_SHA256_BYTES || st.st_size % PAGE_MIN != TLS_SHA256_BYTES)
        return kp_fail(error, KP_ECORRUPT, "snapshot %s: %lld bytes are no snapshot with its checksum: was it cut?", path, (long long)st.st_size);
    if ((size_t)st.st_size > SNAPSHOT_BYTES_MAX)
        return kp_fail(error, KP_ETOOLARGE, "snapshot %s: larger than %zu bytes", path, SNAPSHOT_BYTES_MAX);
    const size_t len = (size_t)st.st_size;
    uint8_t *data = mmap(NULL, len, PROT_READ, MAP_PRIVATE, fd, 0);
    if (data == MAP_FAILED)
        return kp_fail_errno(error, "read snapshot %s", path);
    int r = 0;
    hash_file(data, len, content, whole);
    if (memcmp(content, data + len - TLS_SHA256_BYTES, TLS_SHA256_BYTES) != 0)
        r = kp_fail(error, KP_ECORRUPT, "snapshot %s: its checksum does not fit: it was cut or changed", path);
    else if (snapshot_revision(data, len - TLS_SHA256_BYTES, &ret->revision, error) < 0)
        r = kp_wrap(error, "snapshot %s", path);
    munmap(data, len);
    if (r < 0)
        return r;
    kp_hex_encode(&hex, whole, sizeof(whole));
    snprintf(ret->sha256, sizeof(ret->sha256), "%s", hex.data);
    ret->size_bytes = st.st_size;
    return 0;
}

void snapshot_meta_print(const struct snapshot_meta *meta, struct kp_arena *arena, struct kp_buf *out)
{
    char taken[KP_RFC3339_MAX];
    struct kp_value *root = kp_value_object(arena);
    const char *const texts[][2] = {
        {"apiVersion", CONFIG_API_VERSION}, {"kind", KIND}, {"cluster", meta->cluster}, {"uid", meta->uid},
        {"endpoint", meta->endpoint}, {"kubernetesVersion", meta->kubernetes_version}, {"podCIDR", meta->pod_cidr},
        {"serviceCIDR", meta->service_cidr}, {"dnsDomain", meta->dns_domain}, {"sha256", meta->info.sha256},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(texts); i++)
        kp_value_set(arena, root, texts[i][0], kp_value_string(arena, texts[i][1]));
    kp_format_rfc3339(taken, meta->taken_s, 0, false);
    kp_value_set(arena, root, "takenAt", kp_value_string(arena, taken));
    kp_value_set(arena, root, "controlPlanes", kp_value_int(arena, meta->control_planes));
    kp_value_set(arena, root, "revision", kp_value_int(arena, meta->info.revision));
    kp_value_set(arena, root, "size", kp_value_int(arena, meta->info.size_bytes));
    if (meta->pki)
        kp_value_set(arena, root, "pki", meta->pki);
    kp_value_print_pretty(root, 2, out);
    kp_buf_putc(out, '\n');
}

static int64_t whole_number(const struct kp_value *root, const char *key)
{
    const struct kp_value *value = kp_value_get(root, key);
    return value && value->kind == KP_VALUE_INT ? value->integer : 0;
}

int snapshot_meta_parse(const char *text, size_t len, struct kp_arena *arena, struct snapshot_meta *ret, struct kp_error *error)
{
    struct kp_value *root = NULL;
    int32_t nanos = 0;
    *ret = (struct snapshot_meta){0};
    const struct {
        const char *key;
        const char **to;
    } texts[] = {
        {"cluster", &ret->cluster}, {"uid", &ret->uid}, {"endpoint", &ret->endpoint}, {"kubernetesVersion", &ret->kubernetes_version},
        {"podCIDR", &ret->pod_cidr}, {"serviceCIDR", &ret->service_cidr}, {"dnsDomain", &ret->dns_domain},
    };
    int r = kp_value_parse(text, len, arena, NULL, &root, error);
    if (r < 0)
        return r;
    const char *taken = kp_value_str(kp_value_get(root, "takenAt")), *sha256 = kp_value_str(kp_value_get(root, "sha256"));
    if (!kp_streq(kp_value_str(kp_value_get(root, "kind")), KIND))
        return kp_fail(error, KP_ECORRUPT, "kind is not " KIND);
    for (size_t i = 0; i < KP_ARRAY_LEN(texts); i++) {
        *texts[i].to = kp_value_str(kp_value_get(root, texts[i].key));
        if (!*texts[i].to)
            return kp_fail(error, KP_ECORRUPT, "%s is missing", texts[i].key);
    }
    if (!taken || kp_parse_rfc3339(taken, &ret->taken_s, &nanos) < 0)
        return kp_fail(error, KP_ECORRUPT, "takenAt is no time");
    if (!sha256 || strlen(sha256) != 64)
        return kp_fail(error, KP_ECORRUPT, "sha256 is no checksum");
    memcpy(ret->info.sha256, sha256, 65);
    ret->info.size_bytes = whole_number(root, "size");
    ret->info.revision = whole_number(root, "revision");
    ret->control_planes = whole_number(root, "controlPlanes");
    ret->pki = kp_value_get(root, "pki");
    return 0;
}

int snapshot_meta_load(const char *snapshot_path, const struct snapshot_info *info, struct kp_arena *arena, struct snapshot_meta *ret,
                       struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *path = kp_arena_printf(arena, "%s.json", snapshot_path);
    int r = kp_read_file(path, SNAPSHOT_META_MAX, &text, error);
    if (r < 0)
        return r;
    r = snapshot_meta_parse(text.data ? text.data : "", text.len, arena, ret, error);
    if (r < 0)
        return kp_wrap(error, "%s", path);
    if (info && !kp_streq(info->sha256, ret->info.sha256))
        return kp_fail(error, KP_ECORRUPT, "%s describes another file than the one beside it", path);
    return 0;
}

void snapshot_name(const char *cluster, int64_t taken_s, char out[SNAPSHOT_NAME_MAX])
{
    struct tm tm;
    const time_t when = (time_t)taken_s;
    gmtime_r(&when, &tm);
    snprintf(out, SNAPSHOT_NAME_MAX, "%.100s-%04d%02d%02dT%02d%02d%02dZ.db", cluster, tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday, tm.tm_hour,
             tm.tm_min, tm.tm_sec);
}

int snapshot_name_time(const char *name, int64_t *ret_taken_s)
{
    struct tm tm = {0};
    const size_t tail = strlen("-20261121T101855Z.db"), len = strlen(name);
    if (len <= tail)
        return KP_EINVALID;
    const char *end = strptime(name + len - tail, "-%Y%m%dT%H%M%SZ.db", &tm);
    if (!end || *end)
        return KP_EINVALID;
    *ret_taken_s = timegm(&tm);
    return 0;
}
