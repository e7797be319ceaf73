/* AWS's error codes: what they mean to callers, and which of them pass by themselves. */
#include "cloud/aws/aws_internal.h"
#include "cloud/rest/json.h"

static const struct {
    const char *code; /* "*" stands for anything, at one end or at both */
    int kind;
} codes[] = {
    /* who asks */
    {"AuthFailure", KP_EUNAUTHORIZED}, {"SignatureDoesNotMatch", KP_EUNAUTHORIZED}, {"UnrecognizedClientException", KP_EUNAUTHORIZED},
    {"InvalidClientTokenId", KP_EUNAUTHORIZED}, {"InvalidAccessKeyId", KP_EUNAUTHORIZED}, {"IncompleteSignature", KP_EUNAUTHORIZED},
    {"InvalidSignatureException", KP_EUNAUTHORIZED}, {"MissingAuthenticationToken", KP_EUNAUTHORIZED}, {"ExpiredToken*", KP_EUNAUTHORIZED},
    {"InvalidToken", KP_EUNAUTHORIZED}, {"RequestExpired", KP_EUNAUTHORIZED}, {"RequestTimeTooSkewed", KP_EUNAUTHORIZED},
    {"Blocked", KP_EFORBIDDEN}, {"OptInRequired", KP_EFORBIDDEN}, {"PendingVerification", KP_EFORBIDDEN},
    {"UnauthorizedOperation", KP_EFORBIDDEN}, {"AccessDenied*", KP_EFORBIDDEN}, {"NotAuthorized", KP_EFORBIDDEN},
    {"OperationNotPermitted", KP_EFORBIDDEN},
    /* how often */
    {"RequestLimitExceeded", KP_ETOOMANY}, {"Throttl*", KP_ETOOMANY}, {"RequestThrottled*", KP_ETOOMANY}, {"TooManyRequestsException", KP_ETOOMANY},
    {"SlowDown", KP_ETOOMANY}, {"BandwidthLimitExceeded", KP_ETOOMANY}, {"EC2ThrottledException", KP_ETOOMANY}, {"PriorRequestNotComplete", KP_ETOOMANY},
    {"LimitExceededException", KP_ETOOMANY},
    /* how much */
    {"*LimitExceeded", KP_EQUOTA}, {"*QuotaExceeded", KP_EQUOTA}, {"TooMany*", KP_EQUOTA}, {"InsufficientInstanceCapacity", KP_EQUOTA},
    {"InsufficientFreeAddressesInSubnet", KP_EQUOTA}, {"InsufficientAddressCapacity", KP_EQUOTA}, {"InsufficientCapacity", KP_EQUOTA},
    {"MaxSpotInstanceCountExceeded", KP_EQUOTA},
    /* what is there already, or in the way */
    {"*.Duplicate", KP_EEXISTS}, {"Duplicate*", KP_EEXISTS}, {"RouteAlreadyExists", KP_EEXISTS}, {"Resource.AlreadyAssociated", KP_EEXISTS},
    {"IdempotentParameterMismatch", KP_ECONFLICT}, {"DependencyViolation", KP_ECONFLICT}, {"*.InUse", KP_ECONFLICT}, {"*InUse", KP_ECONFLICT},
    {"IncorrectInstanceState", KP_ECONFLICT}, {"IncorrectState", KP_ECONFLICT},
    {"Resource.AlreadyAttached", KP_ECONFLICT}, {"*Conflict", KP_ECONFLICT},
    /* what is not there */
    {"*.NotFound", KP_ENOTFOUND}, {"*NotFound", KP_ENOTFOUND}, {"InvalidAMIID.Unavailable", KP_ENOTFOUND},
    {"Gateway.NotAttached", KP_ENOTFOUND}, {"NoSuchEntity", KP_ENOTFOUND} /* IAM's */,
    /* what cannot be asked for */
    {"Invalid*", KP_EINVALID}, {"Missing*", KP_EINVALID}, {"Malformed*", KP_EINVALID}, {"Unknown*", KP_EINVALID}, {"Unsupported*", KP_EINVALID},
    {"ValidationError", KP_EINVALID}, {"VPCIdNotSpecified", KP_EINVALID}, {"VPCResourceNotSpecified", KP_EINVALID},
    /* the other side's trouble */
    {"Internal*", KP_EUNAVAILABLE}, {"Unavailable", KP_EUNAVAILABLE}, {"ServiceUnavailable*", KP_EUNAVAILABLE}, {"RequestTimeout*", KP_ETIMEOUT},
    {"Server.*", KP_EUNAVAILABLE},
};

