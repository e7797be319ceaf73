/* Node images: found by what they are made of, built by the recipe when missing, listed and pruned. */
#include <errno.h>
#include <limits.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "provisioner/cli/cli.h"

#define IMAGE_DIR "/var/lib/kprov/images"
#define BUILD_MS_MAX (20 * 60 * 1000)
#define PARENTS_MAX 5

const char *cli_image_dir(void)
{
    const char *dir = getenv("KPROV_IMAGE_DIR");
    return kp_empty(dir) ? IMAGE_DIR : dir;
}

struct recipe {
    char script[PATH_MAX];
    char programs[PATH_MAX];
};

/* Beside an installed kprov, or up from build/bin in the source tree. */
static int find_recipe(struct recipe *ret, struct kp_error *error)
{
    char exe[PATH_MAX - 64];
    ssize_t n = readlink("/proc/self/exe", exe, sizeof(exe) - 1);
    if (n < 0)
        return kp_fail_errno(error, "read /proc/self/exe");
    exe[n] = 0;
    *strrchr(exe, '/') = 0;
    snprintf(ret->programs, sizeof(ret->programs), "%s/../lib/kprov/bin", exe);
    snprintf(ret->script, sizeof(ret->script), "%s/../share/kprov/image/build.sh", exe);
    if (kp_path_exists(ret->script) && kp_path_exists(ret->programs))
        return 0;
    snprintf(ret->programs, sizeof(ret->programs), "%s", exe);
    for (int i = 0; i < PARENTS_MAX && *exe; i++) {
        snprintf(ret->script, sizeof(ret->script), "%s/nodeimage/image/build.sh", exe);
        if (kp_path_exists(ret->script))
            return 0;
        *strrchr(exe, '/') = 0;
    }
    return kp_fail(error, KP_ENOTFOUND, "the image recipe is neither in share/kprov/image nor in a source tree near %s",
                   ret->programs);
}

static void stat_into(const char *path, struct kp_buf *out)
{
    struct stat st;
    if (stat(path, &st) == 0)
        kp_buf_printf(out, "%s %llu %lld %lld.%09ld\n", path, (unsigned long long)st.st_ino, (long long)st.st_size,
                      (long long)st.st_mtim.tv_sec, st.st_mtim.tv_nsec);
}

/* Changes whenever something an image is made of may have: hashing programs and asking apt takes most of a second. */
static uint64_t signature(const struct recipe *recipe)
{
    static const char *const programs[] = {
        "kprov-init", "kubelet", "kprov-snapshots", "etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy",
        "kprov-network", "kprov-dns", "kprov-vip", "cloud-controller-manager", "pause",
    };
    KP_AUTO_BUF struct kp_buf text = {0};
    char path[PATH_MAX + 64];
    stat_into(recipe->script, &text);
    snprintf(path, sizeof(path), "%.*s/config.toml", (int)(strrchr(recipe->script, '/') - recipe->script), recipe->script);
    stat_into(path, &text);
    for (size_t i = 0; i < KP_ARRAY_LEN(programs); i++) {
        snprintf(path, sizeof(path), "%s/%s", recipe->programs, programs[i]);
        stat_into(path, &text);
    }
    stat_into("/var/lib/dpkg/status", &text);
    stat_into("/var/lib/apt/lists", &text);
    return kp_hash64(text.data, text.len);
}

static bool remembered(uint64_t wanted, struct kp_arena *arena, const char **ret_id)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    unsigned long long known = 0;
    char id[64];
    const char *path = kp_arena_printf(arena, "%s/.current", cli_image_dir());
    if (kp_read_file(path, 256, &text, NULL) < 0 || !text.data || sscanf(text.data, "%llx %63s", &known, id) != 2)
        return false;
    *ret_id = kp_arena_strdup(arena, id);
    return known == wanted && kp_path_exists(kp_arena_printf(arena, "%s/%s/rootfs", cli_image_dir(), id));
}

