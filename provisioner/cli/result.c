/* What an operation on a cluster has come to, as a document: create, apply and scale print it with -o. */
#include "provisioner/cli/operation_internal.h"

void cli_op_print_result(struct cli_operation *op, const struct kp_value *changes, enum cli_output output)
{
    struct kp_arena *arena = op->arena;
    struct kp_value *root = kp_value_object(arena), *nodes = kp_value_array(arena), *steps = kp_value_array(arena);
    double total = (double)(kp_mono_ms() - op->progress.start_ms) / 1000.0;
    kp_value_set(arena, root, "name", kp_value_string(arena, op->cluster.name));
    kp_value_set(arena, root, "uid", kp_value_string(arena, op->cluster.uid));
    kp_value_set(arena, root, "endpoint", kp_value_string(arena, op->cluster.endpoint));
    kp_value_set(arena, root, "image", kp_value_string(arena, op->cluster.image));
    kp_value_set(arena, root, "seconds", kp_value_double(arena, total));
    for (size_t i = 0; i < op->bootstrap.n_nodes; i++) {
        struct kp_value *node = kp_value_object(arena);
        kp_value_set(arena, node, "name", kp_value_string(arena, op->bootstrap.nodes[i].name));
        kp_value_set(arena, node, "address", kp_value_string(arena, op->bootstrap.nodes[i].address));
        kp_value_append(arena, nodes, node);
    }
    for (size_t i = 0; i < op->progress.n_steps; i++) {
        struct kp_value *step = kp_value_object(arena);
        kp_value_set(arena, step, "name", kp_value_string(arena, op->progress.steps[i].name));
        kp_value_set(arena, step, "seconds", kp_value_double(arena, (double)op->progress.steps[i].took_ms / 1000.0));
        kp_value_append(arena, steps, step);
    }
    if (changes)
        kp_value_set(arena, root, "changes", kp_value_clone(changes, arena));
    kp_value_set(arena, root, "nodes", nodes);
    kp_value_set(arena, root, "steps", steps);
    cli_print_value(root, output);
}
