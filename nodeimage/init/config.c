/* Reads the bootstrap config: the one document that makes a blank machine a particular node. */
#include "codec/codec.h"
#include "init_internal.h"

static int bad(struct kp_error *error, const struct kp_value *at, const char *what)
{
    return kp_fail(error, KP_EINVALID, "bootstrap config line %d: %s", at ? at->line : 0, what);
}

static int parse_mode(const char *s, unsigned *ret_mode)
{
    unsigned mode = 0;
    if (!s || !*s || strlen(s) > 5)
        return KP_EINVALID;
    for (; *s; s++) {
        if (*s < '0' || *s > '7')
            return KP_EINVALID;
        mode = mode * 8 + (unsigned)(*s - '0');
    }
    *ret_mode = mode & 07777;
    return 0;
}

static int parse_file(const struct kp_value *v, struct kp_arena *arena, struct init_file *ret, struct kp_error *error)
{
    ret->path = kp_value_str(kp_value_get(v, "path"));
    if (!ret->path || ret->path[0] != '/' || strstr(ret->path, "/../"))
        return bad(error, v, "files[].path must be absolute and without \"..\"");
    ret->mode = 0644;
    const struct kp_value *mode = kp_value_get(v, "mode");
    if (mode && parse_mode(kp_value_str(mode), &ret->mode) < 0)
        return bad(error, mode, "files[].mode must be octal digits in a string");
    const char *content = kp_value_str(kp_value_get(v, "content"));
    if (!content)
        return bad(error, v, "files[].content is missing");
    const char *encoding = kp_value_str(kp_value_get(v, "encoding"));
    ret->data = content;
    ret->len = strlen(content);
    if (!encoding)
        return 0;
    if (!kp_streq(encoding, "base64"))
        return bad(error, v, "files[].encoding must be \"base64\" or absent");
    KP_AUTO_BUF struct kp_buf decoded = {0};
    if (kp_base64_decode(&decoded, content, ret->len) < 0)
        return bad(error, v, "files[].content is not base64");
    ret->len = decoded.len;
    ret->data = decoded.len ? kp_arena_memdup(arena, decoded.data, decoded.len) : "";
    return 0;
}

static int parse_files(const struct kp_value *list, struct kp_arena *arena, struct init_config *ret,
                       struct kp_error *error)
{
    if (!list)
        return 0;
    if (list->kind != KP_VALUE_ARRAY || list->array.len > INIT_FILES_MAX)
        return bad(error, list, "files must be a list, and not too long");
    ret->files = KP_NEW_ARRAY(arena, struct init_file, list->array.len + 1);
    for (size_t i = 0; i < list->array.len; i++) {
        int r = parse_file(list->array.items[i], arena, &ret->files[i], error);
        if (r < 0)
            return r;
    }
    ret->n_files = list->array.len;
    return 0;
}

static int parse_command(const struct kp_value *v, const char *what, struct kp_arena *arena, const char *const **ret_argv,
                         struct kp_error *error)
{
    const struct kp_value *command = kp_value_get(v, "command");
    if (!command || command->kind != KP_VALUE_ARRAY || command->array.len == 0 || command->array.len > INIT_ARGS_MAX)
        return bad(error, v, kp_arena_printf(arena, "%s[].command must be a list of words", what));
    const char **argv = KP_NEW_ARRAY(arena, const char *, command->array.len + 1);
    for (size_t i = 0; i < command->array.len; i++) {
        argv[i] = kp_value_str(command->array.items[i]);
        if (!argv[i])
            return bad(error, command->array.items[i], kp_arena_printf(arena, "%s[].command must be a list of strings", what));
    }
    *ret_argv = argv;
    return 0;
}

static int parse_service(const struct kp_value *v, struct kp_arena *arena, struct init_service *ret,
                         struct kp_error *error)
{
    ret->name = kp_value_str(kp_value_get(v, "name"));
    ret->wait_for = kp_value_str(kp_value_get(v, "waitFor"));
    if (!ret->name || !*ret->name || strchr(ret->name, '/') || strlen(ret->name) > 63)
        return bad(error, v, "services[].name must be a file name of at most 63 characters");
    return parse_command(v, "services", arena, &ret->argv, error);
}

static int parse_services(const struct kp_value *list, struct kp_arena *arena, struct init_config *ret,
                          struct kp_error *error)
{
    if (!list)
        return 0;
    if (list->kind != KP_VALUE_ARRAY || list->array.len > INIT_SERVICES_MAX)
        return bad(error, list, "services must be a list, and not too long");
    for (size_t i = 0; i < list->array.len; i++) {
        int r = parse_service(list->array.items[i], arena, &ret->services[i], error);
        if (r < 0)
            return r;
    }
    ret->n_services = list->array.len;
    return 0;
}

