/* clouds.yaml, secure.yaml and OS_* as accounts; catalogues as endpoints; networks that overlap; the choice of a flavor. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cloud/openstack/openstack_internal.h"

static struct kp_arena *arena;

static int setup(void **state)
{
    static const char *const names[] = {"OS_CLOUD", "OS_AUTH_URL", "OS_USERNAME", "OS_PASSWORD", "OS_REGION_NAME", "OS_CLIENT_CONFIG_FILE", "OS_USER_DOMAIN_NAME",
                                        "OS_PROJECT_NAME", "OS_PROJECT_DOMAIN_NAME", "OS_INTERFACE", "OS_PROJECT_ID", "OS_AUTH_TYPE", "OS_ENDPOINT_TYPE"};
    for (size_t i = 0; i < KP_ARRAY_LEN(names); i++)
        unsetenv(names[i]);
    arena = kp_arena_new(0);
    return 0;
}

static int teardown(void **state)
{
    kp_arena_free(arena);
    return 0;
}

static const char two[] = "clouds:\n"
                          "  prod:\n"
                          "    auth:\n"
                          "      auth_url: https://keystone.example:5000/v3\n"
                          "      username: bob\n"
                          "      project_name: web\n"
                          "      user_domain_name: Default\n"
                          "      project_domain_name: Default\n"
                          "    region_name: west\n"
                          "    interface: internal\n"
                          "    verify: false\n"
                          "  app:\n"
                          "    auth_type: v3applicationcredential\n"
                          "    auth:\n"
                          "      auth_url: https://keystone.example:5000\n"
                          "      application_credential_id: 123456\n"
                          "      application_credential_secret: s3cret\n";
static const char secure[] = "clouds:\n  prod:\n    auth:\n      password: hunter2\n";

static int parse(const char *text, const char *secret, const char *name, struct os_account *ret, struct kp_error *error)
{
    *error = (struct kp_error){0};
    return os_account_parse("/etc/openstack/clouds.yaml", text, strlen(text), secret, secret ? strlen(secret) : 0, name, arena, ret, error);
}

static void a_cloud_is_read_with_its_secrets(void **state)
{
    struct os_account account;
    struct kp_error error;
    assert_int_equal(parse(two, secure, "prod", &account, &error), 0);
    assert_string_equal(account.auth_url, "https://keystone.example:5000/v3");
    assert_string_equal(account.username, "bob");
    assert_string_equal(account.password, "hunter2");
    assert_string_equal(account.region, "west");
    assert_string_equal(account.interface, "internal");
    assert_true(account.insecure);
    assert_int_equal(os_account_check(&account, &error), 0);
}

static void an_application_credential_needs_no_project(void **state)
{
    struct os_account account;
    struct kp_error error;
    assert_int_equal(parse(two, NULL, "app", &account, &error), 0);
    assert_string_equal(account.application_credential_id, "123456"); /* a number is a text too */
    assert_int_equal(os_account_check(&account, &error), 0);
}

static void the_only_cloud_needs_no_name(void **state)
{
    struct os_account account;
    struct kp_error error;
    assert_int_equal(parse("clouds: {one: {auth: {auth_url: 'http://k'}}}", NULL, "", &account, &error), 0);
    assert_string_equal(account.source, "cloud \"one\" of /etc/openstack/clouds.yaml");
    assert_int_equal(parse(two, NULL, "", &account, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "prod, app"));
    assert_int_equal(parse(two, NULL, "test", &account, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "no cloud \"test\""));
    assert_int_equal(parse("a: [", NULL, "", &account, &error), KP_EBADREQUEST);
    assert_int_equal(parse("clouds: 3", NULL, "", &account, &error), KP_EINVALID);
}

static void what_is_missing_is_named(void **state)
{
    struct os_account account;
    struct kp_error error;
    assert_int_equal(parse(two, NULL, "prod", &account, &error), 0);
    assert_int_equal(os_account_check(&account, &error), KP_EINVALID);
    assert_string_equal(error.message, "cloud \"prod\" of /etc/openstack/clouds.yaml: auth.password is missing: write it there, or into the secure.yaml beside it");
    assert_int_equal(parse(two, secure, "prod", &account, &error), 0);
    account.project_name = "";
    assert_int_equal(os_account_check(&account, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "auth.project_name is missing"));
    account.auth_type = "v3totp";
    assert_int_equal(os_account_check(&account, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "\"v3totp\""));
    assert_null(strstr(error.message, "hunter2"));
}

