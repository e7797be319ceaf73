/* A server on loopback that answers one request after the other as a script says, and keeps what it was asked. */
#ifndef TEST_HTTP_SCRIPT_H
#define TEST_HTTP_SCRIPT_H

#include "base/base.h"

/* One answer. A status of 0: the connection is closed without any (the answer is lost); -1: part of the answer's head comes, then it is closed. */
struct http_reply {
    int status;
    const char *headers; /* whole lines, "Retry-After: 1\r\n", or NULL */
    const char *body;    /* or NULL */
    const char *expect;  /* what the request (line, headers and body) must have in it, or NULL */
};
struct http_script; /* a thread and a port */
/* Answers with replies[0], [1], ...; after the last one with 599. Borrows replies. Connections stay open as HTTP/1.1 has it. */
struct http_script *http_script_start(const struct http_reply *replies, size_t len);
const char *http_script_url(const struct http_script *script); /* "http://127.0.0.1:40123" */
size_t http_script_served(struct http_script *script);
/* The nth request as it came, "" when there was none; valid until the end. */
const char *http_script_request(struct http_script *script, size_t n);
/* Ends it; gives the number of requests that did not have what was expected, told on stderr. */
size_t http_script_end(struct http_script *script);

#endif
