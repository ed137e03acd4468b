/*
 * belljar.h: handlers of guest exits that are C functions.
 *
 * A handler is registered from Python, as bj.native(function) or directly, by vm.on_port() and its like. It is called on
 * the thread that runs the vCPU, without the Python interpreter, while the guest waits: on several threads at once where a
 * machine has several vCPUs. It has to return: no longjmp, no C++ exception. What it is given is valid until it returns.
 *
 * SPDX-License-Identifier: Apache-2.0 OR MIT
 */
#ifndef BELLJAR_H
#define BELLJAR_H

#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* The version of this structure. Fields are only ever added, at the end: look at exit->bytes before using a newer one. */
#define BELLJAR_EXIT_VERSION 1

/* What a handler returns. */
enum {
	BELLJAR_CONTINUE = 0, /* no opinion: the next handler, and in the end the device */
	BELLJAR_DONE = 1, /* a read gets exit->data (or exit->string), a write is dropped, a halt is passed over */
	BELLJAR_LOG = 2, /* as BELLJAR_CONTINUE, and the exit is logged: Python's logger "belljar", level INFO */
	BELLJAR_CALL = 3, /* ask the fallback in Python; without one, as BELLJAR_CONTINUE */
	BELLJAR_STOP = 4 /* as BELLJAR_CONTINUE, then the run ends with this exit */
};

/* exit->kind; in parentheses what exit->address and exit->data are, where they are not 0. */
enum {
	BELLJAR_PORT_IN = 0, /* (port) */
	BELLJAR_PORT_OUT = 1, /* (port, what is written) */
	BELLJAR_PORT_STRING_IN = 2, /* (port) fill exit->string */
	BELLJAR_PORT_STRING_OUT = 3, /* (port) what is written is in exit->string */
	BELLJAR_MMIO_READ = 4, /* (guest-physical address) */
	BELLJAR_MMIO_WRITE = 5, /* (guest-physical address, what is written) */
	BELLJAR_MSR_READ = 6, /* (number) */
	BELLJAR_MSR_WRITE = 7, /* (number, what is written) */
	BELLJAR_HLT = 8,
	BELLJAR_SHUTDOWN = 9,
	BELLJAR_RESET = 10,
	BELLJAR_DEBUG = 11, /* (linear address, vector) */
	BELLJAR_EXCEPTION = 12, /* (vector, CR2) */
	BELLJAR_INTERNAL_ERROR = 13, /* (instruction pointer, suberror) */
	BELLJAR_FAIL_ENTRY = 14,
	BELLJAR_MEMORY_FAULT = 15, /* (guest-physical address, bytes) */
	BELLJAR_SYSTEM_EVENT = 16,
	BELLJAR_HYPERCALL = 17, /* (number) done: RAX becomes exit->data */
	BELLJAR_INTERRUPT_WINDOW = 18,
	BELLJAR_TPR_LOWERED = 19,
	BELLJAR_TPR_ACCESS = 20,
	BELLJAR_IOAPIC_EOI = 21,
	BELLJAR_DIRTY_RING_FULL = 22,
	BELLJAR_AP_RESET_HOLD = 23,
	BELLJAR_BUS_LOCK = 24,
	BELLJAR_NOTIFY = 25,
	BELLJAR_HYPER_V = 26,
	BELLJAR_XEN = 27,
	BELLJAR_UNKNOWN = 30,
	BELLJAR_BREAKPOINT = 31,
	BELLJAR_WATCHPOINT = 32,
	BELLJAR_STEP = 33
};

/* exit->registers, in the order of struct kvm_regs. */
enum {
	BELLJAR_RAX, BELLJAR_RBX, BELLJAR_RCX, BELLJAR_RDX, BELLJAR_RSI, BELLJAR_RDI, BELLJAR_RSP, BELLJAR_RBP,
	BELLJAR_R8, BELLJAR_R9, BELLJAR_R10, BELLJAR_R11, BELLJAR_R12, BELLJAR_R13, BELLJAR_R14, BELLJAR_R15,
	BELLJAR_RIP, BELLJAR_RFLAGS, BELLJAR_REGISTERS
};

struct belljar_exit {
	uint32_t version; /* BELLJAR_EXIT_VERSION of the belljar that calls */
	uint32_t bytes; /* sizeof(struct belljar_exit) there */
	uint32_t kind; /* BELLJAR_PORT_IN and so on */
	uint32_t vcpu; /* from 0 on */
	uint64_t address; /* port, guest-physical address, MSR number: see the kinds */
	uint64_t data; /* what is written; set it, and return BELLJAR_DONE, to answer a read */
	uint32_t size; /* bytes of an access, or of one element of a string */
	uint32_t count; /* elements of a string, otherwise 1; 0 where nothing is accessed */
	uint8_t *string; /* the elements of a string, or room for them; otherwise NULL */
	uint64_t string_bytes; /* size * count of a string, otherwise 0 */

	/* Guest-physical memory: 0, or -1 where not all of it is memory. Hand on the exit itself. */
	int32_t (*read)(const struct belljar_exit *exit, uint64_t address, void *into, uint64_t bytes);
	int32_t (*write)(const struct belljar_exit *exit, uint64_t address, const void *from, uint64_t bytes);

	void *guest; /* belljar's own: leave it */
	uint32_t has_registers; /* 1 if it was registered with registers=True; otherwise the next are 0 */
	uint32_t reserved;

	/* Set them to change the guest's: they are what it goes on with after this instruction. */
	uint64_t registers[BELLJAR_REGISTERS];
};

/* A handler: bj.native(function, user_data). */
typedef int32_t (*belljar_handler)(struct belljar_exit *exit, void *user_data);

#ifdef __cplusplus
}
#endif
#endif
