// Linux calls that Swift's Glibc module does not carry, or carries only as macros or variadic functions.
// `static inline` only; functions of our own are named `linux_...` and return -errno where they fail.
#pragma once
// Not with _GNU_SOURCE: glibc's types would then differ from those of Swift's Glibc module, which is built without it.
// What needs it is called by number instead.
#include <errno.h>
#include <fcntl.h>
#include <malloc.h>
#include <pthread.h>
#include <signal.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/inotify.h>
#include <sys/ioctl.h>
#include <sys/random.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>
#include <linux/btrfs.h>
#include <linux/fs.h>
#include <linux/openat2.h>
#include <linux/sched.h>
#include <linux/stat.h>

static const int linux_O_PATH = 010000000;
static const int linux_O_DIRECT = __O_DIRECT;  // another number on each architecture
static const int linux_O_NOATIME = 01000000;
static const int linux_AT_EMPTY_PATH = 0x1000;
static const int linux_AT_NO_AUTOMOUNT = 0x800;
static const int linux_F_SETLEASE = 1024;
static const uint32_t linux_file_type = 0170000;  // S_IFMT and the like, which are ambiguous in Swift
static const uint32_t linux_regular_file = 0100000;
static const uint32_t linux_directory = 0040000;
static const uint32_t linux_symbolic_link = 0120000;
static const uint32_t linux_fifo = 0010000;
static const uint32_t linux_socket = 0140000;
static const uint32_t linux_character_device = 0020000;
static const uint32_t linux_block_device = 0060000;
#define linux_handle_capacity 128

// accept4(2): non-blocking, closed on exec.
static inline int linux_accept(int listener, struct sockaddr *address, socklen_t *size) {
  long result = syscall(SYS_accept4, listener, address, size, SOCK_NONBLOCK | SOCK_CLOEXEC);
  return result < 0 ? -errno : (int)result;
}

