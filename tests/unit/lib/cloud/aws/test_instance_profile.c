/* The instance profile of control planes: looked at before anything is made, and asked of IAM, which is one for all regions. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>

#include "cloud/aws/aws_internal.h"
#include "tests/support/http_script.h"

#define IDENTITY \
    {.status = 200, .expect = "GetCallerIdentity", \
     .body = "<GetCallerIdentityResponse><GetCallerIdentityResult><Arn>arn:aws:iam::1:user/me</Arn></GetCallerIdentityResult></GetCallerIdentityResponse>"}
#define PROFILE(roles) \
    "<GetInstanceProfileResponse xmlns=\"https://iam.amazonaws.com/doc/2010-05-08/\"><GetInstanceProfileResult><InstanceProfile><Roles>" roles \
    "</Roles><InstanceProfileName>nodes</InstanceProfileName></InstanceProfile></GetInstanceProfileResult></GetInstanceProfileResponse>"
#define REFUSAL(code) "<ErrorResponse><Error><Type>Sender</Type><Code>" code "</Code><Message>no</Message></Error></ErrorResponse>"

static int setup(void **state)
{
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "s3cret", 1);
    setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
    unsetenv("AWS_SESSION_TOKEN");
    unsetenv("AWS_PROFILE");
    unsetenv("AWS_ENDPOINT_URL");
    return 0;
}

/* The check's error after identity, the profile's answer, and zones that are refused: who gets there is past the profile. */
static void check(const struct http_reply *profile, char out[512], char request[2048])
{
    const struct http_reply replies[] = {IDENTITY, *profile, {.status = 400, .body = REFUSAL("InvalidZoneTest")}};
    struct http_script *script = http_script_start(replies, KP_ARRAY_LEN(replies));
    const struct cloud_options options = {.account = {.region = "eu-west-1", .endpoint = http_script_url(script), .role = "nodes"}};
    const struct cloud_wish wish = {0};
    struct kp_error error = {0};
    struct aws *aws = NULL;
    assert_int_equal(aws_open(&options, &aws, &error), 0);
    aws->backoff_ms = aws->backoff_ms_max = 1;
    assert_true(aws_check(aws, &wish, &error) < 0);
    snprintf(out, 512, "%s", error.message);
    snprintf(request, 2048, "%s", http_script_request(script, 1));
    aws_close(aws);
    assert_int_equal(http_script_end(script), 0);
}

static void one_that_cannot_serve_is_refused_with_the_remedy(void **state)
{
    static const struct {
        struct http_reply reply;
        const char *wanted;
    } rows[] = {
        {{.status = 404, .body = REFUSAL("NoSuchEntity")}, "the account has no instance profile \"nodes\": make it"},
        {{.status = 403, .body = REFUSAL("AccessDenied")}, "give it iam:GetInstanceProfile and iam:PassRole"},
        {{.status = 200, .body = PROFILE("")}, "\"nodes\" has no role"},
        {{.status = 200, .body = PROFILE("<member><RoleName>nodes</RoleName></member>")}, "InvalidZoneTest"}, /* it will do */
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        char said[512], request[2048];
        check(&rows[i].reply, said, request);
        if (!strstr(said, rows[i].wanted))
            fail_msg("%s\nwanted: %s", said, rows[i].wanted);
        assert_non_null(strstr(request, "InstanceProfileName=nodes"));
        assert_non_null(strstr(request, "Version=2010-05-08"));
        assert_non_null(strstr(request, "/us-east-1/iam/aws4_request"));
    }
}

static void iam_is_one_for_all_regions(void **state)
{
    static const char *const rows[][2] = {{"eu-west-1", "https://iam.amazonaws.com"}, {"cn-northwest-1", "https://iam.cn-north-1.amazonaws.com.cn"}};
    for (size_t i = 0; i < KP_ARRAY_LEN(rows); i++) {
        struct aws *aws = NULL;
        const struct cloud_options options = {.account = {.region = rows[i][0]}};
        assert_int_equal(aws_open(&options, &aws, NULL), 0);
        assert_string_equal(aws->endpoints[AWS_IAM], rows[i][1]);
        assert_null(aws->instance_profile);
        aws_close(aws);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup(one_that_cannot_serve_is_refused_with_the_remedy, setup),
        cmocka_unit_test_setup(iam_is_one_for_all_regions, setup),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
