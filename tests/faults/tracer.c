// Runs a program, counts and writes down what it does to files, and makes chosen operations fail.
//
//   tracer LOG ROOT FAULT PROGRAM ARGUMENTS...
//
// ROOT is a folder: operations on files in it are watched, others are let through. FAULT is `none`, or
// `ERRNO:NTH:MODE`: of the operations that can fail with ERRNO, the NTH (from 1) fails, once (MODE `once`), or from then on
// (`on`), or, of writes only, writes half of its bytes (`short`, with any ERRNO that a write can fail with) before it fails;
// or `RUN:NTH:COMMAND`: before the NTH operation of any kind, the shell runs COMMAND in ROOT.
// LOG receives one line per operation that changed something; tests/faults/log.rs reads it.
//
// It stands between the program and the kernel (seccomp and ptrace), not between the program and the C library, because some
// crates call the kernel themselves. Linux on x86-64 only.
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/prctl.h>
#include <sys/ptrace.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/user.h>
#include <sys/wait.h>
#include <unistd.h>

// What an operation does; the letters of the log.
enum kind {
    CREATE = 'C', // opens and may create or empty a file
    OPEN = 'O',   // opens for writing what must be there
    LOOK = 'Q',   // opens for reading, asks for status, lists
    READ = 'I',
    WRITE = 'W',
    CUT = 'T', // ftruncate, fallocate
    SYNC = 'S',
    LOCK = 'K',
    MODE = 'H',
    RENAME = 'R',
    REMOVE = 'U', // a file or an empty folder
    FOLDER = 'D',
    LINK = 'L',
};

// Which operations can fail with an error.
static const struct {
    const char *name;
    int number;
    const char *kinds;
} ERRORS[] = {
    {"ENOSPC", ENOSPC, "CWSRDLT"}, {"EDQUOT", EDQUOT, "CWSRDLT"}, {"EROFS", EROFS, "COWTHRUDL"},
    {"EACCES", EACCES, "COQRUDLH"}, {"EIO", EIO, "COQIWTSKHRUDL"}, {"RUN", EINTR, "COQIWTSKHRUDL"},
};

static FILE *journal;
static const char *root;
static size_t root_length;
static int error_number;
static const char *error_kinds = "";
static long nth, seen;
static int from_then_on, halve;
static const char *command;

static void fail(const char *what) {
    fprintf(stderr, "tracer: %s: %s\n", what, strerror(errno));
    exit(99);
}

// A thread of the program, and the operation whose end is awaited.
struct thread {
    pid_t id;
    enum kind kind;
    long call;
    int fd, halved;
    long long offset;
    char path[PATH_MAX], other[PATH_MAX];
    int existed, replaced;
};
static struct thread threads[4096];
static int thread_count;

static struct thread *thread_of(pid_t id) {
    for (int i = 0; i < thread_count; i++)
        if (threads[i].id == id) return &threads[i];
    return NULL;
}

static struct thread *add_thread(pid_t id) {
    if (thread_count == sizeof threads / sizeof *threads) fail("too many threads");
    threads[thread_count].id = id;
    return &threads[thread_count++];
}

static void forget_thread(pid_t id) {
    struct thread *thread = thread_of(id);
    if (thread) *thread = threads[--thread_count];
}

static int is_watched(const char *path) {
    return strncmp(path, root, root_length) == 0 && (path[root_length] == '/' || path[root_length] == 0);
}

static void read_string(pid_t id, unsigned long address, char *text, size_t size) {
    size_t length = 0;
    while (length + 1 < size) {
        // Not across the end of a page, behind which nothing may be.
        size_t piece = 4096 - (address + length) % 4096;
        if (piece > size - 1 - length) piece = size - 1 - length;
        struct iovec to = {text + length, piece}, from = {(void *)(address + length), piece};
        ssize_t got = process_vm_readv(id, &to, 1, &from, 1, 0);
        if (got <= 0) break;
        if (memchr(text + length, 0, got)) return;
        length += got;
    }
    text[length] = 0;
}

