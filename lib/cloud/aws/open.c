/* Region, endpoints and files of an account, from options, environment and profile. */
#include "cloud/aws/aws_internal.h"

#define IMAGE_DIR "/var/lib/kprov/images"
#define IMDS_BASE "http://169.254.169.254"
#define IMDS_TIMEOUT_MS 1000
#define ATTEMPTS_MAX 8 /* the SDKs' own is 3: a cluster's creation should live through more */
#define ATTEMPTS_LIMIT 20
#define BACKOFF_MS 1000
#define BACKOFF_MS_MAX 20000
#define RETRY_QUOTA 500
#define POLL_MS 2000
#define SETTLE_MS 150000 /* below what a call of its kind may take */

const char *const aws_service_names[AWS_SERVICES] = {"ec2", "elasticloadbalancing", "sts", "ebs", "iam"};
static const char *const endpoint_variables[AWS_SERVICES] = {"AWS_ENDPOINT_URL_EC2", "AWS_ENDPOINT_URL_ELASTIC_LOAD_BALANCING_V2", "AWS_ENDPOINT_URL_STS",
                                                              "AWS_ENDPOINT_URL_EBS", "AWS_ENDPOINT_URL_IAM"};

static const char *first_of(const char *a, const char *b, const char *c, const char *d)
{
    return !kp_empty(a) ? a : !kp_empty(b) ? b : !kp_empty(c) ? c : d;
}

static char *home_file(const char *name)
{
    const char *home = getenv("HOME");
    return kp_asprintf("%s/.aws/%s", kp_empty(home) ? "/root" : home, name);
}

static char *file_of(const char *given, const char *variable, const char *name)
{
    const char *path = first_of(given, getenv(variable), NULL, NULL);
    return path ? kp_strdup(path) : home_file(name);
}

static char *without_slash(const char *url)
{
    size_t len = strlen(url);
    while (len && url[len - 1] == '/')
        len--;
    return kp_strndup(url, len);
}

static int find_region(struct aws *aws, const struct cloud_account *account, const struct aws_profile *profile, const char *looked, struct kp_arena *arena,
                       struct kp_error *error)
{
    const char *region = first_of(account->region, getenv("AWS_REGION"), getenv("AWS_DEFAULT_REGION"), profile->region);
    struct kp_error why = {0};
    if (kp_empty(region) && aws_imds_get(aws, "placement/region", arena, &region, &why) < 0)
        return kp_fail(error, KP_EINVALID, "no AWS region: looked at the cluster's configuration, AWS_REGION and AWS_DEFAULT_REGION (not set), %s (none), "
                       "instance metadata (%s)", looked, why.message);
    for (const char *c = region; *c; c++)
        if (!((*c >= 'a' && *c <= 'z') || (*c >= '0' && *c <= '9') || *c == '-'))
            return kp_fail(error, KP_EINVALID, "\"%.64s\" is no AWS region: one is written as eu-west-1", region);
    aws->region = kp_strdup(region);
    return 0;
}

const char *aws_own_endpoint(const struct aws *aws, enum aws_service service, struct kp_arena *arena)
{
    const char *domain = kp_starts_with(aws->region, "cn-") ? "amazonaws.com.cn" : "amazonaws.com";
    if (service == AWS_IAM) /* one for all regions */
        return kp_starts_with(aws->region, "cn-") ? "https://iam.cn-north-1.amazonaws.com.cn" : "https://iam.amazonaws.com";
    return kp_arena_printf(arena, "https://%s.%s.%s", aws_service_names[service], aws->region, domain);
}

static int find_endpoints(struct aws *aws, const struct cloud_account *account, const struct aws_profile *profile, struct kp_arena *arena,
                          struct kp_error *error)
{
    for (size_t i = 0; i < AWS_SERVICES; i++) {
        const char *given = first_of(account->endpoint, getenv(endpoint_variables[i]), getenv("AWS_ENDPOINT_URL"), profile->endpoint);
        if (!kp_empty(given) && !kp_starts_with(given, "https://") && !kp_starts_with(given, "http://"))
            return kp_fail(error, KP_EINVALID, "\"%.200s\" is no address of an AWS endpoint: it begins with https:// or http://", given);
        aws->endpoints[i] = kp_empty(given) ? kp_strdup(aws_own_endpoint(aws, (enum aws_service)i, arena)) : without_slash(given);
    }
    return 0;
}

