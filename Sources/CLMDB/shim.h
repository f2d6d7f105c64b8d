#pragma once
#include <errno.h>
#include <lmdb.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <unistd.h>

/// fallocate(2) with FALLOC_FL_KEEP_SIZE, by number because its declaration needs _GNU_SOURCE. 0 or an error number.
static inline int nj_reserve(int descriptor, off_t offset, off_t length) {
  return syscall(SYS_fallocate, descriptor, 1, offset, length) == 0 ? 0 : errno;
}