/* stderr is the user's, so that the recipe's own lines are seen; the last line on stdout is the id. */
static int run_recipe(const struct recipe *recipe, struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    const char *const argv[] = {recipe->script, "--programs", recipe->programs, "--images", cli_image_dir(), NULL};
    KP_AUTO_BUF struct kp_buf out = {0};
    int status = 0;
    int r = kp_run(argv, BUILD_MS_MAX, &out, NULL, &status, error);
    if (r < 0)
        return r;
    while (out.len && out.data[out.len - 1] == '\n')
        out.data[--out.len] = 0;
    const char *line = out.data ? strrchr(out.data, '\n') : NULL;
    line = line ? line + 1 : out.data;
    if (status != 0 || !line || !kp_starts_with(line, "node-"))
        return kp_fail(error, KP_EIO, "building the node image failed with status %d; what it said is above", status);
    *ret_id = kp_arena_strdup(arena, line);
    return 0;
}

int cli_image_ensure(struct kp_arena *arena, const char **ret_id, struct kp_error *error)
{
    struct recipe recipe;
    int r = find_recipe(&recipe, error);
    if (r == 0)
        r = cli_image_note_state(arena, error);
    if (r < 0)
        return r;
    uint64_t wanted = signature(&recipe);
    if (remembered(wanted, arena, ret_id))
        return 0;
    r = run_recipe(&recipe, arena, ret_id, error);
    if (r < 0)
        return r;
    const char *text = kp_arena_printf(arena, "%llx %s\n", (unsigned long long)wanted, *ret_id);
    return kp_write_file(kp_arena_printf(arena, "%s/.current", cli_image_dir()), text, strlen(text), 0644, error);
}

int cli_image_version(const char *id, struct kp_arena *arena, const char **ret_version, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct config_version version;
    if (kp_empty(id) || strchr(id, '/') || !kp_path_exists(kp_arena_printf(arena, "%s/%s/rootfs", cli_image_dir(), id)))
        return kp_fail(error, KP_EINVALID, "node image \"%s\" is not in %s: see kprov image list", id ? id : "", cli_image_dir());
    int r = kp_read_file(kp_arena_printf(arena, "%s/%s/rootfs/usr/lib/kprov/version", cli_image_dir(), id), 64, &text, error);
    if (r < 0)
        return kp_fail(error, KP_EINVALID, "node image \"%s\" does not say which version it is of: it was built by an older kprov", id);
    *ret_version = kp_arena_strndup(arena, text.data ? text.data : "", text.data ? strcspn(text.data, "\n") : 0);
    return config_parse_version(*ret_version, &version) < 0 ? kp_fail(error, KP_EINVALID, "node image \"%s\" is of version \"%s\"", id, *ret_version) : 0;
}

/* A script beside the recipe, of an image; what it says is the user's. */
static int run_script(const char *name, const char *id, struct kp_arena *arena, struct kp_error *error)
{
    struct recipe recipe;
    int r = find_recipe(&recipe, error);
    if (r < 0)
        return r;
    const char *script = kp_arena_printf(arena, "%.*s/%s", (int)(strrchr(recipe.script, '/') - recipe.script), recipe.script, name);
    const char *const argv[] = {script, "--images", cli_image_dir(), id, NULL};
    KP_AUTO_BUF struct kp_buf out = {0};
    int status = 0;
    r = kp_run(argv, BUILD_MS_MAX, &out, NULL, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "%s of node image %s failed with status %d; what it said is above", name, id, status);
    return r;
}

int cli_image_vm(const char *id, struct kp_arena *arena, struct kp_error *error)
{
    if (kp_path_exists(kp_arena_printf(arena, "%s/%s/vm/root.erofs", cli_image_dir(), id)))
        return 0;
    return run_script("vm.sh", id, arena, error);
}

/* Both scripts know what is there already. */
int cli_image_disk(const char *id, struct kp_arena *arena, struct kp_error *error)
{
    int r = run_script("vm.sh", id, arena, error);
    return r < 0 ? r : run_script("disk.sh", id, arena, error);
}

