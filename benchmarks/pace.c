/* Sends a request at a fixed rate over HTTP/1.1 and tells how long the answers took.
 *
 * Usage: pace PORT RATE COUNT FILE: COUNT times the request in FILE, RATE of them a second, to
 * 127.0.0.1:PORT. One request at a time goes over a connection; there are enough connections for a
 * stall, and each has been used once before, uncounted. Prints, in seconds: the time it all took,
 * the median, the 99th percentile, and the 99th percentile of how late requests were sent, which
 * the times before include.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define CONNECTIONS 500
#define PATIENCE 20.0 /* seconds that the last answers may take */
#define ROOM 65536

struct connection {
    int fd;
    double due;
    size_t have;
    char *answer;
};

static struct connection connections[CONNECTIONS];
static int idle[CONNECTIONS], idle_count, poller;
static struct sockaddr_in address = {.sin_family = AF_INET};

static void fail(const char *what)
{
    fprintf(stderr, "%s: %s\n", what, errno ? strerror(errno) : "not as it should be");
    exit(1);
}

static double now(void)
{
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + t.tv_nsec * 1e-9;
}

static void connect_one(int number)
{
    struct connection *c = &connections[number];
    int on = 1;
    struct epoll_event event = {.events = EPOLLIN, .data.u32 = (unsigned)number};
    c->fd = socket(AF_INET, SOCK_STREAM, 0);
    c->answer = malloc(ROOM);
    if (c->fd < 0 || !c->answer || connect(c->fd, (void *)&address, sizeof address))
        fail("connect");
    setsockopt(c->fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof on);
    if (epoll_ctl(poller, EPOLL_CTL_ADD, c->fd, &event))
        fail("epoll_ctl");
}

/* Whether the answer is complete. */
static int receive_one(struct connection *c)
{
    char *end, *length;
    ssize_t size = recv(c->fd, c->answer + c->have, ROOM - 1 - c->have, 0);
    if (size <= 0)
        fail("the server closed a connection");
    c->have += (size_t)size;
    c->answer[c->have] = 0;
    if (strncmp(c->answer, "HTTP/1.1 200", c->have < 12 ? c->have : 12))
        fail(c->answer);
    end = strstr(c->answer, "\r\n\r\n");
    if (!end)
        return 0;
    length = strcasestr(c->answer, "\r\ncontent-length:");
    if (!length || length > end)
        fail("the length of an answer");
    return c->have >= (size_t)(end + 4 - c->answer) + strtoul(length + 17, NULL, 10);
}

static int compare(const void *a, const void *b)
{
    double difference = *(const double *)a - *(const double *)b;
    return (difference > 0) - (difference < 0);
}

static double percentile(double *values, long count, int percent)
{
    qsort(values, (size_t)count, sizeof *values, compare);
    return values[(count * percent + 99) / 100 - 1];
}

int main(int argc, char **argv)
{
    static char message[ROOM];
    double rate, start, end, *times, *late;
    long count, sent = 0, done = 0;
    size_t length;
    FILE *file;

    if (argc != 5 || !(file = fopen(argv[4], "rb")))
        fail("usage: pace PORT RATE COUNT FILE");
    length = fread(message, 1, sizeof message, file);
    address.sin_port = htons((unsigned short)atoi(argv[1]));
    inet_pton(AF_INET, "127.0.0.1", &address.sin_addr);
    rate = atof(argv[2]);
    count = atol(argv[3]);
    times = calloc((size_t)count, sizeof *times);
    late = calloc((size_t)count, sizeof *late);
    poller = epoll_create1(0);
    prctl(PR_SET_TIMERSLACK, 1UL); /* ns: a request is to be sent when it is due */
    for (int i = 0; i < CONNECTIONS; i++) {
        connect_one(i);
        idle[idle_count++] = i;
        if (send(connections[i].fd, message, length, MSG_NOSIGNAL) != (ssize_t)length)
            fail("send");
        while (!receive_one(&connections[i]))
            ;
    }
    start = now() + 0.01;
    end = start + count / rate + PATIENCE;
    while (done < count) {
        struct epoll_event events[64];
        struct timespec wait = {0, 0};
        double due = start + sent / rate, time = now();
        int found;
        if (time > end)
            fail("answers do not come");
        if (sent < count && due <= time && idle_count) {
            struct connection *c = &connections[idle[--idle_count]];
            c->due = due;
            c->have = 0;
            if (send(c->fd, message, length, MSG_NOSIGNAL) != (ssize_t)length)
                fail("send");
            late[sent++] = now() - due;
        } else {
            double left = sent < count && due > time ? due - time : 1.0;
            wait.tv_sec = (time_t)left;
            wait.tv_nsec = (long)((left - wait.tv_sec) * 1e9);
        }
        errno = 0;
        found = epoll_pwait2(poller, events, 64, &wait, NULL);
        if (found < 0 && errno != EINTR)
            fail("epoll_pwait2");
        errno = 0;
        for (int i = 0; i < found; i++) {
            struct connection *c = &connections[events[i].data.u32];
            if (receive_one(c)) {
                times[done++] = now() - c->due;
                idle[idle_count++] = (int)events[i].data.u32;
            }
        }
    }
    printf("%.6f %.9f", now() - start, percentile(times, count, 50));
    printf(" %.9f %.9f\n", percentile(times, count, 99), percentile(late, count, 99));
    return 0;
}
