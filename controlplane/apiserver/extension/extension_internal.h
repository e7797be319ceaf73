/* What the files of this module share. */
#ifndef APISERVER_EXTENSION_INTERNAL_H
#define APISERVER_EXTENSION_INTERNAL_H

#include "controlplane/apiserver/extension/extension.h"

/* authorizer.c */
const struct cel_type *extension_authorizer_type(void);
const struct cel_library *extension_authorizer_library(void);
struct cel_value extension_authorizer_value(const struct admission_attributes *a, struct auth *auth, struct kp_arena *arena);

#endif
