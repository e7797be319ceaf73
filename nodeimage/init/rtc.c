/* The machine's real-time clock: read at its own alarm, which a hypervisor's clock sets off also while the machine stands still. */
#include <errno.h>
#include <fcntl.h>
#include <linux/rtc.h>
#include <poll.h>
#include <sys/ioctl.h>
#include <sys/timex.h>
#include <time.h>
#include <unistd.h>

#include "init_internal.h"

#define DEVICE "/dev/rtc0"
#define SECOND_NS 1000000000LL
#define LATE_MS 60000 /* a look all the same: somebody may have set the clock, and the alarm is for a time long past */
#define TICK_US 10000 /* of the kernel's clock: USER_HZ */
#define SLEW_US 100   /* a hundredth */

static int64_t clock_ns(clockid_t id)
{
    struct timespec t;
    KP_ASSERT(clock_gettime(id, &t) == 0);
    return t.tv_sec * SECOND_NS + t.tv_nsec;
}

static bool read_rtc(int fd, int64_t *ret_s)
{
    struct rtc_time now = {0};
    if (ioctl(fd, RTC_RD_TIME, &now) < 0)
        return false;
    struct tm tm = {.tm_sec = now.tm_sec, .tm_min = now.tm_min, .tm_hour = now.tm_hour, .tm_mday = now.tm_mday, .tm_mon = now.tm_mon, .tm_year = now.tm_year};
    *ret_s = timegm(&tm);
    return true;
}

static bool set_alarm(int fd, int64_t at_s)
{
    struct tm tm;
    time_t at = at_s;
    gmtime_r(&at, &tm);
    const struct rtc_wkalrm alarm = {
        .enabled = 1,
        .time = {.tm_sec = tm.tm_sec, .tm_min = tm.tm_min, .tm_hour = tm.tm_hour, .tm_mday = tm.tm_mday, .tm_mon = tm.tm_mon, .tm_year = tm.tm_year},
    };
    return ioctl(fd, RTC_WKALM_SET, &alarm) == 0;
}

/* With a HPET that stands in for it, the kernel asks the clock 64 times a second whether it is time, and misses a second that was jumped over. */
static bool has_alarm(void)
{
    KP_AUTO_BUF struct kp_buf facts = {0};
    if (kp_read_file("/proc/driver/rtc", 4096, &facts, NULL) < 0 || !facts.data)
        return false;
    const char *line = strstr(facts.data, "HPET_emulated"), *yes = line ? strstr(line, "yes") : NULL;
    return !yes || yes > strchrnul(line, '\n');
}

static bool alarm_rang(int fd)
{
    unsigned long events = 0;
    struct pollfd one = {.fd = fd, .events = POLLIN};
    return poll(&one, 1, 0) > 0 && read(fd, &events, sizeof(events)) == (ssize_t)sizeof(events) && (events & RTC_AF);
}

/* The kernel says so of whoever tells it: chrony does, as it has rtcsync. */
static bool is_synchronised(void)
{
    struct timex timex = {.modes = 0};
    return adjtimex(&timex) != TIME_ERROR && !(timex.status & STA_UNSYNC);
}

static void set_tick(struct init_rtc *rtc, long tick_us)
{
    struct timex timex = {.modes = ADJ_TICK, .tick = tick_us};
    if (adjtimex(&timex) < 0)
        kp_warn("the clock's speed cannot be changed", "error", strerror(errno), NULL);
    rtc->slewing = tick_us != TICK_US;
}

static void step(int64_t by_ns)
{
    int64_t wanted_ns = clock_ns(CLOCK_REALTIME) + by_ns;
    const struct timespec to = {.tv_sec = (time_t)(wanted_ns / SECOND_NS), .tv_nsec = (long)(wanted_ns % SECOND_NS)};
    char text[32];
    snprintf(text, sizeof(text), "%.1f", (double)by_ns / (double)SECOND_NS);
    if (clock_settime(CLOCK_REALTIME, &to) < 0)
        kp_warn("the clock cannot be set", "seconds", text, "error", strerror(errno), NULL);
    else
        kp_info("clock set by the real-time clock", "seconds", text, NULL);
}

static void act(struct init_rtc *rtc, const struct init_clock_action *action)
{
    if (action->verb == INIT_CLOCK_STEP)
        step(action->by_ns);
    if (action->verb == INIT_CLOCK_SLEW)
        set_tick(rtc, action->by_ns > 0 ? TICK_US + SLEW_US : TICK_US - SLEW_US);
    else if (rtc->slewing && !rtc->clock.was_synchronised) /* else its speed is chrony's by now */
        set_tick(rtc, TICK_US);
}

void init_rtc_open(struct init_rtc *rtc, bool wanted)
{
    *rtc = (struct init_rtc){.fd = wanted ? open(DEVICE, O_RDONLY | O_CLOEXEC | O_NONBLOCK) : -1};
    if (wanted && rtc->fd < 0)
        kp_warn("no real-time clock: a pause of the machine is not noticed", "error", strerror(errno), NULL);
    rtc->can_alarm = rtc->fd >= 0 && has_alarm();
    if (rtc->fd >= 0)
        init_rtc_look(rtc);
}

void init_rtc_look(struct init_rtc *rtc)
{
    struct init_clock_look look = {0};
    bool rang = alarm_rang(rtc->fd);
    if (!read_rtc(rtc->fd, &look.rtc_s)) {
        kp_warn("the real-time clock cannot be read", "error", strerror(errno), NULL);
        rtc->due_ms = kp_mono_ms() + LATE_MS;
        return;
    }
    look.real_ns = clock_ns(CLOCK_REALTIME);
    look.mono_ns = clock_ns(CLOCK_MONOTONIC_RAW);
    look.edge = rang && rtc->alarm && look.rtc_s == rtc->alarm_s;
    look.synchronised = is_synchronised();
    const struct init_clock_action action = init_clock_decide(&rtc->clock, &look);
    act(rtc, &action);
    rtc->alarm_s = look.rtc_s + INIT_CLOCK_EVERY_S;
    rtc->alarm = rtc->can_alarm && set_alarm(rtc->fd, rtc->alarm_s);
    rtc->due_ms = kp_mono_ms() + (rtc->alarm ? LATE_MS : INIT_CLOCK_EVERY_S * 1000);
}

void init_rtc_close(struct init_rtc *rtc)
{
    kp_close_fd(&rtc->fd);
}
