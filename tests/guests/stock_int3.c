// int3 in ring 0 as KVM documents it (KVM_GUESTDBG_USE_SW_BP, KVM_GUESTDBG_INJECT_BP), on a KVM that reports it as an
// error of its interpreter: preloaded (LD_PRELOAD), it takes the place of libc's `ioctl`. Everything else is the kernel's.

#define _GNU_SOURCE
#include <linux/kvm.h>
#include <stdarg.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { MOST_DESCRIPTORS = 4096, PAGE = 4096, INT3 = 0xcc, BREAKPOINT = 3 };

/// By descriptor: the run page of a vCPU, and what KVM_SET_GUEST_DEBUG said last.
static struct {
    struct kvm_run *page;
    unsigned control;
} vcpus[MOST_DESCRIPTORS];

static int kernel(int fd, unsigned long request, void *argument) {
    return (int)syscall(SYS_ioctl, fd, request, argument);
}

static int forget(int fd) {
    if (fd >= 0 && fd < MOST_DESCRIPTORS) {
        if (vcpus[fd].page) munmap(vcpus[fd].page, PAGE);
        memset(&vcpus[fd], 0, sizeof vcpus[fd]);
    }
    return fd;
}

static void report(int fd, struct kvm_run *page) {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    if (kernel(fd, KVM_GET_REGS, &regs) || kernel(fd, KVM_GET_SREGS, &sregs)) return;
    page->exit_reason = KVM_EXIT_DEBUG;
    memset(&page->debug, 0, sizeof page->debug);
    page->debug.arch.exception = BREAKPOINT;
    page->debug.arch.pc = sregs.cs.base + regs.rip;
}

static int run(int fd, void *argument) {
    int result = kernel(fd, KVM_RUN, argument);
    if (result || !(vcpus[fd].control & KVM_GUESTDBG_USE_SW_BP)) return result;
    if (!vcpus[fd].page) vcpus[fd].page = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    struct kvm_run *page = vcpus[fd].page;
    if (page != MAP_FAILED && page->exit_reason == KVM_EXIT_INTERNAL_ERROR && page->emulation_failure.suberror == 1 &&
        page->emulation_failure.insn_size > 0 && page->emulation_failure.insn_bytes[0] == INT3)
        report(fd, page);
    return 0;
}

/// A processor's #BP, of which the guest's handler returns behind the int3.
static void inject(int fd) {
    struct kvm_regs regs;
    struct kvm_vcpu_events events;
    if (kernel(fd, KVM_GET_REGS, &regs) || kernel(fd, KVM_GET_VCPU_EVENTS, &events)) return;
    regs.rip += 1;
    events.exception.injected = 1;
    events.exception.nr = BREAKPOINT;
    events.exception.has_error_code = 0;
    kernel(fd, KVM_SET_REGS, &regs);
    kernel(fd, KVM_SET_VCPU_EVENTS, &events);
}

static int debug(int fd, const struct kvm_guest_debug *wanted) {
    struct kvm_guest_debug told = *wanted;
    vcpus[fd].control = told.control;
    if (told.control & KVM_GUESTDBG_INJECT_BP) inject(fd);
    told.control &= ~(unsigned)KVM_GUESTDBG_INJECT_BP;
    return kernel(fd, KVM_SET_GUEST_DEBUG, &told);
}

int ioctl(int fd, unsigned long request, ...) {
    va_list arguments;
    va_start(arguments, request);
    void *argument = va_arg(arguments, void *);
    va_end(arguments);
    int is_known = fd >= 0 && fd < MOST_DESCRIPTORS;
    if (request == KVM_RUN && is_known) return run(fd, argument);
    if (request == KVM_SET_GUEST_DEBUG && is_known) return debug(fd, argument);
    int result = kernel(fd, request, argument);
    return request == KVM_CREATE_VCPU ? forget(result) : result;
}
