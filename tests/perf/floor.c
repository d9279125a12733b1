/* The least that the work of a benchmark can cost on this machine, and the meter that
 * everything is measured with. It knows no build tool.
 *
 *     floor lstat LIST THREADS      lstat of each path in LIST
 *     floor sha256 LIST THREADS     SHA-256 of each file in LIST
 *     floor copy FROM TO            a copy of each file in the folder FROM, one after another
 *     floor spawn LIST JOBS         each line of LIST as a command, without a shell; an
 *                                   empty line waits until all before it ended
 *     floor meter RESULT COMMAND..  runs COMMAND and writes to RESULT: nanoseconds from
 *                                   start to end, microseconds of user and of system
 *                                   time, peak memory in KiB, exit status; with
 *                                   FLOOR_REALTIME set, before all ordinary programs
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <spawn.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "sha256.h"

extern char **environ;

enum { BLOCK = 128 * 1024, CHUNK = 64, MOST_THREADS = 64, MOST_ARGS = 256 };

static char **lines;
static size_t line_count;
static atomic_size_t next_line;

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static char *read_all(const char *path, size_t *size) {
    int file = open(path, O_RDONLY);
    struct stat st;
    if (file < 0 || fstat(file, &st)) fail(path);
    *size = (size_t)st.st_size;
    char *text = mmap(NULL, *size + 1, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
    if (text == MAP_FAILED) fail(path);
    close(file);
    return text;
}

static void read_lines(const char *path) {
    size_t size;
    char *text = read_all(path, &size);
    size_t room = 1024;
    lines = malloc(room * sizeof *lines);
    for (char *at = text, *end; at < text + size; at = end + 1) {
        end = memchr(at, '\n', (size_t)(text + size - at));
        if (!end) break;
        *end = 0;
        if (line_count == room) lines = realloc(lines, (room *= 2) * sizeof *lines);
        lines[line_count++] = at;
    }
}

static void *stat_some(void *unused) {
    (void)unused;
    struct stat st;
    for (size_t at; (at = atomic_fetch_add(&next_line, CHUNK)) < line_count;)
        for (size_t n = at; n < at + CHUNK && n < line_count; n++)
            if (lstat(lines[n], &st)) fail(lines[n]);
    return NULL;
}

static void *hash_some(void *unused) {
    (void)unused;
    unsigned char *block = malloc(BLOCK);
    for (size_t at; (at = atomic_fetch_add(&next_line, 1)) < line_count;) {
        struct sha256 hash;
        sha256_begin(&hash);
        int file = open(lines[at], O_RDONLY | O_CLOEXEC);
        if (file < 0) fail(lines[at]);
        ssize_t len;
        while ((len = read(file, block, BLOCK)) > 0) sha256_add(&hash, block, (size_t)len);
        if (len < 0) fail(lines[at]);
        close(file);
        unsigned char digest[32];
        sha256_end(&hash, digest);
        if (getenv("FLOOR_PRINT")) {
            for (int n = 0; n < 32; n++) printf("%02x", digest[n]);
            printf("  %s\n", lines[at]);
        }
    }
    free(block);
    return NULL;
}

static void with_threads(const char *list, int threads, void *(*work)(void *)) {
    read_lines(list);
    pthread_t others[MOST_THREADS];
    if (threads > MOST_THREADS) threads = MOST_THREADS;
    for (int n = 1; n < threads; n++)
        if (pthread_create(&others[n], NULL, work, NULL)) fail("thread");
    work(NULL);
    for (int n = 1; n < threads; n++) pthread_join(others[n], NULL);
}

static void copy(const char *from, const char *to) {
    static char block[BLOCK];
    DIR *source = opendir(from);
    int target = open(to, O_RDONLY | O_DIRECTORY);
    if (!source || target < 0) fail(from);
    struct dirent *entry;
    while ((entry = readdir(source))) {
        if (entry->d_name[0] == '.') continue;
        int in = openat(dirfd(source), entry->d_name, O_RDONLY);
        int out = openat(target, entry->d_name, O_WRONLY | O_CREAT | O_TRUNC, 0644);
        if (in < 0 || out < 0) fail(entry->d_name);
        ssize_t len;
        while ((len = read(in, block, BLOCK)) > 0)
            if (write(out, block, (size_t)len) != len) fail(entry->d_name);
        if (len < 0 || close(in) || close(out)) fail(entry->d_name);
    }
}

static void await(int *running) {
    int status;
    if (wait(&status) < 0) fail("wait");
    if (status) {
        fprintf(stderr, "a command failed\n");
        exit(1);
    }
    *running -= 1;
}

static void spawn_all(const char *list, int jobs) {
    read_lines(list);
    int running = 0;
    for (size_t n = 0; n < line_count; n++) {
        if (!*lines[n]) {
            while (running) await(&running);
            continue;
        }
        char *argv[MOST_ARGS + 1];
        int argc = 0;
        char *rest = lines[n];
        for (char *arg; argc < MOST_ARGS && (arg = strsep(&rest, " "));) argv[argc++] = arg;
        argv[argc] = NULL;
        while (running >= jobs) await(&running);
        pid_t child;
        if (posix_spawn(&child, argv[0], NULL, NULL, argv, environ)) fail(argv[0]);
        running++;
    }
    while (running) await(&running);
}

static int64_t now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

static long micros(struct timeval time) {
    return time.tv_sec * 1000000L + time.tv_usec;
}

static void meter(const char *result, char **command) {
    struct sched_param first = {.sched_priority = 1};
    if (getenv("FLOOR_REALTIME") && sched_setscheduler(0, SCHED_RR, &first)) fail("realtime");
    int status;
    struct rusage usage;
    pid_t child;
    int64_t start = now();
    if (posix_spawnp(&child, command[0], NULL, NULL, command, environ)) fail(command[0]);
    if (wait4(child, &status, 0, &usage) < 0) fail("wait");
    int64_t took = now() - start;
    FILE *out = fopen(result, "w");
    if (!out) fail(result);
    int code = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    fprintf(out, "%lld %ld %ld %ld %d\n", (long long)took, micros(usage.ru_utime),
            micros(usage.ru_stime), usage.ru_maxrss, code);
    fclose(out);
}

int main(int argc, char **argv) {
    const char *what = argc > 3 ? argv[1] : "";
    if (!strcmp(what, "lstat")) with_threads(argv[2], atoi(argv[3]), stat_some);
    else if (!strcmp(what, "sha256")) with_threads(argv[2], atoi(argv[3]), hash_some);
    else if (!strcmp(what, "copy")) copy(argv[2], argv[3]);
    else if (!strcmp(what, "spawn")) spawn_all(argv[2], atoi(argv[3]));
    else if (!strcmp(what, "meter")) meter(argv[2], argv + 3);
    else {
        fprintf(stderr, "usage: floor lstat|sha256|copy|spawn|meter ...\n");
        return 2;
    }
    return 0;
}