static void variables_are_an_account(void **state)
{
    struct os_account account;
    struct kp_error error = {0};
    setenv("OS_AUTH_URL", "http://k:5000/v3", 1);
    setenv("OS_USERNAME", "demo", 1);
    const struct cloud_account wanted = {.region = "north"};
    assert_int_equal(os_account_read(&wanted, arena, &account, &error), KP_EINVALID);
    assert_string_equal(error.message, "OS_PASSWORD is not set: OpenStack's credentials come from the environment, for OS_AUTH_URL is set");
    setenv("OS_PASSWORD", "hunter2", 1);
    setenv("OS_USER_DOMAIN_NAME", "Default", 1);
    setenv("OS_PROJECT_ID", "p", 1);
    setenv("OS_REGION_NAME", "south", 1);
    setenv("OS_ENDPOINT_TYPE", "internalURL", 1);
    assert_int_equal(os_account_read(&wanted, arena, &account, &error), 0);
    assert_string_equal(account.region, "north");
    assert_string_equal(account.interface, "internal");
}

static void a_file_is_found_by_its_variable(void **state)
{
    char dir[] = "/tmp/kprov-clouds-XXXXXX";
    struct os_account account;
    struct kp_error error = {0};
    assert_non_null(mkdtemp(dir));
    const char *path = kp_arena_printf(arena, "%s/clouds.yaml", dir), *beside = kp_arena_printf(arena, "%s/secure.yaml", dir);
    assert_int_equal(kp_write_file(path, two, strlen(two), 0600, &error), 0);
    assert_int_equal(kp_write_file(beside, secure, strlen(secure), 0600, &error), 0);
    setenv("OS_CLIENT_CONFIG_FILE", path, 1);
    setenv("OS_CLOUD", "app", 1);
    const struct cloud_account by_profile = {.profile = "prod"}, by_variable = {0}, by_file = {.credentials = "/nonexistent/clouds.yaml"};
    assert_int_equal(os_account_read(&by_profile, arena, &account, &error), 0);
    assert_string_equal(account.password, "hunter2");
    assert_int_equal(os_account_read(&by_variable, arena, &account, &error), 0);
    assert_string_equal(account.application_credential_secret, "s3cret");
    assert_int_equal(os_account_read(&by_file, arena, &account, &error), KP_ENOTFOUND);
    assert_int_equal(kp_remove_tree(dir, &error), 0);
}

/* ---- catalogues */

#define ENDPOINT(region, url) "{\"interface\":\"public\",\"region_id\":\"" region "\",\"url\":\"" url "\"},{\"interface\":\"internal\",\"region_id\":\"" region "\",\"url\":\"http://in\"}"
#define CATALOG(more) "{\"token\":{\"catalog\":[{\"type\":\"compute\",\"endpoints\":[" ENDPOINT("one", "http://c/v2.1/") more "]}," \
    "{\"type\":\"network\",\"endpoints\":[" ENDPOINT("one", "http://n:9696") "]},{\"type\":\"image\",\"endpoints\":[" ENDPOINT("one", "http://i/image/") "]}]}}"

static int read_catalog(const char *text, const char *region, char *endpoints[OS_SERVICES], char **ret_region, struct kp_error *error)
{
    KP_AUTO(json_decref) json_t *token = NULL;
    const struct os_account account = {.source = "the environment", .interface = "public", .region = region};
    assert_int_equal(rest_json_parse(text, strlen(text), &token, error), 0);
    return os_catalog_read(token, &account, endpoints, ret_region, error);
}

static void done(char *endpoints[OS_SERVICES], char *region)
{
    for (enum os_service s = 0; s < OS_SERVICES; s++)
        free(endpoints[s]);
    free(region);
}

static void endpoints_get_the_version_that_the_catalogue_leaves_out(void **state)
{
    char *endpoints[OS_SERVICES] = {0}, *region = NULL;
    struct kp_error error = {0};
    assert_int_equal(read_catalog(CATALOG(""), "", endpoints, &region, &error), 0);
    assert_string_equal(endpoints[OS_COMPUTE], "http://c/v2.1");
    assert_string_equal(endpoints[OS_NETWORK], "http://n:9696/v2.0");
    assert_string_equal(endpoints[OS_IMAGE], "http://i/image/v2");
    assert_null(endpoints[OS_BALANCER]);
    assert_string_equal(region, "one");
    done(endpoints, region);
}

static void a_region_must_be_named_where_there_are_several(void **state)
{
    char *endpoints[OS_SERVICES] = {0}, *region = NULL;
    struct kp_error error = {0};
    const char *several = CATALOG("," ENDPOINT("two", "http://c2/v2.1"));
    assert_int_equal(read_catalog(several, "", endpoints, &region, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "one, two"));
    assert_int_equal(read_catalog(several, "three", endpoints, &region, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "no region \"three\""));
    assert_int_equal(read_catalog(several, "two", endpoints, &region, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "no network (Neutron) service in region two"));
    done(endpoints, region);
}

/* ---- what is chosen */