static inline int linux_openat(int directory, const char *path, int flags, unsigned mode) {
  int result;
  do { result = openat(directory, path, flags, mode); } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

// openat2(2) below `directory`: no `..`, absolute path or symbolic link leads anywhere, and no mount point is crossed
// (EXDEV), not even that of a bind mount.
static inline int linux_open_beneath(int directory, const char *path, int flags, unsigned mode) {
  struct open_how how = {
      .flags = (uint64_t)(unsigned)flags, .mode = mode, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS | RESOLVE_NO_XDEV};
  long result;
  // EAGAIN: a rename elsewhere raced with the resolution of the path.
  do { result = syscall(SYS_openat2, directory, path, &how, sizeof how); } while (result < 0 && (errno == EINTR || errno == EAGAIN));
  return result < 0 ? -errno : (int)result;
}

struct linux_facts {
  uint32_t mode, owner, group, links;
  uint64_t inode, size, device, mount;
  int64_t modified, changed, birth;  // nanoseconds since 1970-01-01 UTC
  int has_birth, has_mount;
};

// File systems have times beyond 2262, which don't fit: the last or the first moment that does.
static inline int64_t linux_nanoseconds(int64_t seconds, uint32_t nanoseconds) {
  int64_t result;
  if (__builtin_mul_overflow(seconds, 1000000000LL, &result) || __builtin_add_overflow(result, (int64_t)nanoseconds, &result))
    return seconds < 0 ? INT64_MIN : INT64_MAX;
  return result;
}

// statx(2) of a name in a directory, links not followed, or of what is open (O_PATH too) where the name is empty.
static inline int linux_facts(int directory, const char *name, struct linux_facts *facts) {
  const int flags = linux_AT_EMPTY_PATH | linux_AT_NO_AUTOMOUNT | AT_SYMLINK_NOFOLLOW;
  struct statx x;
  if (syscall(SYS_statx, directory, name, flags, STATX_BASIC_STATS | STATX_BTIME | STATX_MNT_ID, &x) < 0) return -errno;
  facts->mode = x.stx_mode;
  facts->owner = x.stx_uid;
  facts->group = x.stx_gid;
  facts->links = x.stx_nlink;
  facts->inode = x.stx_ino;
  facts->device = (uint64_t)x.stx_dev_major << 32 | x.stx_dev_minor;
  facts->size = x.stx_size;
  facts->modified = linux_nanoseconds(x.stx_mtime.tv_sec, x.stx_mtime.tv_nsec);
  facts->changed = linux_nanoseconds(x.stx_ctime.tv_sec, x.stx_ctime.tv_nsec);
  facts->has_birth = (x.stx_mask & STATX_BTIME) != 0;
  facts->has_mount = (x.stx_mask & STATX_MNT_ID) != 0;
  facts->mount = facts->has_mount ? x.stx_mnt_id : 0;
  facts->birth = facts->has_birth ? linux_nanoseconds(x.stx_btime.tv_sec, x.stx_btime.tv_nsec) : 0;
  return 0;
}

// statx(2): to multiples of how many bytes, in the file and in memory, direct I/O of an open file must be aligned. 0 where
// nobody says it, an error where the file has none.
static inline int linux_direct_alignment(int descriptor) {
#ifdef STATX_DIOALIGN
  struct statx x;
  if (syscall(SYS_statx, descriptor, "", linux_AT_EMPTY_PATH, STATX_DIOALIGN, &x) < 0) return -errno;
  if (!(x.stx_mask & STATX_DIOALIGN)) return 0;
  if (x.stx_dio_offset_align == 0) return -EOPNOTSUPP;
  uint32_t most = x.stx_dio_offset_align > x.stx_dio_mem_align ? x.stx_dio_offset_align : x.stx_dio_mem_align;
  return most > INT32_MAX ? INT32_MAX : (int)most;
#else
  (void)descriptor;
  return 0;
#endif
}

static inline int linux_file_system(int descriptor, int64_t *type, uint64_t *identifier) {
  struct statfs s;
  int32_t words[2];
  int result;
  do { result = fstatfs(descriptor, &s); } while (result < 0 && errno == EINTR);
  if (result < 0) return -errno;
  memcpy(words, &s.f_fsid, sizeof words);
  *type = s.f_type;
  *identifier = ((uint64_t)(uint32_t)words[0] << 32) | (uint32_t)words[1];
  return 0;
}

struct linux_handle {
  int type;
  uint32_t length;
  unsigned char bytes[linux_handle_capacity];
};

// name_to_handle_at(2) of an open descriptor (O_PATH too).
static inline int linux_handle(int descriptor, struct linux_handle *handle) {
  struct {
    uint32_t length;
    int type;
    unsigned char bytes[linux_handle_capacity];
  } room = {.length = linux_handle_capacity};  // as struct file_handle
  int mount;
  if (syscall(SYS_name_to_handle_at, descriptor, "", &room, &mount, linux_AT_EMPTY_PATH) < 0) return -errno;
  handle->type = room.type;
  handle->length = room.length;
  memcpy(handle->bytes, room.bytes, room.length);
  return 0;
}

static inline int linux_inode_version(int descriptor, uint32_t *version) {
  long value = 0;  // the kernel writes an int where the header says long
  if (ioctl(descriptor, FS_IOC_GETVERSION, &value) < 0) return -errno;
  memcpy(version, &value, sizeof *version);
  return 0;
}

static inline int linux_subvolume(int descriptor, unsigned char uuid[16]) {
  struct btrfs_ioctl_get_subvol_info_args info;
  if (ioctl(descriptor, BTRFS_IOC_GET_SUBVOL_INFO, &info) < 0) return -errno;
  memcpy(uuid, info.uuid, 16);
  return 0;
}

// 1: some process has the file open for writing; 0: none has. Gives the lease back at once.
static inline int linux_probe_writers(int descriptor) {
  if (fcntl(descriptor, linux_F_SETLEASE, F_RDLCK) < 0) return errno == EAGAIN ? 1 : -errno;
  return fcntl(descriptor, linux_F_SETLEASE, F_UNLCK) < 0 ? -errno : 0;
}

static inline long linux_directory_entries(int descriptor, void *buffer, size_t length) {
  long result;
  do { result = syscall(SYS_getdents64, descriptor, buffer, length); } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

// Makes a child that shares this process's descriptors and ends after it: what it is the last to close hangs the child
// alone. The child has one thread and calls the kernel only.
static inline int linux_share_descriptors(void) {
  pid_t parent = getpid();
  long child = syscall(SYS_clone, (unsigned long)(CLONE_FILES | SIGCHLD), 0, 0, 0, 0);
  if (child != 0) return child < 0 ? -errno : (int)child;
  struct timespec pause = {.tv_nsec = 5000000};
  while (syscall(SYS_getppid) == parent) nanosleep(&pause, NULL);
  syscall(SYS_exit_group, 0);
  __builtin_unreachable();
}

static inline int linux_rename(int from, const char *old, int to, const char *new_name, unsigned flags) {
  return syscall(SYS_renameat2, from, old, to, new_name, flags) < 0 ? -errno : 0;
}

// The kernel ends this process when the thread that made it does. False if that has happened already.
static inline int linux_end_with_parent(pid_t parent) {
  return syscall(SYS_prctl, 1 /* PR_SET_PDEATHSIG */, SIGKILL, 0, 0, 0) == 0 && getppid() == parent;
}

static inline void linux_bound_arenas(void) {
  long processors = sysconf(_SC_NPROCESSORS_ONLN);
  mallopt(M_ARENA_MAX, processors > 2 ? (int)processors : 2);
}

// Gives the heap's free pages back to the system where more than `least` bytes of it are free.
static inline void linux_trim_heap(size_t least) {
  if (mallinfo2().fordblks > least) malloc_trim(0);
}

static inline int linux_syncfs(int descriptor) { return syscall(SYS_syncfs, descriptor) < 0 ? -errno : 0; }

static inline int linux_epoll_wait(int epoll, struct epoll_event *events, int count, const struct timespec *timeout) {
  int result = (int)syscall(SYS_epoll_pwait2, epoll, events, count, timeout, NULL, 8);
  return result < 0 ? -errno : result;
}

static inline int linux_epoll_control(int epoll, int operation, int descriptor, uint32_t events, uint64_t token) {
  struct epoll_event event = {.events = events, .data = {.u64 = token}};
  return epoll_ctl(epoll, operation, descriptor, &event) < 0 ? -errno : 0;
}

static inline uint64_t linux_epoll_token(const struct epoll_event *event) { return event->data.u64; }

// Raises the soft limit of descriptors to the hard one and returns it.
static inline int64_t linux_raise_descriptor_limit(void) {
  struct rlimit limit;
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  limit.rlim_cur = limit.rlim_max;
  (void)setrlimit(RLIMIT_NOFILE, &limit);
  if (getrlimit(RLIMIT_NOFILE, &limit) < 0) return -errno;
  return limit.rlim_cur > INT32_MAX ? INT32_MAX : (int64_t)limit.rlim_cur;
}

// A broken lease is announced by SIGIO, which ends a process that doesn't expect it.
static inline void linux_ignore_lease_signal(void) {
  struct sigaction now;
  if (sigaction(SIGIO, NULL, &now) == 0 && now.sa_handler == SIG_DFL) signal(SIGIO, SIG_IGN);
}
