/* lib/cel: the Common Expression Language as Kubernetes has it (github.com/google/cel-spec; cel-go; k8s.io/apiserver pkg/cel): expressions are compiled
 * against declared variables, checked, and evaluated within a cost that upstream's numbers give. Pure: no clock, no I/O but files of time zones.
 *
 *     const struct cel_variable self = {"self", type};
 *     const char *fault = NULL;
 *     struct cel_program *program = cel_compile(&(struct cel_env){&self, 1}, "self.replicas <= 5", arena, &fault);   // NULL: fault says why
 *     struct cel_value result = cel_evaluate(program, &value, scratch, CEL_CALL_COST_MAX, &cost);                    // CEL_ERROR: result.error says why
 *
 * Not there: messages of protobuf (google.protobuf...{}), wrapper types. Functions are those of Kubernetes 1.36, with its versions of the libraries: no
 * cel.bind, no math, no reverse of strings. What an expression can cost at worst is not estimated (cel-go checker/cost.go). */
#ifndef KP_CEL_H
#define KP_CEL_H

#include "lib/base/base.h"
#include "lib/codec/codec.h"

/* ---- bounds ------------------------------------------------------------------------------------------------------------------ */
#define CEL_TEXT_MAX 100000              /* code points of an expression, as cel-go */
#define CEL_DEPTH_MAX 250                /* nesting of an expression, as cel-go */
#define CEL_NODES_MAX 100000             /* of an expression after its macros are expanded */
#define CEL_FAULTS_MAX 100               /* errors of one compilation that are told */
#define CEL_ARGS_MAX 6                   /* of a function, its target included */
#define CEL_WORK_MAX 50000000            /* elements and pieces of text that one evaluation looks at: what the cost does not count */
#define CEL_MEMORY_MAX ((size_t)64 << 20) /* bytes of one evaluation */
/* k8s.io/apiserver pkg/apis/cel/config.go */
#define CEL_CALL_COST_MAX 1000000              /* PerCallLimit: of one expression */
#define CEL_BUDGET 10000000                    /* RuntimeCELCostBudget: of all rules of a resource, or of a binding of a policy */
#define CEL_BUDGET_MATCH_CONDITIONS 2500000    /* RuntimeCELCostBudgetMatchConditions */
#define CEL_MESSAGE_BYTES_MAX (5 * 1024)       /* MaxEvaluatedMessageExpressionSizeBytes */

/* ---- types ------------------------------------------------------------------------------------------------------------------- */
enum cel_kind {
    CEL_UNSET, /* no value: of a variable, that there is none */
    CEL_ERROR,
    CEL_DYN, /* of types alone */
    CEL_NULL,
    CEL_BOOL,
    CEL_INT,
    CEL_UINT,
    CEL_DOUBLE,
    CEL_STRING,
    CEL_BYTES,
    CEL_TIMESTAMP,
    CEL_DURATION,
    CEL_LIST,
    CEL_MAP,
    CEL_OBJECT, /* of types: an object with declared fields; of values: one whose class gives the fields. Trees with such a type are CEL_MAP */
    CEL_OPAQUE, /* of types: a name and parameters (optional_type(T), net.IP); of values: what a class says */
    CEL_OPTIONAL, /* of values */
    CEL_TYPE,
    CEL_PARAM, /* of types in declarations: A, B */
};
struct cel_type;
struct cel_field {
    const char *name; /* as expressions have it: escaped */
    const char *key;  /* as the data has it */
    const struct cel_type *type;
};
/* How a list that comes from a tree merges: what == and + make of it (x-kubernetes-list-type). */
enum cel_list_type { CEL_LIST_ATOMIC, CEL_LIST_SET, CEL_LIST_MAP };
struct cel_type {
    enum cel_kind kind;
    const char *name;                      /* of CEL_OBJECT, CEL_OPAQUE and CEL_PARAM */
    const struct cel_type *const *params;  /* of list, map, opaque, type */
    size_t n_params;
    const struct cel_field *fields;        /* of CEL_OBJECT, sorted by name */
    size_t n_fields;
    enum cel_list_type list_type;
    const char *const *keys;               /* of CEL_LIST_MAP */
    size_t n_keys;
};
extern const struct cel_type cel_dyn, cel_null, cel_bool, cel_int, cel_uint, cel_double, cel_string, cel_bytes, cel_timestamp, cel_duration;
const struct cel_type *cel_list_of(struct kp_arena *arena, const struct cel_type *item);
const struct cel_type *cel_map_of(struct kp_arena *arena, const struct cel_type *key, const struct cel_type *value);
const struct cel_type *cel_optional_of(struct kp_arena *arena, const struct cel_type *type);
/* Sorts the fields, which it keeps. Objects are the same type when their names are. */
const struct cel_type *cel_object(struct kp_arena *arena, const char *name, struct cel_field *fields, size_t n_fields);
const struct cel_field *cel_field_find(const struct cel_type *type, const char *name); /* NULL when there is none */
bool cel_type_same(const struct cel_type *a, const struct cel_type *b);
const char *cel_type_text(const struct cel_type *type, struct kp_arena *arena); /* "list(string)" */
/* How an expression writes a property's name (k8s.io/apiserver pkg/cel/escaping.go): "a.b" is a__dot__b, "namespace" __namespace__. NULL when it
   cannot: "", "9a", "ä". The result is name itself or in the arena. */
