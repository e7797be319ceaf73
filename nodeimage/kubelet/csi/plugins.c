/* Watching the folder in which plugins show their sockets: who has come is asked who it is and told whether it is taken, who has gone is forgotten. */
#include <dirent.h>
#include <poll.h>
#include <sys/inotify.h>
#include <sys/stat.h>
#include <unistd.h>

#include "nodeimage/kubelet/csi/csi_internal.h"

#define PLUGINS_MAX 256 /* sockets that are looked at; more are passed over */
#define RETRY_MS_MIN 500
#define RETRY_MS_MAX 122000 /* as upstream's exponential back-off ends */
#define LOOK_MS 1000        /* without inotify */
#define NODE_CHECK_MS 60000 /* whether the CSINode is still this Node's */
#define TYPE "CSIPlugin"

struct plugin {
    char *path;
    ino_t inode;
    struct timespec made; /* a socket made anew is another plugin, though it has the same path */
    char *driver;         /* what it is known as; NULL: not registered */
    bool told;            /* and it knows that it is */
    int64_t retry_ms, wait_ms; /* by kp_mono_ms */
    bool seen;
};
struct csi_plugins {
    struct plugin *items;
    size_t len;
};

const char *csi_plugin_refuse(const struct csi_plugin_info *info, struct kp_arena *arena)
{
    if (!kp_streq(info->type, TYPE))
        return kp_arena_printf(arena, "no handler registered for plugin type: %s", info->type);
    if (kp_empty(info->name) || strchr(info->name, '/') || strlen(info->name) > 63)
        return kp_arena_printf(arena, "driver name \"%s\" is not valid", info->name ? info->name : "");
    for (size_t i = 0; i < info->versions.len; i++) {
        const char *version = info->versions.items[i];
        version += *version == 'v';
        if (kp_streq(version, "1") || kp_starts_with(version, "1."))
            return NULL;
    }
    return kp_arena_printf(arena, "plugin registration failed: none of the versions of driver %s is supported, version 1 of CSI is needed", info->name);
}

static void forget(struct csi *csi, struct plugin *plugin)
{
    struct kp_error error = {0};
    if (plugin->driver) {
        csi_driver_drop(csi, plugin->driver);
        if (csi_node_publish(csi, plugin->driver, NULL, &error) < 0)
            kp_warn("taking a driver out of the CSINode failed", "driver", plugin->driver, "error", error.message, NULL);
        kp_info("storage driver is gone", "driver", plugin->driver, NULL);
    }
    free(plugin->path);
    free(plugin->driver);
}

/* Asks the driver what it is to this node, and makes it known. */
static int take(struct csi *csi, const struct csi_plugin_info *info, const char *socket, struct kp_arena *arena, struct kp_error *error)
{
    struct csi_node_info node = {0};
    const char *endpoint = kp_empty(info->endpoint) ? socket : info->endpoint;
    KP_AUTO(csi_driver_unref) struct csi_driver *driver = csi_driver_new(csi->config.loop, info->name, endpoint, error);
    if (!driver)
        return error->code;
    int rc = csi_call_info(driver, arena, &node, error);
    if (rc == 0)
        rc = csi_node_publish(csi, info->name, &node, error);
    if (rc < 0)
        return rc;
    csi_driver_put(csi, KP_TAKE(driver));
    kp_info("storage driver registered", "driver", info->name, "endpoint", endpoint, "nodeID", node.node_id, NULL);
    return 0;
}

static int enlist(struct csi *csi, struct plugin *plugin, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct csi_plugin_info info = {0};
    int rc = csi_call_plugin_info(csi->config.loop, plugin->path, arena, &info, error);
    if (rc < 0)
        return kp_wrap(error, "failed to get plugin info using RPC GetInfo at socket %s", plugin->path);
    const char *refusal = csi_plugin_refuse(&info, arena);
    if (refusal)
        rc = kp_fail(error, KP_EINVALID, "%s", refusal);
    else if ((rc = take(csi, &info, plugin->path, arena, error)) < 0)
        kp_wrap(error, "RegisterPlugin error -- plugin registration failed with err");
    if (rc == 0) {
        free(plugin->driver);
        plugin->driver = kp_strdup(info.name);
    }
    struct kp_error notify = {0};
    if (csi_call_plugin_notify(csi->config.loop, plugin->path, rc < 0 ? error->message : NULL, &notify) < 0) {
        kp_warn("telling a plugin of its registration failed", "socket", plugin->path, "error", notify.message, NULL);
        if (rc == 0) /* it may wait for the word: it is told again */
            rc = kp_fail(error, KP_EUNAVAILABLE, "%s", notify.message);
    }
    plugin->told = rc == 0;
    return rc;
}

static void try(struct csi *csi, struct plugin *plugin)
{
    struct kp_error error = {0};
    if (enlist(csi, plugin, &error) == 0) {
        if (csi->config.node.registered)
            csi->config.node.registered(csi->config.node.arg);
        return;
    }
    plugin->wait_ms = KP_MIN(KP_MAX(plugin->wait_ms * 2, RETRY_MS_MIN), RETRY_MS_MAX);
    plugin->retry_ms = kp_mono_ms() + plugin->wait_ms;
    kp_warn("plugin registration failed", "socket", plugin->path, "error", error.message, NULL);
}

static struct plugin *find(struct csi_plugins *plugins, const char *path, const struct stat *st)
{
    for (size_t i = 0; i < plugins->len; i++) {
        struct plugin *p = &plugins->items[i];
        if (kp_streq(p->path, path) && p->inode == st->st_ino && p->made.tv_sec == st->st_ctim.tv_sec && p->made.tv_nsec == st->st_ctim.tv_nsec)
            return p;
    }
    return NULL;
}