static void path_of_fd(pid_t id, int fd, char *path) {
    char link[64];
    if (fd == AT_FDCWD) snprintf(link, sizeof link, "/proc/%d/cwd", id);
    else snprintf(link, sizeof link, "/proc/%d/fd/%d", id, fd);
    ssize_t length = readlink(link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
}

static void path_at(pid_t id, int folder, unsigned long address, char *path) {
    char name[PATH_MAX];
    read_string(id, address, name, sizeof name);
    if (name[0] == '/') {
        strcpy(path, name);
        return;
    }
    path_of_fd(id, folder, path);
    size_t length = strlen(path);
    while (strncmp(name, "./", 2) == 0) memmove(name, name + 2, strlen(name) - 1);
    if (name[0]) snprintf(path + length, PATH_MAX - length, "/%s", name);
}

static int exists(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0;
}

static unsigned long inode(const char *path) {
    struct stat status;
    return lstat(path, &status) == 0 ? status.st_ino : 0;
}

static unsigned long inode_of_fd(pid_t id, int fd) {
    char link[64];
    struct stat status;
    snprintf(link, sizeof link, "/proc/%d/fd/%d", id, fd);
    return stat(link, &status) == 0 ? status.st_ino : 0;
}

// `INODE-OF-FOLDER NAME`, or `0 ` for what has no name.
static void print_place(const char *path) {
    char folder[PATH_MAX];
    strcpy(folder, path);
    char *slash = strrchr(folder, '/');
    *slash = 0;
    fprintf(journal, "%lu %s", inode(folder), slash + 1);
}

// What a system call is about to do: fills in the operation; 0 if it is none that is watched.
static int understand(struct thread *thread, const struct user_regs_struct *regs) {
    pid_t id = thread->id;
    unsigned long a = regs->rdi, b = regs->rsi, c = regs->rdx, d = regs->r10;
    int flags = 0;
    thread->call = regs->orig_rax;
    thread->fd = -1;
    thread->halved = 0;
    thread->other[0] = 0;
    switch (thread->call) {
    case SYS_open:
    case SYS_creat:
        path_at(id, AT_FDCWD, a, thread->path);
        flags = thread->call == SYS_creat ? O_CREAT | O_WRONLY | O_TRUNC : (int)b;
        goto opened;
    case SYS_openat:
        path_at(id, (int)a, b, thread->path);
        flags = (int)c;
    opened:
        thread->existed = exists(thread->path);
        if (flags & (O_CREAT | O_TRUNC)) thread->kind = CREATE;
        else thread->kind = (flags & O_ACCMODE) == O_RDONLY ? LOOK : OPEN;
        // Without a name there is nothing that could survive.
        if ((flags & O_TMPFILE) == O_TMPFILE) thread->kind = OPEN;
        break;
    case SYS_stat:
    case SYS_lstat:
    case SYS_access:
    case SYS_readlink:
        thread->kind = LOOK;
        path_at(id, AT_FDCWD, a, thread->path);
        break;
    case SYS_newfstatat:
    case SYS_statx:
    case SYS_faccessat:
    case SYS_faccessat2:
    case SYS_readlinkat:
        thread->kind = LOOK;
        path_at(id, (int)a, b, thread->path);
        break;
    case SYS_fstat:
    case SYS_getdents64:
        thread->kind = LOOK;
        thread->fd = (int)a;
        break;
    case SYS_read:
    case SYS_pread64:
    case SYS_readv:
        thread->kind = READ;
        thread->fd = (int)a;
        break;
    case SYS_write:
    case SYS_writev:
    case SYS_pwrite64:
        thread->kind = WRITE;
        thread->fd = (int)a;
        thread->offset = thread->call == SYS_pwrite64 ? (long long)d : -1;
        break;
    case SYS_sendfile:
        thread->kind = WRITE;
        thread->fd = (int)a;
        thread->offset = -1;
        break;
    case SYS_copy_file_range:
    case SYS_splice:
        thread->kind = WRITE;
        thread->fd = (int)c;
        thread->offset = -1;
        break;
    case SYS_ftruncate:
    case SYS_fallocate:
        thread->kind = CUT;
        thread->fd = (int)a;
        break;
    case SYS_fsync:
    case SYS_fdatasync:
        thread->kind = SYNC;
        thread->fd = (int)a;
        break;
    case SYS_flock:
        // Giving up a lock does not fail.
        if (b & LOCK_UN) return 0;
        thread->kind = LOCK;
        thread->fd = (int)a;
        break;
    case SYS_chmod:
        thread->kind = MODE;
        path_at(id, AT_FDCWD, a, thread->path);
        break;
    case SYS_fchmod:
        thread->kind = MODE;
        thread->fd = (int)a;
        break;
    case SYS_fchmodat:
        thread->kind = MODE;
        path_at(id, (int)a, b, thread->path);
        break;
    case SYS_rename:
        thread->kind = RENAME;
        path_at(id, AT_FDCWD, a, thread->path);
        path_at(id, AT_FDCWD, b, thread->other);
        break;
    case SYS_renameat:
    case SYS_renameat2:
        thread->kind = RENAME;
        path_at(id, (int)a, b, thread->path);
        path_at(id, (int)c, d, thread->other);
        break;
    case SYS_unlink:
    case SYS_rmdir:
        thread->kind = REMOVE;
        path_at(id, AT_FDCWD, a, thread->path);
        break;
    case SYS_unlinkat:
        thread->kind = REMOVE;
        path_at(id, (int)a, b, thread->path);
        break;
    case SYS_mkdir:
        thread->kind = FOLDER;
        path_at(id, AT_FDCWD, a, thread->path);
        break;
    case SYS_mkdirat:
        thread->kind = FOLDER;
        path_at(id, (int)a, b, thread->path);
        break;
    case SYS_link:
    case SYS_symlink:
        thread->kind = LINK;
        path_at(id, AT_FDCWD, b, thread->path);
        break;
    case SYS_linkat:
        thread->kind = LINK;
        path_at(id, (int)c, d, thread->path);
        break;
    case SYS_symlinkat:
        thread->kind = LINK;
        path_at(id, (int)b, c, thread->path);
        break;
    default:
        return 0;
    }
    if (thread->fd >= 0) path_of_fd(id, thread->fd, thread->path);
    return is_watched(thread->path) || (thread->other[0] && is_watched(thread->other));
}

static void print_bytes(pid_t id, int fd, long long offset, long length) {
    char link[64];
    snprintf(link, sizeof link, "/proc/%d/fd/%d", id, fd);
    char *bytes = malloc(length);
    int file = open(link, O_RDONLY);
    if (file < 0 || pread(file, bytes, length, offset) != length) fail("what was written cannot be read back");
    close(file);
    fwrite(bytes, 1, length, journal);
    free(bytes);
}

static long long position(pid_t id, int fd) {
    char name[64];
    long long at = 0;
    snprintf(name, sizeof name, "/proc/%d/fdinfo/%d", id, fd);
    FILE *info = fopen(name, "r");
    if (!info || fscanf(info, "pos: %lld", &at) != 1) fail(name);
    fclose(info);
    return at;
}

// Writes down what an operation has done.
static void note(struct thread *thread, const struct user_regs_struct *regs) {
    long result = (long)regs->rax;
    if (result < 0) return;
    switch (thread->kind) {
    case CREATE:
        // C FOLDER NAME\tINODE for a new file, T INODE SIZE for one that was emptied.
        if (!thread->existed) {
            fputs("C ", journal);
            print_place(thread->path);
            fprintf(journal, "\t%lu\n", inode_of_fd(thread->id, (int)result));
        } else if ((thread->call == SYS_openat ? regs->rdx : regs->rsi) & O_TRUNC) {
            fprintf(journal, "T %lu 0\n", inode_of_fd(thread->id, (int)result));
        }
        break;
    case WRITE: {
        long long offset = thread->offset >= 0 ? thread->offset : position(thread->id, thread->fd) - result;
        fprintf(journal, "W %lu %lld %ld\n", inode_of_fd(thread->id, thread->fd), offset, result);
        print_bytes(thread->id, thread->fd, offset, result);
        fputs("\n", journal);
        break;
    }
    case CUT:
        if (thread->call != SYS_ftruncate) {
            errno = ENOSYS;
            fail("fallocate");
        }
        fprintf(journal, "T %lu %lu\n", inode_of_fd(thread->id, thread->fd), (unsigned long)regs->rsi);
        break;
    case SYNC:
        fprintf(journal, "S %lu\n", inode_of_fd(thread->id, thread->fd));
        break;
    case RENAME:
        fputs("R ", journal);
        print_place(thread->path);
        fputs("\t", journal);
        print_place(thread->other);
        fputs("\n", journal);
        break;
    case REMOVE:
        fputs("U ", journal);
        print_place(thread->path);
        fputs("\n", journal);
        break;
    case FOLDER:
    case LINK:
        fprintf(journal, "%c ", thread->kind);
        print_place(thread->path);
        fprintf(journal, "\t%lu\n", inode(thread->path));
        break;
    default:
        break;
    }
}

static void set_regs(pid_t id, const struct user_regs_struct *regs) {
    if (ptrace(PTRACE_SETREGS, id, NULL, regs) != 0 && errno != ESRCH) fail("PTRACE_SETREGS");
}

// Lets a system call go on: as it is, halved or not at all; how the thread is to be resumed.
static int entered(struct thread *thread) {
    struct user_regs_struct regs;
    if (ptrace(PTRACE_GETREGS, thread->id, NULL, &regs) != 0) return PTRACE_CONT;
    // What the program says, in order with what it does.
    if ((regs.orig_rax == SYS_write) && (regs.rdi == 1 || regs.rdi == 2)) {
        thread->kind = 0;
        path_of_fd(thread->id, (int)regs.rdi, thread->path);
        if (!is_watched(thread->path)) {
            char text[4096];
            size_t length = regs.rdx < sizeof text ? regs.rdx : sizeof text;
            struct iovec to = {text, length}, from = {(void *)regs.rsi, length};
            ssize_t got = process_vm_readv(thread->id, &to, 1, &from, 1, 0);
            fprintf(journal, "E %zd\n", got);
            fwrite(text, 1, got > 0 ? got : 0, journal);
            fputs("\n", journal);
            return PTRACE_CONT;
        }
    }
    if (!understand(thread, &regs)) return PTRACE_CONT;
    if (strchr(error_kinds, thread->kind) && (!halve || (thread->kind == WRITE && regs.rdx > 1))) {
        seen++;
        if (seen == nth && command) {
            if (system(command) != 0) fail(command);
            fprintf(journal, "! run %ld %s\n", thread->call, thread->path);
        } else if (!command && (seen == nth || (from_then_on && seen > nth))) {
            if (halve && seen == nth && thread->call == SYS_write) {
                // The rest of the bytes meets the error.
                regs.rdx /= 2;
                halve = 0;
                nth++;
                set_regs(thread->id, &regs);
                fprintf(journal, "! short %s\n", thread->path);
            } else {
                regs.orig_rax = -1;
                regs.rax = -error_number;
                set_regs(thread->id, &regs);
                fprintf(journal, "! %c %ld %s\n", thread->kind, thread->call, thread->path);
                return PTRACE_CONT;
            }
        }
    }
    return strchr("CWTSRUDL", thread->kind) ? PTRACE_SYSCALL : PTRACE_CONT;
}

static void watch_calls(void) {
    static const int calls[] = {
        SYS_open, SYS_creat, SYS_openat, SYS_stat, SYS_lstat, SYS_fstat, SYS_access, SYS_readlink, SYS_newfstatat,
        SYS_statx, SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_getdents64, SYS_read, SYS_pread64, SYS_readv,
        SYS_write, SYS_writev, SYS_pwrite64, SYS_sendfile, SYS_copy_file_range, SYS_splice, SYS_ftruncate, SYS_fallocate,
        SYS_fsync, SYS_fdatasync, SYS_flock, SYS_chmod, SYS_fchmod, SYS_fchmodat, SYS_rename, SYS_renameat, SYS_renameat2,
        SYS_unlink, SYS_rmdir, SYS_unlinkat, SYS_mkdir, SYS_mkdirat, SYS_link, SYS_symlink, SYS_linkat, SYS_symlinkat,
    };
    enum { COUNT = sizeof calls / sizeof *calls };
    struct sock_filter filter[COUNT + 3];
    filter[0] = (struct sock_filter)BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr));
    for (int i = 0; i < COUNT; i++)
        filter[i + 1] = (struct sock_filter)BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, calls[i], COUNT - i, 0);
    filter[COUNT + 1] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW);
    filter[COUNT + 2] = (struct sock_filter)BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_TRACE);
    struct sock_fprog program = {COUNT + 3, filter};
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) || prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program)) fail("seccomp");
}

