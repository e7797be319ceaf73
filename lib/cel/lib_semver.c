/* Versions: semver() in version 1 of the library (k8s.io/apiserver pkg/cel/library/semverlib.go; blang/semver). */
#include "lib/cel/cel_internal.h"

#include <ctype.h>

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define VERSION_BYTES_MAX 256

struct version {
    uint64_t numbers[3];
    char text[VERSION_BYTES_MAX]; /* of what is behind the numbers: "rc.1" */
};

static const struct version *version_of(const struct cel_value *v)
{
    return v->object.data;
}

/* ---- order ------------------------------------------------------------------------------------------------------------------------------------------- */
static int order(bool less, bool more)
{
    return less ? -1 : more;
}

static bool is_numeric(const char *s, size_t len)
{
    for (size_t i = 0; i < len; i++)
        if (!isdigit((unsigned char)s[i]))
            return false;
    return len > 0;
}

/* One identifier: numbers come first, by their value. */
static int compare_part(const char *a, size_t a_len, const char *b, size_t b_len)
{
    bool a_number = is_numeric(a, a_len), b_number = is_numeric(b, b_len);
    if (a_number != b_number)
        return a_number ? -1 : 1;
    if (a_number && a_len != b_len)
        return a_len < b_len ? -1 : 1;
    int result = memcmp(a, b, KP_MIN(a_len, b_len));
    return result ? order(result < 0, true) : order(a_len < b_len, a_len > b_len);
}

static int compare_versions(const struct version *a, const struct version *b)
{
    const char *x = a->text, *y = b->text;
    for (int i = 0; i < 3; i++)
        if (a->numbers[i] != b->numbers[i])
            return a->numbers[i] < b->numbers[i] ? -1 : 1;
    if (!*x || !*y)
        return order(*x && !*y, !*x && *y);
    while (*x && *y) {
        size_t x_len = strcspn(x, "."), y_len = strcspn(y, ".");
        int result = compare_part(x, x_len, y, y_len);
        if (result)
            return result;
        x += x_len + (x[x_len] == '.');
        y += y_len + (y[y_len] == '.');
    }
    return order(!*x && *y, *x && !*y);
}

static bool same_version(const void *a, const void *b)
{
    return compare_versions(a, b) == 0;
}

static const struct cel_class semver_class = {.type = &semver_type, .equal = same_version};

/* ---- reading ------------------------------------------------------------------------------------------------------------------------------------------- */
static const char *read_number(const char *s, size_t len, const char *which, uint64_t *ret, char why[128])
{
    char digits[32];
    if (!is_numeric(s, len) || len >= sizeof(digits)) {
        snprintf(why, 128, "Invalid character(s) found in %s number \"%.*s\"", which, (int)KP_MIN(len, (size_t)32), s);
        return why;
    }
    snprintf(digits, sizeof(digits), "%.*s", (int)len, s);
    if (len > 1 && *s == '0') {
        snprintf(why, 128, "%c%s number must not contain leading zeroes \"%s\"", toupper((unsigned char)which[0]), which + 1, digits);
        return why;
    }
    if (kp_parse_u64(digits, ret) < 0) {
        snprintf(why, 128, "strconv.ParseUint: parsing \"%s\": value out of range", digits);
        return why;
    }
    return NULL;
}

/* Identifiers between dots. */
static const char *check_parts(const char *s, const char *what, bool numbers, char why[128])
{
    for (;;) {
        size_t len = strcspn(s, ".");
        if (len == 0) {
            snprintf(why, 128, "%s is empty", what);
            return why;
        }
        for (size_t i = 0; i < len; i++)
            if (!isalnum((unsigned char)s[i]) && s[i] != '-') {
                snprintf(why, 128, "Invalid character(s) found in %s \"%.*s\"", numbers ? "prerelease" : "build meta data", (int)KP_MIN(len, (size_t)32), s);
                return why;
            }
        if (numbers && is_numeric(s, len) && len > 1 && *s == '0') {
            snprintf(why, 128, "Numeric PreRelease version must not contain leading zeroes \"%.*s\"", (int)KP_MIN(len, (size_t)32), s);
            return why;
        }
        if (!s[len])
            return NULL;
        s += len + 1;
    }
}

/* The fault's words, or NULL. Cuts text into pieces. */
static const char *read_version(char *text, struct version *ret, char why[128])
{
    static const char *const which[] = {"major", "minor", "patch"};
    if (!*text)
        return "Version string empty";
    char *build = strchr(text, '+');
    if (build)
        *build++ = '\0';
    char *first = strchr(text, '.'), *second = first ? strchr(first + 1, '.') : NULL;
    if (!second)
        return "No Major.Minor.Patch elements found";
    char *pre = strchr(second, '-');
    if (pre)
        *pre++ = '\0';
    const char *const parts[] = {text, first + 1, second + 1};
    const size_t lens[] = {(size_t)(first - text), (size_t)(second - first) - 1, strlen(second + 1)};
    for (int i = 0; i < 3; i++) {
        const char *fault = read_number(parts[i], lens[i], which[i], &ret->numbers[i], why);
        if (fault)
            return fault;
    }
    const char *fault = pre ? check_parts(pre, "Prerelease", true, why) : NULL;
    if (!fault && build)
        fault = check_parts(build, "Build meta data", false, why);
    snprintf(ret->text, sizeof(ret->text), "%s", pre ? pre : "");
    return fault;
}