static int find_attempts(struct aws *aws, const struct aws_profile *profile, struct kp_error *error)
{
    const char *text = first_of(getenv("AWS_MAX_ATTEMPTS"), profile->max_attempts, NULL, "");
    int64_t attempts = ATTEMPTS_MAX;
    if (*text && (kp_parse_i64(text, &attempts) < 0 || attempts < 1 || attempts > ATTEMPTS_LIMIT))
        return kp_fail(error, KP_EINVALID, "AWS_MAX_ATTEMPTS is \"%.32s\": must be a number from 1 to %d", text, ATTEMPTS_LIMIT);
    aws->attempts_max = (int)attempts;
    return 0;
}

/* Metadata is asked with little patience: most machines have none. */
static int open_imds(struct aws *aws, struct kp_error *error)
{
    const char *off = getenv("AWS_EC2_METADATA_DISABLED"), *base = getenv("AWS_EC2_METADATA_SERVICE_ENDPOINT");
    const struct rest_options options = {.cloud = "aws", .attempt_timeout_ms = IMDS_TIMEOUT_MS, .deadline_ms = 3 * IMDS_TIMEOUT_MS, .attempts_max = 2};
    if (off && strcasecmp(off, "true") == 0)
        return 0;
    aws->imds_base = without_slash(kp_empty(base) ? IMDS_BASE : base);
    return rest_new(&options, &aws->imds, error);
}

static int read_account(struct aws *aws, const struct cloud_account *account, struct kp_error *error)
{
    KP_AUTO(kp_arena_free) struct kp_arena *arena = kp_arena_new(0);
    struct aws_profile profile;
    const char *looked = "";
    aws->profile_only = !kp_empty(account->profile) || !kp_empty(account->credentials);
    aws->profile = kp_strdup(first_of(account->profile, getenv("AWS_PROFILE"), getenv("AWS_DEFAULT_PROFILE"), "default"));
    aws->credentials_file = file_of(account->credentials, "AWS_SHARED_CREDENTIALS_FILE", "credentials");
    aws->config_file = file_of(NULL, "AWS_CONFIG_FILE", "config");
    int r = aws_profile_read(aws, arena, &profile, &looked, error);
    if (r == 0)
        r = open_imds(aws, error);
    if (r == 0)
        r = find_region(aws, account, &profile, looked, arena, error);
    if (r == 0)
        r = find_endpoints(aws, account, &profile, arena, error);
    if (r == 0)
        r = find_attempts(aws, &profile, error);
    if (r < 0)
        return r;
    const struct rest_options options = {.cloud = "aws", .attempts_max = 1,
                                         .ca_file = first_of(getenv("AWS_CA_BUNDLE"), profile.ca_file, NULL, NULL)};
    aws->own_authorities = options.ca_file != NULL;
    return rest_new(&options, &aws->rest, error);
}

int aws_open(const struct cloud_options *options, struct aws **ret, struct kp_error *error)
{
    struct aws *aws = kp_calloc(1, sizeof(*aws));
    pthread_mutex_init(&aws->state_lock, NULL);
    pthread_mutex_init(&aws->making, NULL);
    aws->image_dir = kp_strdup(kp_empty(options->image_dir) ? IMAGE_DIR : options->image_dir);
    aws->retry_quota = RETRY_QUOTA;
    aws->backoff_ms = BACKOFF_MS;
    aws->backoff_ms_max = BACKOFF_MS_MAX;
    aws->poll_ms = POLL_MS;
    aws->settle_ms = SETTLE_MS;
    aws->instance_profile = kp_empty(options->account.role) ? NULL : kp_strdup(options->account.role);
    int r = read_account(aws, &options->account, error);
    if (r < 0) {
        aws_close(aws);
        return r;
    }
    *ret = aws;
    return 0;
}

void aws_close(struct aws *aws)
{
    rest_free(aws->rest);
    rest_free(aws->imds);
    kp_arena_free(aws->keys_arena);
    for (size_t i = 0; i < AWS_SERVICES; i++)
        free(aws->endpoints[i]);
    free(aws->region);
    free(aws->profile);
    free(aws->credentials_file);
    free(aws->config_file);
    free(aws->image_dir);
    free(aws->instance_profile);
    free(aws->imds_base);
    pthread_mutex_destroy(&aws->state_lock);
    pthread_mutex_destroy(&aws->making);
    free(aws);
}
