// The bare counterpart of the benchmarks: KVM by its ioctls, with nothing around them. It never does more than the row
// that it is compared with needs, and copies guest and registers from a belljar VM, so that both run the same thing.

#include <errno.h>
#include <fcntl.h>
#include <linux/kvm.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

enum { CPUID_ENTRIES = 256, TSS_ADDRESS = 0xfffbd000, IDENTITY_MAP_ADDRESS = 0xfffbc000, LSTAR = 0xc0000082 };

struct cpuid {
    struct kvm_cpuid2 head;
    struct kvm_cpuid_entry2 entries[CPUID_ENTRIES];
};

struct bare {
    int kvm, vm, vcpu;
    struct kvm_run *run;
    size_t run_size;
    uint8_t *memory;
    uint64_t memory_size;
};

/// What a guest begins with: its registers, and some bytes at one place in its memory.
struct start {
    struct kvm_regs regs;
    struct kvm_sregs sregs;
    uint64_t at, len;
    const uint8_t *bytes;
};

/// Asked once in a process, as belljar does.
static const struct cpuid *supported_cpuid(int kvm) {
    static struct cpuid known;
    if (known.head.nent == 0) {
        known.head.nent = CPUID_ENTRIES;
        if (ioctl(kvm, KVM_GET_SUPPORTED_CPUID, &known.head) < 0) return NULL;
    }
    return &known;
}

/// Has writes of LSTAR exit, which belljar needs where SYSCALL has to be repaired.
static int filter_lstar(int vm) {
    static uint8_t exits[1] = {0};
    struct kvm_enable_cap reasons = {
        .cap = KVM_CAP_X86_USER_SPACE_MSR,
        .args = {KVM_MSR_EXIT_REASON_FILTER | KVM_MSR_EXIT_REASON_UNKNOWN | KVM_MSR_EXIT_REASON_INVAL},
    };
    struct kvm_msr_filter filter = {
        .flags = KVM_MSR_FILTER_DEFAULT_ALLOW,
        .ranges = {{.flags = KVM_MSR_FILTER_WRITE, .nmsrs = 1, .base = LSTAR, .bitmap = exits}},
    };
    if (ioctl(vm, KVM_ENABLE_CAP, &reasons) < 0) return -1;
    return ioctl(vm, KVM_X86_SET_MSR_FILTER, &filter);
}

static int make_vm(struct bare *bare, int lstar) {
    struct kvm_enable_cap leave_hypercalls_alone = {
        .cap = KVM_CAP_DISABLE_QUIRKS2,
        .args = {KVM_X86_QUIRK_FIX_HYPERCALL_INSN},
    };
    uint64_t identity_map = IDENTITY_MAP_ADDRESS;
    bare->kvm = open("/dev/kvm", O_RDWR | O_CLOEXEC);
    if (bare->kvm < 0) return -1;
    do bare->vm = ioctl(bare->kvm, KVM_CREATE_VM, 0);
    while (bare->vm < 0 && errno == EINTR);
    if (bare->vm < 0) return -1;
    if (ioctl(bare->vm, KVM_SET_IDENTITY_MAP_ADDR, &identity_map) < 0) return -1;
    if (ioctl(bare->vm, KVM_SET_TSS_ADDR, TSS_ADDRESS) < 0) return -1;
    ioctl(bare->vm, KVM_ENABLE_CAP, &leave_hypercalls_alone); // older kernels have no such quirk
    return lstar ? filter_lstar(bare->vm) : 0;
}

static int make_memory(struct bare *bare, uint64_t size) {
    int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, flags, -1, 0);
    if (memory == MAP_FAILED) return -1;
    bare->memory = memory;
    bare->memory_size = size;
    struct kvm_userspace_memory_region region = {.memory_size = size, .userspace_addr = (uintptr_t)memory};
    return ioctl(bare->vm, KVM_SET_USER_MEMORY_REGION, &region);
}