const char *cel_escape(const char *name, struct kp_arena *arena);

/* ---- values ------------------------------------------------------------------------------------------------------------------- */
struct cel_eval;
struct cel_value;
/* What makes an opaque value, or an object that is not a tree. */
struct cel_class {
    const struct cel_type *type;
    bool (*equal)(const void *a, const void *b);                     /* both of this class; NULL: the same pointer */
    /* Of CEL_OBJECT: the value of a field, or false when it is not set. An error is a value. May be asked often: keep what is dear. */
    bool (*field)(struct cel_eval *eval, void *data, const char *name, struct cel_value *ret);
};
struct cel_list;
struct cel_map;
struct cel_value {
    enum cel_kind kind;
    bool is_tree; /* of CEL_LIST and CEL_MAP: a tree of the codec's; otherwise made by the evaluation */
    int32_t nanos;
    union {
        bool boolean;
        int64_t integer; /* also CEL_DURATION: nanoseconds; CEL_TIMESTAMP: seconds since 1970, with nanos */
        uint64_t uinteger;
        double number;
        struct {
            const char *data; /* UTF-8, or bytes; not ended by NUL */
            size_t len;       /* bytes */
        } text;
        struct {
            const struct kp_value *value;
            const struct cel_type *type; /* how what is in it reads; cel_dyn: as JSON */
        } tree;
        struct {
            struct cel_list *items;
            size_t len;
        } list;
        struct cel_map *map;
        const struct cel_value *optional; /* NULL: none */
        const struct cel_type *type;
        const char *error;
        struct {
            const struct cel_class *of;
            void *data;
        } object;
    };
};
static inline struct cel_value cel_of_null(void) { return (struct cel_value){.kind = CEL_NULL}; }
static inline struct cel_value cel_of_bool(bool b) { return (struct cel_value){.kind = CEL_BOOL, .boolean = b}; }
static inline struct cel_value cel_of_int(int64_t i) { return (struct cel_value){.kind = CEL_INT, .integer = i}; }
static inline struct cel_value cel_of_double(double d) { return (struct cel_value){.kind = CEL_DOUBLE, .number = d}; }
static inline struct cel_value cel_of_text(const char *data, size_t len) { return (struct cel_value){.kind = CEL_STRING, .text = {data, len}}; }
static inline struct cel_value cel_of_string(const char *s) { return cel_of_text(s, strlen(s)); } /* borrows */
static inline struct cel_value cel_of_object(const struct cel_class *of, void *data)
{
    return (struct cel_value){.kind = of->type->kind, .object = {of, data}};
}
/* A tree as a value, without copying: what its type says (format date-time is a timestamp where the type is cel_timestamp, ...), and cel_dyn what JSON
   is. value NULL: CEL_UNSET. Strings that do not fit their format give an error. arena holds what has to be decoded (bytes, errors). */
