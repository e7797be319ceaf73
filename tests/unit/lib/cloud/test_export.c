/* An account handed on: opened here from a file or the environment, opened again from what was exported alone. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

#include "cloud/cloud.h"

static const char clouds[] = "clouds:\n  other:\n    auth: {auth_url: 'http://127.0.0.1:1/v3', username: x, password: unrelated, project_name: p}\n"
                             "  mine:\n    region_name: R1\n    auth: {auth_url: 'http://127.0.0.1:1/v3', application_credential_id: abc, application_credential_secret: s3cret}\n";

static char *scratch(void)
{
    char *dir = kp_strdup("/tmp/kprov-export-XXXXXX");
    assert_non_null(mkdtemp(dir));
    return dir;
}

static void export_of(const char *driver, const struct cloud_account *account, struct kp_arena *arena, struct cloud_export *ret)
{
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    const struct cloud_options options = {.account = *account};
    struct kp_error error = {0};
    if (cloud_open(driver, &options, &cloud, &error) < 0 || cloud_account_export(cloud, arena, ret, &error) < 0)
        fail_msg("%s", error.message);
}

/* What is exported of the export is the same: nothing was lost. */
static void survives(const char *driver, const struct cloud_export *first, const char *dir, struct kp_arena *arena)
{
    const char *path = kp_arena_printf(arena, "%s/exported", dir);
    struct cloud_export again;
    struct cloud_account account = first->account;
    assert_int_equal(kp_write_file(path, first->credentials, strlen(first->credentials), 0600, NULL), 0);
    account.credentials = path;
    export_of(driver, &account, arena, &again);
    assert_string_equal(again.credentials, first->credentials);
    assert_string_equal(again.account.region, first->account.region);
}

static void openstacks_cloud_goes_alone(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *dir = scratch();
    struct cloud_export export;
    const char *path = kp_arena_printf(arena, "%s/clouds.yaml", dir);
    assert_int_equal(kp_write_file(path, clouds, strlen(clouds), 0600, NULL), 0);
    export_of("openstack", &(struct cloud_account){.profile = "mine", .credentials = path}, arena, &export);
    assert_non_null(strstr(export.credentials, "s3cret"));
    assert_null(strstr(export.credentials, "unrelated"));
    assert_null(export.account.credentials);
    survives("openstack", &export, dir, arena);
    assert_int_equal(kp_remove_tree(dir, NULL), 0);
}

static void awss_keys_go_when_they_last(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO_FREE char *dir = scratch();
    struct cloud_export export;
    setenv("HOME", dir, 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "s3cret", 1);
    setenv("AWS_REGION", "eu-west-1", 1);
    setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:1", 1);
    export_of("aws", &(struct cloud_account){0}, arena, &export);
    assert_string_equal(export.account.region, "eu-west-1");
    assert_string_equal(export.account.endpoint, "http://127.0.0.1:1");
    assert_non_null(strstr(export.credentials, "AKIDEXAMPLE"));
    unsetenv("AWS_ACCESS_KEY_ID");
    unsetenv("AWS_SECRET_ACCESS_KEY");
    unsetenv("AWS_REGION");
    unsetenv("AWS_ENDPOINT_URL");
    survives("aws", &export, dir, arena);
    setenv("AWS_ACCESS_KEY_ID", "ASIAEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "s3cret", 1);
    setenv("AWS_SESSION_TOKEN", "ends", 1);
    struct kp_error error = {0};
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    assert_int_equal(cloud_open("aws", &(struct cloud_options){.account = {.region = "eu-west-1"}}, &cloud, &error), 0);
    assert_int_equal(cloud_account_export(cloud, arena, &export, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "name an instance profile in spec.aws.instanceProfile"));
    assert_null(strstr(error.message, "s3cret"));
    export_of("aws", &(struct cloud_account){.region = "eu-west-1", .role = "kprov-nodes"}, arena, &export); /* the instance has keys of its own */
    assert_null(export.credentials);
    assert_int_equal(kp_remove_tree(dir, NULL), 0);
}

static void a_driver_of_this_host_has_none(void **state)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    KP_AUTO(cloud_close) struct cloud *cloud = NULL;
    struct cloud_export export;
    const struct cloud_options options = {.uri = "test:///default"};
    assert_int_equal(cloud_open("libvirt", &options, &cloud, NULL), 0);
    assert_int_equal(cloud_account_export(cloud, arena, &export, NULL), KP_ENOTSUPPORTED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(openstacks_cloud_goes_alone),
        cmocka_unit_test(awss_keys_go_when_they_last),
        cmocka_unit_test(a_driver_of_this_host_has_none),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
