/* Where keys, region and endpoints come from. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <unistd.h>

#include "cloud/aws/aws_internal.h"
#include "tests/support/http_script.h"

static const char *const variables[] = {"AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE", "AWS_DEFAULT_PROFILE", "AWS_REGION",
    "AWS_DEFAULT_REGION", "AWS_SHARED_CREDENTIALS_FILE", "AWS_CONFIG_FILE", "AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_EC2",
    "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", "AWS_ENDPOINT_URL_STS", "AWS_CA_BUNDLE", "AWS_MAX_ATTEMPTS", "AWS_EC2_METADATA_DISABLED",
    "AWS_EC2_METADATA_SERVICE_ENDPOINT"};

struct fixture {
    struct kp_arena *arena;
    char folder[64];
    struct aws *aws;
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    f->arena = kp_arena_new(0);
    strcpy(f->folder, "/tmp/kprov-aws-XXXXXX");
    assert_non_null(mkdtemp(f->folder));
    for (size_t i = 0; i < KP_ARRAY_LEN(variables); i++)
        unsetenv(variables[i]);
    setenv("HOME", f->folder, 1);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("AWS_REGION", "eu-west-1", 1);
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    if (f->aws)
        aws_close(f->aws);
    assert_int_equal(kp_remove_tree(f->folder, &error), 0);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static void put(struct fixture *f, const char *name, const char *text)
{
    struct kp_error error = {0};
    assert_int_equal(kp_mkdir_p(kp_arena_printf(f->arena, "%s/.aws", f->folder), 0755, &error), 0);
    assert_int_equal(kp_write_file(kp_arena_printf(f->arena, "%s/.aws/%s", f->folder, name), text, strlen(text), 0600, &error), 0);
}

static int open_aws(struct fixture *f, struct cloud_account account, struct kp_error *error)
{
    const struct cloud_options options = {.account = account};
    if (f->aws)
        aws_close(f->aws);
    f->aws = NULL;
    return aws_open(&options, &f->aws, error);
}

static void keys_are(struct fixture *f, const char *id, const char *secret, const char *token)
{
    struct aws_keys keys = {0};
    struct kp_error error = {0};
    if (aws_keys_get(f->aws, f->arena, &keys, &error) < 0)
        fail_msg("%s", error.message);
    assert_string_equal(keys.id, id);
    assert_string_equal(keys.secret, secret);
    assert_string_equal(keys.token, token);
}

static void a_profile_is_its_section_alone(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "# keys\n[default]\naws_access_key_id = A1\r\naws_secret_access_key=S1\n[profile work]\nregion = wrong-1\n"
                               "[work]\naws_access_key_id=A2 # mine\nAWS_SECRET_ACCESS_KEY = S/2+=\ns3 =\n  region = nested-1\naws_session_token = T2\n[x]\nregion = us-x-1";
    struct aws_profile work = {0}, none = {0}, standard = {0};
    aws_profile_parse(text, strlen(text), false, "work", f->arena, &work);
    assert_true(work.found);
    assert_string_equal(work.id, "A2");
    assert_string_equal(work.secret, "S/2+=");
    assert_string_equal(work.token, "T2");
    assert_null(work.region);
    aws_profile_parse(text, strlen(text), false, "default", f->arena, &standard);
    assert_string_equal(standard.id, "A1");
    assert_string_equal(standard.secret, "S1");
    aws_profile_parse(text, strlen(text), false, "wor", f->arena, &none);
    assert_false(none.found);
}

static void in_the_config_file_sections_are_called_profiles(void **state)
{
    struct fixture *f = *state;
    static const char text[] = "[work]\nregion = wrong-1\n[profile  work ]\nregion = eu-north-1\n[sso-session default]\nregion = wrong-2\n[default]\nregion = eu-south-1\n";
    struct aws_profile work = {0}, standard = {0};
    aws_profile_parse(text, strlen(text), true, "work", f->arena, &work);
    assert_string_equal(work.region, "eu-north-1");
    aws_profile_parse(text, strlen(text), true, "default", f->arena, &standard);
    assert_string_equal(standard.region, "eu-south-1");
}

static void the_environment_comes_before_the_files(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    put(f, "credentials", "[default]\naws_access_key_id = F1\naws_secret_access_key = FS1\n[work]\naws_access_key_id = F2\naws_secret_access_key = FS2\n");
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    keys_are(f, "F1", "FS1", "");
    setenv("AWS_PROFILE", "work", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    keys_are(f, "F2", "FS2", "");
    setenv("AWS_ACCESS_KEY_ID", "E1", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "ES1", 1);
    setenv("AWS_SESSION_TOKEN", "ET1", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    keys_are(f, "E1", "ES1", "ET1");
}

static void a_profile_asked_for_by_name_comes_before_the_environment(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    put(f, "other", "[work]\naws_access_key_id = F2\naws_secret_access_key = FS2\n");
    setenv("AWS_ACCESS_KEY_ID", "E1", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "ES1", 1);
    const char *file = kp_arena_printf(f->arena, "%s/.aws/other", f->folder);
    assert_int_equal(open_aws(f, (struct cloud_account){.profile = "work", .credentials = file}, &error), 0);
    keys_are(f, "F2", "FS2", "");
}

static void without_keys_the_error_names_every_place(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct aws_keys keys;
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_int_equal(aws_keys_get(f->aws, f->arena, &keys, &error), KP_EUNAUTHORIZED);
    assert_non_null(strstr(error.message, "AWS_ACCESS_KEY_ID"));
    assert_non_null(strstr(error.message, "profile \"default\""));
    assert_non_null(strstr(error.message, "/.aws/credentials"));
    assert_non_null(strstr(error.message, "/.aws/config"));
    assert_non_null(strstr(error.message, "metadata"));
}

static void keys_by_another_way_are_refused_with_a_remedy(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct aws_keys keys;
    put(f, "config", "[default]\nrole_arn = arn:aws:iam::1:role/x\nsource_profile = y\n");
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_int_equal(aws_keys_get(f->aws, f->arena, &keys, &error), KP_EUNAUTHORIZED);
    assert_non_null(strstr(error.message, "role_arn"));
    assert_non_null(strstr(error.message, "export-credentials"));
}

static void the_region_comes_from_options_environment_profile_in_this_order(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    put(f, "config", "[default]\nregion = ap-south-1\n");
    unsetenv("AWS_REGION");
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_string_equal(f->aws->region, "ap-south-1");
    setenv("AWS_DEFAULT_REGION", "us-west-2", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_string_equal(f->aws->region, "us-west-2");
    setenv("AWS_REGION", "us-east-2", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_string_equal(f->aws->region, "us-east-2");
    assert_int_equal(open_aws(f, (struct cloud_account){.region = "eu-central-1"}, &error), 0);
    assert_string_equal(f->aws->region, "eu-central-1");
    assert_string_equal(f->aws->endpoints[AWS_ELB], "https://elasticloadbalancing.eu-central-1.amazonaws.com");
    assert_int_equal(open_aws(f, (struct cloud_account){.region = "cn-north-1"}, &error), 0);
    assert_string_equal(f->aws->endpoints[AWS_EC2], "https://ec2.cn-north-1.amazonaws.com.cn");
    assert_int_equal(open_aws(f, (struct cloud_account){.region = "a/../b"}, &error), KP_EINVALID);
}

static void without_a_region_the_error_names_every_place(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    unsetenv("AWS_REGION");
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "AWS_REGION"));
    assert_non_null(strstr(error.message, "/.aws/config"));
}

static void endpoints_may_be_given(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    setenv("AWS_ENDPOINT_URL", "http://one:1/", 1);
    setenv("AWS_ENDPOINT_URL_EC2", "https://two", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_string_equal(f->aws->endpoints[AWS_EC2], "https://two");
    assert_string_equal(f->aws->endpoints[AWS_STS], "http://one:1");
    assert_int_equal(open_aws(f, (struct cloud_account){.endpoint = "ftp://x"}, &error), KP_EINVALID);
    setenv("AWS_MAX_ATTEMPTS", "0", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), KP_EINVALID);
    assert_non_null(strstr(error.message, "AWS_MAX_ATTEMPTS"));
}

static const char *role_keys(struct fixture *f, const char *id, int64_t lasts_s)
{
    char time[KP_RFC3339_MAX];
    kp_format_rfc3339(time, kp_now_s() + lasts_s, 0, false);
    return kp_arena_printf(f->arena, "{\"Code\":\"Success\",\"AccessKeyId\":\"%s\",\"SecretAccessKey\":\"s\",\"Token\":\"t\",\"Expiration\":\"%s\"}", id, time);
}

/* A token first, by PUT; then each question with it. Keys that end within minutes are asked for anew, others are not. */
static void the_instances_role_gives_keys_and_new_ones_before_they_end(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    const char *short_lived = role_keys(f, "R1", 60), *long_lived = role_keys(f, "R2", 3600);
    const struct http_reply replies[] = {
        {200, NULL, "tok", "PUT /latest/api/token "}, {200, NULL, "node-role\n", "X-aws-ec2-metadata-token: tok"},
        {200, NULL, "tok", "X-aws-ec2-metadata-token-ttl-seconds: 21600"}, {200, NULL, short_lived, "GET /latest/meta-data/iam/security-credentials/node-role "},
        {200, NULL, "tok", "PUT /latest/api/token "}, {200, NULL, "node-role", NULL}, {200, NULL, "tok", NULL}, {200, NULL, long_lived, NULL},
    };
    struct http_script *script = http_script_start(replies, KP_ARRAY_LEN(replies));
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", http_script_url(script), 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    keys_are(f, "R1", "s", "t");
    keys_are(f, "R2", "s", "t");
    keys_are(f, "R2", "s", "t");
    assert_int_equal(http_script_served(script), 8);
    assert_int_equal(http_script_end(script), 0);
}

