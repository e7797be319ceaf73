/* Node images in libvirt's pool: what was cut short or altered is made anew, what nobody uses goes. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/libvirt/libvirt_internal.h"

#define URI "test:///default"
#define CONTENT "the content of a node image"
/* sha256 of CONTENT by coreutils, and its length */
#define MARKER "67e3eac209558a2266234f51fd0257a5501a74260d3869f4798b485047311066 27\n"

struct fixture {
    struct lv lv;
    virStoragePoolPtr pool;
    struct kp_arena *arena;
    char folder[64];
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    struct kp_error error = {0};
    f->arena = kp_arena_new(0);
    strcpy(f->folder, "/tmp/kprov-images-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    assert_int_equal(lv_connect(URI, &f->lv.conn, &error), 0);
    f->lv.here = true; /* files below the pool's folder, while libvirt's test driver has the volumes */
    const char *xml = kp_arena_printf(f->arena, "<pool type='dir'><name>" LV_IMAGES_POOL "</name><target><path>%s</path></target></pool>", f->folder);
    f->pool = virStoragePoolCreateXML(f->lv.conn, xml, 0);
    assert_non_null(f->pool);
    assert_int_equal(kp_write_file(kp_arena_printf(f->arena, "%s/source", f->folder), CONTENT, strlen(CONTENT), 0644, &error), 0);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    assert_int_equal(virStoragePoolDestroy(f->pool), 0);
    virStoragePoolFree(f->pool);
    virConnectClose(f->lv.conn);
    kp_strings_done(&f->lv.whole);
    assert_int_equal(kp_remove_tree(f->folder, &error), 0);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static const char *in(struct fixture *f, const char *name)
{
    return kp_arena_printf(f->arena, "%s/%s", f->folder, name);
}

/* As another run of kprov does: what this one has seen is forgotten. */
static int put(struct fixture *f, const char *name, struct kp_error *error)
{
    kp_strings_done(&f->lv.whole);
    f->lv.whole = (struct kp_strings){0};
    return lv_image_put(&f->lv, f->pool, name, in(f, "source"), error);
}

static void put_well(struct fixture *f, const char *name)
{
    struct kp_error error = {0};
    if (put(f, name, &error) < 0)
        fail_msg("%s", error.message);
}

static void overwrite(struct fixture *f, const char *name, const char *text)
{
    struct kp_error error = {0};
    assert_int_equal(kp_write_file(in(f, name), text, strlen(text), 0644, &error), 0);
}

static void assert_content(struct fixture *f, const char *name, const char *wanted)
{
    KP_AUTO_BUF struct kp_buf text = {0};
    struct kp_error error = {0};
    assert_int_equal(kp_read_file(in(f, name), 4096, &text, &error), 0);
    assert_int_equal(text.len, strlen(wanted));
    assert_memory_equal(text.data, wanted, text.len);
}

static ino_t inode(struct fixture *f, const char *name)
{
    struct stat st;
    assert_int_equal(stat(in(f, name), &st), 0);
    return st.st_ino;
}

static void what_is_put_has_a_marker_with_its_digest_and_stays(void **state)
{
    struct fixture *f = *state;
    put_well(f, "a.erofs");
    assert_content(f, "a.erofs", CONTENT);
    assert_content(f, "a.erofs.whole", MARKER);
    ino_t before = inode(f, "a.erofs.whole"); /* written by renaming: another file each time */
    put_well(f, "a.erofs");
    assert_int_equal(inode(f, "a.erofs.whole"), before);
}

static void a_volume_that_is_not_what_its_marker_says_is_made_anew(void **state)
{
    struct fixture *f = *state;
    static const char *const wrong[] = {"the content of a node", "the content of a node imagE", "", "the content of a node image, and more"};
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        put_well(f, "a.erofs");
        overwrite(f, "a.erofs", wrong[i]);
        put_well(f, "a.erofs");
        assert_content(f, "a.erofs", CONTENT);
        assert_content(f, "a.erofs.whole", MARKER);
    }
}

static void a_marker_that_is_cut_short_or_gone_does_not_count(void **state)
{
    struct fixture *f = *state;
    static const char *const wrong[] = {"", "57dd", "nonsense nonsense nonsense nonsense nonsense nonsense nonsense nonsense 27\n"};
    for (size_t i = 0; i < KP_ARRAY_LEN(wrong); i++) {
        put_well(f, "a.erofs");
        overwrite(f, "a.erofs.whole", wrong[i]);
        put_well(f, "a.erofs");
        assert_content(f, "a.erofs.whole", MARKER);
    }
    assert_int_equal(unlink(in(f, "a.erofs.whole")), 0);
    put_well(f, "a.erofs");
    assert_content(f, "a.erofs.whole", MARKER);
}

static void without_a_source_nothing_is_made(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    assert_int_equal(unlink(in(f, "source")), 0);
    assert_int_equal(put(f, "a.erofs", &error), KP_ENOTFOUND);
    assert_false(lv_volume_exists(f->pool, "a.erofs"));
    assert_false(lv_volume_exists(f->pool, "a.erofs.whole"));
}

static void what_neither_a_domain_nor_a_cluster_has_is_pruned(void **state)
{
    struct fixture *f = *state;
    static const char *const names[] = {"kernel-1.vmlinux", "kernel-1.initrd", "kernel-2.vmlinux", "kernel-3.vmlinux", "node-a-kernel-1.erofs",
                                        "node-b-kernel-2.erofs", "node-c-kernel-3.erofs", "node-bb-kernel-3.erofs"};
    static const char *const keep[] = {"node-b", "", NULL};
    struct kp_error error = {0};
    struct kp_strings removed = {0};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        put_well(f, names[i]);
    const char *xml = kp_arena_printf(f->arena,
                                      "<domain type='test'><name>other</name><memory>65536</memory><os><type>hvm</type></os><devices>"
                                      "<disk type='file' device='disk'><source file='%s/node-a-kernel-1.erofs'/><target dev='vda'/></disk></devices></domain>",
                                      f->folder);
    virDomainPtr domain = virDomainDefineXML(f->lv.conn, xml);
    assert_non_null(domain);
    assert_int_equal(lv_images_prune(&f->lv, keep, &removed, &error), 0);
    assert_int_equal(removed.len, 3);
    static const bool stays[] = {true, true, true, false, true, true, false, false};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++) {
        assert_int_equal(lv_volume_exists(f->pool, names[i]), stays[i]);
        assert_int_equal(lv_volume_exists(f->pool, kp_arena_printf(f->arena, "%s.whole", names[i])), stays[i]);
    }
    assert_int_equal(lv_images_prune(&f->lv, keep, &removed, &error), 0);
    assert_int_equal(removed.len, 3);
    assert_int_equal(virDomainUndefine(domain), 0);
    virDomainFree(domain);
    kp_strings_done(&removed);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_has_a_marker_with_its_digest_and_stays, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_volume_that_is_not_what_its_marker_says_is_made_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_marker_that_is_cut_short_or_gone_does_not_count, set_up, tear_down),
        cmocka_unit_test_setup_teardown(without_a_source_nothing_is_made, set_up, tear_down),
        cmocka_unit_test_setup_teardown(what_neither_a_domain_nor_a_cluster_has_is_pruned, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
