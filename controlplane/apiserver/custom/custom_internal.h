/* What the files of custom share. */
#ifndef APISERVER_CUSTOM_INTERNAL_H
#define APISERVER_CUSTOM_INTERNAL_H

#include "api/k8s.h"
#include "controlplane/apiserver/custom/custom.h"

typedef struct k8s_custom_resource_definition crd_t;

/* The definitions as the cache has them now, oldest first. */
struct definitions {
    crd_t **items;
    size_t len;
};

/* ---- names.c */
/* The names that a definition may have: what nobody who was accepted before it has. NULL when there is no conflict, else what is wrong (in arena) with the
   reason of the condition. accepted: which of the definitions before `at` were. Pure but for the tables of the schema. */
const char *custom_name_conflict(const struct definitions *all, size_t at, const bool *accepted, struct kp_arena *arena, const char **ret_reason);

/* ---- status.c */
/* Writes NamesAccepted, Established and acceptedNames when they are not so yet. */
int custom_write_status(struct registry *registry, const crd_t *crd, const char *conflict, const char *reason, struct kp_arena *arena);
/* Deletes the objects of a definition that is being deleted, and lets it go when none is left; *ret_done tells that. */
int custom_clean_up(struct registry *registry, const crd_t *crd, const struct registry_custom *served, struct kp_arena *arena, bool *ret_done);

#endif
