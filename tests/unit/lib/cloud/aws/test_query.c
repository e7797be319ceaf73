/* Calls: signed as SigV4 says, made again as the SDKs do, paged, their answers and errors read. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>

#include <cmocka.h>
#include <time.h>

#include "cloud/aws/aws_internal.h"
#include "tests/support/http_script.h"
#include "tls/tls.h"

#define EC2_ERROR(code) "<?xml version=\"1.0\"?><Response><Errors><Error><Code>" code "</Code><Message>because</Message></Error></Errors><RequestID>r</RequestID></Response>"
#define ELB_ERROR(code) "<ErrorResponse xmlns=\"x\"><Error><Type>Sender</Type><Code>" code "</Code><Message>because</Message></Error><RequestId>r</RequestId></ErrorResponse>"
#define VPCS(items, more) "<DescribeVpcsResponse xmlns=\"http://ec2.amazonaws.com/doc/2016-11-15/\"><vpcSet>" items "</vpcSet>" more "</DescribeVpcsResponse>"

struct fixture {
    struct kp_arena *arena;
    struct aws *aws;
    struct http_script *script;
};

static int set_up(void **state)
{
    struct fixture *f = kp_calloc(1, sizeof(*f));
    f->arena = kp_arena_new(0);
    setenv("AWS_EC2_METADATA_DISABLED", "true", 1);
    setenv("AWS_ACCESS_KEY_ID", "AKIDEXAMPLE", 1);
    setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", 1);
    setenv("AWS_CONFIG_FILE", "/nonexistent", 1);
    setenv("AWS_SHARED_CREDENTIALS_FILE", "/nonexistent", 1);
    unsetenv("AWS_SESSION_TOKEN");
    unsetenv("AWS_PROFILE");
    unsetenv("AWS_MAX_ATTEMPTS");
    *state = f;
    return 0;
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    aws_close(f->aws);
    assert_int_equal(http_script_end(f->script), 0);
    kp_arena_free(f->arena);
    free(f);
    return 0;
}

static void serve(struct fixture *f, const struct http_reply *replies, size_t n)
{
    struct kp_error error = {0};
    f->script = http_script_start(replies, n);
    const struct cloud_options options = {.account = {.region = "eu-west-1", .endpoint = http_script_url(f->script)}};
    assert_int_equal(aws_open(&options, &f->aws, &error), 0);
    f->aws->backoff_ms = f->aws->backoff_ms_max = 1;
    f->aws->poll_ms = 1;
}
#define SERVE(f, ...) static const struct http_reply replies[] = {__VA_ARGS__}; serve(f, replies, KP_ARRAY_LEN(replies))

static int ask(struct fixture *f, unsigned flags, const struct aws_node **ret, struct kp_error *error)
{
    AWS_FORM form = {0};
    aws_set(&form, "VpcId.1", "vpc-1");
    return aws_do(f->aws, AWS_EC2, "DescribeVpcs", &form, flags, f->arena, ret, error);
}

/* ---- the signature, computed here again from RFC-like steps of the SigV4 documentation */
static const char *between(struct fixture *f, const char *text, const char *before, const char *after)
{
    const char *at = strstr(text, before);
    assert_non_null(at);
    at += strlen(before);
    const char *end = strstr(at, after);
    assert_non_null(end);
    return kp_arena_strndup(f->arena, at, (size_t)(end - at));
}

static const char *header_of(struct fixture *f, const char *request, const char *lower)
{
    for (const char *line = strstr(request, "\r\n"); line; line = strstr(line + 2, "\r\n"))
        if (strncasecmp(line + 2, lower, strlen(lower)) == 0 && line[2 + strlen(lower)] == ':')
            return between(f, line + 2 + strlen(lower), ": ", "\r\n");
    fail_msg("signed, but not sent: %s", lower);
    return "";
}

