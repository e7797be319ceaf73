/* Addresses, routes, MTU and name servers that the cloud's network gives: busybox's udhcpc asks at boot, a link at a time, and this sets them;
   dhcp_follow.c keeps the lease from then on. */
#include <arpa/inet.h>
#include <dirent.h>
#include <net/if.h>
#include <unistd.h>

#include "dhcp_internal.h"

#define SCRIPT_PATH "/run/kprov/dhcp.sh"
#define ANSWER_MAX 4096
#define ASK_MS 40000
#define FIRST_METRIC 100 /* of the first link's default route; those of later links count less */

/* udhcpc's words for the options that it got; the rest is not ours to read. */
static const char script[] = "#!/bin/sh\n"
                             "case $1 in bound|renew) ;; *) exit 0 ;; esac\n"
                             "read -r up rest </proc/uptime\n"
                             "printf 'ip=%s\\nmask=%s\\nrouter=%s\\nstaticroutes=%s\\ndns=%s\\nmtu=%s\\nntp=%s\\n' \"$ip\" \"$mask\" \"$router\" \\\n"
                             "\t\"$staticroutes\" \"$dns\" \"$mtu\" \"$ntpsrv\" >\"/run/kprov/dhcp.$interface.part\" &&\n"
                             "printf 'server=%s\\nlease=%s\\nat=%s\\n' \"$serverid\" \"$lease\" \"${up%.*}\" >>\"/run/kprov/dhcp.$interface.part\" &&\n"
                             "mv \"/run/kprov/dhcp.$interface.part\" \"/run/kprov/dhcp.$interface\"\n";

static bool is_ipv4(const char *text)
{
    struct in_addr address;
    return inet_pton(AF_INET, text, &address) == 1;
}

static bool is_prefix(const char *text)
{
    char copy[32];
    int64_t bits;
    const char *slash = strchr(text, '/');
    if (!slash || (size_t)(slash - text) >= sizeof(copy))
        return false;
    snprintf(copy, sizeof(copy), "%.*s", (int)(slash - text), text);
    return is_ipv4(copy) && kp_parse_i64(slash + 1, &bits) == 0 && bits >= 0 && bits <= 32;
}

const char *dhcp_value(const char *answer, const char *key, struct kp_arena *arena)
{
    size_t len = strlen(key);
    for (const char *line = answer; line && *line; line = strchr(line, '\n'), line = line ? line + 1 : NULL)
        if (strncmp(line, key, len) == 0 && line[len] == '=')
            return kp_arena_strndup(arena, line + len + 1, strcspn(line + len + 1, "\n"));
    return "";
}

/* "onlink": a gateway may lie outside the address's own prefix, which is often a /32. */
static void add_route(struct kp_buf *batch, const char *destination, const char *gateway, const char *link, int metric)
{
    if (kp_streq(gateway, "0.0.0.0"))
        kp_buf_printf(batch, "route replace %s dev %s metric %d\n", destination, link, metric);
    else
        kp_buf_printf(batch, "route replace %s via %s dev %s onlink metric %d\n", destination, gateway, link, metric);
}

/* RFC 3442: with routes of its own in the answer, the router does not count. Those to a network on the link come first: gateways need them. */
static int add_routes(struct kp_buf *batch, const char *link, char *routes, const char *router, int metric, struct kp_error *error)
{
    char first_router[32];
    const char *words[128];
    size_t n = 0;
    for (char *rest = routes, *word; (word = strsep(&rest, " ")) != NULL;)
        if (*word && n < KP_ARRAY_LEN(words))
            words[n++] = word;
    for (size_t i = 0; i + 1 < n; i += 2)
        if (!is_prefix(words[i]) || !is_ipv4(words[i + 1]))
            return kp_fail(error, KP_EINVALID, "DHCP on %s: no route: %s %s", link, words[i], words[i + 1]);
    for (int near = 1; near >= 0; near--)
        for (size_t i = 0; i + 1 < n; i += 2)
            if (kp_streq(words[i + 1], "0.0.0.0") == (near == 1))
                add_route(batch, words[i], words[i + 1], link, metric);
    if (n >= 2 || kp_empty(router))
        return 0;
    snprintf(first_router, sizeof(first_router), "%.*s", (int)strcspn(router, " "), router);
    if (!is_ipv4(first_router))
        return kp_fail(error, KP_EINVALID, "DHCP on %s: no router: %s", link, router);
    add_route(batch, "default", first_router, link, metric);
    return 0;
}