static void keys_that_still_hold_are_used_when_no_new_ones_are_to_be_had(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    const char *short_lived = role_keys(f, "R1", 60);
    const struct http_reply replies[] = {{200, NULL, "tok", NULL}, {200, NULL, "r", NULL}, {200, NULL, "tok", NULL}, {200, NULL, short_lived, NULL}, {404, NULL, "", NULL}};
    struct http_script *script = http_script_start(replies, KP_ARRAY_LEN(replies));
    unsetenv("AWS_EC2_METADATA_DISABLED");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", http_script_url(script), 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    keys_are(f, "R1", "s", "t");
    keys_are(f, "R1", "s", "t");
    assert_int_equal(http_script_end(script), 0);
}

static void the_region_of_the_instance_is_the_last_resort(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    const struct http_reply replies[] = {{200, NULL, "tok", NULL}, {200, NULL, "eu-west-3", "GET /latest/meta-data/placement/region "}};
    struct http_script *script = http_script_start(replies, KP_ARRAY_LEN(replies));
    unsetenv("AWS_EC2_METADATA_DISABLED");
    unsetenv("AWS_REGION");
    setenv("AWS_EC2_METADATA_SERVICE_ENDPOINT", http_script_url(script), 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_string_equal(f->aws->region, "eu-west-3");
    assert_int_equal(http_script_end(script), 0);
}

static void what_no_node_can_use_is_not_handed_on(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct cloud_export export;
    setenv("AWS_ACCESS_KEY_ID", "E1", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "ES1", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_int_equal(aws_account_export(f->aws, f->arena, &export, &error), 0);
    assert_string_equal(export.account.endpoint, "");
    setenv("AWS_ENDPOINT_URL_EC2", "https://two", 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_int_equal(aws_account_export(f->aws, f->arena, &export, &error), KP_EINVALID);
    unsetenv("AWS_ENDPOINT_URL_EC2");
    put(f, "ca.pem", "");
    setenv("AWS_CA_BUNDLE", kp_arena_printf(f->arena, "%s/.aws/ca.pem", f->folder), 1);
    assert_int_equal(open_aws(f, (struct cloud_account){0}, &error), 0);
    assert_int_equal(aws_account_export(f->aws, f->arena, &export, &error), 0); /* Amazon's own are signed by a public one */
    assert_int_equal(open_aws(f, (struct cloud_account){.endpoint = "https://three"}, &error), 0);
    assert_int_equal(aws_account_export(f->aws, f->arena, &export, &error), KP_EINVALID);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_profile_is_its_section_alone), T(in_the_config_file_sections_are_called_profiles), T(the_environment_comes_before_the_files),
        T(a_profile_asked_for_by_name_comes_before_the_environment), T(without_keys_the_error_names_every_place),
        T(keys_by_another_way_are_refused_with_a_remedy), T(the_region_comes_from_options_environment_profile_in_this_order),
        T(without_a_region_the_error_names_every_place), T(endpoints_may_be_given), T(the_instances_role_gives_keys_and_new_ones_before_they_end),
        T(keys_that_still_hold_are_used_when_no_new_ones_are_to_be_had), T(the_region_of_the_instance_is_the_last_resort),
        T(what_no_node_can_use_is_not_handed_on),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