static void check_signature(struct fixture *f, const char *request, const char *secret)
{
    KP_AUTO_BUF struct kp_buf canonical = {0};
    char body_hash[TLS_SHA256_HEX_BYTES], canonical_hash[TLS_SHA256_HEX_BYTES];
    const char *authorization = header_of(f, request, "authorization"), *body = strstr(request, "\r\n\r\n") + 4;
    const char *scope = between(f, authorization, "Credential=AKIDEXAMPLE/", ","), *names = between(f, authorization, "SignedHeaders=", ",");
    tls_sha256_hex(body, strlen(body), body_hash);
    kp_buf_puts(&canonical, "POST\n/\n\n");
    char *copy = kp_arena_strdup(f->arena, names), *save = NULL;
    for (char *name = strtok_r(copy, ";", &save); name; name = strtok_r(NULL, ";", &save))
        kp_buf_printf(&canonical, "%s:%s\n", name, header_of(f, request, name));
    kp_buf_printf(&canonical, "\n%s\n%s", names, body_hash);
    tls_sha256_hex(canonical.data, canonical.len, canonical_hash);
    const char *to_sign = kp_arena_printf(f->arena, "AWS4-HMAC-SHA256\n%s\n%s\n%s", header_of(f, request, "x-amz-date"), scope, canonical_hash);
    uint8_t key[TLS_SHA256_BYTES];
    const char *first = kp_arena_printf(f->arena, "AWS4%s", secret);
    copy = kp_arena_strdup(f->arena, scope);
    save = NULL;
    for (char *part = strtok_r(copy, "/", &save), n = 0; part; part = strtok_r(NULL, "/", &save), n++)
        tls_hmac_sha256(n ? (const void *)key : first, n ? sizeof(key) : strlen(first), part, strlen(part), key);
    tls_hmac_sha256(key, sizeof(key), to_sign, strlen(to_sign), key);
    KP_AUTO_BUF struct kp_buf hex = {0};
    kp_hex_encode(&hex, key, sizeof(key));
    assert_string_equal(strstr(authorization, "Signature=") + 10, hex.data);
    assert_non_null(strstr(scope, "/eu-west-1/ec2/aws4_request"));
}