int init_dhcp_commands(const char *link, int index, const char *answer, struct kp_buf *batch, struct kp_buf *resolv_conf, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const char *ip = dhcp_value(answer, "ip", arena), *mask = dhcp_value(answer, "mask", arena), *mtu = dhcp_value(answer, "mtu", arena);
    char *routes = kp_arena_strdup(arena, dhcp_value(answer, "staticroutes", arena)), *dns = kp_arena_strdup(arena, dhcp_value(answer, "dns", arena));
    int64_t bits = 0, bytes = 0;
    if (!is_ipv4(ip) || kp_parse_i64(mask, &bits) < 0 || bits < 1 || bits > 32)
        return kp_fail(error, KP_EINVALID, "DHCP on %s gave no address: \"%s/%s\"", link, ip, mask);
    if (*mtu && (kp_parse_i64(mtu, &bytes) < 0 || bytes < 576 || bytes > 65535))
        return kp_fail(error, KP_EINVALID, "DHCP on %s: no MTU: %s", link, mtu);
    if (bytes)
        kp_buf_printf(batch, "link set %s mtu %lld\n", link, (long long)bytes);
    kp_buf_printf(batch, "address replace %s/%lld dev %s\n", ip, (long long)bits, link);
    int r = add_routes(batch, link, routes, dhcp_value(answer, "router", arena), FIRST_METRIC + index, error);
    for (char *rest = dns, *word; r == 0 && (word = strsep(&rest, " ")) != NULL;)
        if (is_ipv4(word))
            kp_buf_printf(resolv_conf, "nameserver %s\n", word);
    return r;
}

/* Each line of a batch that makes a route and is not in the other one, as one that removes it. */
static void add_gone(const char *before, const char *after, struct kp_buf *gone)
{
    static const char make[] = "route replace ";
    for (const char *line = before, *end; line && *line; line = end + 1) {
        end = strchrnul(line, '\n');
        KP_AUTO_FREE char *copy = kp_strndup(line, (size_t)(end - line));
        KP_AUTO_FREE char *whole = kp_asprintf("%s\n", copy);
        if (kp_starts_with(copy, make) && !strstr(after, whole))
            kp_buf_printf(gone, "route del %s\n", copy + sizeof(make) - 1);
        if (!*end)
            break;
    }
}

int dhcp_change_commands(const char *link, int index, const char *before, const char *after, struct kp_buf *batch, struct kp_buf *gone, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_BUF struct kp_buf old = {0}, ignored = {0}, resolv_conf = {0};
    int r = init_dhcp_commands(link, index, after, batch, &resolv_conf, error);
    if (r < 0)
        return r;
    if (init_dhcp_commands(link, index, before, &old, &ignored, NULL) < 0)
        return 0;
    add_gone(old.data, batch->data, gone);
    const char *ip = dhcp_value(before, "ip", arena), *mask = dhcp_value(before, "mask", arena);
    if (!kp_streq(ip, dhcp_value(after, "ip", arena)) || !kp_streq(mask, dhcp_value(after, "mask", arena)))
        kp_buf_printf(gone, "address del %s/%s dev %s\n", ip, mask, link);
    return 0;
}

static int by_number(const void *a, const void *b)
{
    return (int)if_nametoindex(*(char *const *)a) - (int)if_nametoindex(*(char *const *)b);
}

/* The links that a device is behind, in the kernel's order. */
static int list_links(struct kp_strings *ret, struct kp_error *error)
{
    DIR *dir = opendir("/sys/class/net");
    if (!dir)
        return kp_fail_errno(error, "list network links");
    for (struct dirent *entry; (entry = readdir(dir));) {
        KP_AUTO_FREE char *device = kp_asprintf("/sys/class/net/%s/device", entry->d_name);
        if (entry->d_name[0] != '.' && kp_path_exists(device))
            kp_strings_add(ret, entry->d_name);
    }
    closedir(dir);
    if (ret->len > 1)
        qsort(ret->items, ret->len, sizeof(*ret->items), by_number);
    return ret->len ? 0 : kp_fail(error, KP_EUNAVAILABLE, "the machine has no network link: no driver for its device");
}

