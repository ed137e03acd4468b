// A KVM_RUN that costs nothing: preloaded (LD_PRELOAD), it takes the place of libc's `ioctl` in the whole process. For the
// vCPU that is armed, KVM_RUN puts a port access into the run page and returns at once; each other ioctl reaches the
// kernel. It never changes belljar: what is measured is the library that users have.

#define _GNU_SOURCE
#include <errno.h>
#include <linux/kvm.h>
#include <stdarg.h>
#include <stdint.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>
#if __has_include(<valgrind/callgrind.h>)
#include <valgrind/callgrind.h>
#else
#define CALLGRIND_START_INSTRUMENTATION
#define CALLGRIND_STOP_INSTRUMENTATION
#define CALLGRIND_ZERO_STATS
#define CALLGRIND_DUMP_STATS_AT(name) (void)(name)
#define RUNNING_ON_VALGRIND 0
#endif

enum { MOST_DESCRIPTORS = 4096, PAGE = 4096 };

struct vcpu {
    struct kvm_run *page;
    uint16_t port;
    uint8_t direction;
};

/// By descriptor; without a page where the kernel is to be asked.
static struct vcpu vcpus[MOST_DESCRIPTORS];

/// The page of a vCPU, as an exit of the kernel's would leave it.
static int exit_at_once(const struct vcpu *vcpu) {
    struct kvm_run *page = vcpu->page;
    if (page->immediate_exit) {
        errno = EINTR;
        return -1;
    }
    page->exit_reason = KVM_EXIT_IO;
    page->io.direction = vcpu->direction;
    page->io.size = 1;
    page->io.port = vcpu->port;
    page->io.count = 1;
    page->io.data_offset = PAGE; // after struct kvm_run, as the kernel has it
    return 0;
}

int ioctl(int fd, unsigned long request, ...) {
    if (request == KVM_RUN && fd >= 0 && fd < MOST_DESCRIPTORS && vcpus[fd].page) return exit_at_once(&vcpus[fd]);
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

/// From now on each KVM_RUN of this vCPU is a read (or write) of one byte at `port`. 0, or -1 and errno.
int synthetic_arm(int fd, uint16_t port, int is_write) {
    if (fd < 0 || fd >= MOST_DESCRIPTORS) {
        errno = EBADF;
        return -1;
    }
    void *page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    if (page == MAP_FAILED) return -1;
    vcpus[fd] = (struct vcpu){.page = page, .port = port, .direction = is_write ? KVM_EXIT_IO_OUT : KVM_EXIT_IO_IN};
    return 0;
}

void synthetic_disarm(int fd) {
    munmap(vcpus[fd].page, PAGE);
    vcpus[fd] = (struct vcpu){0};
}

/// Is this process on valgrind, with this library's hints to it?
int counting(void) { return RUNNING_ON_VALGRIND; }

/// Instructions are counted from here on ...
void count_begin(void) {
    CALLGRIND_START_INSTRUMENTATION;
    CALLGRIND_ZERO_STATS;
}

/// ... to here, and written to callgrind's next file under `name`.
void count_end(const char *name) {
    CALLGRIND_DUMP_STATS_AT(name);
    CALLGRIND_STOP_INSTRUMENTATION;
}