static void see(struct csi_plugins *plugins, const char *path)
{
    struct stat st;
    if (stat(path, &st) < 0 || !S_ISSOCK(st.st_mode))
        return;
    struct plugin *plugin = find(plugins, path, &st);
    if (!plugin) {
        if (plugins->len == PLUGINS_MAX)
            return;
        plugins->items = kp_realloc(plugins->items, (plugins->len + 1) * sizeof(*plugins->items));
        plugin = &plugins->items[plugins->len++];
        *plugin = (struct plugin){.path = kp_strdup(path), .inode = st.st_ino, .made = st.st_ctim};
    }
    plugin->seen = true;
}

static void see_folder(struct csi_plugins *plugins, const char *folder)
{
    DIR *dir = opendir(folder);
    struct dirent *entry;
    while (dir && (entry = readdir(dir)) != NULL) {
        KP_AUTO_FREE char *path = kp_asprintf("%s/%s", folder, entry->d_name);
        if (entry->d_name[0] != '.')
            see(plugins, path);
    }
    if (dir)
        closedir(dir);
}

static char *registry(const struct csi *csi)
{
    return kp_asprintf("%s/plugins_registry", csi->config.root_dir);
}

int64_t csi_look(struct csi *csi)
{
    KP_AUTO_FREE char *folder = registry(csi);
    if (!csi->plugins)
        csi->plugins = kp_calloc(1, sizeof(*csi->plugins));
    struct csi_plugins *plugins = csi->plugins;
    for (size_t i = 0; i < plugins->len; i++)
        plugins->items[i].seen = false;
    see_folder(plugins, folder);
    for (size_t i = plugins->len; i-- > 0;) { /* those that go first: one made anew takes the same name */
        if (plugins->items[i].seen)
            continue;
        forget(csi, &plugins->items[i]);
        memmove(&plugins->items[i], &plugins->items[i + 1], (--plugins->len - i) * sizeof(*plugins->items));
    }
    int64_t next_ms = -1;
    for (size_t i = 0; i < plugins->len; i++) {
        struct plugin *plugin = &plugins->items[i];
        if (!plugin->told && kp_mono_ms() >= plugin->retry_ms)
            try(csi, plugin);
        int64_t left_ms = plugin->told ? -1 : KP_MAX(plugin->retry_ms - kp_mono_ms(), 0);
        if (left_ms >= 0 && (next_ms < 0 || left_ms < next_ms))
            next_ms = left_ms;
    }
    return next_ms;
}

void csi_plugins_free(struct csi_plugins *plugins)
{
    for (size_t i = 0; plugins && i < plugins->len; i++) {
        free(plugins->items[i].path);
        free(plugins->items[i].driver);
    }
    if (plugins)
        free(plugins->items);
    free(plugins);
}

/* The CSINode is there from the beginning: the scheduler takes a node without one for a node whose kubelet has not come up. */
static void ensure_node(struct csi *csi)
{
    struct kp_error error = {0};
    for (int64_t wait_ms = RETRY_MS_MIN; csi_node_ensure(csi, &error) < 0; wait_ms = KP_MIN(wait_ms * 2, 10000)) {
        if (wait_ms >= RETRY_MS_MIN * 8) /* at first the node itself is not there yet */
            kp_warn("making the CSINode failed", "node", csi->config.node_name, "error", error.message, NULL);
        kp_sleep_ms(wait_ms);
    }
}

/* Once in a while: the Node may have been deleted and registered anew, and its CSINode went with it. */
static void check_node(struct csi *csi, int64_t *next_ms)
{
    struct kp_error error = {0};
    if (kp_mono_ms() < *next_ms)
        return;
    *next_ms = kp_mono_ms() + NODE_CHECK_MS;
    if (!csi_node_is_another(csi))
        return;
    if (csi_node_ensure(csi, &error) < 0)
        kp_warn("making the CSINode anew failed", "node", csi->config.node_name, "error", error.message, NULL);
    for (size_t i = 0; csi->plugins && i < csi->plugins->len; i++)
        csi->plugins->items[i].told = false; /* registered again, which tells of them */
}

void csi_watch(struct csi *csi)
{
    KP_AUTO_FREE char *folder = registry(csi);
    struct kp_error error = {0};
    if (kp_mkdir_p(folder, 0750, &error) < 0)
        kp_error_log("no storage driver can register", "error", error.message, NULL);
    int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);
    if (fd >= 0 && inotify_add_watch(fd, folder, IN_CREATE | IN_DELETE | IN_MOVED_FROM | IN_MOVED_TO) < 0)
        kp_close_fd(&fd);
    if (fd < 0)
        kp_info("plugins are looked for every second: the folder cannot be watched", "folder", folder, NULL);
    ensure_node(csi);
    int64_t check_ms = kp_mono_ms() + NODE_CHECK_MS;
    for (;;) {
        check_node(csi, &check_ms);
        int64_t again_ms = csi_look(csi), left_ms = KP_MAX(check_ms - kp_mono_ms(), 0);
        again_ms = again_ms < 0 ? left_ms : KP_MIN(again_ms, left_ms);
        if (fd < 0) {
            kp_sleep_ms(LOOK_MS);
            continue;
        }
        char events[4096];
        struct pollfd wait = {.fd = fd, .events = POLLIN};
        if (poll(&wait, 1, (int)again_ms) > 0)
            while (read(fd, events, sizeof(events)) > 0)
                continue; /* what happened is seen by looking */
    }
}