static int make_vcpu(struct bare *bare) {
    const struct cpuid *leaves = supported_cpuid(bare->kvm);
    int run_size = ioctl(bare->kvm, KVM_GET_VCPU_MMAP_SIZE, 0);
    bare->vcpu = ioctl(bare->vm, KVM_CREATE_VCPU, 0);
    if (leaves == NULL || run_size < 0 || bare->vcpu < 0) return -1;
    void *run = mmap(NULL, (size_t)run_size, PROT_READ | PROT_WRITE, MAP_SHARED, bare->vcpu, 0);
    if (run == MAP_FAILED) return -1;
    bare->run = run;
    bare->run_size = (size_t)run_size;
    return ioctl(bare->vcpu, KVM_SET_CPUID2, leaves);
}

void bare_drop(struct bare *bare) {
    if (bare->run) munmap(bare->run, bare->run_size);
    if (bare->vcpu >= 0) close(bare->vcpu);
    if (bare->vm >= 0) close(bare->vm);
    if (bare->kvm >= 0) close(bare->kvm);
    if (bare->memory) munmap(bare->memory, bare->memory_size);
    free(bare);
}

/// A VM with `size` bytes of memory and one vCPU; NULL and errno if there can be none.
struct bare *bare_new(uint64_t size, int lstar) {
    struct bare *bare = calloc(1, sizeof *bare);
    if (bare == NULL) return NULL;
    bare->kvm = bare->vm = bare->vcpu = -1;
    if (make_vm(bare, lstar) < 0 || make_memory(bare, size) < 0 || make_vcpu(bare) < 0) {
        bare_drop(bare);
        return NULL;
    }
    return bare;
}

uint8_t *bare_memory(struct bare *bare) { return bare->memory; }

/// Notes general registers, the system registers of another vCPU of this process, and what is to lie in memory.
struct start *start_like(const struct kvm_regs *regs, int vcpu, uint64_t at, uint64_t len, const uint8_t *bytes) {
    struct start *start = calloc(1, sizeof *start);
    uint8_t *copy = malloc(len ? len : 1);
    if (start == NULL || copy == NULL) return NULL;
    if (ioctl(vcpu, KVM_GET_SREGS, &start->sregs) < 0) return NULL;
    start->regs = *regs;
    memcpy(copy, bytes, len);
    start->at = at;
    start->len = len;
    start->bytes = copy;
    return start;
}

void start_drop(struct start *start) {
    free((void *)start->bytes);
    free(start);
}

/// Puts a guest into memory; its registers go the way of the first entry.
int bare_load(struct bare *bare, const struct start *start) {
    struct kvm_sregs reset;
    if (ioctl(bare->vcpu, KVM_GET_SREGS, &reset) < 0) return -1; // what a loader changes only in part
    memcpy(bare->memory + start->at, start->bytes, start->len);
    bare->run->s.regs.regs = start->regs;
    bare->run->s.regs.sregs = start->sregs;
    bare->run->kvm_dirty_regs = KVM_SYNC_X86_REGS | KVM_SYNC_X86_SREGS;
    return 0;
}

/// The loop: answers port reads with `answer` until `exits` exits have happened. 0, or the reason of another exit, or -1.
int bare_run(struct bare *bare, uint64_t exits, uint32_t answer) {
    struct kvm_run *run = bare->run;
    for (uint64_t n = 0; n < exits; n++) {
        if (ioctl(bare->vcpu, KVM_RUN, 0) < 0) {
            if (errno != EINTR) return -1;
            n--;
            continue;
        }
        if (run->exit_reason != KVM_EXIT_IO) return (int)run->exit_reason;
        if (run->io.direction == KVM_EXIT_IO_IN) {
            memcpy((uint8_t *)run + run->io.data_offset, &answer, (size_t)run->io.size * run->io.count);
        }
    }
    return 0;
}

/// A whole life, `times` over: create, first exit, drop. 0, or -1.
int bare_lives(uint64_t times, uint64_t size, int lstar, const struct start *start) {
    for (uint64_t n = 0; n < times; n++) {
        struct bare *bare = bare_new(size, lstar);
        if (bare == NULL) return -1;
        int reason = bare_load(bare, start) < 0 ? -1 : bare_run(bare, 1, 0);
        bare_drop(bare);
        if (reason != KVM_EXIT_HLT) return -1;
    }
    return 0;
}