struct cel_value cel_of_tree(const struct kp_value *value, const struct cel_type *type, struct kp_arena *arena);

/* ---- for functions -------------------------------------------------------------------------------------------------------------- */
/* Memory of the evaluation; NULL when it has used up what it may, which ends it: return any value then. */
void *cel_alloc(struct cel_eval *eval, size_t size);
struct cel_value cel_fail(struct cel_eval *eval, const char *format, ...) KP_PRINTF(2, 3);
/* Counts work that takes time by the size of its input against CEL_WORK_MAX; false: the evaluation ends. */
bool cel_work(struct cel_eval *eval, size_t steps);
struct cel_value cel_copy_text(struct cel_eval *eval, const char *data, size_t len);
size_t cel_len(struct cel_eval *eval, const struct cel_value *list_or_map);
struct cel_value cel_item(struct cel_eval *eval, const struct cel_value *list, size_t index); /* index in range */
struct cel_value cel_list_new(struct cel_eval *eval, size_t cap);
void cel_list_add(struct cel_eval *eval, struct cel_value *list, struct cel_value item); /* list from cel_list_new */
struct cel_value cel_optional(struct cel_eval *eval, struct cel_value inner); /* optional.of */
struct cel_value cel_none(void);

typedef struct cel_value (*cel_function)(struct cel_eval *eval, const struct cel_value *args);
typedef uint64_t (*cel_cost)(struct cel_eval *eval, const struct cel_value *args, size_t n, const struct cel_value *result);
/* One way to call a function. Arguments have passed a look at their kind, and none is an error. */
struct cel_overload {
    const char *name; /* "startsWith", "ip.isCanonical" */
    const char *id;   /* upstream's, for costs: "cidr_ip" */
    bool member;      /* args[0] is what is before the dot */
    cel_function function;
    cel_cost cost; /* NULL: 1 */
    const struct cel_type *result;
    const struct cel_type *args[CEL_ARGS_MAX]; /* ended by NULL when fewer */
};
struct cel_library {
    const struct cel_overload *overloads;
    size_t n_overloads;
};

/* ---- programs ------------------------------------------------------------------------------------------------------------------- */
struct cel_variable {
    const char *name;
    const struct cel_type *type;
};
struct cel_env {
    const struct cel_variable *variables;
    size_t n_variables;
    const struct cel_library *const *libraries; /* besides those that every expression has */
    size_t n_libraries;
};
struct cel_program;
/* The checked expression; NULL with *ret_fault in arena: all errors, a paragraph each, in cel-go's words
   ("ERROR: <input>:1:5: undefined field 'x'\n | self.x\n | ....^"). Copies the text; borrows env's types, names and libraries for as long as it lives. */
struct cel_program *cel_compile(const struct cel_env *env, const char *text, struct kp_arena *arena, const char **ret_fault);
void cel_program_free(struct cel_program *program); /* accepts NULL */
KP_DEFINE_AUTO(struct cel_program *, cel_program_free)
const struct cel_type *cel_program_type(const struct cel_program *program); /* of the result */
bool cel_program_uses(const struct cel_program *program, size_t variable);  /* by its index in the environment */

/* values: one for each variable of the environment, in its order; CEL_UNSET makes its use an error. The result, and errors, are in arena and borrow from
   values and program; arena's cap has to leave CEL_MEMORY_MAX and a megabyte. What is over cost_max, or over the bounds above, is an error that begins with "operation cancelled: ".
   *ret_cost (may be NULL) is set in every case. Safe from several threads at once. */
struct cel_value cel_evaluate(const struct cel_program *program, const struct cel_value *values, struct kp_arena *arena, uint64_t cost_max,
                              uint64_t *ret_cost);
/* Whether an error is that of a cost limit exceeded. */
bool cel_is_over_limit(const struct cel_value *error);


#endif