/* Without a v before it, without zeros before numbers, with zeros for what is not there. */
static const char *normalize(const char *text, char out[VERSION_BYTES_MAX + 8])
{
    size_t len = 0;
    int parts = 0;
    text += *text == 'v';
    for (bool more = true; more && parts < 3; parts++) {
        size_t part = parts == 2 ? strlen(text) : strcspn(text, "."), zeros = 0;
        while (zeros + 1 < part && text[zeros] == '0' && isdigit((unsigned char)text[zeros + 1]))
            zeros++;
        if (parts < 2 && !text[part] && memchr(text, '-', part))
            return "short version cannot contain PreRelease/Build meta data";
        if (parts < 2 && !text[part] && memchr(text, '+', part))
            return "short version cannot contain PreRelease/Build meta data";
        len += (size_t)snprintf(out + len, VERSION_BYTES_MAX + 8 - len, "%s%.*s", parts ? "." : "", (int)(part - zeros), text + zeros);
        more = text[part] == '.';
        text += part + more;
    }
    for (; parts < 3; parts++)
        len += (size_t)snprintf(out + len, VERSION_BYTES_MAX + 8 - len, ".0");
    return NULL;
}

static const char *parse(const struct cel_value *v, bool lenient, struct version *ret, char why[128])
{
    char text[VERSION_BYTES_MAX], whole[VERSION_BYTES_MAX + 8];
    if (v->text.len >= sizeof(text) || memchr(v->text.data, '\0', v->text.len))
        return "version is too long";
    memcpy(text, v->text.data, v->text.len);
    text[v->text.len] = '\0';
    snprintf(whole, sizeof(whole), "%s", text);
    const char *fault = lenient ? normalize(text, whole) : NULL;
    *ret = (struct version){0};
    return fault ? fault : read_version(whole, ret, why);
}

static struct cel_value make(struct cel_eval *e, const struct cel_value *text, bool lenient)
{
    struct version *version = cel_alloc(e, sizeof(*version));
    char why[128];
    const char *fault = version ? parse(text, lenient, version, why) : "";
    return fault ? cel_fail(e, "%s", fault) : cel_of_object(&semver_class, version);
}

static struct cel_value is_one(const struct cel_value *text, bool lenient)
{
    struct version version;
    char why[128];
    return cel_of_bool(!parse(text, lenient, &version, why));
}

FN(semver)
{
    return make(e, &args[0], false);
}

FN(semver_lenient)
{
    return make(e, &args[0], args[1].boolean);
}

FN(is_semver)
{
    return is_one(&args[0], false);
}

FN(is_semver_lenient)
{
    return is_one(&args[0], args[1].boolean);
}

FN(compare)
{
    return cel_of_int(compare_versions(version_of(&args[0]), version_of(&args[1])));
}

FN(is_greater)
{
    return cel_of_bool(compare(e, args).integer > 0);
}

FN(is_less)
{
    return cel_of_bool(compare(e, args).integer < 0);
}

FN(major_number)
{
    return cel_of_int((int64_t)version_of(&args[0])->numbers[0]);
}

FN(minor_number)
{
    return cel_of_int((int64_t)version_of(&args[0])->numbers[1]);
}

FN(patch_number)
{
    return cel_of_int((int64_t)version_of(&args[0])->numbers[2]);
}

static const struct cel_overload overloads[] = {
    OVERLOAD("semver", "string_to_semver", false, semver, cost_first, semver_type, &cel_string),
    OVERLOAD("semver", "string_bool_to_semver", false, semver_lenient, cost_first, semver_type, &cel_string, &cel_bool),
    OVERLOAD("isSemver", "is_semver_string", false, is_semver, cost_first, cel_bool, &cel_string),
    OVERLOAD("isSemver", "is_semver_string_bool", false, is_semver_lenient, cost_first, cel_bool, &cel_string, &cel_bool),
    OVERLOAD("isGreaterThan", "semver_is_greater_than", true, is_greater, NULL, cel_bool, &semver_type, &semver_type),
    OVERLOAD("isLessThan", "semver_is_less_than", true, is_less, NULL, cel_bool, &semver_type, &semver_type),
    OVERLOAD("compareTo", "semver_compare_to", true, compare, NULL, cel_int, &semver_type, &semver_type),
    OVERLOAD("major", "semver_major", true, major_number, NULL, cel_int, &semver_type),
    OVERLOAD("minor", "semver_minor", true, minor_number, NULL, cel_int, &semver_type),
    OVERLOAD("patch", "semver_patch", true, patch_number, NULL, cel_int, &semver_type),
};
const struct cel_library library_semver = {overloads, KP_ARRAY_LEN(overloads)};
