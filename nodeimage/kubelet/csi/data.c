/* Where volumes of storage drivers lie on the disk, and the vol_data.json files that tell what has been done with them. */
#include <dirent.h>
#include <errno.h>

#include "lib/tls/tls.h"
#include "nodeimage/kubelet/csi/csi_internal.h"

#define PLUGIN_FOLDER "plugins/kubernetes.io/csi"
#define NAME_MAX_BYTES 4096 /* of a value: handles are the drivers' own */

static const char *value_of(const struct kp_value *object, const char *key)
{
    const char *text = kp_value_str(kp_value_get(object, key));
    return text ? text : "";
}

int csi_data_parse(const char *text, size_t len, struct kp_arena *arena, struct csi_data *ret, struct kp_error *error)
{
    struct kp_value *root;
    int rc = kp_value_parse(text, len, arena, NULL, &root, error);
    if (rc < 0)
        return rc;
    if (root->kind != KP_VALUE_OBJECT)
        return kp_fail(error, KP_ECORRUPT, "%s holds no object", CSI_DATA_FILE);
    *ret = (struct csi_data){
        .spec_name = value_of(root, "specVolID"),
        .handle = value_of(root, "volumeHandle"),
        .driver = value_of(root, "driverName"),
        .node = value_of(root, "nodeName"),
        .attachment = value_of(root, "attachmentID"),
        .lifecycle = value_of(root, "volumeLifecycleMode"),
        .attaching = kp_streq(value_of(root, "kprov.dev/phase"), "attaching"),
    };
    if (!*ret->handle || !*ret->driver || strlen(ret->handle) > NAME_MAX_BYTES || strlen(ret->driver) > NAME_MAX_BYTES || strchr(ret->driver, '/'))
        return kp_fail(error, KP_ECORRUPT, "%s names no volume of a driver", CSI_DATA_FILE);
    return 0;
}

static void put(struct kp_buf *out, const char *key, const char *value)
{
    if (kp_empty(value))
        return;
    kp_buf_putc(out, out->len > 1 ? ',' : ' ');
    kp_json_string(out, key);
    kp_buf_putc(out, ':');
    kp_json_string(out, value);
}

void csi_data_format(const struct csi_data *data, struct kp_buf *out)
{
    kp_buf_putc(out, '{');
    put(out, "attachmentID", data->attachment);
    put(out, "driverName", data->driver);
    put(out, "kprov.dev/phase", data->attaching ? "attaching" : NULL);
    put(out, "nodeName", data->node);
    put(out, "specVolID", data->spec_name);
    put(out, "volumeHandle", data->handle);
    put(out, "volumeLifecycleMode", data->lifecycle);
    kp_buf_puts(out, "}\n");
}

int csi_data_load(const char *folder, struct kp_arena *arena, struct csi_data *ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    const char *path = kp_arena_printf(arena, "%s/%s", folder, CSI_DATA_FILE);
    int rc = kp_read_file(path, CSI_DATA_BYTES_MAX, &text, error);
    if (rc == 0)
        rc = csi_data_parse(text.data ? text.data : "", text.len, arena, ret, error);
    return rc < 0 ? kp_wrap(error, "%s", path) : 0;
}

int csi_data_save(const char *folder, const struct csi_data *data, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    KP_AUTO_FREE char *path = kp_asprintf("%s/%s", folder, CSI_DATA_FILE);
    csi_data_format(data, &text);
    int rc = kp_mkdir_p(folder, 0750, error);
    return rc < 0 ? rc : kp_write_file(path, text.data, text.len, 0600, error);
}

const char *csi_pod_folder(const char *root_dir, const char *uid, const char *name, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/pods/%s/volumes/kubernetes.io~csi/%s", root_dir, uid, name);
}

static const char *hash_of(const char *text, struct kp_arena *arena)
{
    char hex[TLS_SHA256_HEX_BYTES];
    tls_sha256_hex(text, strlen(text), hex);
    return kp_arena_strdup(arena, hex);
}

const char *csi_stage_folder(const char *root_dir, const char *driver, const char *handle, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s/" PLUGIN_FOLDER "/%s/%s", root_dir, driver, hash_of(handle, arena));
}

const char *csi_attachment_name(const char *handle, const char *driver, const char *node, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "csi-%s", hash_of(kp_arena_printf(arena, "%s%s%s", handle, driver, node), arena));
}

const char *csi_ephemeral_handle(const char *pod_uid, const char *volume, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "csi-%s", hash_of(kp_arena_printf(arena, "%s%s", pod_uid, volume), arena));
}

const char *csi_volume_key(const char *driver, const char *handle, struct kp_arena *arena)
{
    return kp_arena_printf(arena, "%s^%s", driver, handle);
}

struct walk {
    struct kp_arena *arena;
    const char *uid;
    csi_each_fn fn;
    void *arg;
    bool broken; /* something is there and could not be read */
};

