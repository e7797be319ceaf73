/* A client of watches, over a real connection: asks for "/" and keeps all that comes. */
#ifndef TESTS_APISERVER_WATCH_CLIENT_H
#define TESTS_APISERVER_WATCH_CLIENT_H

#include "lib/base/base.h"

#include <netinet/in.h>
#include <poll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define WAIT_MS 5000

struct client {
    int fd;
    bool ended;
    char text[256 << 10]; /* all that came, NUL-terminated */
    size_t len;
};

static inline struct client *client_connect(uint16_t port)
{
    struct client *client = kp_calloc(1, sizeof(*client));
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    static const char head[] = "GET / HTTP/1.1\r\nHost: x\r\n\r\n";
    int room = 64 << 10; /* else the kernel takes tens of megabytes for who does not read */
    client->fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    assert_int_equal(setsockopt(client->fd, SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)), 0);
    assert_int_equal(connect(client->fd, (struct sockaddr *)&address, sizeof(address)), 0);
    assert_int_equal(write(client->fd, head, sizeof(head) - 1), (ssize_t)sizeof(head) - 1);
    return client;
}

/* Reads once, within ms; false when nothing came or the peer has ended. */
static inline bool receive(struct client *client, int ms)
{
    struct pollfd pfd = {.fd = client->fd, .events = POLLIN};
    if (client->ended || poll(&pfd, 1, ms) <= 0)
        return false;
    ssize_t n = read(client->fd, client->text + client->len, sizeof(client->text) - 1 - client->len);
    client->ended = n <= 0;
    client->len += n > 0 ? (size_t)n : 0;
    return n > 0;
}

static inline const char *expect(struct client *client, const char *wanted)
{
    while (!strstr(client->text, wanted))
        if (!receive(client, WAIT_MS))
            fail_msg("%s did not come; there is: %s", wanted, client->text);
    return strstr(client->text, wanted);
}

static inline void hang_up(struct client *client)
{
    close(client->fd);
    free(client);
}

#endif
