// SPDX-License-Identifier: Apache-2.0
/* The end of a WRITE that clears dirty. */
#include "tests/race/lab/lab.h"

#define MINE 8

static void setup(struct lab *l)
{
    lab_load(l, MINE);
}

static void application(struct lab *l)
{
    lab_store(l, MINE, 2);
    lab_writeback(l, 0);
}

static void application2(struct lab *l)
{
    lab_store(l, MINE, 3);
    lab_writeback(l, 0);
}

static void writeback(struct lab *l)
{
    lab_fsync(l);
}

static const struct lab_lane lanes[] = {
    {"application", application}, {"application2", application2}, {"writeback", writeback}, {0}};

static const struct lab_protocol protocols[] = {
    {.name = "shipped", .what = "dirty ends when the WRITE is sent, in flight when it is answered"},
    {.name = "acknowledgement-cleans",
     .what = "the answer to a WRITE makes its bytes clean",
     .faults = FAULT_BIT(acknowledgement_cleans),
     .on_cache = LOST},
    {0}};

const struct lab_entry entry_ack_cleans = {
    .name = "ack-cleans",
    .number = 25,
    .year = "-",
    .title = "A page written again while its WRITE is in flight is made clean by the answer",
    .history = "A page cache that keeps one dirty mark for a page, and clears it when the server "
               "has answered, is the first that comes to mind. Kernels clear it before the I/O "
               "begins, under the page's lock, for this reason.",
    .source = "clear_page_dirty_for_io() in mm/page-writeback.c; a finding of tests/model/ here",
    .mechanism = "The answer speaks of the bytes as they were when the WRITE was sent. What was "
                 "stored since is dirty by a mark that looks the same.",
    .saved_by = "A WRITE moves its bytes from dirty to in flight when it is sent; its end moves "
                "them from there, and touches dirty no more. A byte may be both.",
    .protocols = protocols,
    .lanes = lanes,
    .setup = setup,
    .schedule = "application until end\n"
                "server hold server.WRITE.done\n"
                "writeback until end\n"
                "application2 until end\n"
                "server go\n",
};
