/* Objects for unit tests, written as YAML, and checks of text. */
#ifndef TEST_OBJECTS_H
#define TEST_OBJECTS_H

#include "lib/client/client.h"

/* One object with the schema's defaults, in arena; a text that does not decode ends the test program. */
void *test_object(const struct kp_type *type, struct kp_arena *arena, const char *yaml);
/* The same as a counted cache object; the caller unrefs. */
struct client_object *test_client_object(const struct kp_type *type, const char *yaml);

#endif
