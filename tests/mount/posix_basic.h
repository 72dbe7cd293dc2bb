// SPDX-License-Identifier: Apache-2.0
/* The checks of posix_basic and what they are written with. */
#ifndef TESTS_POSIX_BASIC_H
#define TESTS_POSIX_BASIC_H

#include "tests/lib/tlib.h"

struct pb_check {
    const char *name;
    void (*run)(void); /* in its own process, in an empty directory */
};
extern const struct pb_check pb_checks[]; /* ends with a NULL name */
extern int pb_entries;

bool pb_expect(bool ok, const char *file, int line, const char *what);
void pb_beat(void);

/* Counts and prints what does not hold; has the value of the condition. */
#define EXPECT(cond) pb_expect((cond), __FILE_NAME__, __LINE__, #cond)
/* The call fails with just this error. */
#define EXPECT_ERR(call, err)                                                                      \
    pb_expect((call) == -1 && errno == (err), __FILE_NAME__, __LINE__, #call " fails with " #err)
#ifndef __FILE_NAME__
#define __FILE_NAME__                                                                              \
    (__builtin_strrchr(__FILE__, '/') ? __builtin_strrchr(__FILE__, '/') + 1 : __FILE__)
#endif

void pb_names(void);
void pb_large_directory(void);
void pb_changing_directory(void);
void pb_locks(void);
void pb_read_locks(void);
void pb_flocks(void);

#endif