static void parse_fault(const char *text) {
    char name[16];
    int length = 0;
    if (strcmp(text, "none") == 0) return;
    if (sscanf(text, "%15[A-Z]:%ld:%n", name, &nth, &length) != 2 || !length) fail(text);
    const char *mode = text + length;
    for (size_t i = 0; i < sizeof ERRORS / sizeof *ERRORS; i++) {
        if (strcmp(name, ERRORS[i].name) == 0) {
            error_number = ERRORS[i].number;
            error_kinds = ERRORS[i].kinds;
        }
    }
    if (strcmp(name, "RUN") == 0) command = mode;
    from_then_on = strcmp(mode, "on") == 0;
    halve = strcmp(mode, "short") == 0;
    if (!error_number) fail(text);
}

int main(int count, char **arguments) {
    if (count < 5) return 99;
    journal = fopen(arguments[1], "we");
    root = arguments[2];
    root_length = strlen(root);
    parse_fault(arguments[3]);
    if (!journal) fail(arguments[1]);
    pid_t first = fork();
    if (first == 0) {
        if (ptrace(PTRACE_TRACEME, 0, NULL, NULL) != 0) fail("ptrace");
        raise(SIGSTOP);
        watch_calls();
        execv(arguments[4], arguments + 4);
        fail(arguments[4]);
    }
    int status, ended = 99;
    if (waitpid(first, &status, __WALL) != first || !WIFSTOPPED(status)) fail("the program does not start");
    long options = PTRACE_O_TRACESECCOMP | PTRACE_O_TRACESYSGOOD | PTRACE_O_TRACECLONE | PTRACE_O_TRACEFORK |
                   PTRACE_O_TRACEVFORK | PTRACE_O_TRACEEXEC | PTRACE_O_EXITKILL;
    if (ptrace(PTRACE_SETOPTIONS, first, NULL, options) != 0) fail("PTRACE_SETOPTIONS");
    add_thread(first);
    ptrace(PTRACE_CONT, first, NULL, NULL);
    for (;;) {
        pid_t id = waitpid(-1, &status, __WALL);
        if (id < 0) break;
        if (WIFEXITED(status) || WIFSIGNALED(status)) {
            if (id == first) ended = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
            forget_thread(id);
            continue;
        }
        int signal = WSTOPSIG(status), resume = PTRACE_CONT, deliver = 0;
        struct thread *thread = thread_of(id);
        if (!thread) {
            // The first stop of a new thread.
            thread = add_thread(id);
            deliver = signal == SIGSTOP ? 0 : signal;
        } else if (status >> 8 == (SIGTRAP | PTRACE_EVENT_SECCOMP << 8)) {
            resume = entered(thread);
        } else if (signal == (SIGTRAP | 0x80)) {
            struct user_regs_struct regs;
            if (ptrace(PTRACE_GETREGS, id, NULL, &regs) == 0) note(thread, &regs);
        } else if (status >> 16 == 0) {
            deliver = signal;
        }
        ptrace(resume, id, NULL, deliver);
    }
    fprintf(journal, "= %d %ld\n", ended, seen);
    if (fclose(journal) != 0) fail(arguments[1]);
    return ended;
}
