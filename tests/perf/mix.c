/* The command that every target of the benchmark runs: it reads its inputs and writes
 * one file. It knows no build tool.
 *
 *     mix OUT SIZE SALT FOLDER [FILE...]
 *
 * OUT becomes SIZE bytes that depend on SALT, on every *.dat in FOLDER (by name) and on
 * every FILE, and on nothing else. The first line of an input that begins with '#' is a
 * comment: it decides nothing, so an edit of it leaves OUT's bytes as they were.
 *
 * If the file RAN exists, one byte is added to it: so that commands can be counted.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#ifndef RAN
#define RAN "/nonexistent"
#endif

enum { LANES = 4, BLOCK = 256 * 1024, MOST_FILES = 4096 };

static uint64_t lanes[LANES];
static char block[BLOCK] __attribute__((aligned(64)));

static void fail(const char *what) {
    perror(what);
    exit(1);
}

static uint64_t stir(uint64_t x) {
    x ^= x >> 32;
    x *= 0xd6e8feb86659fd93u;
    x ^= x >> 32;
    return x;
}

static void take(const char *bytes, size_t len) {
    while (len > 0) {
        for (int lane = 0; lane < LANES && len > 0; lane++) {
            uint64_t word = 0;
            size_t step = len < sizeof word ? len : sizeof word;
            memcpy(&word, bytes, step);
            lanes[lane] = (lanes[lane] ^ word) * 0x9e3779b97f4a7c15u;
            lanes[lane] ^= lanes[lane] >> 29;
            bytes += step;
            len -= step;
        }
    }
}

static void take_file(int at, const char *path) {
    int file = openat(at, path, O_RDONLY | O_CLOEXEC);
    if (file < 0) fail(path);
    int is_first = 1;
    ssize_t len;
    while ((len = read(file, block, BLOCK)) > 0) {
        char *from = block;
        char *end = memchr(block, '\n', (size_t)len);
        if (is_first && block[0] == '#' && end) from = end + 1;
        is_first = 0;
        take(from, (size_t)(block + len - from));
    }
    if (len < 0) fail(path);
    close(file);
}

static int by_name(const void *a, const void *b) {
    return strcmp(*(char *const *)a, *(char *const *)b);
}

static void take_folder(const char *path) {
    static char *names[MOST_FILES];
    int count = 0;
    DIR *folder = opendir(path);
    if (!folder) fail(path);
    struct dirent *entry;
    while ((entry = readdir(folder)) && count < MOST_FILES) {
        size_t len = strlen(entry->d_name);
        if (len > 4 && !strcmp(entry->d_name + len - 4, ".dat"))
            names[count++] = strdup(entry->d_name);
    }
    qsort(names, (size_t)count, sizeof names[0], by_name);
    for (int n = 0; n < count; n++) take_file(dirfd(folder), names[n]);
    closedir(folder);
}

static void put(const char *path, size_t size) {
    uint64_t seed = 0;
    for (int lane = 0; lane < LANES; lane++) seed = stir(seed + lanes[lane]);
    int file = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (file < 0) fail(path);
    while (size > 0) {
        size_t len = size < BLOCK ? size : BLOCK;
        for (size_t at = 0; at < len; at += sizeof seed) {
            seed += 0x9e3779b97f4a7c15u;
            uint64_t word = stir(seed);
            memcpy(block + at, &word, sizeof word);
        }
        if (write(file, block, len) != (ssize_t)len) fail(path);
        size -= len;
    }
    if (close(file)) fail(path);
}

int main(int argc, char **argv) {
    if (argc < 5) {
        fprintf(stderr, "usage: mix OUT SIZE SALT FOLDER [FILE...]\n");
        return 2;
    }
    take(argv[3], strlen(argv[3]));
    take_folder(argv[4]);
    for (int n = 5; n < argc; n++) take_file(AT_FDCWD, argv[n]);
    put(argv[1], strtoul(argv[2], NULL, 10));
    int ran = open(RAN, O_WRONLY | O_APPEND | O_CLOEXEC);
    if (ran >= 0 && write(ran, ".", 1) != 1) fail(RAN);
    return 0;
}
