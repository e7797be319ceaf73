/* What the files of lib/cel share: the tree of an expression, its parts' types, and the evaluation's state. */
#ifndef KP_CEL_INTERNAL_H
#define KP_CEL_INTERNAL_H

#include "lib/cel/cel.h"
#include "lib/pattern/pattern.h"

#define NO_PLACE UINT32_MAX /* of an error that has no place in the text */
#define RECOVERIES_MAX 30   /* syntax errors after which the parser gives up */

/* ---- the expression ----------------------------------------------------------------------------------------------------------- */
enum expr_kind { EXPR_ERROR, EXPR_LITERAL, EXPR_IDENT, EXPR_SELECT, EXPR_CALL, EXPR_LIST, EXPR_MAP, EXPR_FOLD };
/* Calls that are not functions when they are evaluated. */
enum operation { OP_FUNCTION, OP_AND, OP_OR, OP_CONDITIONAL, OP_EQUALS, OP_NOT_EQUALS, OP_INDEX, OP_OPT_INDEX, OP_OPT_SELECT, OP_IN_SET, OP_OPT_OR, OP_OPT_OR_VALUE };
struct expr;
struct expr_entry {
    struct expr *key, *value;
    bool optional;
};
struct expr {
    enum expr_kind kind;
    uint32_t at; /* code points from the beginning */
    const struct cel_type *type; /* set by the checker */
    union {
        struct cel_value literal;
        struct {
            const char *name;
            size_t slot; /* of a local, or the variable's index */
            bool local;
        } ident;
        struct {
            struct expr *operand;
            const char *field;
            bool test; /* has(operand.field) */
        } select;
        struct {
            const char *function;
            enum operation op;
            struct expr *target; /* of member calls until they are checked: then it is args[0] */
            struct expr **args;
            size_t n_args;
            const struct cel_overload **overloads; /* those that the arguments' types fit */
            size_t n_overloads;
            struct kp_pattern *pattern; /* of a constant one */
        } call;
        struct {
            struct expr **items;
            bool *optional;
            size_t len;
        } list;
        struct {
            struct expr_entry *entries;
            size_t len;
        } map;
        struct {
            struct expr *range, *init, *condition, *step, *result;
            const char *var, *var2, *accu; /* var2 NULL: there is none */
            size_t slot;                   /* of the accumulator; var is the next, var2 the one after */
        } fold;
    };
};

/* ---- faults of compiling ---------------------------------------------------------------------------------------------------------- */
struct fault {
    uint32_t at;
    size_t order;
    const char *message;
};
struct source {
    const char *text;
    size_t len;        /* bytes */
    size_t points;
    struct kp_arena *arena;
    struct fault faults[CEL_FAULTS_MAX];
    size_t n_faults, all_faults;
    size_t nodes;
};
void fault_add(struct source *source, uint32_t at, const char *format, ...) KP_PRINTF(3, 4);
const char *faults_text(struct source *source, struct kp_arena *arena);

/* ---- lexer.c ----------------------------------------------------------------------------------------------------------------------- */
enum token_kind {
    TOKEN_EOF,
    TOKEN_EQUALS, TOKEN_NOT_EQUALS, TOKEN_IN, TOKEN_LESS, TOKEN_LESS_EQUALS, TOKEN_GREATER_EQUALS, TOKEN_GREATER, TOKEN_AND, TOKEN_OR,
    TOKEN_LBRACKET, TOKEN_RBRACKET, TOKEN_LBRACE, TOKEN_RBRACE, TOKEN_LPAREN, TOKEN_RPAREN, TOKEN_DOT, TOKEN_COMMA, TOKEN_MINUS, TOKEN_EXCLAM,
    TOKEN_QUESTION, TOKEN_COLON, TOKEN_PLUS, TOKEN_STAR, TOKEN_SLASH, TOKEN_PERCENT, TOKEN_TRUE, TOKEN_FALSE, TOKEN_NULL,
    TOKEN_FLOAT, TOKEN_INT, TOKEN_UINT, TOKEN_STRING, TOKEN_BYTES, TOKEN_IDENT, TOKEN_ESC_IDENT,
};
struct token {
    enum token_kind kind;
    const char *text; /* in the source */
    size_t len;
    uint32_t at;
};
struct lexer {
    struct source *source;
    size_t offset;
    uint32_t at;
};
struct token lexer_next(struct lexer *lexer); /* reports what is no token, and goes on */
/* The value of a string or bytes literal; NULL with *ret_why. */
const char *unquote(const char *text, size_t len, bool bytes, struct kp_arena *arena, size_t *ret_len, const char **ret_why);