static bool matches(const char *pattern, const char *code)
{
    size_t len = strlen(pattern);
    if (pattern[0] == '*')
        return kp_ends_with(code, pattern + 1);
    if (pattern[len - 1] == '*')
        return strncmp(code, pattern, len - 1) == 0;
    return kp_streq(code, pattern);
}

int aws_code(const char *code, int status)
{
    for (size_t i = 0; *code && i < KP_ARRAY_LEN(codes); i++)
        if (matches(codes[i].code, code))
            return codes[i].kind;
    return rest_code(status);
}

/* The lists of the SDKs' standard retry mode (docs.aws.amazon.com/sdkref, "Retry behavior"). */
enum aws_retry aws_retry_of(const char *code, int status)
{
    static const char *const skewed[] = {"RequestTimeTooSkewed", "RequestExpired", "RequestInTheFuture"};
    static const char *const stale[] = {"ExpiredToken", "ExpiredTokenException"};
    static const char *const transient[] = {"RequestTimeout", "RequestTimeoutException", "InternalError", "InternalFailure", "Unavailable",
                                            "ServiceUnavailable", "IDPCommunicationError"};
    for (size_t i = 0; i < KP_ARRAY_LEN(skewed); i++)
        if (kp_streq(code, skewed[i]))
            return AWS_SKEWED;
    for (size_t i = 0; i < KP_ARRAY_LEN(stale); i++)
        if (kp_streq(code, stale[i]))
            return AWS_STALE_KEYS;
    int kind = *code ? aws_code(code, status) : rest_code(status);
    if (kind == KP_ETOOMANY || status == 429)
        return AWS_THROTTLED;
    if (kind == KP_EQUOTA) /* InsufficientInstanceCapacity comes with 500 and stays */
        return AWS_FINAL;
    for (size_t i = 0; i < KP_ARRAY_LEN(transient); i++)
        if (kp_streq(code, transient[i]))
            return AWS_TRANSIENT;
    return status == 500 || status == 502 || status == 503 || status == 504 ? AWS_TRANSIENT : AWS_FINAL;
}

/* EBS: a header with the code, "ValidationException:http://...", and JSON. Its codes are the query APIs' with a word behind. */
static bool read_json_error(const struct rest_answer *answer, struct kp_arena *arena, const char **ret_code, const char **ret_message)
{
    static const char word[] = "Exception";
    const char *type = rest_header(answer, "x-amzn-ErrorType");
    KP_AUTO(json_decref) json_t *document = NULL;
    struct kp_error ignored = {0}; /* without a document there is no message */
    if (!type)
        return false;
    char *code = kp_arena_strndup(arena, type, strcspn(type, ":;"));
    if (kp_ends_with(code, word) && strlen(code) > strlen(word))
        code[strlen(code) - strlen(word)] = 0;
    *ret_code = code;
    if (rest_json_parse(answer->body, answer->body_len, &document, &ignored) == 0) {
        const char *message = rest_json_text(document, "message");
        *ret_message = kp_arena_strdup(arena, *message ? message : rest_json_text(document, "Message"));
    }
    return true;
}

/* EC2: Response/Errors/Error; ELB, STS: ErrorResponse/Error. */
void aws_read_error(const struct rest_answer *answer, struct kp_arena *arena, const char **ret_code, const char **ret_message)
{
    const struct aws_node *root = NULL, *at = NULL;
    struct kp_error ignored = {0}; /* a gateway's page is no XML: its status speaks then */
    *ret_code = *ret_message = "";
    if (read_json_error(answer, arena, ret_code, ret_message))
        return;
    if (aws_xml_parse(answer->body, answer->body_len, arena, &root, &ignored) < 0)
        return;
    at = aws_at(root, "Errors/Error");
    at = at ? at : aws_at(root, "Error");
    at = at || !kp_streq(root->name, "Error") ? at : root;
    *ret_code = aws_text(at, "Code");
    *ret_message = aws_text(at, "Message");
}

int aws_pass(struct kp_error *error, const struct kp_error *why)
{
    if (error)
        *error = *why;
    return why->code;
}