int cli_image_build(int argc, char **argv, struct kp_error *error)
{
    bool help = false, vm = false, disk = false;
    const struct kp_flag flags[] = {{"vm", 0, KP_FLAG_BOOL, &vm, "also what virtual machines boot: kernel, initrd, root", NULL},
                                    {"disk", 0, KP_FLAG_BOOL, &disk, "also a disk that boots by itself, by BIOS and UEFI: for AWS and Hetzner", NULL},
                                    {0}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings rest = {0};
    const char *id = NULL;
    int r = cli_parse("image build", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("image build", &rest, 0, 0, error);
    kp_strings_done(&rest);
    if (r < 0 || help)
        return r;
    r = cli_image_ensure(arena, &id, error);
    if (r == 0 && disk)
        r = cli_image_disk(id, arena, error);
    else if (r == 0 && vm)
        r = cli_image_vm(id, arena, error);
    if (r == 0)
        printf("%s\n", id);
    return r;
}

/* The image wanted, one that a rollback goes to, or one that a machine still has while another is rolled out. */
static bool cluster_uses(const struct state_cluster *cluster, const char *id, struct kp_arena *arena)
{
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct state_cluster again;
    struct cloud_machine_list machines;
    bool uses = kp_streq(cluster->image, id);
    for (size_t i = 0; i < cluster->n_history; i++)
        uses |= kp_streq(cluster->history[i].image, id);
    if (uses || cluster->rollout == STATE_ROLLOUT_IDLE)
        return uses;
    /* Machines that cannot be asked may have any image. */
    uses = cli_cluster_open(cluster->name, arena, &again, &cloud, NULL) < 0 || cloud_machine_list(cloud, cluster->uid, arena, &machines, NULL) < 0;
    for (size_t i = 0; !uses && i < machines.len; i++)
        uses = kp_streq(machines.items[i].image, id);
    return uses;
}

/* Of the clusters in one folder of state; *users gets their names. Another user's folder has its path before each. */
static int add_users(const char *root, bool own, const char *id, struct kp_arena *arena, struct kp_buf *users, struct kp_error *error)
{
    struct kp_strings names = {0};
    int r = state_list(&names, error);
    for (size_t i = 0; r == 0 && i < names.len; i++) {
        struct state_cluster cluster;
        /* A cluster whose state cannot be read may use any image. So may one of another's that is being changed: where its machines are is not known. */
        bool uses = state_read(names.items[i], arena, &cluster, NULL) < 0 || (!own && cluster.rollout != STATE_ROLLOUT_IDLE) ||
                    cluster_uses(&cluster, id, arena);
        if (uses)
            kp_buf_printf(users, "%s%s%s%s", users->len ? "," : "", own ? "" : root, own ? "" : "/", names.items[i]);
    }
    kp_strings_done(&names);
    return r;
}

/* Which clusters use an image, comma-separated: of all folders of state that go by the folder of images. */
static const char *image_users(const char *id, struct kp_arena *arena, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf users = {0};
    KP_AUTO_FREE char *before = getenv("KPROV_STATE_DIR") ? kp_strdup(getenv("KPROV_STATE_DIR")) : NULL;
    struct kp_strings roots = {0};
    int r = cli_image_states(arena, &roots, error);
    for (size_t i = 0; r == 0 && i < roots.len; i++) {
        setenv("KPROV_STATE_DIR", roots.items[i], 1); /* one thread runs here */
        r = add_users(roots.items[i], i == 0, id, arena, &users, error);
    }
    if (before)
        setenv("KPROV_STATE_DIR", before, 1);
    else
        unsetenv("KPROV_STATE_DIR");
    kp_strings_done(&roots);
    if (r < 0)
        return NULL;
    return users.len ? kp_arena_strndup(arena, users.data, users.len) : "";
}

static int list_images(struct kp_arena *arena, struct kp_value *ret_list, struct kp_error *error)
{
    KP_AUTO_BUF struct kp_buf out = {0};
    int status = 0;
    const char *const argv[] = {"find", cli_image_dir(), "-mindepth", "1", "-maxdepth", "1", "-name", "node-*", "-type", "d",
                                "-printf", "%f %Ts\n", NULL};
    if (!kp_path_exists(cli_image_dir()))
        return 0;
    int r = kp_run(argv, 10000, &out, NULL, &status, error);
    if (r < 0)
        return r;
    char *save = NULL;
    for (char *line = strtok_r(out.data, "\n", &save); out.data && line; line = strtok_r(NULL, "\n", &save)) {
        char id[64], age[CLI_AGE_MAX];
        long long made = 0;
        if (kp_ends_with(line, ".tmp") || sscanf(line, "%63s %lld", id, &made) != 2 || strstr(id, ".tmp"))
            continue;
        const char *users = image_users(id, arena, error);
        if (!users)
            return error->code;
        cli_format_age(made, kp_now_s(), age);
        struct kp_value *image = kp_value_object(arena);
        kp_value_set(arena, image, "id", kp_value_string(arena, id));
        struct kp_error unknown = {0};
        const char *version = NULL;
        if (cli_image_version(id, arena, &version, &unknown) < 0)
            version = ""; /* it does not say */
        kp_value_set(arena, image, "version", kp_value_string(arena, version));
        kp_value_set(arena, image, "age", kp_value_string(arena, age));
        kp_value_set(arena, image, "clusters", kp_value_string(arena, users));
        kp_value_append(arena, ret_list, image);
    }
    return 0;
}

int cli_image_list(int argc, char **argv, struct kp_error *error)
{
    const char *output = "table";
    enum cli_output format;
    const struct kp_flag flags[] = {{"output", 'o', KP_FLAG_STRING, &output, "table, json or yaml", NULL}, {0}};
    static const char *const columns[] = {"id", "version", "age", "clusters", NULL};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings rest = {0};
    bool help = false;
    int r = cli_parse("image list", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("image list", &rest, 0, 0, error);
    kp_strings_done(&rest);
    if (r < 0 || help)
        return r;
    struct kp_value *list = kp_value_array(arena);
    r = cli_output_parse(output, &format, error);
    if (r == 0)
        r = list_images(arena, list, error);
    if (r == 0)
        cli_print_list(list, columns, format);
    return r;
}

/* Removes the base trees and the kernels of virtual machines that no node image links to. */
static int prune_bases(struct kp_error *error)
{
    static const char *const script =
        "for b in \"$1\"/base-*; do [ -d \"$b\" ] || continue; used=; for n in \"$1\"/node-*/base; do"
        " [ \"$(readlink -f \"$n\")\" != \"$(readlink -f \"$b\")\" ] || used=1; done;"
        " [ -n \"$used\" ] || { echo \"removed ${b##*/}\"; rm -rf \"$b\"; }; done;"
        " for k in \"$1\"/kernel-*; do [ -d \"$k\" ] || continue; used=; for n in \"$1\"/node-*/vm/vmlinux; do"
        " [ \"$(readlink -f \"$n\")\" != \"$(readlink -f \"$k\")/vmlinux\" ] || used=1; done;"
        " [ -n \"$used\" ] || { echo \"removed ${k##*/}\"; rm -rf \"$k\"; }; done";
    const char *const argv[] = {"sh", "-c", script, "prune", cli_image_dir(), NULL};
    KP_AUTO_BUF struct kp_buf out = {0};
    int status = 0;
    int r = kp_run(argv, 60000, &out, NULL, &status, error);
    if (r == 0 && status != 0)
        r = kp_fail(error, KP_EIO, "removing unused base trees and kernels failed with status %d", status);
    if (r == 0 && out.data)
        fputs(out.data, stdout);
    return r;
}

static void add_once(struct kp_strings *list, const char *text)
{
    for (size_t i = 0; i < list->len; i++)
        if (kp_streq(list->items[i], text))
            return;
    kp_strings_add(list, text);
}

/* The images that clusters go by. One whose state cannot be read may go by any. */
static int wanted_images(const struct kp_strings *names, struct kp_strings *ret_images, struct kp_strings *ret_uris, struct kp_arena *arena,
                         struct kp_error *error)
{
    for (size_t i = 0; i < names->len; i++) {
        struct state_cluster cluster;
        if (state_read(names->items[i], arena, &cluster, error) < 0)
            return kp_wrap(error, "cluster %s may use any image of libvirt's: none was removed there", names->items[i]);
        kp_strings_add(ret_images, cluster.image);
        for (size_t n = 0; n < cluster.n_history; n++)
            kp_strings_add(ret_images, cluster.history[n].image);
        if (kp_streq(cluster.config.provider, "libvirt"))
            add_once(ret_uris, cluster.config.libvirt.uri);
    }
    return 0;
}

static int prune_cloud(const char *uri, const char *const *keep, struct kp_error *error)
{
    const struct cloud_options options = {.image_dir = cli_image_dir(), .uri = kp_empty(uri) ? NULL : uri};
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct kp_strings removed = {0};
    int r = cloud_open("libvirt", &options, &cloud, error);
    if (r == 0)
        r = cloud_images_prune(cloud, keep, &removed, error);
    for (size_t i = 0; i < removed.len; i++)
        printf("removed %s of libvirt's\n", removed.items[i]);
    kp_strings_done(&removed);
    return r;
}

/* What was uploaded: to the libvirts of clusters, and to the one asked for. */
static int prune_clouds(const char *uri, const char *provider, struct kp_arena *arena, struct kp_error *error)
{
    struct kp_strings names = {0}, images = {0}, uris = {0};
    int r = state_list(&names, error);
    if (r == 0)
        r = wanted_images(&names, &images, &uris, arena, error);
    if (!kp_empty(uri))
        add_once(&uris, uri);
    const char **keep = KP_NEW_ARRAY(arena, const char *, images.len + 1);
    for (size_t i = 0; i < images.len; i++)
        keep[i] = images.items[i];
    keep[images.len] = NULL;
    for (size_t i = 0; r == 0 && i < uris.len; i++)
        r = prune_cloud(uris.items[i], keep, error);
    if (r == 0 && !kp_empty(provider))
        r = cli_image_prune_cloud(provider, keep, error);
    kp_strings_done(&names);
    kp_strings_done(&images);
    kp_strings_done(&uris);
    return r;
}

int cli_image_prune(int argc, char **argv, struct kp_error *error)
{
    const char *uri = NULL, *provider = NULL;
    const struct kp_flag flags[] = {
        {"uri", 0, KP_FLAG_STRING, &uri, "a libvirt to prune, such as qemu:///system, besides those of known clusters", NULL},
        {"provider", 0, KP_FLAG_STRING, &provider, "a cloud to prune, of the environment's account: aws, hetzner or openstack", NULL},
        {0}};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct kp_strings rest = {0};
    bool help = false;
    int r = cli_parse("image prune", flags, argc, argv, &rest, &help, error);
    if (r == 0 && !help)
        r = cli_want_words("image prune", &rest, 0, 0, error);
    kp_strings_done(&rest);
    if (r < 0 || help)
        return r;
    struct recipe recipe;
    const char *current = "";
    struct kp_value *list = kp_value_array(arena);
    if (find_recipe(&recipe, NULL) == 0)
        remembered(signature(&recipe), arena, &current);
    r = list_images(arena, list, error);
    for (size_t i = 0; r == 0 && i < list->array.len; i++) {
        const char *id = kp_value_str(kp_value_get(list->array.items[i], "id"));
        if (kp_streq(id, current) || !kp_empty(kp_value_str(kp_value_get(list->array.items[i], "clusters"))))
            continue;
        r = kp_remove_tree(kp_arena_printf(arena, "%s/%s", cli_image_dir(), id), error);
        if (r == 0)
            printf("removed %s\n", id);
    }
    if (r == 0)
        r = prune_bases(error);
    return r < 0 ? r : prune_clouds(uri, provider, arena, error);
}
