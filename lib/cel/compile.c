/* Text to program: parsing, checking, and what is known before anything is evaluated. */
#include "lib/cel/cel_internal.h"

static void check_source(struct cel_program *program, struct source *source)
{
    struct checker c = {.env = program->env, .source = source, .arena = program->arena, .uses = program->uses};
    check(&c, program->root);
    if (c.steps > UNIFY_STEPS_MAX)
        fault_add(source, NO_PLACE, "expression is too complex to check");
    program->n_locals = c.max_locals;
    if (source->n_faults == 0)
        finish(&c, program, program->root);
}

static const struct cel_library *const no_libraries[1];

struct cel_program *cel_compile(const struct cel_env *env, const char *text, struct kp_arena *arena, const char **ret_fault)
{
    struct kp_arena *own = kp_arena_new(0);
    struct cel_program *program = KP_NEW(own, struct cel_program);
    KP_AUTO_FREE struct source *source = kp_calloc(1, sizeof(*source));
    *program = (struct cel_program){.arena = own, .env_copy = *env, .env = &program->env_copy};
    if (!program->env_copy.libraries)
        program->env_copy.libraries = no_libraries;
    program->uses = KP_NEW_ARRAY(own, bool, env->n_variables + 1);
    source->arena = own;
    source->len = strlen(text);
    for (const char *p = text, *end = text + source->len; p < end; p += utf8_len(p, end))
        source->points++;
    if (source->points > CEL_TEXT_MAX) {
        source->text = "";
        fault_add(source, NO_PLACE, "expression code point size exceeds limit: size: %zu, limit %d", source->points, CEL_TEXT_MAX);
        source->len = 0;
    } else {
        source->text = kp_arena_strndup(own, text, source->len);
        program->root = parse_expression(source);
        if (source->nodes > CEL_NODES_MAX && source->n_faults == 0)
            fault_add(source, NO_PLACE, "expression has more than %d nodes", CEL_NODES_MAX);
        if (source->n_faults == 0)
            check_source(program, source);
    }
    if (source->n_faults == 0)
        return program;
    *ret_fault = faults_text(source, arena);
    cel_program_free(program);
    return NULL;
}

void cel_program_free(struct cel_program *program)
{
    if (!program)
        return;
    for (size_t i = 0; i < program->n_patterns; i++)
        kp_pattern_free(program->patterns[i]);
    free(program->patterns);
    kp_arena_free(program->arena);
}

const struct cel_type *cel_program_type(const struct cel_program *program)
{
    return program->root->type;
}

bool cel_program_uses(const struct cel_program *program, size_t variable)
{
    return program->uses[variable];
}
