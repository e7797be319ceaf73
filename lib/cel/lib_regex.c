/* Regular expressions: matches, and Kubernetes' find and findAll (k8s.io/apiserver pkg/cel/library/regex.go). */
#include "lib/cel/cel_internal.h"

#define FN(name) static struct cel_value name(struct cel_eval *e, const struct cel_value *args)
#define COMPILE_WORK 2000 /* what making a pattern counts as, besides its length */

/* That of a constant, made with the program, or one made now, which *ret_own is to be freed with. */
static const struct kp_pattern *pattern_of(struct cel_eval *e, const struct cel_value *text, bool find, struct kp_pattern **ret_own, const char **ret_fault)
{
    if (e->call->call.pattern)
        return e->call->call.pattern;
    if (!cel_work(e, COMPILE_WORK + 16 * text->text.len))
        return NULL;
    if (memchr(text->text.data, '\0', text->text.len)) {
        *ret_fault = "error parsing regexp: invalid NUL";
        return NULL;
    }
    KP_AUTO_FREE char *copy = kp_strndup(text->text.data, text->text.len);
    *ret_own = find ? kp_pattern_new_finder(copy, e->arena, ret_fault) : kp_pattern_new(copy, e->arena, ret_fault);
    return *ret_own;
}

FN(matches)
{
    KP_AUTO(kp_pattern_free) struct kp_pattern *own = NULL;
    const char *fault = "";
    const struct kp_pattern *pattern = pattern_of(e, &args[1], false, &own, &fault);
    if (!pattern)
        return cel_fail(e, "%s", fault);
    cel_work(e, 1 + args[0].text.len);
    return cel_of_bool(kp_pattern_matches(pattern, args[0].text.data, args[0].text.len));
}

static struct cel_value find_up_to(struct cel_eval *e, const struct cel_value *args, int64_t n)
{
    KP_AUTO(kp_pattern_free) struct kp_pattern *own = NULL;
    const char *fault = "", *data = args[0].text.data;
    size_t len = args[0].text.len, at = 0, begin, end, last_end = SIZE_MAX;
    const struct kp_pattern *pattern = pattern_of(e, &args[1], true, &own, &fault);
    if (!pattern)
        return cel_fail(e, "Illegal regex: %s", fault);
    struct cel_value out = cel_list_new(e, 0);
    while (n != 0 && at <= len && cel_work(e, 16 + (len - at) / 16)) {
        int found = kp_pattern_find(pattern, data, len, at, &begin, &end);
        if (found < 0)
            return cel_fail(e, "the regular expression takes too long on this text");
        if (found == 0)
            break;
        if (begin < end || begin != last_end) { /* nothing right behind a match is none, as in Go */
            cel_list_add(e, &out, cel_of_text(data + begin, end - begin));
            n--;
        }
        last_end = end;
        at = begin < end ? end : end < len ? end + utf8_len(data + end, data + len) : len + 1;
    }
    return out;
}

FN(find)
{
    struct cel_value found = find_up_to(e, args, 1);
    if (found.kind != CEL_LIST)
        return found;
    return found.list.len ? found.list.items->items[0] : cel_of_string("");
}

FN(find_all)
{
    return find_up_to(e, args, -1);
}

FN(find_some)
{
    return find_up_to(e, args, args[2].integer);
}

static const struct cel_overload overloads[] = {
    OVERLOAD("matches", "matches", false, matches, cost_match, cel_bool, &cel_string, &cel_string),
    OVERLOAD("matches", "matches_string", true, matches, cost_match, cel_bool, &cel_string, &cel_string),
    OVERLOAD("find", "string_find_string", true, find, cost_match, cel_string, &cel_string, &cel_string),
    OVERLOAD("findAll", "string_find_all_string", true, find_all, cost_match, list_string, &cel_string, &cel_string),
    OVERLOAD("findAll", "string_find_all_string_int", true, find_some, cost_match, list_string, &cel_string, &cel_string, &cel_int),
};
const struct cel_library library_regex = {overloads, KP_ARRAY_LEN(overloads)};