/* ---- parser.c, macros.c -------------------------------------------------------------------------------------------------------------- */
struct expr *parse_expression(struct source *source); /* what there is of it when there are faults */
struct expr *expr_new(struct source *source, enum expr_kind kind, uint32_t at);
struct expr *expr_call(struct source *source, uint32_t at, const char *function, struct expr *target, size_t n, struct expr *const *args);
struct expr *expr_string(struct source *source, uint32_t at, const char *text);
/* The expansion, or NULL when it is no macro. */
struct expr *expand_macro(struct source *source, uint32_t at, const char *function, struct expr *target, size_t n, struct expr **args);
#define ACCUMULATOR "@result"
#define UNUSED_VAR "#unused"

/* ---- types.c --------------------------------------------------------------------------------------------------------------------------- */
extern const struct cel_type cel_fault_type, cel_type_type, type_a, type_b, list_a, list_b, map_ab, optional_a, optional_b, list_dyn, list_string,
    list_int, list_uint, list_double, list_bool, list_bytes, list_timestamp, list_duration, list_list_a, list_optional_a, optional_list_a, optional_map_ab,
    type_of_a, quantity_type, url_type, ip_type, cidr_type, format_type, semver_type, optional_format, optional_list_string, map_string_list_string;
bool type_is_dyn(const struct cel_type *type);  /* dyn or the type of what has a fault */
bool type_is_optional(const struct cel_type *type);
void type_print(const struct cel_type *type, struct kp_buf *out);
const char *runtime_type_name(const struct cel_value *value);

/* ---- check*.c ---------------------------------------------------------------------------------------------------------------------------- */
struct scope {
    const struct scope *up;
    const char *name;
    const struct cel_type *type;
    size_t slot;
};
struct checker {
    const struct cel_env *env;
    struct source *source;
    struct kp_arena *arena;
    const struct scope *scope;
    const struct cel_type **vars; /* what type variables stand for; NULL: nothing yet */
    size_t n_vars, cap_vars;
    size_t *trail; /* variables in the order in which they got their meaning, to take it back */
    const struct cel_type **trail_old;
    size_t n_trail, cap_trail;
    size_t locals, max_locals;
    size_t steps; /* of unification: what types of types of types can make grow */
    bool *uses;
};
#define UNIFY_STEPS_MAX 5000000
void check(struct checker *c, struct expr *e);
void check_call(struct checker *c, struct expr *e);
const char *qualified_name(struct checker *c, const struct expr *e); /* a.b.c as one name, when all of it are names; NULL otherwise */
const struct cel_type *check_field(struct checker *c, struct expr *e, struct expr *operand, const char *field, bool optional);
/* unify.c */
const struct cel_type *type_var_new(struct checker *c);
bool assignable(struct checker *c, const struct cel_type *a, const struct cel_type *b);
bool assignable_list(struct checker *c, const struct cel_type *const *a, const struct cel_type *const *b, size_t n);
const struct cel_type *substitute(struct checker *c, const struct cel_type *type, bool to_dyn);
/* What both are: dyn when they have nothing in common. previous NULL: there was none. */
const struct cel_type *join_types(struct checker *c, const struct cel_type *previous, const struct cel_type *current);
/* finish.c: types without variables, constants folded, patterns compiled */
struct cel_program;
void finish(struct checker *c, struct cel_program *program, struct expr *e);
const struct cel_type *type_ident(const char *name); /* what a type's name means, as type(T); NULL: no such */

struct cel_program {
    struct kp_arena *arena;
    const struct cel_env *env;
    struct cel_env env_copy;
    struct expr *root;
    size_t n_locals;
    bool *uses;
    struct kp_pattern **patterns;
    size_t n_patterns;
};

/* ---- env.c -------------------------------------------------------------------------------------------------------------------------------- */
extern const struct cel_library library_operators, library_convert, library_times, library_strings, library_lists, library_lists_ext, library_regex, library_urls,
    library_quantity, library_net, library_sets, library_format, library_semver, library_optional, library_fold;
/* The nth overload of that name, counting from 0; NULL past the last. */
const struct cel_overload *overload_at(const struct cel_env *env, const char *name, size_t n);