static int parse_once(const struct kp_value *list, struct kp_arena *arena, struct init_config *ret, struct kp_error *error)
{
    if (!list)
        return 0;
    if (list->kind != KP_VALUE_ARRAY || list->array.len > INIT_ONCE_MAX)
        return bad(error, list, "once must be a list, and not too long");
    for (size_t i = 0; i < list->array.len; i++) {
        const struct kp_value *v = list->array.items[i];
        ret->once[i].id = kp_value_str(kp_value_get(v, "id"));
        if (kp_empty(ret->once[i].id) || strchr(ret->once[i].id, '/') || ret->once[i].id[0] == '.' || strlen(ret->once[i].id) > 63)
            return bad(error, v, "once[].id must be a file name of at most 63 characters");
        int r = parse_command(v, "once", arena, &ret->once[i].argv, error);
        if (r < 0)
            return r;
    }
    ret->n_once = list->array.len;
    return 0;
}

static int parse_time_servers(const struct kp_value *list, const char **ret, size_t *ret_len, struct kp_error *error)
{
    if (!list)
        return 0;
    if (list->kind != KP_VALUE_ARRAY || list->array.len > INIT_TIME_SERVERS_MAX)
        return bad(error, list, "time: servers must be a list, and not too long");
    for (size_t i = 0; i < list->array.len; i++) {
        ret[i] = kp_value_str(list->array.items[i]);
        if (kp_empty(ret[i]) || !init_is_time_server(ret[i]))
            return bad(error, list->array.items[i], "time: a server must be a host name or an address");
    }
    *ret_len = list->array.len;
    return 0;
}

static int parse_time(const struct kp_value *v, struct init_time *ret, struct kp_error *error)
{
    if (!v)
        return 0;
    if (v->kind != KP_VALUE_OBJECT)
        return bad(error, v, "time must be a map");
    ret->wanted = true;
    int r = parse_time_servers(kp_value_get(v, "servers"), ret->servers, &ret->n_servers, error);
    return r < 0 ? r : parse_time_servers(kp_value_get(v, "cloudServers"), ret->cloud_servers, &ret->n_cloud_servers, error);
}

static int parse_sysctls(const struct kp_value *map, struct kp_arena *arena, struct init_config *ret,
                         struct kp_error *error)
{
    if (!map)
        return 0;
    if (map->kind != KP_VALUE_OBJECT)
        return bad(error, map, "sysctls must be a map");
    ret->sysctls = KP_NEW_ARRAY(arena, struct init_sysctl, map->object.len + 1);
    for (size_t i = 0; i < map->object.len; i++) {
        const char *key = map->object.members[i].key;
        const char *value = kp_value_str(map->object.members[i].value);
        if (!value || strchr(key, '/') || strstr(key, ".."))
            return bad(error, map->object.members[i].value, "sysctls must map dotted names to strings");
        ret->sysctls[i] = (struct init_sysctl){key, value};
    }
    ret->n_sysctls = map->object.len;
    return 0;
}

int init_config_parse(const char *text, size_t len, struct kp_arena *arena, struct init_config *ret,
                      struct kp_error *error)
{
    struct kp_value *root = NULL;
    memset(ret, 0, sizeof(*ret));
    if (kp_value_parse(text, len, arena, NULL, &root, error) < 0)
        return kp_wrap(error, "bootstrap config");
    if (!kp_streq(kp_value_str(kp_value_get(root, "kind")), "MachineConfig"))
        return bad(error, root, "kind must be MachineConfig");
    ret->hostname = kp_value_str(kp_value_get(root, "hostname"));
    if (kp_empty(ret->hostname) || strlen(ret->hostname) > 63)
        return bad(error, root, "hostname must have 1 to 63 characters");
    const struct kp_value *network = kp_value_get(root, "network");
    ret->interface = kp_value_str(kp_value_get(network, "interface"));
    ret->address = kp_value_str(kp_value_get(network, "address"));
    ret->gateway = kp_value_str(kp_value_get(network, "gateway"));
    if (network && (!ret->interface || !ret->address))
        return bad(error, network, "network needs interface and address");
    int r = parse_files(kp_value_get(root, "files"), arena, ret, error);
    if (r == 0)
        r = parse_sysctls(kp_value_get(root, "sysctls"), arena, ret, error);
    if (r == 0)
        r = parse_services(kp_value_get(root, "services"), arena, ret, error);
    if (r == 0)
        r = parse_once(kp_value_get(root, "once"), arena, ret, error);
    if (r == 0)
        r = parse_time(kp_value_get(root, "time"), &ret->time, error);
    return r;
}