static void networks_overlap_or_not(void **state)
{
    struct os_cidr a, b;
    struct kp_error error = {0};
    const char *chosen = NULL;
    assert_true(os_cidr_parse("10.90.0.0/16", &a));
    assert_true(os_cidr_parse("10.90.7.0/24", &b));
    assert_true(os_cidr_overlap(a, b));
    assert_false(os_cidr_parse("10.90.0.0", &b) || os_cidr_parse("10.90.0.0/33", &b) || os_cidr_parse("a/8", &b) || os_cidr_parse(NULL, &b));
    assert_int_equal(os_cidr_choose(&a, 1, arena, &chosen, &error), 0);
    assert_string_equal(chosen, "10.91.0.0/24");
    assert_true(os_cidr_parse("0.0.0.0/0", &a));
    assert_int_equal(os_cidr_choose(&a, 1, arena, &chosen, &error), KP_EQUOTA);
}

static void a_flavor_must_carry_a_node(void **state)
{
    static const struct os_flavor flavors[] = {{"1", "tiny", 1, 192, 1, 0}, {"2", "small", 1, 1024, 2, 0}, {"3", "node", 1, 2048, 10, 0}, {"4", "data", 2, 2048, 2, 20}};
    struct os_flavor chosen;
    struct kp_error error = {0};
    assert_int_equal(os_flavor_choose(flavors, 4, "", arena, &chosen, &error), 0);
    assert_string_equal(chosen.name, "node");
    assert_int_equal(os_flavor_choose(flavors, 4, "data", arena, &chosen, &error), 0);
    assert_string_equal(chosen.id, "4");
    assert_int_equal(os_flavor_choose(flavors, 4, "nodes", arena, &chosen, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "did you mean \"node\"?"));
    assert_int_equal(os_flavor_choose(flavors, 2, "", arena, &chosen, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "it has tiny, small"));
}

static void statuses_mean_errors(void **state)
{
    static const struct {
        int status;
        const char *detail;
        int64_t retry_after_ms;
        int code;
    } cases[] = {
        {403, "Quota exceeded for cores: Requested 2, but already used 12 of 12 cores", 0, KP_EQUOTA}, {409, "Quota exceeded for resources: ['port'].", 0, KP_EQUOTA},
        {403, "Quota has been met for resources: Load Balancer", 0, KP_EQUOTA}, {403, "Policy does not allow this", 0, KP_EFORBIDDEN},
        {409, "No more IP addresses available on network x.", 0, KP_EQUOTA}, {409, "Load Balancer x is immutable and cannot be updated.", 0, KP_ECONFLICT},
        {413, "This request was rate-limited.", 0, KP_ETOOMANY}, {413, "", 2000, KP_ETOOMANY}, {413, "Body too large", 0, KP_ETOOLARGE}, {429, "", 0, KP_ETOOMANY},
        {404, "", 0, KP_ENOTFOUND}, {500, "", 0, KP_EUNAVAILABLE}, {400, "", 0, KP_EINVALID}, {401, "", 0, KP_EUNAUTHORIZED},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_int_equal(os_code(cases[i].status, cases[i].detail, cases[i].retry_after_ms), cases[i].code);
}

static void what_the_cloud_says_is_found_in_every_form(void **state)
{
    static const char *const cases[][2] = {
        {"{\"badRequest\":{\"code\":400,\"message\":\"Nova\"}}", "Nova"}, {"{\"NeutronError\":{\"type\":\"X\",\"message\":\"Neutron\",\"detail\":\"\"}}", "Neutron"},
        {"{\"faultcode\":\"Client\",\"faultstring\":\"Octavia\",\"debuginfo\":null}", "Octavia"}, {"{\"error\":{\"code\":401,\"message\":\"Keystone\",\"title\":\"U\"}}", "Keystone"},
        {"<html>proxy</html>", "<html>proxy</html>"}, {"", ""}, {"[1,2", "[1,2"}, {"{\"a\":{\"b\":{\"c\":{\"d\":{\"message\":\"deep\"}}}}}", "{\"a\":{\"b\":{\"c\":{\"d\":{\"message\":\"deep\"}}}}}"},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(cases); i++)
        assert_string_equal(os_detail(cases[i][0], strlen(cases[i][0]), arena), cases[i][1]);
}

#define TEST(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_cloud_is_read_with_its_secrets), TEST(an_application_credential_needs_no_project), TEST(the_only_cloud_needs_no_name), TEST(what_is_missing_is_named),
        TEST(variables_are_an_account), TEST(a_file_is_found_by_its_variable), TEST(endpoints_get_the_version_that_the_catalogue_leaves_out),
        TEST(a_region_must_be_named_where_there_are_several), TEST(networks_overlap_or_not), TEST(a_flavor_must_carry_a_node), TEST(statuses_mean_errors),
        TEST(what_the_cloud_says_is_found_in_every_form),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