/* Walks the folders in a folder; names are copied, since fn may remove them. */
static bool each_folder(const char *path, struct walk *walk, bool (*fn)(void *arg, const char *path, const char *name))
{
    struct kp_arena *arena = walk->arena;
    struct kp_string_list names = {0};
    DIR *dir = opendir(path);
    struct dirent *entry;
    walk->broken |= !dir && errno != ENOENT && errno != ENOTDIR;
    while (dir && (entry = readdir(dir)) != NULL)
        if (entry->d_name[0] != '.')
            kp_string_list_add(arena, &names, kp_arena_strdup(arena, entry->d_name));
    if (dir)
        closedir(dir);
    for (size_t i = 0; i < names.len; i++)
        if (!fn(walk, kp_arena_printf(arena, "%s/%s", path, names.items[i]), names.items[i]))
            return false;
    return true;
}

static bool walk_volume(void *arg, const char *path, const char *name)
{
    struct walk *walk = arg;
    struct csi_data data;
    struct kp_error error = {0};
    (void)name;
    int rc = csi_data_load(path, walk->arena, &data, &error);
    if (rc < 0 && rc != KP_ENOTFOUND) {
        walk->broken = true;
        kp_warn("what was noted of a volume cannot be read: it counts as in use", "error", error.message, NULL);
    }
    if (rc < 0)
        return true; /* no volume, or one that is taken away or made at this moment */
    return walk->fn(walk->arg, walk->uid, path, &data);
}

static bool walk_pod(void *arg, const char *path, const char *name)
{
    struct walk *walk = arg;
    walk->uid = name;
    return each_folder(kp_arena_printf(walk->arena, "%s/volumes/kubernetes.io~csi", path), walk, walk_volume);
}

bool csi_each_published(const char *root_dir, const char *uid, struct kp_arena *arena, csi_each_fn fn, void *arg)
{
    struct walk walk = {.arena = arena, .fn = fn, .arg = arg};
    if (uid)
        walk_pod(&walk, kp_arena_printf(arena, "%s/pods/%s", root_dir, uid), uid);
    else
        each_folder(kp_arena_printf(arena, "%s/pods", root_dir), &walk, walk_pod);
    return !walk.broken;
}

static bool walk_driver(void *arg, const char *path, const char *name)
{
    (void)name;
    return each_folder(path, arg, walk_volume);
}

void csi_each_staged(const char *root_dir, struct kp_arena *arena, csi_each_fn fn, void *arg)
{
    struct walk walk = {.arena = arena, .fn = fn, .arg = arg};
    each_folder(kp_arena_printf(arena, "%s/" PLUGIN_FOLDER, root_dir), &walk, walk_driver);
}

struct search {
    const char *driver, *handle, *except_uid;
    bool found;
};

static bool is_used(void *arg, const char *uid, const char *folder, const struct csi_data *data)
{
    struct search *search = arg;
    (void)folder;
    search->found = kp_streq(data->handle, search->handle) && kp_streq(data->driver, search->driver) && !kp_streq(uid, search->except_uid);
    return !search->found;
}

bool csi_used(const char *root_dir, const char *driver, const char *handle, const char *except_uid, struct kp_arena *arena)
{
    struct search search = {.driver = driver, .handle = handle, .except_uid = except_uid};
    bool complete = csi_each_published(root_dir, NULL, arena, is_used, &search);
    return search.found || !complete;
}

struct gather {
    struct kp_arena *arena;
    struct kp_string_map names; /* a sorted set */
};

static bool note_use(void *arg, const char *uid, const char *folder, const struct csi_data *data)
{
    struct gather *gather = arg;
    (void)uid, (void)folder;
    if (*data->attachment) {
        const char *name = kp_arena_printf(gather->arena, "kubernetes.io/csi/%s^%s", data->driver, data->handle);
        if (!kp_string_map_get(&gather->names, name))
            kp_string_map_set(gather->arena, &gather->names, name, "");
    }
    return true;
}

static int by_key(const void *a, const void *b)
{
    return strcmp(((const struct kp_string_pair *)a)->key, ((const struct kp_string_pair *)b)->key);
}

void csi_in_use(struct csi *csi, struct kp_arena *arena, struct kp_string_list *ret)
{
    struct gather gather = {.arena = arena};
    (void)csi_each_published(csi->config.root_dir, NULL, arena, note_use, &gather);
    csi_each_staged(csi->config.root_dir, arena, note_use, &gather);
    *ret = (struct kp_string_list){0};
    if (gather.names.len > 1)
        qsort(gather.names.items, gather.names.len, sizeof(*gather.names.items), by_key);
    for (size_t i = 0; i < gather.names.len; i++)
        kp_string_list_add(arena, ret, gather.names.items[i].key);
}