/* ---- evaluation -------------------------------------------------------------------------------------------------------------------------- */
struct cel_list {
    struct cel_value *items;
    size_t len, cap; /* values may share it: each knows how many of its items are its own, and the one that knows all may append */
};
struct map_entry {
    struct cel_value key, value;
};
struct cel_map {
    struct map_entry *entries;
    size_t len, cap;
    uint32_t *index; /* of entries by hash, when there are many; 0: free, else the entry's number from 1 */
    size_t n_index;
};
struct tree_index { /* of a large object's members by key */
    const struct kp_value *tree;
    uint32_t *slots;
    size_t n_slots;
    struct tree_index *next;
};
#define TREE_INDEX_BUCKETS 16
struct cel_eval {
    const struct cel_program *program;
    const struct cel_value *values;
    struct cel_value *locals;
    struct kp_arena *arena;
    uint64_t cost, cost_max;
    uint64_t work;
    size_t memory_end; /* of the arena's use */
    const char *cancelled; /* why evaluation ends; nothing absorbs it */
    const struct expr *call; /* the call being made: its pattern */
    struct tree_index *indexes[TREE_INDEX_BUCKETS];
};
struct cel_value evaluate(struct cel_eval *e, const struct expr *expr);
bool charge(struct cel_eval *e, uint64_t cost);
struct cel_value call_function(struct cel_eval *e, const struct expr *expr, const struct cel_value *args);
static inline bool is_error(const struct cel_value *v) { return v->kind == CEL_ERROR; }
/* access.c */
/* *ret_found false: there is none, and the value is the error that says so; another error is found. */
struct cel_value select_field(struct cel_eval *e, const struct cel_value *operand, const char *field, bool *ret_found);
struct cel_value select_index(struct cel_eval *e, const struct cel_value *operand, const struct cel_value *index, bool *ret_found);
/* values.c, compare.c, tree.c */
bool values_equal(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b);
#define COMPARE_ERROR 2
int values_compare(const struct cel_value *a, const struct cel_value *b); /* -1, 0, 1; COMPARE_ERROR: not comparable; a NaN is not less, equal, nor greater: 3 */
uint64_t value_size(struct cel_eval *e, const struct cel_value *v);       /* as costs count it */
size_t text_points(struct cel_eval *e, const struct cel_value *v);
const char *value_describe(const struct cel_value *v, struct kp_arena *arena); /* a key in a message */
struct cel_value map_new(struct cel_eval *e, size_t cap);
bool map_add(struct cel_eval *e, struct cel_value *map, struct cel_value key, struct cel_value value); /* false: it is there already */
bool map_find(struct cel_eval *e, const struct cel_value *map, const struct cel_value *key, struct cel_value *ret);
/* The nth key and its value, of made maps and of trees; false: past the last. */
struct map_walk {
    size_t next;
};
bool map_next(struct cel_eval *e, const struct cel_value *map, struct map_walk *walk, struct cel_value *ret_key, struct cel_value *ret_value);
const struct cel_field *field_of_key(struct cel_eval *e, const struct cel_type *type, const char *key); /* by the data's key; NULL: none */
const struct kp_value *tree_member(struct cel_eval *e, const struct kp_value *tree, const char *key, size_t len);
struct cel_value add_lists(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b);
bool tree_lists_equal(struct cel_eval *e, const struct cel_value *a, const struct cel_value *b);
const char *uri_fault(struct cel_eval *e, const struct cel_value *text); /* what is wrong with a URI, or NULL */
struct cel_value string_format(struct cel_eval *e, const struct cel_value *args);
/* lib_times.c */
bool parse_duration(const char *s, size_t len, int64_t *ret_ns);
bool parse_timestamp(const char *s, size_t len, int64_t *ret_s, int32_t *ret_ns);
const char *duration_text(int64_t ns, struct kp_arena *arena);
const char *timestamp_text(int64_t s, int32_t ns, struct kp_arena *arena);
#define TIMESTAMP_MIN (-62135596800LL) /* 0001-01-01T00:00:00Z */
#define TIMESTAMP_MAX 253402300799LL   /* 9999-12-31T23:59:59Z */
/* text.c: as Go's strconv with format 'f' and the fewest digits */
const char *double_f_text(double d, struct kp_arena *arena);
bool utf8_valid(const char *data, size_t len);
size_t utf8_len(const char *p, const char *end); /* bytes of the character at p, at least 1 */
size_t utf8_put(uint32_t c, char out[4]);
/* costs by upstream's numbers: a tenth a byte or code point, rounded up */
#define TENTH(n) (((uint64_t)(n) + 9) / 10)
uint64_t cost_first(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result);    /* a traversal of the first */
uint64_t cost_first_twice(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result);
uint64_t cost_free(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result);
uint64_t cost_traverse(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result); /* of the first as a tree */
uint64_t cost_match(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result);
uint64_t cost_product(struct cel_eval *e, const struct cel_value *args, size_t n, const struct cel_value *result);

#define OVERLOAD(name_, id_, member_, function_, cost_, result_, ...) \
    {.name = (name_), .id = (id_), .member = (member_), .function = (function_), .cost = (cost_), .result = &(result_), .args = {__VA_ARGS__}}

#endif