static void a_call_is_a_signed_form(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    const struct aws_node *answer;
    AWS_FORM form = {0};
    SERVE(f, {200, NULL, VPCS("<item><vpcId>vpc-1</vpcId></item>", ""), "POST / HTTP/1.1"});
    aws_set(&form, "Description", "a b&c=d/\xc3\xa9~*");
    aws_filter(&form, "tag:kprov-cluster", "u");
    aws_filter_more(&form, 2, "v");
    assert_int_equal(aws_do(f->aws, AWS_EC2, "DescribeVpcs", &form, 0, f->arena, &answer, &error), 0);
    assert_string_equal(aws_text(answer, "vpcSet/item/vpcId"), "vpc-1");
    const char *request = http_script_request(f->script, 0);
    assert_string_equal(strstr(request, "\r\n\r\n") + 4, "Action=DescribeVpcs&Version=2016-11-15&Description=a+b%26c%3Dd%2F%C3%A9~%2A&Filter.1.Name=tag%3Akprov-cluster&"
                                                       "Filter.1.Value.1=u&Filter.1.Value.2=v");
    check_signature(f, request, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
}

static void a_session_token_is_signed_too(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    setenv("AWS_SESSION_TOKEN", "to/ken+==", 1);
    SERVE(f, {200, NULL, VPCS("", ""), "X-Amz-Security-Token: to/ken+==\r\n"});
    assert_int_equal(ask(f, 0, NULL, &error), 0);
    const char *request = http_script_request(f->script, 0);
    assert_non_null(strstr(request, "x-amz-security-token"));
    check_signature(f, request, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
}

/* ---- again or not */
static void throttled_calls_are_made_again(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    SERVE(f, {503, NULL, EC2_ERROR("RequestLimitExceeded"), NULL}, {400, NULL, ELB_ERROR("Throttling"), NULL}, {429, NULL, "", NULL}, {200, NULL, VPCS("", ""), NULL});
    assert_int_equal(ask(f, AWS_ONCE, NULL, &error), 0);
    assert_int_equal(http_script_served(f->script), 4);
}

static void throttling_without_end_is_told_with_its_delay(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    setenv("AWS_MAX_ATTEMPTS", "3", 1);
    SERVE(f, {503, NULL, EC2_ERROR("RequestLimitExceeded"), NULL}, {503, NULL, EC2_ERROR("RequestLimitExceeded"), NULL}, {503, NULL, EC2_ERROR("RequestLimitExceeded"), NULL});
    assert_int_equal(ask(f, 0, NULL, &error), KP_ETOOMANY);
    assert_int_equal(http_script_served(f->script), 3);
    assert_string_equal(error.message, "DescribeVpcs: RequestLimitExceeded: because (3 attempts)");
    assert_true(error.retry_after_ms > 0);
}

static void retries_end_with_the_quota_and_successes_fill_it(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    SERVE(f, {500, NULL, EC2_ERROR("InternalError"), NULL}, {200, NULL, VPCS("", ""), NULL}, {500, NULL, EC2_ERROR("InternalError"), NULL});
    f->aws->retry_quota = 5;
    assert_int_equal(ask(f, 0, NULL, &error), 0);
    assert_int_equal(f->aws->retry_quota, 5);
    f->aws->retry_quota = 4;
    assert_int_equal(ask(f, 0, NULL, &error), KP_EUNAVAILABLE);
    assert_int_equal(http_script_served(f->script), 3);
}

static void a_lost_answer_is_asked_for_again_unless_that_would_make_a_second_thing(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    SERVE(f, {.status = 0}, {200, NULL, VPCS("", ""), NULL}, {.status = 0}, {500, NULL, EC2_ERROR("InternalError"), NULL});
    assert_int_equal(ask(f, 0, NULL, &error), 0);
    assert_int_not_equal(ask(f, AWS_ONCE, NULL, &error), 0);
    assert_int_equal(http_script_served(f->script), 3);
    assert_int_equal(ask(f, AWS_ONCE, NULL, &error), KP_EUNAVAILABLE);
    assert_int_equal(http_script_served(f->script), 4);
}

static void what_is_refused_for_good_is_asked_once(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    SERVE(f, {400, NULL, EC2_ERROR("InvalidParameterValue"), NULL}, {403, NULL, EC2_ERROR("UnauthorizedOperation"), NULL},
          {500, NULL, EC2_ERROR("InsufficientInstanceCapacity"), NULL}, {404, NULL, "<html>no", NULL});
    assert_int_equal(ask(f, 0, NULL, &error), KP_EINVALID);
    assert_string_equal(error.message, "DescribeVpcs: InvalidParameterValue: because");
    assert_int_equal(ask(f, 0, NULL, &error), KP_EFORBIDDEN);
    assert_int_equal(ask(f, 0, NULL, &error), KP_EQUOTA);
    assert_int_equal(ask(f, 0, NULL, &error), KP_ENOTFOUND);
    assert_int_equal(http_script_served(f->script), 4);
}

static void keys_that_ended_are_looked_for_anew_once(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    SERVE(f, {400, NULL, EC2_ERROR("ExpiredToken"), NULL}, {200, NULL, VPCS("", ""), NULL}, {400, NULL, EC2_ERROR("ExpiredToken"), NULL},
          {400, NULL, EC2_ERROR("ExpiredToken"), NULL});
    assert_int_equal(ask(f, 0, NULL, &error), 0);
    assert_int_equal(ask(f, 0, NULL, &error), KP_EUNAUTHORIZED);
    assert_non_null(strstr(error.message, "keys of AWS_ACCESS_KEY_ID"));
    assert_null(strstr(error.message, "wJalr"));
    assert_int_equal(http_script_served(f->script), 4);
}

static void a_clock_that_is_wrong_is_corrected_by_the_answers_date(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    SERVE(f, {403, "Date: Tue, 06 Nov 2035 10:20:30 GMT\r\n", EC2_ERROR("RequestTimeTooSkewed"), NULL}, {200, NULL, VPCS("", ""), "X-Amz-Date: 20351106T10"});
    assert_int_equal(ask(f, 0, NULL, &error), 0);
    const char *request = http_script_request(f->script, 1);
    assert_non_null(strstr(request, "/20351106/eu-west-1/ec2/"));
    check_signature(f, request, "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY");
}

/* ---- answers */
static void all_pages_are_read(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct aws_list list;
    AWS_FORM form = {0};
    SERVE(f, {200, NULL, VPCS("<item><vpcId>a</vpcId></item><item><vpcId>b</vpcId></item>", "<nextToken>t/1</nextToken>"), "VpcId.1=x"},
          {200, NULL, VPCS("<item><vpcId>c</vpcId></item>", "<nextToken/>"), "VpcId.1=x&NextToken=t%2F1"},
          {200, NULL, VPCS("", "<nextToken>t</nextToken>"), NULL}, {200, NULL, VPCS("", "<nextToken>t</nextToken>"), NULL});
    aws_set(&form, "VpcId.1", "x");
    assert_int_equal(aws_list(f->aws, AWS_EC2, "DescribeVpcs", &form, "vpcSet/item", f->arena, &list, &error), 0);
    assert_int_equal(list.len, 3);
    assert_string_equal(aws_text(list.items[2], "vpcId"), "c");
    assert_int_equal(aws_list(f->aws, AWS_EC2, "DescribeVpcs", &form, "vpcSet/item", f->arena, &list, &error), KP_ECORRUPT);
}

static void elb_wraps_its_results_and_calls_its_pages_otherwise(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    struct aws_list list;
    AWS_FORM form = {0};
#define LB(name, next) "<DescribeLoadBalancersResponse xmlns=\"e\"><DescribeLoadBalancersResult><LoadBalancers><member><LoadBalancerName>" name \
    "</LoadBalancerName></member></LoadBalancers><NextMarker>" next "</NextMarker></DescribeLoadBalancersResult></DescribeLoadBalancersResponse>"
    SERVE(f, {200, NULL, LB("one", "m"), "Version=2015-12-01"}, {200, NULL, LB("two", ""), "Marker=m"});
    assert_int_equal(aws_list(f->aws, AWS_ELB, "DescribeLoadBalancers", &form, "LoadBalancers/member", f->arena, &list, &error), 0);
    assert_int_equal(list.len, 2);
    assert_string_equal(aws_text(list.items[1], "LoadBalancerName"), "two");
}

static void an_answer_that_is_no_xml_is_corrupt(void **state)
{
    struct fixture *f = *state;
    struct kp_error error = {0};
    const struct aws_node *answer;
    SERVE(f, {200, NULL, "{}", NULL}, {200, NULL, "<!DOCTYPE a [<!ENTITY x \"y\">]><a>&x;</a>", NULL});
    assert_int_equal(ask(f, 0, &answer, &error), KP_ECORRUPT);
    assert_int_equal(ask(f, 0, &answer, &error), KP_ECORRUPT);
}

static void xml_is_read_by_path(void **state)
{
    struct kp_error error = {0};
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    const struct aws_node *root;
    static const char text[] = "<a>\n <b><c> 5 &amp; &lt;</c><c>6</c></b> <b/> <n>-7</n><tagSet><item><key>k</key><value>v</value></item></tagSet></a>";
    assert_int_equal(aws_xml_parse(text, strlen(text), arena, &root, &error), 0);
    assert_string_equal(aws_text(root, "b/c"), " 5 & <");
    assert_string_equal(aws_again(aws_at(root, "b/c"))->text, "6");
    assert_null(aws_again(aws_again(aws_at(root, "b"))));
    assert_string_equal(aws_text(root, ""), "");
    assert_string_equal(aws_text(root, "b/c/d"), "");
    assert_int_equal(aws_int(root, "n"), -7);
    assert_int_equal(aws_int(root, "b"), 0);
    assert_string_equal(aws_tag_of(root, "k"), "v");
    assert_string_equal(aws_tag_of(root, "l"), "");
    KP_AUTO_BUF struct kp_buf deep = {0};
    for (int i = 0; i < 2 * AWS_DEPTH_MAX; i++)
        kp_buf_puts(&deep, "<a>");
    for (int i = 0; i < 2 * AWS_DEPTH_MAX; i++)
        kp_buf_puts(&deep, "</a>");
    assert_int_equal(aws_xml_parse(deep.data, deep.len, arena, &root, &error), KP_ECORRUPT);
}

static void error_codes_have_their_class(void **state)
{
    static const struct {
        const char *code;
        int kind;
    } known[] = {
        {"AuthFailure", KP_EUNAUTHORIZED}, {"SignatureDoesNotMatch", KP_EUNAUTHORIZED}, {"UnrecognizedClientException", KP_EUNAUTHORIZED},
        {"InvalidClientTokenId", KP_EUNAUTHORIZED}, {"UnauthorizedOperation", KP_EFORBIDDEN}, {"AccessDenied", KP_EFORBIDDEN},
        {"AccessDeniedException", KP_EFORBIDDEN}, {"VcpuLimitExceeded", KP_EQUOTA}, {"AddressLimitExceeded", KP_EQUOTA}, {"VpcLimitExceeded", KP_EQUOTA},
        {"TooManyLoadBalancers", KP_EQUOTA}, {"RequestLimitExceeded", KP_ETOOMANY}, {"ThrottlingException", KP_ETOOMANY},
        {"InvalidInstanceID.NotFound", KP_ENOTFOUND}, {"InvalidVpcID.NotFound", KP_ENOTFOUND}, {"LoadBalancerNotFound", KP_ENOTFOUND},
        {"InvalidParameterValue", KP_EINVALID}, {"InvalidAMIID.Malformed", KP_EINVALID}, {"InvalidInstanceType", KP_EINVALID}, {"ValidationError", KP_EINVALID},
        {"DependencyViolation", KP_ECONFLICT}, {"InvalidNetworkInterface.InUse", KP_ECONFLICT}, {"ResourceInUse", KP_ECONFLICT},
        {"IncorrectInstanceState", KP_ECONFLICT}, {"InvalidGroup.Duplicate", KP_EEXISTS}, {"InvalidPermission.Duplicate", KP_EEXISTS},
        {"DuplicateLoadBalancerName", KP_EEXISTS}, {"DuplicateListener", KP_EEXISTS}, {"InternalError", KP_EUNAVAILABLE}, {"Unavailable", KP_EUNAVAILABLE},
        {"SomethingNew", KP_EINVALID},
    };
    for (size_t i = 0; i < KP_ARRAY_LEN(known); i++)
        if (aws_code(known[i].code, 400) != known[i].kind)
            fail_msg("%s is %s", known[i].code, kp_code_info(aws_code(known[i].code, 400))->name);
    assert_int_equal(aws_code("", 503), KP_EUNAVAILABLE);
}

int main(void)
{
#define T(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
    const struct CMUnitTest tests[] = {
        T(a_call_is_a_signed_form), T(a_session_token_is_signed_too), T(throttled_calls_are_made_again), T(throttling_without_end_is_told_with_its_delay),
        T(retries_end_with_the_quota_and_successes_fill_it), T(a_lost_answer_is_asked_for_again_unless_that_would_make_a_second_thing),
        T(what_is_refused_for_good_is_asked_once), T(keys_that_ended_are_looked_for_anew_once), T(a_clock_that_is_wrong_is_corrected_by_the_answers_date),
        T(all_pages_are_read), T(elb_wraps_its_results_and_calls_its_pages_otherwise), T(an_answer_that_is_no_xml_is_corrupt),
        cmocka_unit_test(xml_is_read_by_path), cmocka_unit_test(error_codes_have_their_class),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
