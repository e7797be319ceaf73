/* A small HTTP server on loopback that answers from a script, in order: recorded answers of clouds, and what no cloud would give on demand. */
#ifndef TEST_REPLAY_H
#define TEST_REPLAY_H

#include "base/base.h"

/* A script is a list of exchanges:
     >>> GET /network/v2.0/ports?limit=500        the request line that must come next
     === {"port":{}}                              its body, when that matters
     <<< 200 Retry-After: 1                       status, and at most one header; "cut" closes the connection instead
     {"ports":[]}                                 the answer's body, up to the next exchange; @BASE@ is the server's URL
   A GET that is like the one before it is answered in the same way again: the client polls. */
struct replay;
struct replay *replay_start(const char *script); /* the text; copied */
/* As replay_start, of a file below tests/golden. */
struct replay *replay_start_file(const char *path);
const char *replay_url(const struct replay *replay); /* "http://127.0.0.1:12345" */
/* What came otherwise than the script has it, or what did not come at all; NULL when all went as written. Ends and frees it; the caller's to free. */
char *replay_end(struct replay *replay);

#endif
