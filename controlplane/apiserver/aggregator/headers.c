/* Who asks, as headers for servers that trust our certificate (client-go's transport, SetAuthProxyHeaders). */
#include "controlplane/apiserver/aggregator/aggregator_internal.h"

#include <strings.h>

#define EXTRA_PREFIX "X-Remote-Extra-"

bool aggregator_is_user_header(const char *name)
{
    static const char *const names[] = {"X-Remote-User", "X-Remote-Uid", "X-Remote-Group"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        if (strcasecmp(names[i], name) == 0)
            return true;
    return strncasecmp(name, EXTRA_PREFIX, strlen(EXTRA_PREFIX)) == 0;
}

/* A header's name: what may not stand in one, and '%', is percent-encoded; case is lost on the way anyway. */
static const char *extra_name(const char *key, struct kp_arena *arena)
{
    static const char others[] = "!#$&'*+-.^_`|~"; /* RFC 9110 5.6.2 without '%' */
    KP_AUTO_BUF struct kp_buf out = {0};
    kp_buf_puts(&out, EXTRA_PREFIX);
    for (const unsigned char *c = (const unsigned char *)key; *c; c++) {
        bool plain = (*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || strchr(others, *c);
        if (plain)
            kp_buf_putc(&out, (char)*c);
        else
            kp_buf_printf(&out, "%%%02X", *c);
    }
    return kp_arena_strdup(arena, out.data);
}

static void add(struct aggregator_headers *headers, const char *name, const char *value, struct kp_arena *arena)
{
    struct http_header *header = KP_LIST_ADD(arena, headers);
    header->name = name;
    header->value = value;
}

void aggregator_add_user(const struct auth_user *user, struct kp_arena *arena, struct aggregator_headers *headers)
{
    add(headers, "X-Remote-User", user->name, arena);
    if (!kp_empty(user->uid)) /* feature RemoteRequestHeaderUID: on since v1.33 */
        add(headers, "X-Remote-Uid", user->uid, arena);
    for (size_t i = 0; i < user->groups.len; i++)
        add(headers, "X-Remote-Group", user->groups.items[i], arena);
    for (size_t i = 0; i < user->extra.len; i++)
        for (size_t k = 0; k < user->extra.items[i].value.len; k++)
            add(headers, extra_name(user->extra.items[i].key, arena), user->extra.items[i].value.items[k], arena);
}

struct aggregator_headers own_headers(struct kp_arena *arena)
{
    struct auth_user user = {.name = "system:kube-aggregator", .uid = ""};
    struct aggregator_headers headers = {0};
    kp_string_list_add(arena, &user.groups, AUTH_GROUP_MASTERS);
    aggregator_add_user(&user, arena, &headers);
    return headers;
}
