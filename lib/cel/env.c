/* The functions that every expression has. */
#include "lib/cel/cel_internal.h"

static const struct cel_library *const standard[] = {
    &library_operators, &library_convert, &library_times,    &library_strings, &library_lists,  &library_lists_ext, &library_regex,    &library_urls,
    &library_quantity,  &library_net,     &library_sets,     &library_format,  &library_semver, &library_optional,  &library_fold,
};

static const struct cel_overload *find_in(const struct cel_library *library, const char *name, size_t *n)
{
    for (size_t i = 0; i < library->n_overloads; i++)
        if (library->overloads[i].name[0] == name[0] && strcmp(library->overloads[i].name, name) == 0 && (*n)-- == 0)
            return &library->overloads[i];
    return NULL;
}

const struct cel_overload *overload_at(const struct cel_env *env, const char *name, size_t n)
{
    const struct cel_overload *found = NULL;
    for (size_t i = 0; i < KP_ARRAY_LEN(standard) && !found; i++)
        found = find_in(standard[i], name, &n);
    for (size_t i = 0; i < env->n_libraries && !found; i++)
        found = find_in(env->libraries[i], name, &n);
    return found;
}
