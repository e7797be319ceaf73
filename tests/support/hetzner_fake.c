/* The process of a Hetzner Cloud API in memory. */
#include "tests/support/hetzner_fake.h"

#include <fcntl.h>
#include <spawn.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

bool hetzner_fake_start(struct hetzner_fake *fake)
{
    char *argv[] = {"python3", "tests/support/hetzner.py", "--image", "node-one", "--image", "node-two", NULL};
    const struct rest_options options = {.cloud = "hetzner-test", .attempts_max = 1};
    posix_spawn_file_actions_t actions;
    struct kp_error error = {0};
    char port[16] = "";
    int in[2], out[2];
    size_t len = 0;
    *fake = (struct hetzner_fake){.arena = kp_arena_new(0)};
    if (pipe2(in, O_CLOEXEC) < 0 || pipe2(out, O_CLOEXEC) < 0)
        return false;
    posix_spawn_file_actions_init(&actions);
    posix_spawn_file_actions_adddup2(&actions, in[0], 0);
    posix_spawn_file_actions_adddup2(&actions, out[1], 1);
    int r = posix_spawnp(&fake->pid, "python3", &actions, NULL, argv, environ);
    posix_spawn_file_actions_destroy(&actions);
    close(in[0]);
    close(out[1]);
    fake->in = in[1];
    while (r == 0 && len < sizeof(port) - 1 && read(out[0], port + len, 1) == 1 && port[len] != '\n')
        len++;
    close(out[0]);
    port[len] = 0;
    if (r != 0 || rest_new(&options, &fake->rest, &error) < 0)
        return false;
    snprintf(fake->url, sizeof(fake->url), "http://127.0.0.1:%s", port);
    return true;
}

void hetzner_fake_reset(struct hetzner_fake *fake)
{
    setenv("HCLOUD_TOKEN", HETZNER_FAKE_TOKEN, 1);
    setenv("HCLOUD_ENDPOINT", kp_arena_printf(fake->arena, "%s/v1", fake->url), 1);
    setenv("HCLOUD_POLL_INTERVAL", "1ms", 1);
    unsetenv("HCLOUD_TOKEN_FILE");
    hetzner_fake_call(fake, "POST", "/_fake/reset", NULL, NULL, NULL);
}

void hetzner_fake_stop(struct hetzner_fake *fake)
{
    int status = 0;
    close(fake->in);
    if (fake->pid > 0)
        waitpid(fake->pid, &status, 0);
    rest_free(fake->rest);
    kp_arena_free(fake->arena);
}

int hetzner_fake_call(struct hetzner_fake *fake, const char *method, const char *path, const char *token, const char *body, json_t **ret)
{
    const char *headers[] = {kp_arena_printf(fake->arena, "Authorization: Bearer %s", token ? token : HETZNER_FAKE_TOKEN), NULL};
    const struct rest_request request = {
        .operation = "test", .method = method, .url = kp_arena_printf(fake->arena, "%s%s", fake->url, path), .headers = headers, .body = body, .body_len = body ? strlen(body) : 0,
    };
    struct kp_error error = {0};
    struct rest_answer answer;
    if (ret)
        *ret = NULL;
    if (rest_do(fake->rest, &request, fake->arena, &answer, &error) < 0)
        return error.code;
    if (ret && answer.body_len && rest_json_parse(answer.body, answer.body_len, ret, &error) < 0)
        return error.code;
    return answer.status;
}

static void simplify(const char *line, char out[256])
{
    size_t n = 0;
    for (const char *at = line; *at && *at != '?' && n < 255; at++) {
        bool digit = *at >= '0' && *at <= '9';
        if (digit && n > 0 && out[n - 1] == 'N')
            continue;
        out[n++] = digit ? 'N' : *at;
    }
    out[n] = 0;
}

size_t hetzner_fake_count(struct hetzner_fake *fake, const char *line)
{
    KP_AUTO(json_decref) json_t *log = NULL;
    size_t count = 0;
    hetzner_fake_call(fake, "GET", "/_fake/log", NULL, NULL, &log);
    const json_t *lines = rest_json_at(log, "log");
    for (size_t i = 0; i < json_array_size(lines); i++) {
        char text[256];
        simplify(json_string_value(json_array_get(lines, i)), text);
        count += kp_streq(text, line);
    }
    return count;
}