/* With go_on: what is gone already does not matter. */
int dhcp_run_ip(const char *batch, bool go_on, struct kp_error *error)
{
    KP_AUTO_FREE char *path = kp_asprintf("/run/kprov/dhcp.batch.%d", (int)getpid());
    const char *const argv[] = {"ip", "-batch", path, go_on ? "-force" : NULL, NULL};
    KP_AUTO_BUF struct kp_buf complaint = {0};
    int status = 0, r = kp_write_file(path, batch, strlen(batch), 0600, error);
    if (r == 0)
        r = kp_run(argv, 10000, NULL, &complaint, &status, error);
    if (r == 0 && status != 0 && !go_on)
        r = kp_fail(error, KP_EIO, "ip ended with %d: %s", status, complaint.data ? complaint.data : "");
    return r;
}

char *dhcp_answer_path(const char *link)
{
    return kp_asprintf("/run/kprov/dhcp.%s", link);
}

int dhcp_ask(const char *link, int index, struct kp_buf *resolv_conf, struct kp_buf *time_servers, struct kp_error *error)
{
    const char *const argv[] = {"busybox", "udhcpc", "-i", link, "-f", "-n", "-q", "-t", "8", "-T", "2", "-O", "mtu", "-O", "staticroutes", "-O", "ntpsrv", "-s", SCRIPT_PATH, NULL};
    KP_AUTO_BUF struct kp_buf said = {0}, answer = {0}, batch = {0};
    KP_AUTO_FREE char *path = dhcp_answer_path(link), *up = kp_asprintf("link set lo up\nlink set %s up\n", link);
    int status = 0, r = kp_mkdir_p("/run/kprov", 0700, error);
    if (r == 0)
        r = kp_write_file(SCRIPT_PATH, script, strlen(script), 0700, error);
    if (r == 0)
        r = dhcp_run_ip(up, false, error);
    if (r == 0)
        r = kp_run(argv, ASK_MS, NULL, &said, &status, error);
    if (r == 0 && (status != 0 || !kp_path_exists(path)))
        r = kp_fail(error, KP_EUNAVAILABLE, "no DHCP server answers on %s", link);
    if (r == 0)
        r = kp_read_file(path, ANSWER_MAX, &answer, error);
    if (r == 0)
        r = init_dhcp_commands(link, index, answer.data ? answer.data : "", &batch, resolv_conf, error);
    if (r == 0) {
        KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
        kp_buf_printf(time_servers, "%s ", dhcp_value(answer.data, "ntp", arena));
        r = dhcp_run_ip(batch.data, false, error);
    }
    return r;
}

int init_dhcp(struct kp_error *error)
{
    static bool is_up; /* a second try asks for the user data again, not for the address */
    struct kp_strings links = {0};
    KP_AUTO_BUF struct kp_buf resolv_conf = {0}, time_servers = {0};
    int up = 0;
    if (is_up)
        return 0;
    int r = list_links(&links, error);
    for (size_t i = 0; r == 0 && i < links.len; i++) {
        struct kp_error failure = {0};
        if (dhcp_ask(links.items[i], (int)i, &resolv_conf, &time_servers, &failure) == 0) {
            up++;
            init_dhcp_note(links.items[i], (int)i);
        }
        else if (links.len > 1)
            kp_warn("a link stays without address", "link", links.items[i], "error", failure.message, NULL);
        if (failure.code)
            *error = failure;
    }
    kp_strings_done(&links);
    if (r < 0 || up == 0)
        return r < 0 ? r : error->code;
    is_up = true;
    r = kp_write_file(INIT_DHCP_TIME_PATH, time_servers.data, time_servers.len, 0644, error);
    if (r < 0)
        return r;
    return resolv_conf.len ? kp_write_file("/etc/resolv.conf", resolv_conf.data, resolv_conf.len, 0644, error) : 0;
}
