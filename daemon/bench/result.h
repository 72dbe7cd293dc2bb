// SPDX-License-Identifier: Apache-2.0
/*
 * The results of a run as JSON: the one form in which the table, the comparison and the page see
 * them, be they of this run or of a file. docs/man/nfscached-bench.1.scd documents the schema.
 */
#ifndef NFSCACHED_BENCH_RESULT_H
#define NFSCACHED_BENCH_RESULT_H

#include <jansson.h>

#include "daemon/bench/matrix.h"

#define RESULT_SCHEMA "nfscached-bench"
enum { RESULT_VERSION = 1 };

/* New reference; exits when there is no memory. */
json_t *result_make(const struct matrix *m, int argc, const char **argv);

/* Reads and checks a file. NULL after a message that names the file and what is wrong with it. */
json_t *result_load(const char *path);
/* Writes it, "-": to stdout. 0 or negative errno, after a message. */
int result_save(json_t *result, const char *path);

/* CPUs, memory, kernel, versions. New reference. */
json_t *machine_describe(void);

/* ---- reading; none of these fails: "" and 0 stand for what is not there ---- */

const char *text_at(json_t *object, const char *key);
double number_at(json_t *object, const char *key);
/* The samples of a metric into a new array, which the caller frees. */
double *samples_of(json_t *metric, size_t *n);
json_t *metric_at(json_t *cell, const char *name);
/* "io ours op=read block=4096", the name that makes cells of two files the same one. */
void cell_name(json_t *cell, char *text, size_t size);
/* The same without benchmark and target: "op=read block=4096". */
void cell_params_text(json_t *cell, char *text, size_t size);
const char *param_at(json_t *cell, const char *key);
/* The median that the cell's metric `metric` cannot surpass, or 0 when that was not measured. */
double limit_of(json_t *result, json_t *cell, const char *metric);
/* The sum of all samples of all metrics that must be 0. */
double result_findings(json_t *result);
/* How many cells failed. */
size_t result_failed(json_t *result);

/* table.c: for people, on stdout. */
void table_print(json_t *result);

/* report.c: the page; `results` is an array of results. 0 or negative errno, after a message. */
int report_write(json_t *results, const char *path);

#endif
