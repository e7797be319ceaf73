/* Kubeconfig files: made for programs and people, merged into and taken out of the user's own. */
#include "provisioner/bootstrap/bootstrap.h"
#include "provisioner/bootstrap/kubeconfig_file.h"

#define KUBECONFIG_BYTES_MAX ((size_t)4 << 20)

static const char *base64(struct kp_arena *arena, const char *text)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_base64_encode(&out, text, strlen(text));
    return kp_arena_strndup(arena, out.data, out.len);
}

int kubeconfig_make(const struct pki *pki, const char *cluster, const char *server, const char *user,
                    const char *common_name, const char *organization, struct kp_arena *arena, const char **ret_text,
                    struct kp_error *error)
{
    const char *cert = NULL, *key = NULL;
    KP_AUTO_BUF struct kp_buf ca = {0};
    const struct pki_leaf leaf = {.common_name = common_name, .organization = organization, .usages = TLS_USAGE_CLIENT};
    int r = pki_issue(&pki->ca, &leaf, arena, &cert, &key, error);
    if (r < 0)
        return r;
    pki_trust(&pki->ca, &ca);
    *ret_text = kp_arena_printf(arena,
                                "apiVersion: v1\nkind: Config\n"
                                "clusters:\n- name: %s\n  cluster:\n    server: %s\n    certificate-authority-data: %s\n"
                                "users:\n- name: %s\n  user:\n    client-certificate-data: %s\n    client-key-data: %s\n"
                                "contexts:\n- name: %s\n  context:\n    cluster: %s\n    user: %s\n"
                                "current-context: %s\n",
                                cluster, server, base64(arena, ca.data), user, base64(arena, cert), base64(arena, key),
                                cluster, cluster, user, cluster);
    return 0;
}

static int read_config(const char *path, struct kp_arena *arena, struct kp_value **ret, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_value **documents = NULL;
    size_t count = 0;
    int r = kp_read_file(path, KUBECONFIG_BYTES_MAX, &text, error);
    if (r < 0 && r != KP_ENOTFOUND)
        return r;
    if (r == 0)
        r = kp_yaml_parse(text.data ? text.data : "", text.len, arena, &documents, &count, error);
    else
        r = 0;
    if (r < 0)
        return kp_wrap(error, "%s", path);
    if (count > 1 || (count == 1 && documents[0]->kind != KP_VALUE_OBJECT))
        return kp_fail(error, KP_EINVALID, "%s is no kubeconfig", path);
    *ret = count ? documents[0] : kp_value_object(arena);
    return 0;
}

/* Removes the entries of that name from a list of named entries; gives whether there was one. */
static bool remove_named(struct kp_value *list, const char *name)
{
    bool found = false;
    for (size_t i = list && list->kind == KP_VALUE_ARRAY ? list->array.len : 0; i-- > 0;) {
        if (kp_streq(kp_value_str(kp_value_get(list->array.items[i], "name")), name)) {
            kp_value_array_remove(list, i);
            found = true;
        }
    }
    return found;
}

static const char *const lists[][2] = {{"clusters", "cluster"}, {"users", "user"}, {"contexts", "context"}};

static void put_named(struct kp_value *config, size_t which, const char *name, const struct kp_value *from,
                      struct kp_arena *arena)
{
    struct kp_value *list = kp_value_get(config, lists[which][0]);
    if (!list || list->kind != KP_VALUE_ARRAY) {
        list = kp_value_array(arena);
        kp_value_set(arena, config, lists[which][0], list);
    }
    remove_named(list, name);
    struct kp_value *entry = kp_value_clone(kp_value_at(kp_value_get(from, lists[which][0]), 0), arena);
    kp_value_set(arena, entry, "name", kp_value_string(arena, name));
    if (which == 2) {
        struct kp_value *context = kp_value_get(entry, "context");
        kp_value_set(arena, context, "cluster", kp_value_string(arena, name));
        kp_value_set(arena, context, "user", kp_value_string(arena, name));
    }
    kp_value_append(arena, list, entry);
}

static int replace_config(struct kubeconfig_file *file, const struct kp_value *config, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    kp_yaml_print(config, &text);
    return kubeconfig_file_replace(file, text.data, text.len, error);
}

static int merge_locked(struct kubeconfig_file *file, const char *name, const char *text, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *config = NULL, **documents = NULL;
    size_t count = 0;
    int r = read_config(file->path, arena, &config, error);
    if (r == 0)
        r = kp_yaml_parse(text, strlen(text), arena, &documents, &count, error);
    if (r < 0)
        return r;
    if (count != 1)
        return kp_fail(error, KP_EINVALID, "the kubeconfig to merge has %zu documents", count);
    kp_value_set(arena, config, "apiVersion", kp_value_string(arena, "v1"));
    kp_value_set(arena, config, "kind", kp_value_string(arena, "Config"));
    for (size_t i = 0; i < KP_ARRAY_LEN(lists); i++)
        put_named(config, i, name, documents[0], arena);
    kp_value_set(arena, config, "current-context", kp_value_string(arena, name));
    return replace_config(file, config, error);
}

int kubeconfig_merge(const char *path, const char *name, const char *text, struct kp_error *error)
{
    struct kubeconfig_file file;
    char *parent = kp_strdup(path), *slash = strrchr(parent, '/');
    int r = 0;
    if (slash && slash != parent) {
        *slash = 0;
        r = kp_mkdir_p(parent, 0700, error);
    }
    free(parent);
    if (r == 0)
        r = kubeconfig_file_lock(&file, path, error);
    if (r < 0)
        return r;
    r = merge_locked(&file, name, text, error);
    kubeconfig_file_unlock(&file);
    return r;
}

static int unmerge_locked(struct kubeconfig_file *file, const char *name, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_value *config = NULL;
    bool found = false;
    int r = read_config(file->path, arena, &config, error);
    for (size_t i = 0; r == 0 && i < KP_ARRAY_LEN(lists); i++)
        found |= remove_named(kp_value_get(config, lists[i][0]), name);
    if (r < 0 || !found)
        return r;
    if (kp_streq(kp_value_str(kp_value_get(config, "current-context")), name))
        kp_value_set(arena, config, "current-context", kp_value_string(arena, ""));
    return replace_config(file, config, error);
}

int kubeconfig_unmerge(const char *path, const char *name, struct kp_error *error)
{
    struct kubeconfig_file file;
    kubeconfig_file_mend(path);
    if (!kp_path_exists(path))
        return 0;
    int r = kubeconfig_file_lock(&file, path, error);
    if (r < 0)
        return r;
    r = unmerge_locked(&file, name, error);
    kubeconfig_file_unlock(&file);
    return r;
}
