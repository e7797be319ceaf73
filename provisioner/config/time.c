/* spec.timeServers: whom machines with a clock of their own ask for the time - its rules, and its text. */
#include <arpa/inet.h>
#include <ctype.h>

#include "provisioner/config/config_internal.h"

#define HOST_MAX 253 /* RFC 1035 2.3.4 */

/* `local` machines have the host's clock, `external` ones their owner's service. */
bool config_keeps_time(const char *provider)
{
    return !kp_streq(provider, "local") && !kp_streq(provider, "external");
}

static bool is_host_name(const char *name)
{
    size_t label = 0;
    bool letter = false;
    for (const char *p = name; *p; p++) {
        if (*p == '.' ? label == 0 || p[-1] == '-' : !isalnum((unsigned char)*p) && (*p != '-' || label == 0))
            return false;
        label = *p == '.' ? 0 : label + 1;
        letter |= isalpha((unsigned char)*p) != 0;
        if (label > 63)
            return false;
    }
    return letter && strlen(name) <= HOST_MAX && label > 0 && name[strlen(name) - 1] != '-';
}

static bool is_address(const char *text)
{
    struct in_addr v4;
    struct in6_addr v6;
    return inet_pton(AF_INET, text, &v4) == 1 || inet_pton(AF_INET6, text, &v6) == 1;
}

int config_check_time(const struct config *config, struct kp_error *error)
{
    KP_AUTO_FREE char *copy = kp_strdup(config->time_servers);
    size_t i = 0;
    if (!*copy)
        return 0;
    if (!config_keeps_time(config->provider))
        return kp_fail(error, KP_EINVALID, "spec.timeServers: the clock of machines of provider %s is not kprov's to keep: %s", config->provider,
                       kp_streq(config->provider, "local") ? "they have this host's" : "name the servers to the time service that they run");
    for (char *rest = copy, *item; (item = strsep(&rest, " ")) != NULL; i++)
        if (!is_address(item) && !is_host_name(item))
            return kp_fail(error, KP_EINVALID, "spec.timeServers[%zu]: \"%s\" must be a host name or an address, such as ntp.example or 192.0.2.1", i, item);
    return 0;
}

struct kp_value *config_time_value(const struct config *config, struct kp_arena *arena)
{
    struct kp_value *list = kp_value_array(arena);
    KP_AUTO_FREE char *copy = kp_strdup(config->time_servers);
    for (char *rest = copy, *item; (item = strsep(&rest, " ")) != NULL;)
        if (*item)
            kp_value_append(arena, list, kp_value_string(arena, kp_arena_strdup(arena, item)));
    return list;
}
